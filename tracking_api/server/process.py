"""Runs a process of the server: accepts connections, gives requests to threads, and answers to connections."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import uvloop
from django.conf import settings
from django.db import connections
from django.http import parse_cookie

from events.database.dialect import is_postgresql
from events.http.error_handlers import answer_to
from events.http.fast_path.handler import start
from events.observability.probes import is_instant, is_probe
from events.observability.recorder import ObservedStream, begin, metrics, observe, recording
from tracking_api.server.answers import Answer, refusal, start_into
from tracking_api.server.bodies import Bodies
from tracking_api.server.connection import Connection
from tracking_api.server.connection_counts import ConnectionCount
from tracking_api.server.connection_table import ConnectionTable
from tracking_api.server.handler import LongAnswer, django_handler
from tracking_api.server.listener import Listener
from tracking_api.server.plain_events import PlainEvents
from tracking_api.server.requests import Request
from tracking_api.server.streams import ClientGone, LongFile, Streams, write_to_file
from tracking_api.server.thread_pool import FairThreadPool

logger = logging.getLogger(__name__)

_PROBE_THREADS = 2
_CLIENT_GONE = 499  # the status that nginx logs; nobody receives it
_CHECK_SECONDS = 0.5
_IN_MEMORY_BYTES = 1 << 18


@dataclass
class Pending:
    """A long answer that is still to be made; its status and headers will be added to ``started``."""

    observed: ObservedStream
    started: list[Any]


class Process:
    """What the connections of one process share. Its methods are called in the event loop's thread."""

    def __init__(self, listener: socket.socket, most_connections: int, count: ConnectionCount) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self.soon = self._loop.call_soon
        self.connection_table = ConnectionTable[Connection](most_connections, settings.MAX_CONNECTIONS_PER_ADDRESS)
        self._listener = Listener(listener, count, self.connection_table, partial(Connection, self))
        self.count_connections = self._listener.count_connections
        self.bodies = Bodies()
        self._streams = Streams()
        self._workers = FairThreadPool(settings.SERVER_THREADS, "worker")
        self._plain_events: PlainEvents | None = None
        if is_postgresql() and not settings.WRITE_TO_OWNING_NODE:
            self._plain_events = PlainEvents(settings.SERVER_THREADS, self._workers)
        self._stream_makers = FairThreadPool(settings.SERVER_STREAMS, "stream")
        self._probers = FairThreadPool(_PROBE_THREADS, "probe")
        self.is_stopping = False
        if (counted := metrics()) is not None:
            counted.watch_connections(self._workers.count_idle, settings.SERVER_THREADS)

    def listen(self) -> None:
        """Accept connections from now on, and check their deadlines."""
        self._listener.start()
        self._loop.call_later(_CHECK_SECONDS, self._check_deadlines)

    def _check_deadlines(self) -> None:
        now = self.now()
        self._loop.call_later(_CHECK_SECONDS, self._check_deadlines)
        for connection in self.connection_table:
            try:
                connection.check_deadline(now)
            except Exception:  # the other connections' deadlines must still be checked
                logger.exception("A connection can't be looked after.")
                connection.abort()

    # Requests.

    def work_on(self, request: Request, connection: Connection) -> None:
        """Answer a request on a thread, and have the connection send the answer."""
        answer = partial(self._take, request, connection)
        owner_of = partial(_owner, request, connection)
        if is_instant(request.path):
            # in the loop itself, as every thread may be waiting for something
            self._loop.call_soon(lambda: answer(_answered(request, self._streams)))
        elif self._plain_events is not None and self._plain_events.takes(request, answer, owner_of):
            pass
        elif is_probe(request.path):
            self._probers.submit(partial(_answered, request, self._streams), answer, connection.client_network)
        else:
            self._workers.submit(partial(_worked, request, self._streams), answer, owner_of())

    def _take(self, request: Request, connection: Connection, answer: Answer | Pending | None) -> None:
        try:
            if isinstance(answer, Pending):
                self._make(request, connection, answer)
            elif answer is None and request.is_cut_off:
                connection.drop(request)
            else:
                failed = HTTPStatus.INTERNAL_SERVER_ERROR, "Server error."
                connection.answer(request, answer or refusal(request, *failed))
        except Exception:  # without an answer the connection would wait for ever
            logger.exception("An answer can't be sent.")
            connection.abort()

    def _make(self, request: Request, connection: Connection, pending: Pending) -> None:
        client = pending.observed.response.owner or connection.client_network
        try:
            self._streams.admit(client, 2 * self._streams.most)  # half of them are made, half wait
        except Exception as error:  # answered as if the view had raised it
            connection.answer(request, _failed(pending, error))
            return

        def take(answer: Answer | None) -> None:
            self._streams.release(client)
            self._take(request, connection, answer)

        self._stream_makers.submit(partial(_made, request, pending, self._streams, client), take, client)

    # Stopping.

    async def stop(self) -> None:
        """Accept no more connections, and return once every request that came whole is answered."""
        self.is_stopping = True
        self._listener.stop()
        while len(self.connection_table):
            for connection in self.connection_table:
                connection.stop()
            await asyncio.sleep(0.02)


def _owner(request: Request, connection: Connection) -> str | bytes | None:
    """Return whom a request's job counts for: the client's network; behind a trusted proxy, the token or session."""
    if connection.client_network is not None:
        return connection.client_network
    authorization = next((value for name, value in request.headers if name.lower() == b"authorization"), None)
    if authorization is not None:
        return authorization
    cookies = b";".join(value for name, value in request.headers if name.lower() == b"cookie")
    session = parse_cookie(cookies.decode("latin-1")).get(settings.SESSION_COOKIE_NAME)
    return f"session {session}" if session else None


def _worked(request: Request, streams: Streams) -> Answer | Pending | None:
    """Answer over this thread's database connection; return None where the client has gone."""
    if request.is_gone:
        return None
    for kept in connections.all(initialized_only=True):  # the replica's too, where this thread has one
        kept.close_if_unusable_or_obsolete()
    return _answered(request, streams)


def _answered(request: Request, streams: Streams) -> Answer | Pending:
    started: list[Any] = []
    environ = request.environ()
    body = observe(environ, partial(start_into, started), django_handler, begin(environ, request.taken))
    if not isinstance(body, ObservedStream):
        return _whole(started, b"".join(body), streams)
    if isinstance(body.response, LongAnswer):
        if request.method != "HEAD":
            return Pending(body, started)
        body.response.start()  # without Content-Length, as the answer isn't made
        body.close()
        return Answer(started[0], started[1])
    file = body.response.file_to_stream
    if file is None:
        content = b"".join(body)
        body.close()
        return Answer(started[0], started[1], content)
    return Answer(started[0], started[1], file=file, on_sent=body.sent, on_close=body.close)


def _whole(started: list[Any], content: bytes, streams: Streams) -> Answer:
    """Make an answer of the content, in a file where it is large and there is room: slow readers keep it for long."""
    status, headers = started
    if len(content) <= _IN_MEMORY_BYTES:
        return Answer(status, headers, content)
    file = LongFile(streams, None)
    try:
        file.append(content)
        file.rewind()
    except OSError:  # there is no room for it; the request is recorded as answered by now
        file.close()
        return Answer(status, headers, content)
    headers = [*((name, value) for name, value in headers if name.lower() != "content-length")]
    return Answer(status, [*headers, ("Content-Length", str(len(content)))], file=file, on_close=file.close)


def _made(request: Request, pending: Pending, streams: Streams, client: str | None) -> Answer | None:
    """Make a long answer, on a thread for these; return None where the client has gone."""
    observed = pending.observed
    answer: LongAnswer = observed.response
    with recording(observed.seen):
        try:
            file = write_to_file(answer, streams, client, lambda: not request.is_cut_off)
        except ClientGone:
            observed.seen.status, observed.seen.refusal = _CLIENT_GONE, "client_gone"
            observed.close()
            return None
        except Exception as error:  # the view may raise anything, and is answered as any view is
            return _failed(pending, error)
        answer.start()
    observed.response = file
    status, headers = pending.started
    return Answer(status, headers, file=file, on_sent=observed.sent, on_close=observed.close)


def _failed(pending: Pending, error: Exception) -> Answer:
    """Make an answer of an error, in the place of a long answer."""
    observed = pending.observed
    answer: LongAnswer = observed.response
    with recording(observed.seen):
        response = answer_to(answer.request, error, answer.response)
        start(response, answer.start_response)
    observed.sent(len(response.content))
    observed.close()
    status, headers = pending.started
    return Answer(status, headers, response.content)


async def _serve(
    listener: socket.socket, most_connections: int, count: ConnectionCount, is_ready: Callable[[], object], parent: int
) -> None:
    loop = asyncio.get_running_loop()
    process = Process(listener, most_connections, count)
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    loop.add_reader(parent, told.set)  # nothing is ever written to the pipe: it becomes readable when the parent ends
    process.listen()
    is_ready()
    await told.wait()
    loop.remove_reader(parent)
    with suppress(TimeoutError):
        await asyncio.wait_for(process.stop(), settings.STOP_SECONDS)


def serve(
    listener: socket.socket, most_connections: int, count: ConnectionCount, is_ready: Callable[[], object], parent: int
) -> None:
    """Serve until SIGTERM, or the end of the pipe ``parent``; then answer what came, for STOP_SECONDS at most."""
    uvloop.run(_serve(listener, most_connections, count, is_ready, parent))
