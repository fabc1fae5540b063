"""The record of a request: what is known of it, and where those who learn more add that."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


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
    """Return that of the request that this thread works on; outside of any, one that nobody looks at."""
    return _current.get() or Observation()


def set_current(seen: Observation | None) -> None:
    """Have ``current`` return it in this thread from now on; with None, the thread works on no request."""
    _current.set(seen)
