"""Reads the last value and the latest hours of many series at once, in SQL that asks for each by its own window."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count, Max, Min, Sum

from events.database.dialect import is_postgresql
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
_HOURS = {
    # OFFSET keeps PostgreSQL from reading the hours of every series there is instead of those of each window
    "postgresql": f"""
        SELECT series.namespace, series.name, hour.bucket, hour.count, hour.sum, hour.min, hour.max
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
        SELECT hour.namespace, hour.name, hour.bucket, hour.count, hour.sum, hour.min, hour.max
        FROM json_each(%s) AS series
        CROSS JOIN {Rollup._meta.db_table} AS hour
        WHERE hour.resolution = %s
            AND hour.namespace = json_extract(series.value, '$[0]') AND hour.name = json_extract(series.value, '$[1]')
            AND hour.bucket >= json_extract(series.value, '$[2]') AND hour.bucket <= json_extract(series.value, '$[3]')
    """,  # noqa: S608
}


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


def hours_of(windows: dict[SeriesKey, tuple[datetime, datetime]]) -> dict[SeriesKey, dict[datetime, Hour]]:
    """Return the hours of each series that hold events, from the hour of its window's start to that of its end.

    To be called in a snapshot. Three queries: the watermark, the rollups, and the tail where there is one.
    """
    found: dict[SeriesKey, dict[datetime, Hour]] = defaultdict(dict)
    if not windows:
        return found

    def add(namespace: str, name: str, instant: datetime | str, hour: Hour) -> None:
        start = _utc(instant).replace(minute=0)
        of_series = found[SeriesKey(namespace, name)]
        of_series[start] = of_series[start].merged(hour) if start in of_series else hour

    watermark = Watermark.objects.current()
    # hours, or minutes where the rollups have no hours
    for namespace, name, bucket, count, total, least, most in _rolled_up(windows, watermark.finest_first[-1]):
        add(namespace, name, bucket, Hour(count, total if isfinite(total) else None, least, most))
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
        window = windows.get(SeriesKey(namespace, name))
        if window and window[0] <= _utc(start) <= window[1]:
            add(namespace, name, start, Hour(*figures))
    return found


def _rolled_up(windows: dict[SeriesKey, tuple[datetime, datetime]], resolution: Resolution) -> list[tuple[Any, ...]]:
    minutes = HOUR - timedelta(minutes=1)  # of the last hour too, where minutes are read
    rows = [(*key, first, last + minutes) for key, (first, last) in windows.items()]
    with connection.cursor() as cursor:
        if is_postgresql():
            columns = [list(column) for column in zip(*rows, strict=True)]
            cursor.execute(_HOURS["postgresql"], [*columns, resolution.value])
        else:
            texts = [(*key, _sqlite_text(first), _sqlite_text(last)) for *key, first, last in rows]
            cursor.execute(_HOURS["sqlite"], [json.dumps(texts), resolution.value])
        return list(cursor.fetchall())


def _sqlite_text(instant: datetime) -> str:
    return str(instant.replace(tzinfo=None))


def _utc(given: datetime | str) -> datetime:
    instant = datetime.fromisoformat(given) if isinstance(given, str) else given
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
