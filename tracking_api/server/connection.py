"""Serves one client's connection: answers the requests that come in, one after the other (RFC 9112)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol, cast

from django.conf import settings
from typing_extensions import override

from tracking_api.server.answers import FILE_PIECE_BYTES, Answer, refusal
from tracking_api.server.bodies import Bodies
from tracking_api.server.connection_table import ConnectionTable, client_network_of
from tracking_api.server.request_reader import Receiver, RequestReader
from tracking_api.server.requests import Request

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# After an early refusal, what the client still sends is read and thrown away, so that a client that first sends all and
# then reads gets to read the refusal: so many bytes at most, for so long at most, and until nothing comes for so long.
_DISCARDED_BYTES = 64 << 20
_DISCARDING_SECONDS = 10
_SILENT_SECONDS = 1
# A client may read nothing of its answer for so long.
_STALLED_SECONDS = 60
_FULL_PIECE_BYTES = 1 << 16
# Of what came in, so much is read at a time, and the next once no request waits for its turn: read, short requests take
# many times their bytes in memory.
_SLICE_BYTES = 8 << 10


class Host(Protocol):
    """What the connections of a process share."""

    connection_table: ConnectionTable[Connection]
    bodies: Bodies
    is_stopping: bool

    def count_connections(self) -> None:
        """Note that there are more or fewer connections."""

    def now(self) -> float:
        """Return the event loop's time, in seconds."""

    def soon(self, callback: Callable[[], object]) -> object:
        """Schedule a call after the loop's other callbacks."""

    def work_on(self, request: Request, connection: Connection) -> None:
        """Start to answer a request; ``connection.answer`` or ``drop`` is called at the end."""


class Connection(asyncio.Protocol, Receiver):
    """Has requests read, queues them, and writes their answers. All of it runs in the event loop's thread."""

    transport: asyncio.Transport
    _reader: RequestReader

    def __init__(self, process: Host) -> None:
        self.process = process
        self.client_network: str | None = None
        self._queue: deque[Request | tuple[Request, HTTPStatus, str]] = deque()
        self._unread = memoryview(b"")
        self._is_reading = False
        self._answering: Request | None = None
        self._file: Answer | None = None  # the answer whose file is being sent
        self.is_closing = False
        self._is_paused = False
        self._is_cut_off = False  # the client sends no more
        self._discarded_bytes = 0
        self._discarding_ends = 0.0
        self._is_writable = True
        self._deadline = 0.0
        self._unsent_bytes = 0

    # Called by the transport.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = self.transport.get_extra_info("peername") or ("", 0)
        self.client_network = client_network_of(peer[0])
        too_many = self.process.connection_table.add(self)
        self._reader = RequestReader(self, self.process.bodies, (peer[0], peer[1]), self.client_network, too_many)
        self._wait(settings.HEADER_SECONDS)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closing = True
        self._unread = memoryview(b"")
        self.process.connection_table.remove(self)
        self.process.count_connections()
        self._forget_file()
        self._reader.request.close_body()
        for each in self._queue:
            (each if isinstance(each, Request) else each[0]).close_body()
        self._queue.clear()
        if self._answering is not None:
            self._answering.is_gone = self._answering.is_cut_off = True
            self._answering = None

    @override
    def eof_received(self) -> bool:
        self._is_cut_off = True
        if self._answering is not None or self._queue:
            if self._answering is not None:
                self._answering.is_cut_off = True
            return True  # requests that came whole are answered all the same, except by long answers
        if self._reader.is_in_body and not self.is_closing:
            self._reader.refuse(HTTPStatus.BAD_REQUEST, "The body ended before it was whole.")
        self._close()
        return False

    @override
    def data_received(self, data: bytes) -> None:
        if self.is_closing or self._reader.is_broken:
            self.discard(len(data))
            return
        if (self._answering is not None or not self._is_writable) and not self._reader.is_early:
            self._pause()  # while a request is answered, only one piece of the next one is read
        if len(data) <= _SLICE_BYTES and not self._unread:
            self._reader.feed(data)
        else:
            self._unread = memoryview(bytes(self._unread) + data if self._unread else data)
            self._read_on()
        if len(data) >= _FULL_PIECE_BYTES and not self._is_paused and not self.transport.is_closing():
            # more is waiting; let other connections go first, as libuv would read this one up to 32 times
            self._pause()
            self.process.soon(self._go_on)

    def _read_on(self) -> None:
        """Have what came in read, slice by slice, until a request waits for its turn."""
        if self._is_reading:  # a request was answered while its slice was read
            return
        self._is_reading = True
        while self._unread and (not self._queue or self._reader.is_early):
            piece, self._unread = bytes(self._unread[:_SLICE_BYTES]), self._unread[_SLICE_BYTES:]
            if self.is_closing or self._reader.is_broken:
                self.discard(len(piece))
            else:
                self._reader.feed(piece)
        self._is_reading = False
        if self._unread:
            self._pause()

    def _go_on(self) -> None:
        is_free = self._answering is None and self._is_writable
        if is_free or self.is_closing or self._reader.is_early or self._reader.is_broken:
            self._resume()

    @override
    def pause_writing(self) -> None:
        self._is_writable = False
        if self._file is not None:  # from now on the client delays the answer, so the connection may be closed
            self.process.connection_table.set_waiting(self)

    @override
    def resume_writing(self) -> None:
        self._is_writable = True
        if self._file is not None:
            self._send_file(self._file)
        elif self._answering is None:
            self._next()

    # Called by the reader.

    @override
    def begin_head(self) -> None:
        if self._answering is None:
            self._deadline = self.process.now() + settings.HEADER_SECONDS

    @override
    def begin_body(self, request: Request) -> None:
        if self._answering is None:
            self._deadline = self.process.now() + settings.BODY_SECONDS
            if request.expects_continue:
                self.transport.write(_CONTINUE)

    @override
    def take(self, request: Request) -> None:
        request.taken = time.perf_counter()
        self._enqueue(request)

    @override
    def refuse(self, request: Request, status: HTTPStatus, detail: str) -> None:
        self._enqueue((request, status, detail))

    @override
    def discard(self, size: int) -> None:
        self._discarded_bytes += size
        if self._discarded_bytes > _DISCARDED_BYTES:
            self.transport.abort()
        elif self.is_closing:
            self._deadline = min(self.process.now() + _SILENT_SECONDS, self._discarding_ends)

    # Requests.

    def _enqueue(self, item: Request | tuple[Request, HTTPStatus, str]) -> None:
        self._queue.append(item)
        if self._answering is None and self._is_writable:
            self._next()

    def _next(self) -> None:
        """Start on the next request in the queue, or wait for one."""
        if self.is_closing:
            return
        if not self._queue:
            self._read_on()
            if self._queue or self._answering is not None or self.is_closing:
                return
            if not self._reader.is_in_head and not self._reader.is_in_body:
                if self._is_cut_off and not self._unread:
                    self._close()
                    return
                self._wait(settings.IDLE_SECONDS)
            else:  # the next one began to come in while the last was answered
                self._wait(settings.BODY_SECONDS if self._reader.is_in_body else settings.HEADER_SECONDS)
                if self._reader.is_in_body and self._reader.request.expects_continue:
                    self.transport.write(_CONTINUE)
            self._resume()
            return
        item = self._queue.popleft()
        if isinstance(item, Request):
            self._answering = item
            self.process.connection_table.set_busy(self)
            self.process.work_on(item, self)
        else:
            request, status, detail = item
            self._answering = request
            self.answer(request, refusal(request, status, detail))

    # Answers.

    def answer(self, request: Request, answer: Answer) -> None:
        """Send the answer to the current request; where the client has gone, send nothing."""
        request.close_body()
        if self._answering is not request:
            answer.close()
            return
        if not request.keeps_alive or self.process.is_stopping:
            answer.is_last = True
        self.transport.write(answer.head(request))
        if answer.file is not None and request.method != "HEAD":
            self._file = answer
            self._deadline = self.process.now() + _STALLED_SECONDS
            self._send_file(answer)
        else:
            answer.close()
            self._finish(answer)

    def drop(self, request: Request) -> None:
        """Close the connection without an answer, as nobody waits for one."""
        request.close_body()
        if self._answering is request:
            self._answering = None
            self._close()

    def _send_file(self, answer: Answer) -> None:
        while self._is_writable and not self.transport.is_closing():
            piece = answer.file.read(FILE_PIECE_BYTES)
            if not piece:
                self._forget_file()
                self._finish(answer)
                return
            answer.sent(len(piece))
            self.transport.write(piece)
            self._deadline = self.process.now() + _STALLED_SECONDS

    def _forget_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _finish(self, answer: Answer) -> None:
        self._answering = None
        if not answer.is_last:
            if self._is_writable:
                self._next()
            else:
                self._wait(_STALLED_SECONDS)
            return
        self.is_closing = True
        for each in self._queue:
            (each if isinstance(each, Request) else each[0]).close_body()
        self._queue.clear()
        if self._is_cut_off or not (self._unread or self._reader.is_in_body or self._reader.is_in_head):
            self._close()
            return
        # Don't close at once: the system would reset the connection for what the client still sends, and the client may
        # then lose the answer.
        self._wait(_SILENT_SECONDS)
        self._discarding_ends = self.process.now() + _DISCARDING_SECONDS
        self._read_on()
        self._resume()

    def _close(self) -> None:
        """Close the connection once all that was written has gone out, or the client has read none of it for long."""
        self.is_closing = True
        self._wait(_STALLED_SECONDS)
        self.transport.close()

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self._unread and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    # Deadlines.

    def _wait(self, seconds: float) -> None:
        self._deadline = self.process.now() + seconds
        self.process.connection_table.set_waiting(self)

    def check_deadline(self, now: float) -> None:
        """Close the connection where the client took too long; in the middle of a request, tell it why."""
        if self._answering is not None and self._file is None and not self.is_closing:
            return
        if self.is_closing or not self._is_writable:
            unsent_bytes = self.transport.get_write_buffer_size()
            if unsent_bytes < self._unsent_bytes:
                self._deadline = now + _STALLED_SECONDS
            self._unsent_bytes = unsent_bytes
        if now < self._deadline:
            return
        if self.is_closing or self._file is not None or not self._is_writable:
            self.transport.abort()
        elif self._reader.is_in_body:
            self._reader.refuse(HTTPStatus.REQUEST_TIMEOUT, f"The body took longer than {settings.BODY_SECONDS} s.")
        elif self._reader.is_in_head:
            self._reader.refuse(HTTPStatus.REQUEST_TIMEOUT, f"The head took longer than {settings.HEADER_SECONDS} s.")
        else:
            self._close()

    def stop(self) -> None:
        """Close the connection unless a request is under way. Called again until the connection is closed."""
        if self._answering is None and not self._reader.is_in_body:
            self.transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self.is_closing = True
        self.transport.abort()
