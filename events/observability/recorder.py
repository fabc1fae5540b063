"""What is seen of each request: its id, who sent it and what came of it; one line of log and the metrics at its end."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from django.conf import settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from events.observability.metrics import Metrics

_STANDARD_ERROR = 2
_PATH_CHARACTERS = 1_000  # so that a line is shorter than what a pipe takes in one piece, 4096 bytes
_FIELD_CHARACTERS = 60
_SAFE = "/~:@!$&'()*+,;=-._"
_is_plain = re.compile(r"[\w/~:@!$&'()*+,;=.-]*", re.ASCII).fullmatch
_is_request_id = re.compile(r"[!-~]{1,128}").fullmatch


@dataclass(slots=True)
class Observation:
    """What is known of a request; those who learn more of it while it is answered add it."""

    method: str = ""
    path: str = ""  # its bytes as Latin-1, which is WSGI's way
    request_id: str = ""
    client: str = ""
    events: int = 0  # stored by it
    refusal: str = ""  # REST framework's code for why nothing was done
    field: str = ""  # the first that is wrong, after its item's index in a batch: 17.value
    reason: str = ""  # the code of what is wrong with it; never what was sent
    database_error: str = ""
    status: int = 500
    size_bytes: int = 0


_current: ContextVar[Observation | None] = ContextVar("observation", default=None)


def current() -> Observation:
    """Of the request that this thread works on; outside of any, one that nobody looks at."""
    return _current.get() or Observation()


def request_id_of(environ: WSGIEnvironment) -> str:
    """The ``X-Request-ID`` that came with the request where it is 1 to 128 visible ASCII characters, else a new one."""
    given = environ.get("HTTP_X_REQUEST_ID", "")
    return given if _is_request_id(given) else secrets.token_hex(16)


def observe(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    answer: Callable[[WSGIEnvironment, StartResponse], Any],
) -> Any:
    """The answer with its ``X-Request-ID``; once it is made, it is written down.

    An answer with ``streaming`` is made while it is sent, and written down when it is closed.
    """
    # Django writes over the path
    seen = Observation(environ["REQUEST_METHOD"], environ["PATH_INFO"], request_id_of(environ))
    start = time.perf_counter()

    def start_observed(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        seen.status = int(status[:3])
        headers.append(("X-Request-ID", seen.request_id))
        return start_response(status, headers, *exc_info)

    _current.set(seen)
    streams = False
    try:
        response = answer(environ, start_observed)
        streams = getattr(response, "streaming", False)
        if not streams and seen.method != "HEAD":
            seen.size_bytes = sum(map(len, response))
    finally:
        _current.set(None)
        if not streams:
            _write_down(seen, time.perf_counter() - start)
    return ObservedStream(response, seen, start) if streams else response


class ObservedStream:
    """An answer with ``streaming``, written down when it is closed."""

    def __init__(self, response: Any, seen: Observation, start: float) -> None:
        self.response, self.seen, self.start = response, seen, start

    def __iter__(self) -> Iterator[bytes]:
        _current.set(self.seen)
        for piece in self.response:
            self.sent(len(piece))
            yield piece

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """Have what is logged within the block be about this request."""
        _current.set(self.seen)
        try:
            yield
        finally:
            _current.set(None)

    def sent(self, size: int) -> None:
        """Note that so many more bytes are sent."""
        self.seen.size_bytes += size

    def close(self) -> None:
        """Close the answer, and write the request down."""
        try:
            self.response.close()
        finally:
            _current.set(None)
            _write_down(self.seen, time.perf_counter() - self.start)


@cache
def metrics() -> Metrics | None:
    """The metrics of this process; None where nobody may read them."""
    if not settings.METRICS_TOKEN:
        return None
    from events.observability.metrics import Metrics  # loaded only where it is used

    return Metrics()


def _write_down(seen: Observation, seconds: float) -> None:
    if settings.REQUEST_LOG:
        line = _json_line if settings.LOG_FORMAT == "json" else _text_line
        # One write, so that lines of several threads and processes don't mix; logging would take four times as long.
        # Where nobody reads any longer, the request is answered all the same.
        with suppress(OSError):
            os.write(_STANDARD_ERROR, line(seen, seconds))
    if (counted := metrics()) is not None:
        counted.count(seen, seconds)


def instant_text(timestamp: float) -> str:
    """A unix time in seconds as logs show it: ``2020-11-12T11:10:00.000Z``."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _on_one_line(text: str, encoding: str = "utf-8") -> str:
    # as it may have been sent, percent-encoded; the path alone, as a query may hold a secret
    return text if _is_plain(text) else quote(text, _SAFE, encoding, "replace")


def _path_text(path: str) -> str:
    text = _on_one_line(path[: _PATH_CHARACTERS + 1], "latin-1")
    return text if len(text) <= _PATH_CHARACTERS else f"{text[:_PATH_CHARACTERS]}…"


def _field_text(field: str) -> str:
    # a field that there isn't may be called anything
    return _on_one_line(field[:_FIELD_CHARACTERS])


def _text_line(seen: Observation, seconds: float) -> bytes:
    return (
        f"{instant_text(time.time())} INFO request: {seen.method} {_path_text(seen.path)} {seen.status}"
        f" ms={seconds * 1000:.2f} bytes={seen.size_bytes} events={seen.events}"
        f" client={_on_one_line(seen.client) or '-'} request={seen.request_id}"
        f"{f' refusal={seen.refusal}' if seen.refusal else ''}"
        f"{f' field={_field_text(seen.field)} reason={seen.reason}' if seen.field else ''}\n"
    ).encode()


def _json_line(seen: Observation, seconds: float) -> bytes:
    line = {
        "time": instant_text(time.time()),
        "level": "INFO",
        "logger": "request",
        "method": seen.method,
        "path": _path_text(seen.path),
        "status": seen.status,
        "milliseconds": round(seconds * 1000, 2),
        "bytes": seen.size_bytes,
        "events": seen.events,
        "client_id": seen.client or None,
        "request_id": seen.request_id,
        "refusal": seen.refusal or None,
        "field": _field_text(seen.field) or None,
        "reason": seen.reason or None,
    }
    return msgspec.json.encode(line) + b"\n"
