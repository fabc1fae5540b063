"""Owns the overview: a page of the series that a text is found in, with what tells how each of them is going."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from itertools import pairwise
from math import ceil, isfinite
from operator import itemgetter
from typing import Any, NamedTuple

from django.utils import timezone

from events.aggregation.catalogue import Catalogue, Series, Tail, shorten_tail
from events.calendar import timestamps
from events.database.snapshot import snapshot
from events.log.namespace_patterns import EVERYWHERE, Namespaces
from events.log.series import SeriesKey
from events.series.hours import HOUR, Asked, Hour, Window, hours_of, last_values, totals_of
from events.series.models import FormerName, SeriesSettings

PAGE_SERIES = 50
_DAY_HOURS = 24
_LEAST_SILENCE = timedelta(minutes=2)
_USUAL_GAPS = 5
_NOTHING_SAID = SeriesSettings()  # one for all: making a thousand takes 14 ms


class Page(NamedTuple):
    """Some of the series, in their order, as the API answers them; how many there are in all, and on which page."""

    total: int
    page: int
    pages: int
    lines: list[dict[str, Any]]


@dataclass(frozen=True)
class Overview:
    """The series of some namespaces with a text in ``namespace/name``, in any case."""

    namespaces: Namespaces = EVERYWHERE
    search: str = ""
    with_hidden: bool = False

    def page(self, number: int, order: str = "name") -> Page:
        """Return a page of series; ``order`` is one of ``ORDERS``, after a “-” for descending. 1 is the first page.

        A page past the last one is the last one. All comes from one snapshot; the number of queries doesn't grow with
        the number of series.
        """
        catalogue = Catalogue(self.namespaces, search=self.search)
        shorten_tail()  # which can't be done within the snapshot
        with snapshot():
            tail = Tail.look()
            settings = {SeriesKey(each.namespace, each.name): each for each in SeriesSettings.objects.all()}
            found = [
                series
                for series in catalogue.within(tail)
                if self.with_hidden or not _settings_of(settings, _key(series)).is_hidden
            ]
            now = timezone.now()
            pages = max(1, ceil(len(found) / PAGE_SERIES))
            page = min(number, pages)
            ordered = _ordered(found, order, settings, now, tail)[(page - 1) * PAGE_SERIES : page * PAGE_SERIES]
            lines = list(_lines(ordered, settings, now, tail))
        return Page(len(found), page, pages, lines)


def _key(series: Series) -> SeriesKey:
    return SeriesKey(series["namespace"], series["name"])


def _settings_of(settings: dict[SeriesKey, SeriesSettings], key: SeriesKey) -> SeriesSettings:
    return settings.get(key, _NOTHING_SAID)


def _ordered(
    found: list[Series], order: str, settings: dict[SeriesKey, SeriesSettings], now: datetime, tail: Tail
) -> Sequence[Series]:
    """Sort the series; those that have nothing to sort by come last in both directions."""
    by, is_descending = order.removeprefix("-"), order.startswith("-")
    if by == "name":
        return list(reversed(found)) if is_descending else found
    with_value = list(zip(_values(by, found, settings, now, tail), found, strict=True))
    known = [pair for pair in with_value if pair[0] is not None]
    known.sort(key=itemgetter(0), reverse=is_descending)
    return [series for _, series in known] + [series for value, series in with_value if value is None]


def _values(
    by: str, found: list[Series], settings: dict[SeriesKey, SeriesSettings], now: datetime, tail: Tail
) -> list[Any]:
    """Return what each series is sorted by; what only hours or events tell is read for all series at once."""
    if by == "lastValue":
        values = last_values([_key(series) for series in found], tail)
        return [values[_key(series)] for series in found]
    if by == "changePercent":
        totals = totals_of(list(_compared_days(found, now)), tail)
        return list(map(_change, totals[::2], totals[1::2]))
    if by in {"unit", "description"}:
        return [getattr(_settings_of(settings, _key(series)), by).casefold() or None for series in found]
    field = {"count": "count", "lastTimestamp": "last_timestamp"}[by]
    return [series[field] for series in found]  # type: ignore[literal-required]  # one of the fields above


def _lines(
    page: Sequence[Series], settings: dict[SeriesKey, SeriesSettings], now: datetime, tail: Tail
) -> Iterator[dict[str, Any]]:
    values = last_values([_key(series) for series in page], tail)
    windows = {_key(series): _window(series, now) for series in page}
    hours = hours_of([(key, _two_days(window)) for key, window in windows.items()], tail)
    renamed = FormerName.objects.renamed([_key(series) for series in page])
    for series in page:
        key = _key(series)
        of_series, window, known = hours[key], windows[key], _settings_of(settings, key)
        whole = _whole_hours(window, now)
        yield {
            "namespace": key.namespace,
            "name": key.name,
            "count": series["count"],
            "firstTimestamp": timestamps.to_text(series["first_timestamp"]),
            "lastTimestamp": timestamps.to_text(series["last_timestamp"]),
            "lastValue": values[key],
            "changePercent": _change(*(_together(of_series, each) for each in (whole, _day_before(whole)))),
            "isQuiet": _is_quiet(series, of_series, window, now),
            "hours": _sparkline(of_series, window),
            "unit": known.unit,
            "description": known.description,
            "isHidden": known.is_hidden,
            "renamedTo": renamed.get(key),
        }


def _compared_days(found: list[Series], now: datetime) -> Iterator[Asked]:
    """Yield the last day of each series, and then the one before, both without the hour that is still filling."""
    days: dict[datetime, tuple[Window, Window]] = {}  # most series end with the same hour
    for series in found:
        hour, key = _last_hour(series, now), _key(series)
        if hour not in days:
            whole = _whole_hours(_day_until(hour), now)
            days[hour] = whole, _day_before(whole)
        for window in days[hour]:
            yield key, window


def _window(series: Series, now: datetime) -> Window:
    """Return the starts of the first and the last hour of the series' last day: up to now, or to its last event."""
    return _day_until(_last_hour(series, now))


def _last_hour(series: Series, now: datetime) -> datetime:
    last = series["last_timestamp"]
    end = now if last <= now and now - last < timedelta(days=1) else last
    return end.replace(minute=0, second=0, microsecond=0)


def _day_until(hour: datetime) -> Window:
    return _earlier(hour, _DAY_HOURS - 1), hour


def _two_days(window: Window) -> Window:
    return _earlier(window[0], _DAY_HOURS), window[1]


def _earlier(hour: datetime, hours: int) -> datetime:
    try:
        return hour - hours * HOUR
    except OverflowError:
        return timestamps.EARLIEST


def _starts(window: Window) -> list[datetime]:
    count = round((window[1] - window[0]) / HOUR) + 1
    return [window[0] + index * HOUR for index in range(count)]


def _is_counted(hours: dict[datetime, Hour]) -> bool:
    """Tell whether every event stands for itself, with the value 1, so that their number is what says something."""
    return bool(hours) and all(hour.min == hour.max == 1 for hour in hours.values())


def _sparkline(hours: dict[datetime, Hour], window: Window) -> dict[str, Any]:
    is_counted = _is_counted(hours)
    values: list[float | None] = []
    for start in _starts(window):
        hour = hours.get(start)
        if is_counted:
            values.append(hour.events if hour else 0)
        else:
            values.append(hour.sum / hour.events if hour and hour.sum is not None else None)
    return {
        "firstTimestamp": timestamps.to_text(window[0]),
        "aggregationType": "count" if is_counted else "avg",
        "values": values,
    }


def _whole_hours(window: Window, now: datetime) -> Window:
    """Return the window without the hour that is still filling, if it ends with that."""
    first, last = window
    return (first, _earlier(last, 1)) if now - HOUR < last <= now else window


def _day_before(window: Window) -> Window:
    return _earlier(window[0], _DAY_HOURS), _earlier(window[1], _DAY_HOURS)


def _together(hours: dict[datetime, Hour], window: Window) -> Hour | None:
    within = [hour for start, hour in hours.items() if window[0] <= start <= window[1]]
    return reduce(Hour.merged, within) if within else None


def _change(today: Hour | None, before: Hour | None) -> float | None:
    """Return by how many percent the average, or the number of events, differs from the day before; None for none."""
    if today is None or before is None:
        return None
    both = today.merged(before)
    if both.min == both.max == 1:
        new, old = float(today.events), float(before.events)
    elif today.sum is None or before.sum is None:
        return None
    else:
        new, old = today.sum / today.events, before.sum / before.events
    change = 100 * (new / abs(old) - old / abs(old)) if old else None
    return change if change is not None and isfinite(change) else None


def _is_quiet(series: Series, hours: dict[datetime, Hour], window: Window, now: datetime) -> bool:
    """Tell whether nothing has come for much longer than usual, by the last active days.

    Much longer is five times the usual distance of two events, and more than the longest stretch of empty hours.
    """
    silence = now - series["last_timestamp"]
    if series["count"] < 2 or silence <= _LEAST_SILENCE:
        return False
    starts = sorted(hours)
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    active_hours = max(1, len(starts))
    usual = active_hours * HOUR / max(1, sum(hour.events for hour in hours.values()))
    longest = max((gap for gap in gaps if gap > HOUR), default=timedelta())
    return silence > max(_USUAL_GAPS * usual, longest + HOUR if longest else timedelta(), _LEAST_SILENCE)
