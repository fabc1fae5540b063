"""Calendar units in any time zone: where each bucket starts, how many there are, and which stored ones compose it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import pairwise
from math import gcd

GRANULARITIES = ("minute", "hour", "day", "week", "month", "year", "none")
MICROSECOND = timedelta(microseconds=1)

_CLOCK_UNITS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1)}
_HOUR_SECONDS = 3600
# Before the first of these years no zone changes its offset; from the last on, each year has the rules of that one.
_YEARS_OF_CHANGE = 1800, 2040


def start_of(instant: datetime, granularity: str, zone: tzinfo) -> datetime:
    """The first instant of the bucket that the instant lies in, in UTC.

    Minutes and hours lie at one offset from UTC each: the hour that is repeated when the clocks go back is two
    buckets. Days and longer units start at local midnight, or where the clocks skip it, right after.
    """
    local = instant.astimezone(zone)
    if granularity in _CLOCK_UNITS:
        start = instant.astimezone(UTC) - (local - _clock_start(local, granularity))  # by the clocks of that instant
        offset = local.utcoffset()
        return start if start.astimezone(zone).utcoffset() == offset else _change(start, instant, zone)
    return _instant_of(_calendar_start(local.replace(tzinfo=None, fold=0), granularity), zone)


def end_of(start: datetime, granularity: str, zone: tzinfo) -> datetime:
    """The last microsecond of the bucket that starts there, in UTC."""
    try:
        return _next_start(start, granularity, zone) - MICROSECOND
    except (OverflowError, ValueError):  # the year 10000
        return datetime.max.replace(tzinfo=UTC)


def starts(first: datetime, last: datetime, granularity: str, zone: tzinfo) -> Iterator[datetime]:
    """The start of each bucket from the one that holds ``first`` to the one that holds ``last``, in UTC."""
    start = start_of(first, granularity, zone)
    while start <= last:
        yield start
        try:
            start = _next_start(start, granularity, zone)
        except (OverflowError, ValueError):  # the year 10000
            return


def count(first: datetime, last: datetime, granularity: str, zone: tzinfo) -> int:
    """How many buckets ``starts`` gives, within one or two where the clocks change."""
    if granularity in _CLOCK_UNITS:
        return (last - start_of(first, granularity, zone)) // _CLOCK_UNITS[granularity] + 1
    a, b = first.astimezone(zone), last.astimezone(zone)
    if granularity == "month":
        return (b.year - a.year) * 12 + b.month - a.month + 1
    if granularity == "year":
        return b.year - a.year + 1
    starts_of_both = (_calendar_start(each.replace(tzinfo=None), granularity) for each in (a, b))
    days = -1 * int.__sub__(*(start.toordinal() for start in starts_of_both))
    return days // (7 if granularity == "week" else 1) + 1


def composes(seconds: int, granularity: str, first: datetime, last: datetime, zone: tzinfo) -> bool:
    """Whether stored buckets of that length in UTC never straddle a bucket's edge between both instants."""
    unit = _CLOCK_UNITS.get(granularity)
    if granularity == "none" or (unit is not None and unit < timedelta(seconds=seconds)):
        return False
    least, most = _YEARS_OF_CHANGE
    years = range(min(max(first.year, least), most), min(max(last.year, least), most) + 1)
    return zone is UTC or all(_alignment_seconds(zone, year) % seconds == 0 for year in years)


@lru_cache(maxsize=10_000)
def _alignment_seconds(zone: tzinfo, year: int) -> int:
    """The longest unit, of an hour at most, that every offset and change of offset of the year is a multiple of."""
    start = datetime(year, 1, 1, tzinfo=UTC) - timedelta(days=2)
    days = [start + timedelta(days=day) for day in range(371)]
    seconds = {int(_offset(day, zone).total_seconds()) for day in days}
    for before, after in pairwise(days):
        if _offset(before, zone) != _offset(after, zone):
            seconds.add(int(_change(before, after, zone).timestamp()))
    return gcd(_HOUR_SECONDS, *seconds)


def _next_start(start: datetime, granularity: str, zone: tzinfo) -> datetime:
    if granularity in _CLOCK_UNITS:
        local = start.astimezone(zone)
        end = (_clock_start(local, granularity) + _CLOCK_UNITS[granularity]).replace(fold=0) - local
        following = start + end
        before = following - MICROSECOND
        return following if _offset(before, zone) == local.utcoffset() else _change(start, before, zone)
    local = start.astimezone(zone).replace(tzinfo=None, fold=0)
    following_local = _calendar_end(_calendar_start(local, granularity), granularity)
    following = _instant_of(following_local, zone)
    while following <= start:  # a day that a zone leaves out as it crosses the date line
        following_local = _calendar_end(following_local, granularity)
        following = _instant_of(following_local, zone)
    return following


def _clock_start(local: datetime, granularity: str) -> datetime:
    return local.replace(second=0, microsecond=0) if granularity == "minute" else local.replace(
        minute=0, second=0, microsecond=0
    )  # fmt: skip


def _calendar_start(local: datetime, granularity: str) -> datetime:
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if granularity == "week":
        return midnight - timedelta(days=midnight.weekday())
    if granularity == "month":
        return midnight.replace(day=1)
    return midnight.replace(month=1, day=1) if granularity == "year" else midnight


def _calendar_end(start: datetime, granularity: str) -> datetime:
    if granularity == "month":
        return (start + timedelta(days=31)).replace(day=1)
    if granularity == "year":
        return start.replace(year=start.year + 1)
    return start + timedelta(days=7 if granularity == "week" else 1)


def _instant_of(local: datetime, zone: tzinfo) -> datetime:
    """The first instant at which the clocks of the zone show that time or a later one, in UTC."""
    instant = local.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) != local:  # the clocks skip it
        return _change(local.replace(tzinfo=zone, fold=1).astimezone(UTC), instant, zone)
    return instant


def _offset(instant: datetime, zone: tzinfo) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta()


def _change(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """The first instant of the offset of ``after``, where ``before`` still has another. Offsets change on seconds."""
    offset = _offset(after, zone)
    low, high = int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(datetime.fromtimestamp(middle, UTC), zone) == offset:
            high = middle
        else:
            low = middle
    return datetime.fromtimestamp(high, UTC)
