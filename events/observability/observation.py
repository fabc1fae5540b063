"""Holds the record of the request that a thread works on, for the request log and the metrics."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Observation:
    """What is known of a request; code that learns more of it while it is answered sets that here."""

    method: str = ""
    path: str = ""  # its bytes decoded as Latin-1, as WSGI has them
    request_id: str = ""
    started: float = 0.0  # by time.perf_counter()
    client: str = ""
    events: int = 0  # how many the request stored
    refusal: str = ""  # REST framework's code of the error, where nothing was done
    field: str = ""  # the first wrong field; in a batch with the index of its item: 17.value
    reason: str = ""  # the code of what is wrong with the field; never what was sent
    database_error: str = ""
    status: int = 500
    size_bytes: int = 0


_current: ContextVar[Observation | None] = ContextVar("observation", default=None)


def current() -> Observation:
    """Return the record of the request that this thread works on; outside of requests, one that nobody reads."""
    return _current.get() or Observation()


def set_current(seen: Observation | None) -> None:
    """Make ``current`` return a record in this thread from now on; None means that the thread works on no request."""
    _current.set(seen)
