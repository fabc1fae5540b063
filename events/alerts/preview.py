"""Finds what an alert would have seen in the last week, minute by minute, and when it would have fired."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from operator import ge, le

from rest_framework.exceptions import ValidationError

from events.aggregation.answer import Answer
from events.aggregation.question import Question
from events.alerts.condition import MINUTE, Condition
from events.alerts.models import Alert
from events.alerts.standing import FIRING, OK, Standing
from events.calendar.granularity import MICROSECOND, Granularity
from events.calendar.timestamps import microseconds_of
from events.database.snapshot import snapshot
from events.log.series import SeriesKey

WEEK = timedelta(days=7)
_MINUTE_MICROSECONDS = 60_000_000
# Every double is a whole number of these, so that sums of doubles are exact.
_UNIT_BITS = 1_074
_Values = list[float | None]


@dataclass(frozen=True)
class Preview:
    """The value of each minute from ``first`` on, and from when to when the alert would have fired, None for still."""

    series: SeriesKey
    first: datetime
    values: _Values
    firings: list[tuple[datetime, datetime | None]]
    problem: str = ""

    @property
    def last(self) -> datetime:
        """The last minute."""
        return self.first + (len(self.values) - 1) * MINUTE


def preview(alert: Alert, series: SeriesKey, now: datetime, length: timedelta = WEEK) -> Preview:
    """Evaluate an alert for a series over every minute up to now, as the worker would have, from one snapshot.

    It reads the minutes of the window, by two answers at most, and those before that a change is against.
    """
    last = now.replace(second=0, microsecond=0) - alert.delay_minutes * MINUTE
    first = last - length
    condition = alert.condition
    count = int(length / MINUTE) + 1
    try:
        with snapshot():
            of_windows = [_values(condition, series, first - offset, count) for offset in condition.offsets]
    except ValidationError as error:
        return Preview(series, first, [], [], str(error.detail))
    values = [condition.value_of(found) for found in zip(*of_windows, strict=True)]
    return Preview(series, first, values, list(_firings(alert, first, values)))


def _firings(
    alert: Alert, first: datetime, values: Sequence[float | None]
) -> Iterator[tuple[datetime, datetime | None]]:
    condition, standing, fired = alert.condition, Standing(OK, first), None
    for number, value in enumerate(values):
        at = first + number * MINUTE
        standing = standing.after(at, condition.verdict(value), alert.for_minutes, alert.resolve_minutes)
        if standing.state == FIRING and fired is None:
            fired = at
        elif standing.state != FIRING and fired is not None:
            yield fired, at
            fired = None
    if fired is not None:
        yield fired, None


def _values(condition: Condition, series: SeriesKey, first: datetime, count: int) -> _Values:
    """List the aggregate of the window that ends at each of so many minutes."""
    kind, width = condition.asked_type, condition.window_minutes
    start = first - width * MINUTE
    end = first + (count - 1) * MINUTE - MICROSECOND

    def minutes(aggregation_type: str) -> _Values:
        return _minutes(series, aggregation_type, start, end, width + count - 1)

    if kind in {"min", "max"}:
        return _extremes(minutes(kind), width, le if kind == "min" else ge)
    numbers = _sliding([int(each or 0) for each in minutes("count")], width)
    if kind == "count":
        return [float(each) for each in numbers]
    sums = _sliding([_units(each or 0.0) for each in minutes("sum")], width)
    unit = 1 << _UNIT_BITS
    if kind == "sum":
        return [total / unit for total in sums]
    return [total / (unit * number) if number else None for total, number in zip(sums, numbers, strict=True)]


def _minutes(series: SeriesKey, aggregation_type: str, start: datetime, end: datetime, count: int) -> _Values:
    """List the aggregate of each of so many minutes from ``start`` on; None where there are no events."""
    question = Question(
        namespace=series.namespace, name=series.name, ts_min=start, ts_max=end, granularity=Granularity.MINUTE,
        aggregation_type=aggregation_type, label="bucket",
    )  # fmt: skip
    values: _Values = [None] * count
    zero = microseconds_of(start)
    for item in Answer(question).items():
        at = microseconds_of(datetime.fromisoformat(item["aggregatedTimestamp"]))
        values[(at - zero) // _MINUTE_MICROSECONDS] = item["value"]
    return values


def _sliding(numbers: Sequence[int], width: int) -> list[int]:
    """List the exact sum of each ``width`` numbers in a row."""
    sums = list(accumulate(numbers, initial=0))
    return [after - before for before, after in zip(sums, sums[width:], strict=False)]


def _units(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return numerator * ((1 << _UNIT_BITS) // denominator)


def _extremes(values: _Values, width: int, is_better: Callable[[float, float], bool]) -> _Values:
    """List the least or the most of each ``width`` values in a row, None where there are none among them."""
    found: _Values = []
    candidates: deque[tuple[int, float]] = deque()
    for number, value in enumerate(values):
        if value is not None:
            while candidates and is_better(value, candidates[-1][1]):
                candidates.pop()
            candidates.append((number, value))
        if candidates and candidates[0][0] <= number - width:
            candidates.popleft()
        if number >= width - 1:
            found.append(candidates[0][1] if candidates else None)
    return found
