"""Records each request: gives it an id and a record, and at its end writes a line of log and counts it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from django.conf import settings

from events.observability.observation import Observation, set_current
from events.observability.request_log import write_line

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from events.observability.metrics import Metrics

_is_request_id = re.compile(r"[!-~]{1,128}").fullmatch


def request_id_of(environ: WSGIEnvironment) -> str:
    """Return the ``X-Request-ID`` of a request where it is 1 to 128 visible ASCII characters, else a new id."""
    given = environ.get("HTTP_X_REQUEST_ID", "")
    return given if _is_request_id(given) else os.urandom(16).hex()


def begin(environ: WSGIEnvironment, started: float = 0.0) -> Observation:
    """Begin the record of a request; to be called before Django runs, as it changes the path in the environment.

    ``started`` is when the request was whole, by time.perf_counter(), where it had to wait since.
    """
    started = started or time.perf_counter()
    return Observation(environ["REQUEST_METHOD"], environ["PATH_INFO"], request_id_of(environ), started)


@contextmanager
def recording(seen: Observation) -> Iterator[Observation]:
    """Make the block work on a request, so that what it learns and logs goes to the request's record."""
    set_current(seen)
    try:
        yield seen
    finally:
        set_current(None)


def observe(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    answer: Callable[[WSGIEnvironment, StartResponse], Any],
    seen: Observation | None = None,
) -> Any:
    """Answer by a WSGI application, add ``X-Request-ID``, and record the request once the answer is made.

    ``seen`` is the record where it was begun before. An answer with ``streaming`` is made while it is sent, so its
    request is recorded when it is closed.
    """
    seen = seen or begin(environ)

    def start_observed(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        seen.status = int(status[:3])
        headers.append(("X-Request-ID", seen.request_id))
        return start_response(status, headers, *exc_info)

    set_current(seen)
    streams = False
    try:
        response = answer(environ, start_observed)
        streams = getattr(response, "streaming", False)
        if not streams and seen.method != "HEAD":
            seen.size_bytes = sum(map(len, response))
    finally:
        set_current(None)
        if not streams:
            _write_down(seen)
    return ObservedStream(response, seen) if streams else response


class ObservedStream:
    """An answer with ``streaming``, whose request is recorded when it is closed."""

    def __init__(self, response: Any, seen: Observation) -> None:
        self.response, self.seen = response, seen

    def __iter__(self) -> Iterator[bytes]:
        set_current(self.seen)
        for piece in self.response:
            self.sent(len(piece))
            yield piece

    def sent(self, size: int) -> None:
        """Add bytes that are sent to the record."""
        self.seen.size_bytes += size

    def close(self) -> None:
        """Close the answer, and record its request."""
        try:
            self.response.close()
        finally:
            set_current(None)
            _write_down(self.seen)


@cache
def metrics() -> Metrics | None:
    """Return this process's metrics; None where no METRICS_TOKEN is set, so that nobody may read them."""
    if not settings.METRICS_TOKEN:
        return None
    from events.observability.metrics import Metrics  # loaded only where it is used, as it takes time and memory

    return Metrics()


def _write_down(seen: Observation) -> None:
    seconds = time.perf_counter() - seen.started
    if settings.REQUEST_LOG:
        write_line(seen, seconds)
    if (counted := metrics()) is not None:
        counted.count(seen, seconds)
