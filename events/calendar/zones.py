"""Owns the time zones and when their clocks change, by the rules of the package tzdata and no others."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache, lru_cache
from importlib import metadata, resources
from typing import NamedTuple
from zoneinfo import ZoneInfo

from events.calendar import timestamps

FIRST = timestamps.microseconds_of(timestamps.EARLIEST)
LAST = timestamps.microseconds_of(timestamps.LATEST)
# The calendar repeats itself after 400 years, weekdays included.
CYCLE_DAYS = 146_097
DAY = 86_400_000_000

_SECOND = 1_000_000
_CYCLE_YEARS = 400
# No zone changed its clocks before the first of these years, and from the last one on all follow yearly rules.
_YEARS_OF_DECREES = range(1800, 2100)
# No zone changes its clocks in the first and last days that datetime knows, where local time may lie outside of them.
_WITHIN = (FIRST + 2 * DAY) // _SECOND, (LAST - 2 * DAY) // _SECOND
_NO_TIME = timedelta()
_NOT_A_PLACE = {"Factory"}  # the zone of a machine whose owner has not chosen one


class Run(NamedTuple):
    """A stretch of time in which the clocks of a zone keep to one offset; it ends where the next run starts.

    ``start`` is in microseconds since 1970, ``offset`` in microseconds ahead of UTC.
    """

    start: int
    offset: int


_STRETCH = 366 * DAY
_UTC_RUNS = (Run(FIRST, 0),)


@cache
def names() -> frozenset[str]:
    """List the IANA names that are accepted: all places of the package tzdata, in no order."""
    listed = resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
    return frozenset(listed) - _NOT_A_PLACE


@cache
def version() -> str:
    """Return the version of the rules in use, for example ``2026.6``."""
    return metadata.version("tzdata")


def zone_of(name: str) -> tzinfo:
    """Find a zone by its name; UTC is ``datetime.UTC``. Raises LookupError for a name that ``names`` doesn't list."""
    if name == "UTC":
        return UTC
    if name not in names():
        raise LookupError(name)
    return ZoneInfo(name)


def runs(zone: tzinfo, first: int, last: int) -> Sequence[Run]:
    """List the runs between two instants in microseconds, both included: at least one.

    The first run holds ``first``; its own start means nothing.
    """
    if zone is UTC:
        return _UTC_RUNS
    found = _runs_of_years(zone, _year(first), _year(last))
    start = bisect_right(found, first, key=_start) - 1
    return found[max(start, 0) : bisect_right(found, last, key=_start)]


def runs_around(zone: tzinfo, instant: int) -> Sequence[Run]:
    """List the runs from a year or more before an instant, in microseconds, to a year or more after it."""
    return _UTC_RUNS if zone is UTC else _runs_around(zone, instant // _STRETCH)


@lru_cache(maxsize=10_000)
def _runs_around(zone: tzinfo, stretch: int) -> Sequence[Run]:
    return tuple(_iterate_runs(zone, _year((stretch - 1) * _STRETCH), _year((stretch + 2) * _STRETCH)))


@lru_cache(maxsize=16)  # few, as one may hold the runs of ten thousand years
def _runs_of_years(zone: tzinfo, first: int, last: int) -> Sequence[Run]:
    return tuple(_iterate_runs(zone, first, last))


def _iterate_runs(zone: tzinfo, first: int, last: int) -> Iterator[Run]:
    start = _start_of_year(first)
    yield Run(start, _microseconds(_offset(zone, start // _SECOND - 1)))
    for year in range(first, last + 1):
        yield from _changes(zone, year)


def _changes(zone: tzinfo, year: int) -> Sequence[Run]:
    """List the runs that start within a year of UTC."""
    if year < _YEARS_OF_DECREES.start:
        return _find_changes(zone, year, 366 * DAY)
    cycles = max(0, (year - _YEARS_OF_DECREES.stop) // _CYCLE_YEARS)
    moved = cycles * CYCLE_DAYS * DAY
    found = _known_changes(zone, year - cycles * _CYCLE_YEARS)
    return tuple(Run(start + moved, offset) for start, offset in found) if moved else found


@lru_cache(maxsize=20_000)
def _known_changes(zone: tzinfo, year: int) -> Sequence[Run]:
    # By decree no zone has ever undone a change within six days; by yearly rules none does within months.
    return _find_changes(zone, year, (3 if year in _YEARS_OF_DECREES else 20) * DAY)


def _find_changes(zone: tzinfo, year: int, step: int) -> Sequence[Run]:
    """List the runs that start within a year, except changes that are undone within a step, in microseconds."""
    before, end = _start_of_year(year) // _SECOND - 1, _start_of_year(year + 1) // _SECOND - 1
    offset, found = _offset(zone, before), []
    for after in [*range(before + step // _SECOND, end, step // _SECOND), end]:
        while _offset(zone, after) != offset:
            low, high = before, after  # in seconds, as clocks are changed on whole seconds only
            while high - low > 1:
                middle = (low + high) // 2
                if _offset(zone, middle) == offset:
                    low = middle
                else:
                    high = middle
            before, offset = high, _offset(zone, high)
            found.append(Run(before * _SECOND, _microseconds(offset)))
        before = after
    return tuple(found)


def _offset(zone: tzinfo, seconds: int) -> timedelta:
    """Ask the zone for its offset at so many seconds since 1970."""
    if not _WITHIN[0] <= seconds <= _WITHIN[1]:
        seconds = min(max(seconds, _WITHIN[0]), _WITHIN[1])
    return datetime.fromtimestamp(seconds, zone).utcoffset() or _NO_TIME


def _microseconds(offset: timedelta) -> int:
    return (offset.days * 86_400 + offset.seconds) * _SECOND


def _start(run: Run) -> int:
    return run.start


def _year(instant: int) -> int:
    return timestamps.from_microseconds(min(max(instant, FIRST), LAST)).year


def _start_of_year(year: int) -> int:
    return (date(year, 1, 1).toordinal() - timestamps.EPOCH.toordinal()) * DAY if year <= date.max.year else LAST + 1
