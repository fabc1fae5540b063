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

from events.aggregation.catalogue import Tail
from events.aggregation.sources import Source, sources_of
from events.database import partitions
from events.database.dialect import choose, is_postgresql
from events.log.models import Event
from events.log.series import SeriesKey, from_series
from events.rollups.models import Resolution, Rollup
from events.rollups.statements import start_of

HOUR = timedelta(hours=1)
# A sum of this many values of a tail can't overflow; what is larger is left out of the hours.
_MOST_SUMMED = 1e290

_LAST_VALUE = f"""
    SELECT namespace, name, (
        SELECT value FROM {Event._meta.db_table} AS event
        WHERE event.namespace = series.namespace AND event.name = series.name{{of_partition}}
        ORDER BY event.timestamp DESC, event.id DESC LIMIT 1
    )
"""  # noqa: S608
_EACH = "hour.bucket, hour.count, hour.sum, hour.min, hour.max"
_TOGETHER = "NULL, CAST(sum(hour.count) AS bigint), sum(hour.sum), min(hour.min), max(hour.max)"
_WITHIN = """hour.resolution = %s AND hour.namespace = asked.namespace AND hour.name = asked.name
    AND hour.bucket >= asked.first AND hour.bucket <= asked.last{of_partition}"""
_SELECT = {
    # OFFSET keeps PostgreSQL from reading the hours of every series there is instead of those of each window
    "postgresql": f"""
        SELECT asked.place, hours.*
        FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[])
            WITH ORDINALITY AS asked (namespace, name, first, last, place)
        CROSS JOIN LATERAL (
            SELECT {{columns}} FROM {Rollup._meta.db_table} AS hour WHERE {_WITHIN} OFFSET 0
        ) AS hours
    """,  # noqa: S608
    # LIMIT keeps SQLite from reading the JSON again for each hour
    "sqlite": f"""
        SELECT asked.place, {{columns}}
        FROM (
            SELECT key + 1 AS place, json_extract(value, '$[0]') AS namespace, json_extract(value, '$[1]') AS name,
                json_extract(value, '$[2]') AS first, json_extract(value, '$[3]') AS last
            FROM json_each(%s) LIMIT -1
        ) AS asked
        CROSS JOIN {Rollup._meta.db_table} AS hour
        WHERE {_WITHIN} {{of_group}}
    """,  # noqa: S608
}
Window = tuple[datetime, datetime]
Asked = tuple[SeriesKey, Window]


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


def last_values(keys: Sequence[SeriesKey], tail: Tail) -> dict[SeriesKey, float | None]:
    """Return the value of the newest event of each series, the last one stored of several; None where none is left.

    One query for each partition, which reads an entry of the index for each series, and one or two for a series that
    is being moved.
    """
    found: dict[SeriesKey, float | None] = {}
    for partition, of_partition in partitions.by_partition(keys).items():
        source, parameters = from_series(of_partition)
        select = _LAST_VALUE.format(of_partition=partitions.and_within(partition, "event"))
        with connection.cursor() as cursor:
            cursor.execute(select + source, parameters)
            found |= {SeriesKey(namespace, name): value for namespace, name, value in cursor.fetchall()}
    moving = {SeriesKey(*series) for move in tail.moves for series in (move.old, move.into) if series}
    return found | {key: _last_value(key, tail) for key in moving & found.keys()}


def _last_value(key: SeriesKey, tail: Tail) -> float | None:
    newest = [
        source.events().order_by("-timestamp", "-pk").values_list("timestamp", "pk", "value").first()
        for source in _sources(key, tail)
    ]
    return max((each for each in newest if each is not None), default=(None, None, None))[-1]


def _sources(key: SeriesKey, tail: Tail) -> tuple[Source, ...]:
    return sources_of(tail.watermarks[partitions.partition_of(*key)], *key)


def _stored_names(key: SeriesKey, tail: Tail) -> list[SeriesKey]:
    """Return the names under which rollups of a series are."""
    return [SeriesKey(source.namespace, source.name) for source in _sources(key, tail) if source.is_rolled_up]


def hours_of(windows: Sequence[Asked], tail: Tail) -> dict[SeriesKey, dict[datetime, Hour]]:
    """Return the hours of each series that hold events, from the hour of its window's start to that of its end.

    To be called in the snapshot of the tail. One query for each partition, and one for the tail where there is one.
    """
    found: dict[SeriesKey, dict[datetime, Hour]] = defaultdict(dict)
    for place, start, hour in chain(_rolled_up(windows, _EACH, tail), _of_tail(windows, tail)):
        of_series = found[windows[place][0]]
        of_series[start] = of_series[start].merged(hour) if start in of_series else hour
    return found


def totals_of(windows: Sequence[Asked], tail: Tail) -> list[Hour | None]:
    """Return what the hours of each window of a series are together; None where they hold no event.

    A series may have several windows. To be called in the snapshot of the tail. The queries are those of ``hours_of``,
    and of the rollups one row comes for each window.
    """
    found: list[Hour | None] = [None] * len(windows)
    for place, _, hour in chain(_rolled_up(windows, _TOGETHER, tail), _of_tail(windows, tail)):
        before = found[place]
        found[place] = before.merged(hour) if before else hour
    return found


def _rolled_up(windows: Sequence[Asked], columns: str, tail: Tail) -> Iterator[tuple[int, datetime, Hour]]:
    """Yield the hours of the windows by the rollups, each one or all together, after the place of their window."""
    asked: dict[int | None, list[tuple[int, SeriesKey, Window]]] = defaultdict(list)
    is_moving = bool(tail.moves)
    for place, (key, window) in enumerate(windows):
        of_partition = asked[partitions.partition_of(*key)]
        for name in _stored_names(key, tail) if is_moving else (key,):
            of_partition.append((place, name, window))
    for partition, of_partition in asked.items():
        if of_partition:
            yield from _rolled_up_of(partition, of_partition, columns, tail.watermarks[partition].finest_first[-1])


def _rolled_up_of(
    partition: int | None, asked: Sequence[tuple[int, SeriesKey, Window]], columns: str, resolution: Resolution
) -> Iterator[tuple[int, datetime, Hour]]:
    places, keys, windows = zip(*asked, strict=True)
    texts = {window: _texts(window) for window in set(windows)}  # most series have the same one
    firsts, lasts = zip(*(texts[window] for window in windows), strict=True)
    if is_postgresql():
        namespaces, names = zip(*keys, strict=True)
        # as one text each: the driver would write a thousand instants one by one
        given: list[Any] = [list(namespaces), list(names), *("{" + ",".join(each) + "}" for each in (firsts, lasts))]
    else:
        given = [json.dumps([(*key, first, last) for key, first, last in zip(keys, firsts, lasts, strict=True)])]
    sql = choose(**_SELECT).format(
        columns=columns,
        of_partition=partitions.and_within(partition, "hour"),
        of_group="GROUP BY 1" if columns is _TOGETHER else "",
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [*given, resolution.value])
        for place, bucket, count, total, least, most in cursor.fetchall():
            if count is None:  # nothing together
                continue
            start = windows[place - 1][0] if bucket is None else _hour_of(_utc(bucket))
            yield places[place - 1], start, Hour(count, total if isfinite(total) else None, least, most)


def _texts(window: Window) -> tuple[str, str]:
    """Write the ends of a window; the last hour ends with its last minute, as there may be rollups of minutes alone."""
    first, last = window[0], window[1] + (HOUR - timedelta(minutes=1))
    if is_postgresql():
        return str(first), str(last)
    return str(first.replace(tzinfo=None)), str(last.replace(tzinfo=None))


def _of_tail(windows: Sequence[Asked], tail: Tail) -> Iterator[tuple[int, datetime, Hour]]:
    """Yield the hours of the windows by the events that no rollup holds yet, after the place of their window."""
    if not windows or not tail.is_there:
        return
    first, last = min(start for _, (start, _) in windows), max(end for _, (_, end) in windows)
    namespace, name = tail.names()
    rows = (
        tail.events()
        .within(first, last + (HOUR - timedelta.resolution))
        .filter(value__range=(-_MOST_SUMMED, _MOST_SUMMED))
        .order_by()
        .annotate(of_namespace=namespace, of_name=name, hour=start_of("timestamp", Resolution.HOUR))
        .values_list("of_namespace", "of_name", "hour")
        .annotate(Count("pk"), Sum("value"), Min("value"), Max("value"))
    )
    of_series: dict[SeriesKey, list[tuple[int, Window]]] = defaultdict(list)
    for place, (key, window) in enumerate(windows):
        of_series[key].append((place, window))
    for namespace, name, hour, *figures in rows:
        start = _utc(hour)
        for place, (first, last) in of_series.get(SeriesKey(namespace, name), ()):
            if first <= start <= last:
                yield place, start, Hour(*figures)


def _hour_of(bucket: datetime) -> datetime:
    return bucket.replace(minute=0) if bucket.minute else bucket


def _utc(given: datetime | str) -> datetime:
    instant = datetime.fromisoformat(given) if isinstance(given, str) else given
    if instant.tzinfo is UTC:  # as PostgreSQL's driver gives thousands
        return instant
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
