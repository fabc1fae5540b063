"""Holds a request as it came, and makes the WSGI environment that Django reads it from (PEP 3333)."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache, lru_cache
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import httptools
from django.conf import settings

from events.http.paths import most_body_bytes
from tracking_api.server.bodies import Body

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

Headers = list[tuple[bytes, bytes]]
_SEPARATORS = {"HTTP_COOKIE": "; "}
# The requests of most clients differ in their bodies alone.
_MOST_TARGETS, _MOST_NAMES = 128, 128
_NAME_CHARACTERS = 64  # anybody may send any name


@dataclass(slots=True)
class Request:
    """A request, without the header fields that have an underscore in their names.

    WSGI can't tell such a name from one with a hyphen, so a client could pass off its field as one that only the proxy
    sets.
    """

    method: str = ""
    path: str = ""  # percent-decoded, its bytes as Latin-1
    query: str = ""
    version: str = "1.1"
    headers: Headers = field(default_factory=list)
    peer: tuple[str, int] = ("", 0)
    host_count: int = 0
    keeps_alive: bool = False
    expects_continue: bool = False
    content_length: int | None = None
    is_chunked: bool = False
    transfer_coding: bytes = b""
    body: Body | None = None
    body_is_too_large: bool = False
    taken: float = 0.0  # when it was whole, or its body too large, by time.perf_counter()
    is_cut_off: bool = False  # the client sends no more, and may be gone
    is_gone: bool = False

    def set_target(self, target: bytes) -> None:
        """Set path and query by the request target (RFC 9112, 3.2). Raises ValueError where it can't be read."""
        self.path, self.query = _path_and_query(target)

    def add_header(self, name: bytes, value: bytes) -> None:
        """Add a header field, and note a host and what is said of the body; drop one with an underscore in its name."""
        if b"_" in name:
            return
        self.headers.append((name, value))
        lowered = name.lower()
        if lowered == b"content-length":
            self.content_length = int(value)
        elif lowered == b"transfer-encoding":
            self.is_chunked = True
            self.transfer_coding += (b"," if self.transfer_coding else b"") + value.strip().lower()
        elif lowered == b"expect":
            self.expects_continue = value.lower() == b"100-continue"
        elif lowered == b"host":
            self.host_count += 1

    def close_body(self) -> None:
        """Close the body, where there is one, and give its room back."""
        if self.body is not None:
            self.body.close()
            self.body = None

    @property
    def most_body_bytes(self) -> int:
        """Return how many bytes the body may have."""
        return most_body_bytes(self.path)

    def environ(self) -> WSGIEnvironment:
        """Return a new WSGI environment of the request; fields of one name are joined into one."""
        found: WSGIEnvironment = {
            **_of_every_request(),
            "REQUEST_METHOD": self.method,
            "PATH_INFO": self.path,
            "QUERY_STRING": self.query,
            "SERVER_PROTOCOL": f"HTTP/{self.version}",
            "REMOTE_ADDR": self.peer[0],
            "REMOTE_PORT": str(self.peer[1]),
            "wsgi.input": self.body.reader() if self.body else BytesIO(),
            "wsgi.errors": sys.stderr,
        }
        for name, value in self.headers:
            key = _known_key(name) if len(name) <= _NAME_CHARACTERS else _key(name)
            text = value.decode("latin-1")
            found[key] = f"{found[key]}{_SEPARATORS.get(key, ',')}{text}" if key in found else text
        found.pop("HTTP_CONTENT_LENGTH", None)
        found.pop("HTTP_TRANSFER_ENCODING", None)
        if "HTTP_CONTENT_TYPE" in found:
            found["CONTENT_TYPE"] = found.pop("HTTP_CONTENT_TYPE")
        if self.body_is_too_large:
            # the view refuses the request by this length, before it reads the body
            found["CONTENT_LENGTH"] = str(max(self.content_length or 0, self.most_body_bytes + 1))
        elif self.body:
            found["CONTENT_LENGTH"] = str(self.body.size)
        return found


@cache
def _of_every_request() -> WSGIEnvironment:
    return {
        "SCRIPT_NAME": "",
        "SERVER_NAME": settings.HOST,
        "SERVER_PORT": str(settings.PORT),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


@lru_cache(_MOST_TARGETS)
def _path_and_query(target: bytes) -> tuple[str, str]:
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        raise ValueError("The request target can't be read.") from None
    return unquote_to_bytes(url.path or b"/").decode("latin-1"), (url.query or b"").decode("latin-1")


def _key(name: bytes) -> str:
    """Return the key of a header field in WSGI's environment."""
    return "HTTP_" + name.decode("latin-1").upper().replace("-", "_")


_known_key = lru_cache(_MOST_NAMES)(_key)
