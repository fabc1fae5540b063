"""Owns the span of time: a window with both ends."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class Span(NamedTuple):
    """The time between two instants, both included."""

    first: datetime
    last: datetime

    def contains(self, instant: datetime) -> bool:
        """Tell whether an instant lies in the span, both of whose ends do."""
        return self.first <= instant <= self.last

    def clip(self, first: datetime | None, last: datetime | None) -> Span | None:
        """Return the part between two other instants, where None sets no limit; None where nothing is left."""
        start, end = max(self.first, first or self.first), min(self.last, last or self.last)
        return Span(start, end) if start <= end else None

    def within(self, other: Span) -> Span | None:
        """Return the part that also lies in another span; None where the two have no part in common."""
        return self.clip(*other)
