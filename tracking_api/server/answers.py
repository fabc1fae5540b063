"""Writes answers as bytes, or as a head and a file to be sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any

from events.http.plain_errors import refuse
from events.observability.observation import Observation
from events.observability.recorder import observe
from tracking_api.server.requests import Request

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

FILE_PIECE_BYTES = 1 << 16
_WITHOUT_BODY = ("1", "204", "304")

Headers = list[tuple[str, str]]


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


class Answer:
    """An answer that is ready to be sent, with its content in memory or in a file.

    ``on_sent`` is called with the size of each piece of the file, and ``on_close`` once nothing more will be sent.
    """

    __slots__ = ("_headers", "_on_close", "_on_sent", "_status", "content", "file", "is_last")

    def __init__(
        self, status: str, headers: Headers, content: bytes = b"", file: IO[bytes] | Any = None, *,
        on_sent: Callable[[int], object] | None = None, on_close: Callable[[], object] | None = None,
    ) -> None:  # fmt: skip
        self._status, self._headers = status, headers
        self.content, self.file = content, file
        self._on_sent, self._on_close = on_sent, on_close
        self.is_last = False  # whether the connection is closed after this answer

    def head(self, request: Request) -> bytes:
        """Return the head as bytes, followed by the content where that is in memory."""
        content = b"" if request.method == "HEAD" else self.content
        lines = [f"HTTP/1.1 {self._status}", *(f"{name}: {value}" for name, value in self._headers)]
        if (
            request.method != "HEAD"
            and not self._status.startswith(_WITHOUT_BODY)
            and not any(name.lower() == "content-length" for name, _ in self._headers)
        ):
            lines.append(f"Content-Length: {len(content)}")
        lines.append(f"Date: {_date(int(time.time()))}")
        if self.is_last:
            lines.append("Connection: close")
        elif request.version == "1.0":
            lines.append("Connection: keep-alive")
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + content

    def sent(self, size: int) -> None:
        """Report that ``size`` bytes of the file are on their way."""
        if self._on_sent is not None:
            self._on_sent(size)

    def close(self) -> None:
        """Close the file, as nothing more is sent. May be called again."""
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()


def refusal(request: Request, status: HTTPStatus, detail: str) -> Answer:
    """Return an answer that refuses a request before Django sees it, and record the request."""
    environ: dict[str, Any] = {"REQUEST_METHOD": request.method or "-", "PATH_INFO": request.path or "-"}
    for name, value in request.headers:
        if name.lower() == b"x-request-id":
            environ["HTTP_X_REQUEST_ID"] = value.decode("latin-1")
    return answered(environ, partial(refuse, status, detail))


def answered(
    environ: WSGIEnvironment, application: Callable[..., list[bytes]], seen: Observation | None = None
) -> Answer:
    """Return the whole answer of a WSGI application, and record the request; ``seen`` is its record if it was begun."""
    started: list[Any] = []
    [content] = observe(environ, partial(start_into, started), application, seen)
    return Answer(started[0], started[1], content)


def start_into(started: list[Any], status: str, headers: Headers, exc_info: Any = None, /) -> Callable[[bytes], object]:
    """Add the status and headers of an answer to a list; ``partial(start_into, started)`` is a ``start_response``."""
    started.extend((status, headers))
    return started.append  # PEP 3333 wants a write() here, which nothing calls
