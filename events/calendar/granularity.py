"""Owns the granularities in any time zone: where each bucket starts, how many there are, which rollups compose it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from events.calendar import timestamps, zones
from events.calendar.timestamps import microseconds_of
from events.calendar.zones import CYCLE_DAYS, DAY, Run

MICROSECOND = timedelta(microseconds=1)

CLOCK_UNITS = {"minute": 60_000_000, "hour": 3_600_000_000}
_EPOCH_ORDINAL = timestamps.EPOCH.toordinal()
# No two zones differ by more than this, nor does a change of the clocks move them by more.
_FARTHEST = 27 * CLOCK_UNITS["hour"]


class Piece(NamedTuple):
    """A stretch of time [first, end) that lies in one bucket, and the bucket's start; in microseconds since 1970."""

    first: int
    end: int
    start: int


class Granularity(StrEnum):
    """What events are grouped by: a unit of the clocks or of the calendar in a time zone, or equal timestamps alone."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    NONE = "none"

    @property
    def is_clock_unit(self) -> bool:
        """Whether it is a minute or an hour, whose buckets lie at one offset from UTC each."""
        return self in CLOCK_UNITS

    @property
    def coarser(self) -> Sequence[Granularity]:
        """The longer units, shortest first; all units for equal timestamps."""
        units = [each for each in Granularity if each is not Granularity.NONE]
        return units if self is Granularity.NONE else units[units.index(self) + 1 :]

    def start_of(self, instant: datetime, zone: tzinfo) -> datetime:
        """Find the first instant of the bucket that an instant lies in, in UTC.

        A minute or hour has a single offset from UTC: the hour that is repeated when the clocks go back is two buckets.
        Days and longer units follow the date that the clocks show. They start at local midnight, or right after it
        where the clocks skip midnight. A bucket that would start before the year 1 in UTC starts with that year.
        """
        at = microseconds_of(instant)
        length = CLOCK_UNITS.get(self)
        if length is None:
            unit, _ = _unit_of(at + _offset(at, zone), self)
            return timestamps.from_microseconds(_first_showing(unit, zone))
        start, offset = _run_of(at, zone)
        return timestamps.from_microseconds(max((at + offset) // length * length - offset, start, zones.FIRST))

    def piece_of(self, instant: int, zone: tzinfo) -> Piece:
        """Find the stretch around an instant that lies in the same bucket and has no change of the clocks in it."""
        runs = zones.runs_around(zone, instant)
        index = _index(runs, instant)
        start, offset = runs[index]
        end = runs[index + 1].start if index + 1 < len(runs) else zones.LAST + 1
        unit, next_unit = _unit_of(instant + offset, self)
        first = max(start, unit - offset, zones.FIRST)
        shown_first = first if self.is_clock_unit else _first_showing(unit, zone)
        return Piece(first, min(end, next_unit - offset), shown_first)

    def end_of(self, start: datetime, zone: tzinfo) -> datetime:
        """Find the last microsecond of the bucket that starts at ``start``, in UTC."""
        instant = microseconds_of(start)
        piece = self.piece_of(instant, zone)
        if self.is_clock_unit:
            return timestamps.from_microseconds(piece.end - 1)
        offset = _offset(instant, zone)
        return timestamps.from_microseconds(_last_showing(_unit_of(instant + offset, self)[1], zone))

    def time_between(self, first: datetime, last: datetime, start: datetime, zone: tzinfo) -> float:
        """Add up the seconds between two instants, both included, that lie in the bucket that starts at ``start``.

        Where clocks go back over midnight but not to it, a part of another day lies between two parts of a day.
        """
        at, end, of_bucket, total = microseconds_of(first), microseconds_of(last) + 1, microseconds_of(start), 0
        if self.is_clock_unit or len(zones.runs(zone, of_bucket, end - 1)) == 1:
            return (end - at) / 1_000_000
        while at < end:
            piece = self.piece_of(at, zone)
            if piece.start == of_bucket:
                total += min(piece.end, end) - at
            at = piece.end
        return total / 1_000_000

    def starts(self, first: datetime, last: datetime, zone: tzinfo) -> Iterator[datetime]:
        """Yield the start, in UTC, of each bucket that has an instant between ``first`` and ``last``, both included."""
        walk = _clock_starts if self.is_clock_unit else _calendar_starts
        return map(timestamps.from_microseconds, walk(microseconds_of(first), microseconds_of(last), self, zone))

    def count_buckets(self, first: datetime, last: datetime, zone: tzinfo) -> int:
        """Count the buckets that ``starts`` yields; where the clocks change, the count may be off by one or two."""
        start, end = microseconds_of(first), microseconds_of(last)
        if self.is_clock_unit:
            return (end - self.piece_of(start, zone).start) // CLOCK_UNITS[self] + 1
        a, b = (_unit_of(each + _offset(each, zone), self)[0] for each in (start, end))
        if self in _MONTHS:
            return (_month(b // DAY) - _month(a // DAY)) // _MONTHS[self] + 1
        return (b - a) // (7 * DAY if self is Granularity.WEEK else DAY) + 1

    def composes(self, seconds: int, first: datetime, last: datetime, zone: tzinfo) -> bool:
        """Tell whether stored buckets of so many seconds in UTC straddle no bucket's edge between both instants."""
        return self.composed_since(seconds, first, last, zone) == first

    def composed_since(self, seconds: int, first: datetime, last: datetime, zone: tzinfo) -> datetime | None:
        """Find since when, up to ``last``, stored buckets ``compose`` this one: ``first`` or a full hour after it.

        None where they don't at ``last``. Before its standard time a zone was ahead of UTC by odd minutes and seconds.
        """
        length = seconds * 1_000_000
        if self is Granularity.NONE or CLOCK_UNITS.get(self, length) < length:
            return None
        if zone is UTC:
            return first
        end = microseconds_of(last)
        runs = zones.runs(zone, microseconds_of(first), end)
        if runs[-1].offset % length:
            return None
        changes = (run.start for before, run in pairwise(runs) if before.offset % length or run.start % length)
        since = max(changes, default=None)
        if since is None:
            return first
        since = -(-since // CLOCK_UNITS["hour"]) * CLOCK_UNITS["hour"]
        return timestamps.from_microseconds(since) if since <= end else None


def first_of_day(day: date, zone: tzinfo) -> datetime:
    """Find the first instant of a date of the zone, in UTC: local midnight, or right after it where the clocks skip it.

    For a day that the zone leaves out, find the first instant of the next day.
    """
    return timestamps.from_microseconds(_first_showing(_day_number(day) * DAY, zone))


def last_of_day(day: date, zone: tzinfo) -> datetime:
    """Find the last microsecond of a date of the zone, in UTC.

    Where the clocks go back over midnight, the date ends twice, and the later end counts. For a day that the zone
    leaves out, find the last microsecond of the day before.
    """
    return timestamps.from_microseconds(_last_showing((_day_number(day) + 1) * DAY, zone))


def _clock_starts(first: int, last: int, granularity: Granularity, zone: tzinfo) -> Iterator[int]:
    length = CLOCK_UNITS[granularity]
    start = granularity.piece_of(first, zone).start
    runs = zones.runs(zone, first, last)
    for number, (_, offset) in enumerate(runs):
        end = runs[number + 1].start if number + 1 < len(runs) else last + 1
        yield start
        yield from range((start + offset) // length * length + length - offset, end, length)
        start = end


def _calendar_starts(first: int, last: int, granularity: Granularity, zone: tzinfo) -> Iterator[int]:
    # Clocks that go back from after midnight to before it show the old day once more, after a part of the new one.
    shown = [first, *(run.start for run in zones.runs(zone, first, min(last, first + _FARTHEST))[1:])]
    unit = min(_unit_of(each + _offset(each, zone), granularity)[0] for each in shown)
    start, before = _first_showing(unit, zone), None
    while start <= last:
        if start != before:  # they are equal where a zone leaves a day out to cross the date line
            yield start
        unit, before = _unit_of(unit, granularity)[1], start
        start = _first_showing(unit, zone)


# Below, local time is what the clocks of a zone show, in microseconds since 1970. It may lie in the last days before
# the year 1 or in the first days after 9999, which ``datetime`` can't hold.


def _unit_of(local: int, granularity: Granularity) -> tuple[int, int]:
    """Find where the unit that a local time lies in starts, and where the next unit starts."""
    if granularity.is_clock_unit:
        length = CLOCK_UNITS[granularity]
        start = local // length * length
        return start, start + length
    start, end = _DAYS[granularity](local // DAY)
    return start * DAY, end * DAY


def _week(day: int) -> tuple[int, int]:
    start = day - (day + 3) % 7  # 1970 began on a Thursday
    return start, start + 7


def _months(length: int) -> Callable[[int], tuple[int, int]]:
    def unit(day: int) -> tuple[int, int]:
        month = _month(day) // length * length
        return _first_of(month), _first_of(month + length)

    return unit


def _day_number(day: date) -> int:
    return day.toordinal() - _EPOCH_ORDINAL


def _month(day: int) -> int:
    """Count the months since the year 0 began, for a day counted since 1970."""
    ordinal, cycles = day + _EPOCH_ORDINAL, 0
    if not date.min.toordinal() <= ordinal <= date.max.toordinal():
        cycles = 1 if ordinal > 0 else -1
    on = date.fromordinal(ordinal - cycles * CYCLE_DAYS)
    return (on.year + cycles * 400) * 12 + on.month - 1


def _first_of(month: int) -> int:
    """Find the first day of a month; the day is counted since 1970, the month since the year 0."""
    year, number = divmod(month, 12)
    cycles = 0 if date.min.year <= year <= date.max.year else 1 if year > 0 else -1
    return date(year - cycles * 400, number + 1, 1).toordinal() + cycles * CYCLE_DAYS - _EPOCH_ORDINAL


_MONTHS = {"month": 1, "year": 12}
_DAYS: dict[str, Callable[[int], tuple[int, int]]] = {
    "day": lambda day: (day, day + 1),
    "week": _week,
    **{granularity: _months(length) for granularity, length in _MONTHS.items()},
}


def _offset(instant: int, zone: tzinfo) -> int:
    return _run_of(instant, zone).offset


def _run_of(instant: int, zone: tzinfo) -> Run:
    runs = zones.runs_around(zone, instant)
    return runs[_index(runs, instant)]


def _index(runs: Sequence[Run], instant: int) -> int:
    """Find the index of the run that an instant lies in; the first run reaches back further than its start says."""
    return max(0, bisect_right(runs, (instant, zones.LAST)) - 1)


def _first_showing(local: int, zone: tzinfo) -> int:
    """Find the first instant at which the clocks show a local time or a later one."""
    runs = zones.runs_around(zone, local)
    index = _index(runs, local - _FARTHEST)
    instant = local - runs[index].offset
    for start, offset in runs[index + 1 :]:
        if instant < start:
            break
        instant = max(start, local - offset)
    return max(instant, zones.FIRST)


def _last_showing(local: int, zone: tzinfo) -> int:
    """Find the last instant at which the clocks show a time before a local time."""
    runs = zones.runs_around(zone, local)
    index = _index(runs, local + _FARTHEST)
    end = zones.LAST + 1
    while (instant := min(end, local - runs[index].offset)) <= runs[index].start and index:
        end = runs[index].start
        index -= 1
    return instant - 1
