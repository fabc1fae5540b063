"""One client's connection: requests come in one after the other, and each is answered (RFC 9112)."""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import httptools
from django.conf import settings
from typing_extensions import override

from events.http.error_handlers import NO_ROOM
from events.http.paths import is_api
from events.observability.probes import is_probe
from tracking_api.server.answers import FILE_PIECE_BYTES, Answer, refusal
from tracking_api.server.bodies import Body
from tracking_api.server.requests import Request
from tracking_api.server.roster import place_of

if TYPE_CHECKING:
    from tracking_api.server.process import Process

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# How much of what comes after an early refusal is read and thrown away, so that a client that sends first and reads
# second gets to read it; for how long, and how long nothing may come.
_DISCARDED_BYTES = 64 << 20
_DISCARDING_SECONDS = 10
_SILENT_SECONDS = 1
# How long a client may take nothing of its answer.
_STALLED_SECONDS = 60
_TARGET_BYTES = 8 << 10
_VERSIONS = ("1.0", "1.1")
_FULL_PIECE_BYTES = 1 << 16
# How much more than its content a body may bring along: the sizes of chunks, their extensions, trailers.
_FRAMING_BYTES = 1 << 16


class Connection(asyncio.Protocol):
    """Reads requests and writes answers. All of it runs in the event loop's thread."""

    transport: asyncio.Transport

    def __init__(self, process: Process) -> None:
        self.process = process
        self.place: str | None = None
        self._too_many = ""  # why no request but a probe's is taken
        self._peer = ("", 0)
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()  # the one that is coming in
        self._target = b""
        self._head_bytes = 0
        self._heads_begun = 0
        self._is_in_head = False
        self._is_in_body = False
        self._refusal: tuple[HTTPStatus, str] | None = None
        self._offers_upgrade = False
        self._early = False  # whether the answer began before the request was whole
        self._queue: deque[Request | tuple[Request, HTTPStatus, str]] = deque()
        self._answering: Request | None = None
        self._file: Answer | None = None  # being sent
        self._is_broken = False  # what comes in is no HTTP, or too late
        self._is_closing = False
        self._is_paused = False
        self._is_cut_off = False  # the client sends no more
        self._discarded_bytes = 0
        self._discarding_ends = 0.0
        self._is_writable = True
        self._deadline = 0.0
        self._unsent_bytes = 0
        self._pieces: list[bytes] = []
        self._framing_bytes = 0

    # What the transport tells.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = self.transport.get_extra_info("peername") or ("", 0)
        self._peer = (peer[0], peer[1])
        self.place = place_of(self._peer[0])
        self._too_many = self.process.roster.add(self)
        self._wait(settings.HEADER_SECONDS)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        self.process.roster.remove(self)
        self._forget_file()
        for request in (self._request, *(each if isinstance(each, Request) else each[0] for each in self._queue)):
            _close_body(request)
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
        if self._is_in_body and not self._is_closing:
            self._refuse(HTTPStatus.BAD_REQUEST, "The body ended before it was whole.")
        return False

    @override
    def data_received(self, data: bytes) -> None:
        if self._is_closing or self._is_broken:
            self._discard(len(data))
            return
        if (self._answering is not None or not self._is_writable) and not self._early:
            self._pause()  # the next request comes before its time: one piece of it is kept
        self._feed(data)
        if len(data) >= _FULL_PIECE_BYTES and not self._is_paused and not self.transport.is_closing():
            # there is more: others first, as libuv would go on with this one up to 32 times
            self._pause()
            self.process.soon(self._go_on)

    def _go_on(self) -> None:
        if self._early or self._is_closing or self._is_broken or (self._answering is None and self._is_writable):
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

    # What the parser tells.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._request = Request(peer=self._peer)
        self._target = b""
        self._head_bytes = 0
        self._heads_begun += 1
        self._is_in_head = True
        self._refusal = None
        if self._answering is None:
            self._deadline = self.process.now() + settings.HEADER_SECONDS

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request target."""
        if len(self._target) + len(url) > _TARGET_BYTES:
            detail = f"The path and query are longer than the {_TARGET_BYTES} bytes allowed."
            self._refusal = HTTPStatus.REQUEST_URI_TOO_LONG, detail
        else:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; one that comes after the body says nothing of the request (RFC 9110, 6.5.1)."""
        if self._is_in_body:
            return
        self._head_bytes += len(name) + len(value)
        if self._head_bytes <= settings.MAX_HEADER_BYTES:
            self._request.add_header(name, value)

    def on_headers_complete(self) -> None:
        """Judge the head, and get ready for the body."""
        request = self._request
        self._is_in_head = False
        has_body = request.is_chunked or bool(request.content_length)
        if problem := self._unsupported():
            self._refuse(*problem)
            return
        is_fine = self._refusal is None and self._head_bytes <= settings.MAX_HEADER_BYTES
        self._offers_upgrade = has_body and is_fine and self._parser.should_upgrade()
        if self._offers_upgrade:
            return  # the parser skips the body: it is given the request again, without the offer
        request.method = self._parser.get_method().decode("latin-1")
        request.version = self._parser.get_http_version()
        is_old = request.version == "1.0"
        # what an old client means by chunks nobody can say (RFC 9112, 6.1), and it knows no 100
        request.keeps_alive = self._parser.should_keep_alive() and not (is_old and request.is_chunked)
        request.expects_continue = request.expects_continue and not is_old
        if self._refusal is None:
            try:
                request.set_target(self._target)
            except ValueError as error:
                self._refusal = HTTPStatus.BAD_REQUEST, str(error)
        if self._head_bytes > settings.MAX_HEADER_BYTES:
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _head_too_large()
        self._head_bytes = 0
        self._is_in_body = has_body
        self._framing_bytes = 0
        if self._refusal is None and (request.content_length or 0) > request.most_body_bytes:
            self._too_large()
        if self._too_many:
            request.keeps_alive = False
            if self._refusal is None and not is_probe(request.path):
                self._refusal = HTTPStatus.SERVICE_UNAVAILABLE, self._too_many
        if self._refusal is not None:
            self._enqueue_refusal(*self._refusal)
        elif has_body and not self._early:
            request.body = Body(self.process.bodies, self.place, self._push_out)
            if self._answering is None:
                self._deadline = self.process.now() + settings.BODY_SECONDS
                if request.expects_continue:
                    self.transport.write(_CONTINUE)

    def _unsupported(self) -> tuple[HTTPStatus, str] | None:
        request = self._request
        if self._parser.get_method() == b"CONNECT":  # to which the parser knows no body
            return HTTPStatus.NOT_IMPLEMENTED, "CONNECT is for proxies."
        if self._parser.get_http_version() not in _VERSIONS:
            return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "The request is no HTTP/1.1."
        if request.transfer_coding not in {b"", b"chunked"}:
            return HTTPStatus.NOT_IMPLEMENTED, "The only Transfer-Encoding that is known is chunked."
        return None

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._pieces.append(piece)

    def _take_pieces(self) -> None:
        if not self._pieces:
            return
        piece = b"".join(self._pieces)
        self._pieces.clear()
        self._framing_bytes -= len(piece)
        request = self._request
        if self._early or self._refusal is not None or request.body is None:
            self._discard(len(piece))
            return
        if request.body.size + len(piece) > request.most_body_bytes:
            self._too_large()
        else:
            try:
                if not request.body.write(piece):
                    self._refusal = HTTPStatus.SERVICE_UNAVAILABLE, "Too many bodies are on their way; try again."
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                self._refusal = HTTPStatus.SERVICE_UNAVAILABLE, "There is no room to take the body; try again."
        if self._refusal is not None:
            self._enqueue_refusal(*self._refusal)

    def on_message_complete(self) -> None:
        """Hand the request on, as it is whole."""
        if self._offers_upgrade or self._is_broken:
            return
        self._take_pieces()
        self._is_in_body = False
        if self._request.body is not None:
            self._request.body.finish()
        if self._early or self._refusal is not None:
            self._early = False
            return
        self._enqueue(self._request)
        self._request = Request()

    # Requests.

    def _feed(self, data: bytes) -> None:
        while data and not self._is_closing and not self._is_broken:
            data = self._fed(data)

    def _fed(self, data: bytes) -> bytes:
        """Give the parser a piece; return what is to be given to it next."""
        # what the parser still keeps to itself of a head counts too, unless other requests came with it
        heads_before = self._heads_begun - self._is_in_head
        is_of_one = not self._is_in_body
        if self._is_in_body:
            self._framing_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # refused by going on as if nothing had been offered (RFC 9110, 7.8)
            rest = data[upgrade.args[0] :]
            if self._offers_upgrade:
                self._offers_upgrade = False
                rest = self._head_without_offer() + rest
            self._parser = httptools.HttpRequestParser(self)
            return rest
        except httptools.HttpParserError as error:
            if isinstance(error, httptools.HttpParserCallbackError):
                raise
            self._refuse(HTTPStatus.BAD_REQUEST, "The request is no HTTP/1.1.")
            return b""
        self._take_pieces()
        size = self._request.body.size if self._request.body else 0
        if self._is_in_body and self._framing_bytes > _FRAMING_BYTES + size:
            self._refuse(HTTPStatus.BAD_REQUEST, "The body has too many chunks for so little content.")
        elif self._is_in_head and is_of_one and self._heads_begun == heads_before + 1:
            self._unparsed(len(data))
        return b""

    def _head_without_offer(self) -> bytes:
        fields = [field for field in self._request.headers if field[0].lower() != b"upgrade"]
        version = self._parser.get_http_version().encode()
        start = b"%s %s HTTP/%s\r\n" % (self._parser.get_method(), self._target, version)
        return b"".join([start, *(b"%s: %s\r\n" % field for field in fields), b"\r\n"])

    def _unparsed(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > 2 * settings.MAX_HEADER_BYTES + _TARGET_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _head_too_large())

    def _too_large(self) -> None:
        """Answer a body that is too large before it has come: the API once it knows who asks, all else at once."""
        request = self._request
        if not is_api(request.path):
            detail = f"The body is larger than the {request.most_body_bytes} bytes allowed."
            self._refusal = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail
            return
        _close_body(request)
        request.body_is_too_large = True
        request.keeps_alive = False
        self._early = True
        self._enqueue(request)

    def _push_out(self) -> None:
        self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "Others need the room that the body takes up; try again, faster.")

    def _enqueue_refusal(self, status: HTTPStatus, detail: str) -> None:
        self._request.keeps_alive = False
        _close_body(self._request)
        self._enqueue((self._request, status, detail))

    def _enqueue(self, item: Request | tuple[Request, HTTPStatus, str]) -> None:
        self._queue.append(item)
        if self._answering is None and self._is_writable:
            self._next()

    def _next(self) -> None:
        """Work on the next request, or wait for one."""
        if self._is_closing:
            return
        if not self._queue:
            if not self._is_in_head and not self._is_in_body:
                if self._is_cut_off:
                    self.transport.close()
                    return
                self._wait(settings.IDLE_SECONDS)
            else:  # it has begun to come in before its time
                self._wait(settings.BODY_SECONDS if self._is_in_body else settings.HEADER_SECONDS)
                if self._is_in_body and self._request.expects_continue:
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
        _close_body(request)
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
        _close_body(request)
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
        self._is_closing = True
        for each in self._queue:
            _close_body(each if isinstance(each, Request) else each[0])
        self._queue.clear()
        if self._is_cut_off or not (self._is_in_body or self._is_in_head):
            self.transport.close()
            return
        # closed at once, what the client still sends would be answered by a reset, which takes the answer with it
        self._wait(_SILENT_SECONDS)
        self._discarding_ends = self.process.now() + _DISCARDING_SECONDS
        self._resume()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer what is no request, or none that can be gone on with, after those before it, and close."""
        if self._is_closing or self._is_broken:
            return
        self._is_broken = True
        self._pieces.clear()
        self._is_in_head = True  # whatever follows is thrown away
        self._request.keeps_alive = False
        _close_body(self._request)
        self._enqueue((self._request, status, detail))

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        if self._discarded_bytes > _DISCARDED_BYTES:
            self.transport.abort()
        elif self._is_closing:
            self._deadline = min(self.process.now() + _SILENT_SECONDS, self._discarding_ends)

    # Time.

    def _wait(self, seconds: float) -> None:
        self._deadline = self.process.now() + seconds
        self.process.roster.set_waiting(self)

    def look(self, now: float) -> None:
        """Close the connection where the client takes too long; tell it why in the middle of a request."""
        if self._answering is not None and self._file is None and not self._is_closing:
            return
        if not self._is_writable:
            unsent_bytes = self.transport.get_write_buffer_size()
            if unsent_bytes < self._unsent_bytes:
                self._deadline = now + _STALLED_SECONDS
            self._unsent_bytes = unsent_bytes
        if now < self._deadline:
            return
        if self._is_closing or self._file is not None or not self._is_writable:
            self.transport.abort()
        elif self._is_in_body:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"The body took longer than {settings.BODY_SECONDS} s.")
        elif self._is_in_head:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"The head took longer than {settings.HEADER_SECONDS} s.")
        else:
            self.transport.close()

    def stop(self) -> None:
        """Close the connection as soon as no request is under way."""
        if self._answering is None and not self._is_in_body:
            self.transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._is_closing = True
        self.transport.abort()


def _close_body(request: Request) -> None:
    if request.body is not None:
        request.body.close()
        request.body = None


def _head_too_large() -> str:
    return f"The request's head is larger than the {settings.MAX_HEADER_BYTES} bytes allowed."
