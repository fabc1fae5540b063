"""Owns the granularities in any time zone: where each bucket starts, how many there are, which rollups compose it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import NamedTuple

from events.calendar import timestamps, zones
from events.calendar.timestamps import microseconds_of
from events.calendar.zones import CYCLE_DAYS, DAY, Run

GRANULARITIES = ("minute", "hour", "day", "week", "month", "year", "none")
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


def start_of(instant: datetime, granularity: str, zone: tzinfo) -> datetime:
    """Find the first instant of the bucket that an instant lies in, in UTC.

    A minute or hour has a single offset from UTC: the hour that is repeated when the clocks go back is two buckets.
    Days and longer units follow the date that the clocks show. They start at local midnight, or right after it where
    the clocks skip midnight. A bucket that would start before the year 1 in UTC starts with that year.
    """
    at = microseconds_of(instant)
    length = CLOCK_UNITS.get(granularity)
    if length is None:
        unit, _ = _unit_of(at + _offset(at, zone), granularity)
        return timestamps.from_microseconds(_first_showing(unit, zone))
    start, offset = _run_of(at, zone)
    return timestamps.from_microseconds(max((at + offset) // length * length - offset, start, zones.FIRST))


def piece_of(instant: int, granularity: str, zone: tzinfo) -> Piece:
    """Find the stretch around an instant that lies in the same bucket and has no change of the clocks in it."""
    runs = zones.runs_around(zone, instant)
    index = _index(runs, instant)
    start, offset = runs[index]
    end = runs[index + 1].start if index + 1 < len(runs) else zones.LAST + 1
    unit, next_unit = _unit_of(instant + offset, granularity)
    first = max(start, unit - offset, zones.FIRST)
    shown_first = first if granularity in CLOCK_UNITS else _first_showing(unit, zone)
    return Piece(first, min(end, next_unit - offset), shown_first)


def end_of(start: datetime, granularity: str, zone: tzinfo) -> datetime:
    """Find the last microsecond of the bucket that starts at ``start``, in UTC."""
    instant = microseconds_of(start)
    piece = piece_of(instant, granularity, zone)
    if granularity in CLOCK_UNITS:
        return timestamps.from_microseconds(piece.end - 1)
    offset = _offset(instant, zone)
    return timestamps.from_microseconds(_last_showing(_unit_of(instant + offset, granularity)[1], zone))


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


def starts(first: datetime, last: datetime, granularity: str, zone: tzinfo) -> Iterator[datetime]:
    """Yield the start, in UTC, of each bucket that has an instant between ``first`` and ``last``, both included."""
    walk = _clock_starts if granularity in CLOCK_UNITS else _calendar_starts
    return map(timestamps.from_microseconds, walk(microseconds_of(first), microseconds_of(last), granularity, zone))


def _clock_starts(first: int, last: int, granularity: str, zone: tzinfo) -> Iterator[int]:
    length = CLOCK_UNITS[granularity]
    start = piece_of(first, granularity, zone).start
    runs = zones.runs(zone, first, last)
    for number, (_, offset) in enumerate(runs):
        end = runs[number + 1].start if number + 1 < len(runs) else last + 1
        yield start
        yield from range((start + offset) // length * length + length - offset, end, length)
        start = end


def _calendar_starts(first: int, last: int, granularity: str, zone: tzinfo) -> Iterator[int]:
    # Clocks that go back from after midnight to before it show the old day once more, after a part of the new one.
    shown = [first, *(run.start for run in zones.runs(zone, first, min(last, first + _FARTHEST))[1:])]
    unit = min(_unit_of(each + _offset(each, zone), granularity)[0] for each in shown)
    start, before = _first_showing(unit, zone), None
    while start <= last:
        if start != before:  # they are equal where a zone leaves a day out to cross the date line
            yield start
        unit, before = _unit_of(unit, granularity)[1], start
        start = _first_showing(unit, zone)


def count(first: datetime, last: datetime, granularity: str, zone: tzinfo) -> int:
    """Count the buckets that ``starts`` yields; where the clocks change, the count may be off by one or two."""
    start, end = microseconds_of(first), microseconds_of(last)
    if granularity in CLOCK_UNITS:
        return (end - piece_of(start, granularity, zone).start) // CLOCK_UNITS[granularity] + 1
    a, b = (_unit_of(each + _offset(each, zone), granularity)[0] for each in (start, end))
    if granularity in _MONTHS:
        return (_month(b // DAY) - _month(a // DAY)) // _MONTHS[granularity] + 1
    return (b - a) // (7 * DAY if granularity == "week" else DAY) + 1


def composes(seconds: int, granularity: str, first: datetime, last: datetime, zone: tzinfo) -> bool:
    """Tell whether stored buckets of so many seconds in UTC never straddle a bucket's edge between both instants."""
    length = seconds * 1_000_000
    if granularity == "none" or CLOCK_UNITS.get(granularity, length) < length:
        return False
    if zone is UTC:
        return True
    before, *changes = zones.runs(zone, microseconds_of(first), microseconds_of(last))
    return before.offset % length == 0 and all(run.offset % length == 0 == run.start % length for run in changes)


# Below, local time is what the clocks of a zone show, in microseconds since 1970. It may lie in the last days before
# the year 1 or in the first days after 9999, which ``datetime`` can't hold.


def _unit_of(local: int, granularity: str) -> tuple[int, int]:
    """Find where the unit that a local time lies in starts, and where the next unit starts."""
    if granularity in CLOCK_UNITS:
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
