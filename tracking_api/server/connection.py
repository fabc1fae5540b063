"""One client's connection: requests come in one after the other, and each is answered (RFC 9112)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol, cast

from django.conf import settings
from typing_extensions import override

from tracking_api.server.answers import FILE_PIECE_BYTES, Answer, refusal
from tracking_api.server.bodies import Bodies
from tracking_api.server.request_reader import Receiver, RequestReader
from tracking_api.server.requests import Request
from tracking_api.server.roster import Roster, place_of

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# How much of what comes after an early refusal is read and thrown away, so that a client that sends first and reads
# second gets to read it; for how long, and how long nothing may come.
_DISCARDED_BYTES = 64 << 20
_DISCARDING_SECONDS = 10
_SILENT_SECONDS = 1
# How long a client may take nothing of its answer.
_STALLED_SECONDS = 60
_FULL_PIECE_BYTES = 1 << 16


class Host(Protocol):
    """What the connections of a process share."""

    roster: Roster[Connection]
    bodies: Bodies
    is_stopping: bool

    def now(self) -> float:
        """Return the event loop's time, in seconds."""

    def soon(self, callback: Callable[[], object]) -> object:
        """Have it called once others have had their turn."""

    def work_on(self, request: Request, connection: Connection) -> None:
        """Have the request answered, and the answer sent."""


class Connection(asyncio.Protocol, Receiver):
    """Has requests read and writes answers. All of it runs in the event loop's thread."""

    transport: asyncio.Transport
    _reader: RequestReader

    def __init__(self, process: Host) -> None:
        self.process = process
        self.place: str | None = None
        self._queue: deque[Request | tuple[Request, HTTPStatus, str]] = deque()
        self._answering: Request | None = None
        self._file: Answer | None = None  # being sent
        self.is_closing = False
        self._is_paused = False
        self._is_cut_off = False  # the client sends no more
        self._discarded_bytes = 0
        self._discarding_ends = 0.0
        self._is_writable = True
        self._deadline = 0.0
        self._unsent_bytes = 0

    # What the transport tells.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = self.transport.get_extra_info("peername") or ("", 0)
        self.place = place_of(peer[0])
        too_many = self.process.roster.add(self)
        self._reader = RequestReader(self, self.process.bodies, (peer[0], peer[1]), self.place, too_many)
        self._wait(settings.HEADER_SECONDS)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closing = True
        self.process.roster.remove(self)
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
            return True  # what was asked is answered all the same, as far as it isn't long
        if self._reader.is_in_body and not self.is_closing:
            self._reader.refuse(HTTPStatus.BAD_REQUEST, "The body ended before it was whole.")
        return False

    @override
    def data_received(self, data: bytes) -> None:
        if self.is_closing or self._reader.is_broken:
            self.discard(len(data))
            return
        if (self._answering is not None or not self._is_writable) and not self._reader.is_early:
            self._pause()  # the next request comes before its time: one piece of it is kept
        self._reader.feed(data)
        if len(data) >= _FULL_PIECE_BYTES and not self._is_paused and not self.transport.is_closing():
            # there is more: others first, as libuv would go on with this one up to 32 times
            self._pause()
            self.process.soon(self._go_on)

    def _go_on(self) -> None:
        is_free = self._answering is None and self._is_writable
        if is_free or self.is_closing or self._reader.is_early or self._reader.is_broken:
            self._resume()

    @override
    def pause_writing(self) -> None:
        self._is_writable = False
        if self._file is not None:  # from now on it is the client that takes its time
            self.process.roster.set_waiting(self)

    @override
    def resume_writing(self) -> None:
        self._is_writable = True
        if self._file is not None:
            self._send_file(self._file)
        elif self._answering is None:
            self._next()

    # What the reader tells.

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
        """Work on the next request, or wait for one."""
        if self.is_closing:
            return
        if not self._queue:
            if not self._reader.is_in_head and not self._reader.is_in_body:
                if self._is_cut_off:
                    self.transport.close()
                    return
                self._wait(settings.IDLE_SECONDS)
            else:  # it has begun to come in before its time
                self._wait(settings.BODY_SECONDS if self._reader.is_in_body else settings.HEADER_SECONDS)
                if self._reader.is_in_body and self._reader.request.expects_continue:
                    self.transport.write(_CONTINUE)
            self._resume()
            return
        item = self._queue.popleft()
        if isinstance(item, Request):
            self._answering = item
            self.process.roster.set_busy(self)
            self.process.work_on(item, self)
        else:
            request, status, detail = item
            self._answering = request
            self.answer(request, refusal(request, status, detail))

    # Answers.

    def answer(self, request: Request, answer: Answer) -> None:
        """Send the answer to the request that is worked on; nothing where the client has gone."""
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
        """Close without an answer, as nobody waits for it."""
        request.close_body()
        if self._answering is request:
            self.transport.close()

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
        if self._is_cut_off or not (self._reader.is_in_body or self._reader.is_in_head):
            self.transport.close()
            return
        # closed at once, what the client still sends would be answered by a reset, which takes the answer with it
        self._wait(_SILENT_SECONDS)
        self._discarding_ends = self.process.now() + _DISCARDING_SECONDS
        self._resume()

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    # Time.

    def _wait(self, seconds: float) -> None:
        self._deadline = self.process.now() + seconds
        self.process.roster.set_waiting(self)

    def look(self, now: float) -> None:
        """Close the connection where the client takes too long; tell it why in the middle of a request."""
        if self._answering is not None and self._file is None and not self.is_closing:
            return
        if not self._is_writable:
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
            self.transport.close()

    def stop(self) -> None:
        """Close the connection as soon as no request is under way."""
        if self._answering is None and not self._reader.is_in_body:
            self.transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self.is_closing = True
        self.transport.abort()
