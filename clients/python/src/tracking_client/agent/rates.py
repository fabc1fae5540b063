"""Makes rates of counters that only grow."""

from __future__ import annotations

from collections.abc import Hashable


class Rates:
    """Remembers what counters were at last."""

    def __init__(self) -> None:
        self._last: dict[Hashable, tuple[float, float]] = {}
        self._next: dict[Hashable, tuple[float, float]] = {}

    def per_second(self, counter: Hashable, value: float, at: float) -> float | None:
        """Return how much a counter has grown a second since the turn before, ``at`` being seconds of a steady clock.

        None where it is new, and where it has been set back, as after a restart of what counts.
        """
        self._next[counter] = at, value
        if counter not in self._last:
            return None
        last_at, last = self._last[counter]
        if value < last or at <= last_at:
            return None
        return (value - last) / (at - last_at)

    def end_turn(self) -> None:
        """Forget the counters that were not seen in this turn."""
        self._last, self._next = self._next, {}
