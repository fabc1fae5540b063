"""Starts the server's processes and the worker, starts them again where they end, and stops them."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from django.conf import settings
from django.db import connections

from tracking_api.server import handler
from tracking_api.server.connection_counts import ConnectionCount, shared_counts
from tracking_api.server.fork import READY_BYTES, ForkedProcess, run

logger = logging.getLogger(__name__)

_BACKLOG = 2_048
_POLL_SECONDS = 0.1
# A process that ends soon after its start is started again after a pause that grows.
_SOON_SECONDS = 10
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 30.0


class _Child:
    """A process that should run as long as the parent does."""

    def __init__(
        self, name: str, start: Callable[[], ForkedProcess], on_end: Callable[[], object] = lambda: None
    ) -> None:
        self.name, self._start, self._on_end = name, start, on_end
        self._pause = _FIRST_PAUSE_SECONDS
        self._next_start = 0.0
        self.run()

    def run(self) -> None:
        self._started = time.monotonic()
        self.process = self._start()
        self._has_ended = False

    def keep_running(self) -> None:
        """Start the process again where it has ended, after a pause that grows. Called every _POLL_SECONDS."""
        code = self.process.poll()
        if code is None:
            return
        now = time.monotonic()
        if not self._has_ended:
            self._has_ended = True
            self._on_end()
            lived_long = now - self._started >= _SOON_SECONDS
            self._pause = _FIRST_PAUSE_SECONDS if lived_long else min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
            self._next_start = now + self._pause
            logger.error("The %s ended with %s; it is started again in %.0f s.", self.name, code, self._pause)
        if now >= self._next_start:
            try:
                self.run()
            except OSError as error:  # the system may have no memory for a process just now
                self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
                self._next_start = now + self._pause
                logger.error("The %s can't be started: %s; again in %.0f s.", self.name, error, self._pause)


class Supervisor:
    """Runs the server's processes on one socket, and beside them the worker, where a function to be that is given."""

    def __init__(self, listener: socket.socket, worker: Callable[[], object] | None) -> None:
        self._listener, self._worker = listener, worker
        self._is_told = False
        # Children hold the reading end, so they see the pipe end when this process ends, also where it was killed.
        self._alive_read, self._alive_write = os.pipe()
        self._ready_read, self._ready_write = os.pipe()

    def run(self, when_ready: Callable[[], object]) -> int:
        """Run until SIGTERM or SIGINT, and return the exit code; call ``when_ready`` once every process serves."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._tell)
        handler.freeze()
        connections.close_all()  # a connection can't be shared with the processes that are forked
        children: list[_Child] = []
        try:
            if not self._start_all(children) or not self._wait_until_ready(children[: settings.SERVER_WORKERS]):
                return 0 if self._is_told else 1
            when_ready()
            while not self._is_told:
                for child in children:
                    child.keep_running()
                time.sleep(_POLL_SECONDS)
            return 0
        finally:  # also where one can't be started, or this process would wait for the others for ever
            self._stop([child.process for child in children])

    def _start_all(self, children: list[_Child]) -> bool:
        """Start the servers and the worker, and add each to a list; return False where one can't be started."""
        try:
            for number, count in enumerate(shared_counts(settings.SERVER_WORKERS), 1):
                start = partial(self._start_server, number, count)
                children.append(_Child(f"server process {number}", start, count.reset))
            if self._worker is not None:
                children.append(_Child("worker", partial(self._start_worker, self._worker)))
        except OSError as error:  # the system may have no memory for a process just now
            wanted = settings.SERVER_WORKERS + (self._worker is not None)
            logger.error("Only %d of %d processes can be started: %s", len(children), wanted, error)
            return False
        return True

    def _tell(self, *_: object) -> None:
        self._is_told = True

    def _start_server(self, number: int, count: ConnectionCount) -> ForkedProcess:
        return ForkedProcess(
            f"tracking-api worker-{number}",
            partial(run, number, self._listener, count, self._ready_write, self._alive_read),
            parents_files=[self._alive_write, self._ready_read],
        )

    def _start_worker(self, work: Callable[[], object]) -> ForkedProcess:
        parents_files = [self._listener.fileno(), self._alive_write, self._ready_read]
        return ForkedProcess("tracking-api roll_up", work, parents_files)

    def _wait_until_ready(self, servers: list[_Child]) -> bool:
        """Wait until every process serves; return False where one never did, or the parent is told to stop."""
        starting = set(servers)
        with selectors.DefaultSelector() as selector:
            selector.register(self._ready_read, selectors.EVENT_READ)
            while starting and not self._is_told:
                one_has_ended = any(server.process.poll() is not None for server in starting)
                if selector.select(_POLL_SECONDS):
                    starting.discard(servers[int.from_bytes(os.read(self._ready_read, READY_BYTES), "big") - 1])
                elif one_has_ended:  # and had not written before
                    return False
                # what served once is meant to go on, though others are still starting
                for server in servers:
                    if server not in starting:
                        server.keep_running()
        return not self._is_told

    def _stop(self, processes: list[ForkedProcess]) -> None:
        self._listener.close()  # whoever connects now is refused, and doesn't wait for an answer in vain
        for process in processes:
            with suppress(ProcessLookupError):
                process.terminate()
        give_up = time.monotonic() + settings.STOP_SECONDS
        for process in processes:
            try:
                process.wait(max(0.0, give_up - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address and a port. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)
