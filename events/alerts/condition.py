"""Owns the condition of an alert: which values it asks for, what they make together, and whether that is a breach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from math import isfinite

from events.aggregation.question import Window
from events.calendar.granularity import MICROSECOND
from events.log.series import SeriesKey

MINUTE = timedelta(minutes=1)
THRESHOLD, SILENCE, CHANGE = "threshold", "silence", "change"
ABOVE, BELOW, EITHER = "above", "below", "either"
_UNITS = (("week", 10_080), ("day", 1_440), ("hour", 60), ("min", 1))


class Verdict(Enum):
    """What a value says: that the condition holds, that it clearly doesn't, neither of both, or nothing."""

    BREACHED = "breached"
    BETWEEN = "between"
    CLEAR = "clear"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition on the events of a series within a window of whole minutes that ends at a given minute.

    ``threshold`` compares their aggregate; ``change`` by how many percent it differs from that of the same window
    ``compare_minutes`` before; ``silence`` holds where there are none.
    """

    kind: str = THRESHOLD
    aggregation_type: str = "avg"
    window_minutes: int = 5
    comparison: str = ABOVE
    threshold: float = 0.0
    clear_threshold: float | None = None
    compare_minutes: int = 10_080

    @property
    def asked_type(self) -> str:
        """The aggregation type that the condition asks for."""
        return "count" if self.kind == SILENCE else self.aggregation_type

    @property
    def offsets(self) -> Sequence[timedelta]:
        """How long before the minute in question each of the condition's windows ends."""
        return [timedelta(), self.compare_minutes * MINUTE] if self.kind == CHANGE else [timedelta()]

    def windows(self, series: SeriesKey, at: datetime) -> list[Window]:
        """List the windows whose values tell whether the condition holds for a series at a minute."""
        ends = [at - offset for offset in self.offsets]
        return [Window(series, self.asked_type, end - self.length, end - MICROSECOND) for end in ends]

    @property
    def length(self) -> timedelta:
        """How long the window is."""
        return self.window_minutes * MINUTE

    def value_of(self, values: Sequence[float | None]) -> float | None:
        """Make one value of those of the windows; None where there is nothing to compare.

        For a change, that is where either window has no value, or the earlier one is 0 and the later one isn't.
        """
        if self.kind != CHANGE:
            return values[0]
        new, old = values
        if new is None or old is None or (old == 0 and new != 0):
            return None
        change = 0.0 if new == old else 100 * (new / abs(old) - old / abs(old))
        return change if isfinite(change) else None

    def verdict(self, value: float | None) -> Verdict:
        """Judge a value."""
        if value is None:
            return Verdict.UNKNOWN
        if self.kind == SILENCE:
            return Verdict.BREACHED if value == 0 else Verdict.CLEAR
        sign = -1 if self.comparison == BELOW else 1
        clear_threshold = self.threshold if self.clear_threshold is None else self.clear_threshold
        if self.comparison == EITHER:
            value = abs(value)
        elif self.kind == CHANGE and self.comparison == BELOW:  # “falls by more than 50 %” is a change below -50
            value, sign = -value, 1
        if sign * value > sign * self.threshold:
            return Verdict.BREACHED
        return Verdict.CLEAR if sign * value <= sign * clear_threshold else Verdict.BETWEEN

    def sentence(self) -> str:
        """Write the condition in words."""
        over = minutes_text(self.window_minutes)
        if self.kind == SILENCE:
            return f"no event for {over}"
        what = f"{self.aggregation_type} over {over}"
        if self.kind == THRESHOLD:
            return f"{what} {self.comparison} {self.threshold:g}"
        verb = {ABOVE: "rises", BELOW: "falls", EITHER: "changes"}[self.comparison]
        return f"{what} {verb} by more than {self.threshold:g} % against {minutes_text(self.compare_minutes)} before"


def minutes_text(minutes: int) -> str:
    """Write a number of minutes in the largest unit that it is a multiple of."""
    for unit, length in _UNITS:
        if minutes and minutes % length == 0:
            count = minutes // length
            return f"{count} {unit}" if count == 1 or unit == "min" else f"{count} {unit}s"
    return "0 min"
