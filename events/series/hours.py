"""Reads the last value and the latest hours of many series at once, in SQL that asks for each by its own window."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
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
# Two windows of a series are read as the one from the start of the first to the end of the second, without what lies
# between them.
_WITHIN = """hour.resolution = %s AND hour.namespace = series.namespace AND hour.name = series.name
    AND hour.bucket >= series.first AND hour.bucket <= series.last
    AND NOT (hour.bucket >= series.gap AND hour.bucket < series.middle){of_partition}"""
_SELECT = {
    # OFFSET keeps PostgreSQL from reading the hours of every series there is instead of those of each window
    "postgresql": f"""
        SELECT series.place, hours.*
        FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
            WITH ORDINALITY AS series (namespace, name, first, gap, middle, last, place)
        CROSS JOIN LATERAL (
            SELECT hour.bucket >= series.middle, {{columns}} FROM {Rollup._meta.db_table} AS hour
            WHERE {_WITHIN} {{of_group}} OFFSET 0
        ) AS hours
    """,  # noqa: S608
    # LIMIT keeps SQLite from reading the JSON again for each hour
    "sqlite": f"""
        SELECT series.place, hour.bucket >= series.middle, {{columns}}
        FROM (
            SELECT key + 1 AS place, json_extract(value, '$[0]') AS namespace, json_extract(value, '$[1]') AS name,
                json_extract(value, '$[2]') AS first, json_extract(value, '$[3]') AS gap,
                json_extract(value, '$[4]') AS middle, json_extract(value, '$[5]') AS last
            FROM json_each(%s) LIMIT -1
        ) AS series
        CROSS JOIN {Rollup._meta.db_table} AS hour
        WHERE {_WITHIN} {{of_group}}
    """,  # noqa: S608
}
_GROUP = {"postgresql": "GROUP BY 1", "sqlite": "GROUP BY 1, 2"}
Window = tuple[datetime, datetime]
Windows = dict[SeriesKey, Window]


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


def _stored_under(keys: Iterable[SeriesKey], tail: Tail) -> dict[SeriesKey, SeriesKey]:
    """Return the series that the rollups under each name belong to."""
    if not tail.moves:
        return {key: key for key in keys}
    return {
        SeriesKey(source.namespace, source.name): key
        for key in keys
        for source in _sources(key, tail)
        if source.is_rolled_up
    }


def hours_of(windows: Windows, tail: Tail) -> dict[SeriesKey, dict[datetime, Hour]]:
    """Return the hours of each series that hold events, from the hour of its window's start to that of its end.

    To be called in the snapshot of the tail. One query for each partition, and one for the tail.
    """
    found: dict[SeriesKey, dict[datetime, Hour]] = defaultdict(dict)
    if not windows:
        return found
    whole = {key: (first, first, first, last) for key, (first, last) in windows.items()}
    rolled_up = ((key, start, hour) for key, start, _, hour in _rolled_up(whole, _EACH, tail) if start)
    for key, start, hour in chain(rolled_up, _of_tail(windows, tail)):
        of_series = found[key]
        of_series[start] = of_series[start].merged(hour) if start in of_series else hour
    return found


def totals_of(windows: dict[SeriesKey, tuple[Window, Window]], tail: Tail) -> dict[tuple[SeriesKey, bool], Hour]:
    """Return what the hours of each of two windows of a series are together, the earlier one (False) and the later one.

    A window without events has no entry. To be called in the snapshot of the tail. The queries are those of
    ``hours_of``, and at most two rows for each series come.
    """
    found: dict[tuple[SeriesKey, bool], Hour] = {}
    if not windows:
        return found

    def add(key: SeriesKey, is_later: bool, hour: Hour) -> None:
        place = key, is_later
        found[place] = found[place].merged(hour) if place in found else hour

    whole = {
        key: (before[0], before[1] + HOUR if before[1] < later[0] else later[0], later[0], later[1])
        for key, (before, later) in windows.items()
    }
    for key, _, is_later, hour in _rolled_up(whole, _TOGETHER, tail):
        add(key, is_later, hour)
    for key, start, hour in _of_tail({key: (first, last) for key, (first, _, _, last) in whole.items()}, tail):
        before, later = windows[key]
        if start <= before[1] or start >= later[0]:
            add(key, start >= later[0], hour)
    return found


def _rolled_up(
    windows: dict[SeriesKey, tuple[datetime, datetime, datetime, datetime]], columns: str, tail: Tail
) -> Iterator[tuple[SeriesKey, datetime | None, bool, Hour]]:
    """Yield the hours of the windows by the rollups, each or (None) together; tell which are past the middle."""
    series_of = _stored_under(windows, tail)
    for partition, names in partitions.by_partition(series_of).items():
        resolution = tail.watermarks[partition].finest_first[-1]
        of_partition = {name: windows[series_of[name]] for name in names}
        for name, start, is_later, hour in _rolled_up_of(partition, of_partition, columns, resolution):
            yield series_of[name], start, is_later, hour


def _rolled_up_of(
    partition: int | None,
    windows: dict[SeriesKey, tuple[datetime, datetime, datetime, datetime]],
    columns: str,
    resolution: Resolution,
) -> Iterator[tuple[SeriesKey, datetime | None, bool, Hour]]:
    # minutes where the rollups have no hours, and then of the last hour too
    rows: list[tuple[Any, ...]] = [
        (*key, *times, last + (HOUR - timedelta(minutes=1))) for key, (*times, last) in windows.items()
    ]
    if is_postgresql():
        namespaces, names, *times = zip(*rows, strict=True)
        # as one text each: the driver would write a thousand instants one by one
        given: list[Any] = [list(namespaces), list(names), *("{" + ",".join(map(str, each)) + "}" for each in times)]
    else:
        given = [json.dumps([(*row[:2], *map(_sqlite_text, row[2:])) for row in rows])]
    sql = choose(**_SELECT).format(
        columns=columns,
        of_partition=partitions.and_within(partition, "hour"),
        of_group=choose(**_GROUP) if columns is _TOGETHER else "",
    )
    keys = list(windows)
    with connection.cursor() as cursor:
        cursor.execute(sql, [*given, resolution.value])
        for place, is_later, bucket, count, total, least, most in cursor.fetchall():
            hour = Hour(count, total if isfinite(total) else None, least, most)
            yield keys[place - 1], None if bucket is None else _hour_of(_utc(bucket)), bool(is_later), hour


def _of_tail(windows: Windows, tail: Tail) -> Iterator[tuple[SeriesKey, datetime, Hour]]:
    """Yield the hours of the windows by the events that no rollup holds yet."""
    first, last = min(start for start, _ in windows.values()), max(end for _, end in windows.values())
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
    for namespace, name, start, *figures in rows:
        key = SeriesKey(namespace, name)
        if key in windows and windows[key][0] <= _utc(start) <= windows[key][1]:
            yield key, _utc(start), Hour(*figures)


def _hour_of(bucket: datetime) -> datetime:
    return bucket.replace(minute=0) if bucket.minute else bucket


def _sqlite_text(instant: datetime) -> str:
    return str(instant.replace(tzinfo=None))


def _utc(given: datetime | str) -> datetime:
    instant = datetime.fromisoformat(given) if isinstance(given, str) else given
    if instant.tzinfo is UTC:  # as PostgreSQL's driver gives thousands
        return instant
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
