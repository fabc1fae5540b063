"""Reads the last value and the latest hours of many series at once, in SQL that asks for each by its own window."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from math import isfinite
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count, Max, Min, Sum

from events.database.dialect import choose, is_postgresql
from events.log.models import Event
from events.log.series import SeriesKey, from_series
from events.rollups.models import Resolution, Rollup, Watermark
from events.rollups.statements import start_of

HOUR = timedelta(hours=1)
# A sum of this many values of a tail can't overflow; what is larger is left out of the hours.
_MOST_SUMMED = 1e290

_LAST_VALUE = f"""
    SELECT namespace, name, (
        SELECT value FROM {Event._meta.db_table} AS event
        WHERE event.namespace = series.namespace AND event.name = series.name
        ORDER BY event.timestamp DESC, event.id DESC LIMIT 1
    )
"""  # noqa: S608
_EACH = "hour.bucket, hour.count, hour.sum, hour.min, hour.max"
_TOGETHER = "min(hour.bucket), CAST(sum(hour.count) AS bigint), sum(hour.sum), min(hour.min), max(hour.max)"
_FROM = {
    # OFFSET keeps PostgreSQL from reading the hours of every series there is instead of those of each window
    "postgresql": f"""
        FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[])
            AS series (namespace, name, first, last)
        CROSS JOIN LATERAL (
            SELECT * FROM {Rollup._meta.db_table} AS rollup
            WHERE rollup.resolution = %s AND rollup.namespace = series.namespace AND rollup.name = series.name
                AND rollup.bucket >= series.first AND rollup.bucket <= series.last
            OFFSET 0
        ) AS hour
    """,  # noqa: S608
    "sqlite": f"""
        FROM json_each(%s) AS series
        CROSS JOIN {Rollup._meta.db_table} AS hour
        WHERE hour.resolution = %s
            AND hour.namespace = json_extract(series.value, '$[0]') AND hour.name = json_extract(series.value, '$[1]')
            AND hour.bucket >= json_extract(series.value, '$[2]') AND hour.bucket <= json_extract(series.value, '$[3]')
    """,
}
Windows = dict[SeriesKey, tuple[datetime, datetime]]


class Hour(NamedTuple):
    """What the events of one hour are together; the sum is None where it is not known."""

    events: int
    sum: float | None
    min: float
    max: float

    def merged(self, other: Hour) -> Hour:
        """Return the hour with the events of both."""
        total = None if self.sum is None or other.sum is None else self.sum + other.sum
        return Hour(self.events + other.events, total, min(self.min, other.min), max(self.max, other.max))


def last_values(keys: Sequence[SeriesKey]) -> dict[SeriesKey, float | None]:
    """Return the value of the newest event of each series, the last one stored of several; None where none is left.

    One query, which reads an entry of the index for each series.
    """
    if not keys:
        return {}
    source, parameters = from_series(keys)
    with connection.cursor() as cursor:
        cursor.execute(_LAST_VALUE + source, parameters)
        return {SeriesKey(namespace, name): value for namespace, name, value in cursor.fetchall()}


def hours_of(windows: Windows) -> dict[SeriesKey, dict[datetime, Hour]]:
    """Return the hours of each series that hold events, from the hour of its window's start to that of its end.

    To be called in a snapshot. Three queries: the watermark, the rollups, and the tail where there is one.
    """
    found: dict[SeriesKey, dict[datetime, Hour]] = defaultdict(dict)
    watermark = Watermark.objects.current()
    for key, start, hour in chain(_rolled_up(windows, watermark), _tail(windows, watermark)):
        of_series = found[key]
        of_series[start] = of_series[start].merged(hour) if start in of_series else hour
    return found


def totals_of(windows: Windows) -> dict[SeriesKey, Hour]:
    """Return what the hours of each series' window are together; a series without events there has no entry.

    To be called in a snapshot. Three queries, as for ``hours_of``, of which a row for each series comes.
    """
    found: dict[SeriesKey, Hour] = {}
    watermark = Watermark.objects.current()
    for key, _, hour in chain(_rolled_up(windows, watermark, together=True), _tail(windows, watermark)):
        found[key] = found[key].merged(hour) if key in found else hour
    return found


def _rolled_up(
    windows: Windows, watermark: Watermark, *, together: bool = False
) -> Iterator[tuple[SeriesKey, datetime, Hour]]:
    """Yield the hours of the windows by the rollups, or all hours of a window as one."""
    if not windows:
        return
    # hours, or minutes where the rollups have no hours, and then of the last hour too
    resolution = watermark.finest_first[-1]
    rows = [(*key, first, last + (HOUR - timedelta(minutes=1))) for key, (first, last) in windows.items()]
    select = "series.namespace, series.name" if is_postgresql() else "hour.namespace, hour.name"
    if is_postgresql():
        given: list[Any] = [list(column) for column in zip(*rows, strict=True)]
    else:
        given = [json.dumps([(*key, _sqlite_text(first), _sqlite_text(last)) for *key, first, last in rows])]
    sql = f"SELECT {select}, {_TOGETHER if together else _EACH} {choose(**_FROM)}"
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} GROUP BY 1, 2" if together else sql, [*given, resolution.value])
        for namespace, name, bucket, count, total, least, most in cursor.fetchall():
            hour = Hour(count, total if isfinite(total) else None, least, most)
            yield SeriesKey(namespace, name), _utc(bucket).replace(minute=0), hour


def _tail(windows: Windows, watermark: Watermark) -> Iterator[tuple[SeriesKey, datetime, Hour]]:
    """Yield the hours of the windows by the events that no rollup holds yet."""
    if not windows:
        return
    first, last = min(start for start, _ in windows.values()), max(end for _, end in windows.values())
    tail = Event.objects.after(watermark.event_id).within(first, last + (HOUR - timedelta.resolution))
    rows = (
        tail.filter(value__range=(-_MOST_SUMMED, _MOST_SUMMED))
        .order_by()
        .annotate(hour=start_of("timestamp", Resolution.HOUR))
        .values_list("namespace", "name", "hour")
        .annotate(Count("pk"), Sum("value"), Min("value"), Max("value"))
    )
    for namespace, name, start, *figures in rows:
        key = SeriesKey(namespace, name)
        if key in windows and windows[key][0] <= _utc(start) <= windows[key][1]:
            yield key, _utc(start), Hour(*figures)


def _sqlite_text(instant: datetime) -> str:
    return str(instant.replace(tzinfo=None))


def _utc(given: datetime | str) -> datetime:
    instant = datetime.fromisoformat(given) if isinstance(given, str) else given
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
