"""A span of time."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class Span(NamedTuple):
    """What lies between two instants, both included."""

    first: datetime
    last: datetime

    def clip(self, first: datetime | None, last: datetime | None) -> Span | None:
        """Return the part between two other instants, of which None is no limit; None where nothing is left."""
        start, end = max(self.first, first or self.first), min(self.last, last or self.last)
        return Span(start, end) if start <= end else None

    def within(self, other: Span) -> Span | None:
        """Return the part that lies in another span too; None where nothing does."""
        return self.clip(*other)
