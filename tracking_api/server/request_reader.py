"""Reads requests from the bytes that come in on a connection (RFC 9112)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Protocol

import httptools
from django.conf import settings

from events.http.paths import is_api
from events.observability.probes import is_probe
from tracking_api.server.bodies import Bodies, Body
from tracking_api.server.requests import Request

logger = logging.getLogger(__name__)

_TARGET_BYTES = 8 << 10
_VERSIONS = ("1.0", "1.1")
# A body may have so many bytes besides its content: the sizes of chunks, their extensions, and trailers.
_FRAMING_BYTES = 1 << 16


class Receiver(Protocol):
    """What a reader calls for the requests that it reads."""

    is_closing: bool  # where True, nothing more is read

    def begin_head(self) -> None:
        """Note that a request begins to come in."""

    def begin_body(self, request: Request) -> None:
        """Note that a request's head is complete, and that a body follows."""

    def take(self, request: Request) -> None:
        """Answer a request that is whole, or one whose body is too large to be read."""

    def refuse(self, request: Request, status: HTTPStatus, detail: str) -> None:
        """Answer a request that can't be taken, with a status and the reason."""

    def discard(self, size: int) -> None:
        """Count ``size`` bytes that came and are thrown away."""


class RequestReader:
    """Gets what comes in, piece by piece, and calls its receiver for each request in it."""

    def __init__(
        self, receiver: Receiver, bodies: Bodies, peer: tuple[str, int], client_network: str | None, too_many: str
    ) -> None:
        """Make a reader; ``too_many`` says why only probes are answered, and is empty where all requests are."""
        self._receiver, self._bodies = receiver, bodies
        self._peer, self._client_network, self._too_many = peer, client_network, too_many
        self._parser = httptools.HttpRequestParser(self)
        self._most_head_bytes: int = settings.MAX_HEADER_BYTES  # once, as it is compared with for each field
        self.request = Request()  # the request that is coming in
        self.is_in_head = False
        self.is_in_body = False
        self.is_early = False  # whether the answer began before the request was whole
        self.is_broken = False  # whether what comes in is not HTTP, or came too late
        self._target = b""
        self._head_bytes = 0  # of the head's fields
        self._head_came_bytes = 0  # of the pieces that it came in
        self._heads_begun = 0
        self._refusal: tuple[HTTPStatus, str] | None = None
        self._offers_upgrade = False
        self._pieces: list[bytes] = []
        self._framing_bytes = 0

    def feed(self, data: bytes) -> None:
        """Read a piece of what came in."""
        while data and not self._receiver.is_closing and not self.is_broken:
            data = self._fed(data)

    def refuse(self, status: HTTPStatus, detail: str) -> None:
        """Refuse what comes in, once the requests before it are answered, and close; for what can't be read further."""
        if self._receiver.is_closing or self.is_broken:
            return
        self.is_broken = True
        self._pieces.clear()
        self.is_in_head = True  # as if a head never ended: what follows is thrown away
        self.request.keeps_alive = False
        self.request.close_body()
        self._receiver.refuse(self.request, status, detail)

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.request = Request(peer=self._peer)
        self._target = b""
        self._head_bytes = self._head_came_bytes = 0
        self._heads_begun += 1
        self.is_in_head = True
        self._refusal = None
        self._receiver.begin_head()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request target."""
        if len(self._target) + len(url) > _TARGET_BYTES:
            detail = f"The path and query are longer than the {_TARGET_BYTES} bytes allowed."
            self._refusal = HTTPStatus.REQUEST_URI_TOO_LONG, detail
        else:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head. Trailers, which come after the body, are ignored (RFC 9110, 6.5.1)."""
        if self.is_in_body:
            return
        self._head_bytes += len(name) + len(value)
        if self._head_bytes <= self._most_head_bytes:
            self.request.add_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head, and get ready for the body."""
        request = self.request
        self.is_in_head = False
        has_body = request.is_chunked or bool(request.content_length)
        if problem := self._unsupported():
            self.refuse(*problem)
            return
        is_fine = self._refusal is None and self._head_bytes <= self._most_head_bytes
        self._offers_upgrade = has_body and is_fine and self._parser.should_upgrade()
        if self._offers_upgrade:
            return  # the parser would skip the body, so `_fed` gives it the head again without the offer
        request.method = self._parser.get_method().decode("latin-1")
        request.version = self._parser.get_http_version()
        is_old = request.version == "1.0"
        # HTTP/1.0 has no chunks, so where such a body ends is uncertain (RFC 9112, 6.1); nor has it a 100 Continue
        request.keeps_alive = self._parser.should_keep_alive() and not (is_old and request.is_chunked)
        request.expects_continue = request.expects_continue and not is_old
        if self._refusal is None:
            try:
                request.set_target(self._target)
            except ValueError as error:
                self._refusal = HTTPStatus.BAD_REQUEST, str(error)
            if request.host_count > 1 or not (request.host_count or is_old):  # RFC 9112, 3.2
                self._refusal = HTTPStatus.BAD_REQUEST, "The request must have one Host."
        if self._head_bytes > self._most_head_bytes:
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _head_too_large()
        self._head_bytes = 0
        self.is_in_body = has_body
        self._framing_bytes = 0
        if self._refusal is None and (request.content_length or 0) > request.most_body_bytes:
            self._too_large()
        if self._too_many:
            request.keeps_alive = False
            if self._refusal is None and not is_probe(request.path):
                self._refusal = HTTPStatus.SERVICE_UNAVAILABLE, self._too_many
        if self._refusal is not None:
            self._enqueue_refusal(*self._refusal)
        elif has_body and not self.is_early:
            request.body = Body(self._bodies, self._client_network, self._push_out)
            self._receiver.begin_body(request)

    def _unsupported(self) -> tuple[HTTPStatus, str] | None:
        request = self.request
        if self._parser.get_method() == b"CONNECT":  # the parser reads no body for it
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
        request = self.request
        if self.is_early or self._refusal is not None or request.body is None:
            self._receiver.discard(len(piece))
            return
        if request.body.size + len(piece) > request.most_body_bytes:
            self._too_large()
        else:
            try:
                if not request.body.write(piece):
                    self._refusal = HTTPStatus.SERVICE_UNAVAILABLE, "Too many bodies are on their way; try again."
            except OSError as error:  # raised further, it would break the connection, and nobody be told why
                logger.error("No room for a body: %s", error)
                self._refusal = HTTPStatus.SERVICE_UNAVAILABLE, "There is no room to take the body; try again."
        if self._refusal is not None:
            self._enqueue_refusal(*self._refusal)

    def on_message_complete(self) -> None:
        """Give the request to the receiver, as it is whole."""
        if self._offers_upgrade or self.is_broken:
            return
        self._take_pieces()
        self.is_in_body = False
        if self.request.body is not None:
            self.request.body.finish()
        if self.is_early or self._refusal is not None:
            self.is_early = False
            return
        self._receiver.take(self.request)
        self.request = Request()

    # Pieces.

    def _fed(self, data: bytes) -> bytes:
        """Give the parser a piece; return the bytes that are to be given to it next."""
        # bytes of a head that the parser hasn't reported yet count too, unless the piece had other requests in it
        heads_before = self._heads_begun - self.is_in_head
        is_of_one = not self.is_in_body
        if self.is_in_body:
            self._framing_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # An upgrade is declined by going on as if none had been offered (RFC 9110, 7.8).
            rest = data[upgrade.args[0] :]
            if self._offers_upgrade:
                self._offers_upgrade = False
                rest = self._head_without_offer() + rest
            self._parser = httptools.HttpRequestParser(self)
            return rest
        except httptools.HttpParserError as error:
            if isinstance(error, httptools.HttpParserCallbackError):
                raise
            self.refuse(HTTPStatus.BAD_REQUEST, "The request is no HTTP/1.1.")
            return b""
        self._take_pieces()
        size = self.request.body.size if self.request.body else 0
        if self.is_in_body and self._framing_bytes > _FRAMING_BYTES + size:
            self.refuse(HTTPStatus.BAD_REQUEST, "The body has too many chunks for so little content.")
        elif self.is_in_head and is_of_one and self._heads_begun == heads_before + 1:
            self._unparsed(len(data))
        return b""

    def _head_without_offer(self) -> bytes:
        fields = [field for field in self.request.headers if field[0].lower() != b"upgrade"]
        version = self._parser.get_http_version().encode()
        start = b"%s %s HTTP/%s\r\n" % (self._parser.get_method(), self._target, version)
        return b"".join([start, *(b"%s: %s\r\n" % field for field in fields), b"\r\n"])

    def _unparsed(self, size: int) -> None:
        self._head_came_bytes += size
        if self._head_came_bytes > 2 * self._most_head_bytes + _TARGET_BYTES:
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _head_too_large())

    def _too_large(self) -> None:
        """Have a too large body refused before it comes: by the API, which authenticates first, else at once."""
        request = self.request
        if not is_api(request.path):
            detail = f"The body is larger than the {request.most_body_bytes} bytes allowed."
            self._refusal = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail
            return
        request.close_body()
        request.body_is_too_large = True
        request.keeps_alive = False
        self.is_early = True
        self._receiver.take(request)

    def _push_out(self) -> None:
        self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "Others need the room that the body takes up; try again, faster.")

    def _enqueue_refusal(self, status: HTTPStatus, detail: str) -> None:
        self.request.keeps_alive = False
        self.request.close_body()
        self._receiver.refuse(self.request, status, detail)


def _head_too_large() -> str:
    return f"The request's head is larger than the {settings.MAX_HEADER_BYTES} bytes allowed."
