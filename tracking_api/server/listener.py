"""Accepts the connections of a process of the server, on the socket that all its processes share."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tracking_api.server.connection_counts import ConnectionCount
from tracking_api.server.connection_table import ConnectionTable

logger = logging.getLogger(__name__)

_NO_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_NO_SOCKET_SECONDS = 0.1
# A process leaves new connections to one that has fewer, and looks so often whether that still has. Where after so many
# looks there is a connection that the other one hasn't taken, that one is busy: for some time none is left to it.
_LOOK_SECONDS = 0.001
_LOOKS = 10
_BUSY_SECONDS = 0.1


class Listener:
    """Takes as many of the connections as the other processes do. Its methods are called in the event loop's thread."""

    def __init__(
        self,
        listening: socket.socket,
        count: ConnectionCount,
        table: ConnectionTable[Any],
        new_connection: Callable[[], asyncio.Protocol],
    ) -> None:
        self._socket, self._count, self._table, self._new = listening, count, table, new_connection
        self._loop = asyncio.get_running_loop()
        self._connecting = 0
        self._busy_until: dict[int, float] = {}
        self._is_stopped = False

    def start(self) -> None:
        """Accept connections from now on."""
        self.count_connections()
        self._loop.add_reader(self._socket, self._accept_in_turn)

    def stop(self) -> None:
        """Accept no more connections."""
        self._is_stopped = True
        self._count.reset()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def count_connections(self) -> None:
        """Tell the other processes how many connections this one has."""
        if not self._is_stopped:
            self._count.set(len(self._table) + self._connecting)

    def _accept_in_turn(self) -> None:
        if self._behind() is None:
            self._accept()
        else:
            self._loop.remove_reader(self._socket)
            self._loop.call_later(_LOOK_SECONDS, self._look_again, _LOOKS)

    def _look_again(self, times: int) -> None:
        if self._is_stopped:
            return
        behind = self._behind()
        if times and behind is not None:
            self._loop.call_later(_LOOK_SECONDS, self._look_again, times - 1)
            return
        self._listen_again()
        if behind is not None and self._accept():
            self._busy_until[behind] = self._loop.time() + _BUSY_SECONDS

    def _behind(self) -> int | None:
        """Return the process that the next connection is left to; None where this one takes it."""
        now = self._loop.time()
        return self._count.behind([process for process, until in self._busy_until.items() if now < until])

    def _accept(self) -> bool:
        """Accept one connection, so that the other processes get their part; tell whether there was one."""
        try:
            client, _ = self._socket.accept()
        except BlockingIOError:  # another process was first
            return False
        except OSError as error:
            if error.errno not in _NO_FILES:  # the client has gone already
                return False
            # close a connection that waits, to have its file for the new one
            logger.error("Can't take a connection in: %s", error)
            if not self._table.close_first():
                self._loop.remove_reader(self._socket)
                self._loop.call_later(_NO_SOCKET_SECONDS, self._listen_again)
            return False
        client.setblocking(False)
        with suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connecting += 1
        self.count_connections()
        self._loop.create_task(self._connect(client))
        return True

    def _listen_again(self) -> None:
        if not self._is_stopped:
            self._loop.add_reader(self._socket, self._accept_in_turn)

    async def _connect(self, client: socket.socket) -> None:
        try:
            with suppress(OSError):  # the client may have gone already
                await self._loop.connect_accepted_socket(self._new, client)
        finally:
            self._connecting -= 1
            self.count_connections()
