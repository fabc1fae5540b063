"""Finds what an alert would have seen in the last week, minute by minute, and when it would have fired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate

from rest_framework.exceptions import ValidationError

from events.aggregation import event_bounds, exact_sums
from events.aggregation.answer import Answer
from events.aggregation.question import ENDS, Question, fraction_of, reads_all_events
from events.aggregation.series_state import state_of
from events.aggregation.sources import events_of
from events.alerts import sliding
from events.alerts.condition import MINUTE, Condition
from events.alerts.models import Alert
from events.alerts.problems import words_of
from events.alerts.sliding import Values
from events.alerts.states import FIRING, OK, Status
from events.calendar.granularity import MICROSECOND, Granularity
from events.calendar.spans import Span
from events.calendar.timestamps import microseconds_of
from events.database.snapshot import snapshot
from events.log.series import SeriesKey
from events.rollups.sums import Exact

WEEK = timedelta(days=7)
_MINUTE_MICROSECONDS = 60_000_000
# Percentiles and deviations of a preview are made of so many events at most, which takes about a second.
_MOST_EVENTS = 200_000


@dataclass(frozen=True)
class Preview:
    """The value of each minute from ``first`` on, and from when to when the alert would have fired, None for still."""

    series: SeriesKey
    first: datetime
    values: Values
    firings: list[tuple[datetime, datetime | None]]
    problem: str = ""

    @property
    def is_whole(self) -> bool:
        """Tell whether it is of the whole week."""
        return self.last - self.first >= WEEK

    @property
    def marks(self) -> list[datetime]:
        """The instants at the ends of seven parts of it."""
        return [self.first + (self.last - self.first) * number / 7 for number in range(8)]

    @property
    def last(self) -> datetime:
        """The last minute."""
        return self.first + (len(self.values) - 1) * MINUTE


def preview(alert: Alert, series: SeriesKey, now: datetime, length: timedelta = WEEK) -> Preview:
    """Evaluate an alert for a series over every minute up to now, as the worker would have, from one snapshot.

    It reads the minutes of the window, by two answers at most, and those before that a change is against. Where events
    are read and these are too many, it begins later.
    """
    last = now.replace(second=0, microsecond=0) - alert.delay_minutes * MINUTE
    first = last - length
    condition = alert.condition
    count = int(length / MINUTE) + 1
    try:
        with snapshot():
            count = min(_that_fit(condition, series, first - offset, count) for offset in condition.offsets)
            first = last - (count - 1) * MINUTE
            of_windows = [_values(condition, series, first - offset, count) for offset in condition.offsets]
    except ValidationError as error:
        return Preview(series, first, [], [], words_of(error))
    values = [condition.value_of(found) for found in zip(*of_windows, strict=True)]
    return Preview(series, first, values, list(_firings(alert, first, values)))


def _firings(
    alert: Alert, first: datetime, values: Sequence[float | None]
) -> Iterator[tuple[datetime, datetime | None]]:
    condition, status, fired = alert.condition, Status(OK, first), None
    for number, value in enumerate(values):
        at = first + number * MINUTE
        status = status.after(at, condition.verdict(value), alert.for_minutes, alert.resolve_minutes)
        if status.state == FIRING and fired is None:
            fired = at
        elif status.state != FIRING and fired is not None:
            yield fired, at
            fired = None
    if fired is not None:
        yield fired, None


def _that_fit(condition: Condition, series: SeriesKey, first: datetime, count: int) -> int:
    """Return for how many of so many minutes the events of their windows may be read, counted from the last one.

    Raises ValidationError where the last one's are too many.
    """
    kind, width = condition.asked_type, condition.window_minutes
    if not reads_all_events(kind):
        return count
    numbers = _minutes(series, "count", first - width * MINUTE, width + count - 1)
    totals = accumulate(int(each or 0) for each in reversed(numbers))
    fit = sum(total <= _MOST_EVENTS for total in totals) - width + 1
    if fit < 1:
        raise ValidationError(f"The last window has more than {_MOST_EVENTS} events, too many for a preview.")
    return fit


def _values(condition: Condition, series: SeriesKey, first: datetime, count: int) -> Values:
    """List the aggregate of the window that ends at each of so many minutes."""
    kind, width = condition.asked_type, condition.window_minutes

    def minutes(aggregation_type: str) -> Values:
        return _minutes(series, aggregation_type, first - width * MINUTE, width + count - 1)

    if kind in {"min", "max"}:
        return sliding.extremes(minutes(kind), width, is_least=kind == "min")
    if kind in ENDS:
        return sliding.ends(minutes(kind), width, is_last=kind == "last")
    if reads_all_events(kind):
        events = _events(series, kind, first - width * MINUTE, width + count - 1)
        fraction = fraction_of(kind)
        return sliding.deviations(events, width) if fraction is None else sliding.percentiles(events, width, fraction)
    if kind == "count":
        return sliding.counts([int(each or 0) for each in minutes(kind)], width)
    totals, numbers = _sums(series, first - width * MINUTE, width + count - 1)
    if kind == "avg":
        return sliding.averages(totals, numbers, width)
    seconds = width * MINUTE.total_seconds() if kind == "rate" else 1
    return [None if total is None else total / seconds for total in sliding.sums(totals, width)]


def _minutes(series: SeriesKey, aggregation_type: str, start: datetime, count: int) -> Values:
    """List the aggregate of each of so many minutes from ``start`` on; None where there are no events."""
    question = _question(series, aggregation_type, start, count)
    values: Values = [None] * count
    for item in Answer(question).items():
        values[_number(datetime.fromisoformat(item["aggregatedTimestamp"]), start)] = item["value"]
    return values


def _sums(series: SeriesKey, start: datetime, count: int) -> tuple[list[Exact], list[int]]:
    """List the units of the sum of each of so many minutes, and the number of its events."""
    totals: list[Exact] = [0] * count
    numbers = [0] * count
    for timestamp, units, number in exact_sums.read(_question(series, "avg", start, count)):
        minute = _number(datetime.fromisoformat(timestamp), start)
        totals[minute], numbers[minute] = units, number
    return totals, numbers


def _events(series: SeriesKey, aggregation_type: str, start: datetime, count: int) -> list[list[float]]:
    """List the values of each of so many minutes. Raises ValidationError where events are pruned or too many."""
    question = _question(series, aggregation_type, start, count)
    end = start + count * MINUTE - MICROSECOND
    state = state_of(*series)
    event_bounds.check(question, Span(start, end), state)
    minutes: list[list[float]] = [[] for _ in range(count)]
    events = events_of(state.sources).within(start, end).order_by()
    for timestamp, value in events.values_list("timestamp", "value").iterator(2_000):
        minutes[_number(timestamp, start)].append(value)
    return minutes


def _question(series: SeriesKey, aggregation_type: str, start: datetime, count: int) -> Question:
    return Question(
        namespace=series.namespace, name=series.name, ts_min=start, ts_max=start + count * MINUTE - MICROSECOND,
        granularity=Granularity.MINUTE, aggregation_type=aggregation_type,
    )  # fmt: skip


def _number(instant: datetime, start: datetime) -> int:
    return (microseconds_of(instant) - microseconds_of(start)) // _MINUTE_MICROSECONDS
