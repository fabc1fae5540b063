"""Fills histograms from events, and computes them anew where stored events change.

A histogram is additive, as a rollup is: each step of the roller adds the counts of its events. One whose counts add up
to the count of the rollup of the same hour is complete. One that was begun late, or left out for a while, is not, and
no answer uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.conf import settings
from django.db import connection, models
from django.db.models import BigIntegerField, Count, F, Q, Sum, Value
from django.db.models.functions import Cast, Left

from events.database.dialect import choose, is_postgresql
from events.database.trunc_clock import TruncClock
from events.rollups.bins import Bin
from events.rollups.models import Histogram, Resolution, Rollup

_TABLE = Histogram._meta.db_table
_KEY = ("resolution", "namespace", "name", "bucket", "bin")
_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
_NEWEST = (
    f"{Rollup._meta.db_table} AS whole WHERE whole.resolution = {Resolution.SERIES.value}"
    " AND whole.namespace = found.namespace AND whole.name = found.name"
)
Of = Histogram.Resolution


def wanted(events: models.QuerySet[Any]) -> models.QuerySet[Any] | None:
    """Choose the events of the namespaces that ROLLUP_HISTOGRAMS names; None where it names none."""
    namespaces = settings.ROLLUP_HISTOGRAMS
    if not namespaces:
        return None
    chosen = Q(namespace__in=namespaces.exact)
    for number, prefix in enumerate(namespaces.prefixes):
        events = events.alias(**{f"prefix{number}": Left("namespace", len(prefix) or 1)})
        chosen |= Q(**{f"prefix{number}": prefix}) if prefix else Q(pk__isnull=False)
    return events.filter(chosen)


def add(events: models.QuerySet[Any], partition: int | None) -> None:
    """Add the events of a partition, whose watermark is locked, to the histograms that are wanted."""
    chosen = wanted(events)
    if chosen is None:
        return
    _insert(of_events(chosen, partition), partition, with_days=True)


def of_events(events: models.QuerySet[Any], partition: int | None) -> models.QuerySet[Any]:
    """Compute the histograms of hours of a partition's events, as rows of key and count."""
    more = () if partition is None else ("partition",)
    rows: models.QuerySet[Any] = (
        events.order_by()
        .annotate(key=Value(Of.HOUR.value), start=TruncClock(F("timestamp"), "hour", UTC), number=Bin(F("value")))
        .values("key", "namespace", "name", "start", "number", *more)
        .annotate(events=Count("pk"))
        .values_list("key", "namespace", "name", "start", "number", "events", *more)
    )
    return rows


def rebuild(
    events: models.QuerySet[Any],
    namespace: str,
    name: str,
    ranges: Sequence[tuple[datetime, datetime]],
    partition: int | None,
) -> None:
    """Compute a series' histograms anew in ranges of whole hours, from its events up to the watermark.

    Those of a namespace without histograms are emptied, so that none is left that events were changed of. To be called
    in a transaction that has locked the watermark. One query for a series that has none and is to have none.
    """
    stored = Histogram.objects.of_series(namespace, name)
    is_wanted = namespace in settings.ROLLUP_HISTOGRAMS
    if not is_wanted and not stored.exists():
        return
    of_hours = stored.filter(resolution=Of.HOUR)
    of_hours.filter(reduce(or_, (Q(bucket__range=each) for each in ranges)))._raw_delete(connection.alias)
    if is_wanted:
        within = reduce(or_, (Q(timestamp__range=each) for each in ranges))
        _insert(of_events(events.filter(within), partition), partition)
    midnights = ((start.replace(hour=0), end) for start, end in ranges)
    days = {first + _DAY * number for first, end in midnights for number in range((end - first).days + 1)}
    rebuild_days(namespace, name, days, partition)


def rebuild_days(namespace: str, name: str, days: set[datetime], partition: int | None) -> None:
    """Compute the histograms of days of a series anew from those of their hours."""
    stored = Histogram.objects.of_series(namespace, name)
    for day in sorted(days):
        hours = stored.filter(bucket__range=(day, day + (_DAY - _MICROSECOND)))
        hours.filter(resolution=Of.DAY)._raw_delete(connection.alias)
        more = () if partition is None else ("partition",)
        rows: models.QuerySet[Any] = (
            hours.filter(resolution=Of.HOUR)
            .order_by()
            .annotate(key=Value(Of.DAY.value), start=TruncClock(F("bucket"), "day", UTC))
            .values("key", "namespace", "name", "start", "bin", *more)
            .annotate(events=Cast(Sum("count"), BigIntegerField()))
            .values_list("key", "namespace", "name", "start", "bin", "events", *more)
        )
        _insert(rows, partition)


def prune(namespace: str, name: str, end: datetime, partition: int | None) -> None:
    """Delete the histograms of a series before the start of an hour. One statement, and three where there are any."""
    before = Histogram.objects.of_series(namespace, name).filter(bucket__lt=end)
    if before._raw_delete(connection.alias):
        rebuild_days(namespace, name, {end.replace(hour=0)}, partition)


def move(rows: models.QuerySet[Histogram], to: tuple[str, str] | None, partition: int | None) -> int:
    """Move histograms of one series to another one of its partition, which may have some of the same time.

    They are deleted where there is no other series, or where its namespace is to have none. Returns how many there
    were. To be called in a transaction that has locked the watermark.
    """
    if to is not None and to[0] in settings.ROLLUP_HISTOGRAMS:
        names = [Value(each, models.TextField()) for each in to]
        more = () if partition is None else ("partition",)
        moved: models.QuerySet[Any] = rows.order_by()
        _insert(moved.values_list("resolution", *names, "bucket", "bin", "count", *more), partition)
    return int(rows.order_by()._raw_delete(connection.alias))


def _insert(rows: models.QuerySet[Any], partition: int | None, *, with_days: bool = False) -> None:
    """Add rows of histograms, in the order of their key; ``with_days`` those of the days of these hours as well.

    With days the rows are those of a step, before its events are in the rollups. So hours past the last event that a
    series has in its rollups are not stored yet, and PostgreSQL takes half as long for a row that can't conflict.
    """
    more = () if partition is None else ("partition",)
    # on SQLite the key has no partition, as for the rollups
    key = ", ".join((*_KEY, *more) if is_postgresql() else _KEY)
    columns = ", ".join((*_KEY, "count", *more))
    sql, parameters = rows.query.sql_with_params()
    hours, days = "SELECT * FROM found", ""
    if with_days:
        day = choose(postgresql="date_trunc('day', bucket, 'UTC')", sqlite="substr(bucket, 1, 10) || ' 00:00:00'")
        others = ", ".join(("bin", *more))
        days = (
            f" UNION ALL SELECT {Of.DAY.value}, namespace, name, {day}, bin, CAST(sum(count) AS bigint)"  # noqa: S608
            f"{''.join(f', {each}' for each in more)} FROM found GROUP BY namespace, name, {day}, {others}"
        )
    found = f"found ({columns}) AS MATERIALIZED ({sql})"
    insert, order = f"INSERT INTO {_TABLE} ({columns})", "ORDER BY 1, 2, 3, 4, 5"
    conflict = f"ON CONFLICT ({key}) DO UPDATE SET count = {_TABLE}.count + excluded.count"
    # The rows are grouped before they are sorted: for the sake of the order PostgreSQL would read them by an index.
    if with_days and is_postgresql() and partition is None:
        known = f"EXISTS (SELECT 1 FROM {_NEWEST} AND date_trunc('hour', last_timestamp) >= found.bucket)"  # noqa: S608
        fresh = f"{insert} SELECT * FROM found WHERE NOT {known} {order}"  # noqa: S608
        added = f"{hours} WHERE {known}{days}"
        statement = f"WITH {found}, fresh AS ({fresh}) {insert} SELECT * FROM ({added}) AS added {order} {conflict}"  # noqa: S608
    else:
        statement = f"{insert} WITH {found} SELECT * FROM ({hours}{days}) AS added WHERE true {order} {conflict}"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
