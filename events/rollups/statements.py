"""Owns the SQL that fills rollups: INSERT … SELECT … ON CONFLICT, which both databases know and the ORM does not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from functools import cache
from math import inf
from typing import Any

from django.apps.registry import Apps
from django.db import connection, models
from django.db.models import Count, F, Max, Min, Sum, Value
from typing_extensions import override

from events.calendar.timestamps import EPOCH
from events.database.dialect import choose, greatest, is_postgresql, least
from events.database.trunc_clock import TruncClock
from events.rollups import sums, sums_sql
from events.rollups.models import Resolution, Rollup

_KEY = ("resolution", "namespace", "name", "bucket")
_COLUMNS = (*_KEY, "first_timestamp", "last_timestamp", "count", "sum", "rest", "is_exact", "min", "max")
_STEP_COLUMNS = (*_KEY, "first_timestamp", "last_timestamp", "count", "units", "min", "max")
_TABLE = Rollup._meta.db_table
# A release that changes the table's columns must give it a new name: a pooler's sessions may outlive an upgrade and
# keep the old table.
_STEP = "events_rollup_exact_step"


class _StepRow(models.Model):
    """A row of one step's temporary table, whose columns are ``_STEP_COLUMNS``, to write queries of it."""

    pk = models.CompositePrimaryKey("namespace", "name", "bucket")
    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    bucket = models.DateTimeField()
    first_timestamp = models.DateTimeField()
    last_timestamp = models.DateTimeField()
    count = models.BigIntegerField()
    units = models.TextField(null=True)  # noqa: DJ001  # as the aggregates of units have it
    min = models.FloatField()
    max = models.FloatField()

    objects: models.Manager[_StepRow] = models.Manager()

    class Meta:
        apps = Apps()  # of its own, so that migrations and permissions don't see a table that isn't there
        app_label = "events"
        db_table = _STEP

    @override
    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} {self.bucket}"


def fill_step(events: models.QuerySet[Any], resolution: Resolution) -> int:
    """Fill the temporary table that one step's buckets are made from, and return the number of events."""
    units = choose(postgresql="NULL::numeric AS units", sqlite="NULL AS units")
    columns = ", ".join(units if column == "units" else column for column in _STEP_COLUMNS)
    cleared = choose(postgresql="ON COMMIT DELETE ROWS", sqlite="")
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {_STEP} {cleared}"  # noqa: S608
            f" AS SELECT {columns} FROM {_TABLE} WHERE false"
        )
        cursor.execute(f"DELETE FROM {_STEP}")  # noqa: S608
        _insert(_STEP, _STEP_COLUMNS, of_events(events, resolution).query.sql_with_params())
        cursor.execute(f"SELECT coalesce(sum(count), 0) FROM {_STEP}")  # noqa: S608
        return int(cursor.fetchone()[0])


def add_step(resolutions: Sequence[Resolution], *, finest: Resolution) -> None:
    """Add the rows of the temporary table to the rollups of each resolution, in the order of the rollups' key."""
    smallest, largest = least(), greatest()
    added = ", ".join(f"{column} = {sql}" for column, sql in sums_sql.added(_TABLE, "excluded").items())
    conflict = (
        f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET"
        f" first_timestamp = {smallest}({_TABLE}.first_timestamp, excluded.first_timestamp),"
        f" last_timestamp = {largest}({_TABLE}.last_timestamp, excluded.last_timestamp),"
        f" count = {_TABLE}.count + excluded.count, {added},"
        f" min = {smallest}({_TABLE}.min, excluded.min), max = {largest}({_TABLE}.max, excluded.max)"
    )
    is_new_ground = _is_new_ground()
    for resolution in resolutions:
        clause = "" if is_new_ground and resolution != Resolution.SERIES else conflict
        insert_rollups(_merged_step(resolution, resolution != finest), clause)


@cache
def _merged_step(resolution: Resolution, grouped: bool) -> tuple[str, tuple[Any, ...]]:
    """Write the SELECT of the temporary table's rows in a resolution; cached, as others wait for a step's lock."""
    if not grouped:
        return f"SELECT {', '.join(_STEP_COLUMNS)} FROM {_STEP}", ()  # noqa: S608
    sql, parameters = merged(_StepRow.objects.all(), resolution, sums_sql.UnitsTotal("units")).query.sql_with_params()
    return sql, parameters


def _is_new_ground() -> bool:
    """Tell whether every bucket of the step is later than all stored ones of its series, so that none can conflict.

    That is so when a history is loaded in order. PostgreSQL takes twice as long for a row that might conflict.
    """
    if not is_postgresql():
        return False
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT NOT EXISTS (SELECT 1 FROM {_STEP} AS step JOIN {_TABLE} AS stored USING (namespace, name)"  # noqa: S608
            f" WHERE stored.resolution = {Resolution.SERIES.value}"
            " AND date_trunc('hour', step.bucket) <= stored.last_timestamp)"
        )
        return bool(cursor.fetchone()[0])


def of_events(events: models.QuerySet[Any], resolution: Resolution) -> models.QuerySet[Any]:
    """Compute the rollups of events in a resolution, as rows of ``_STEP_COLUMNS``."""
    rows: models.QuerySet[Any] = (
        events.order_by()
        .annotate(key=Value(resolution.value), start=start_of("timestamp", resolution))
        .values("key", "namespace", "name", "start")
        .annotate(
            first=Min("timestamp"), last=Max("timestamp"), number=Count("pk"),
            least=Min("value"), most=Max("value"), units=sums_sql.Units("value", peak=sums.OVERFLOWING),
        )
        .values_list("key", "namespace", "name", "start", "first", "last", "number", "units", "least", "most")
    )  # fmt: skip
    return rows


def start_of(time: str, resolution: Resolution) -> TruncClock:
    """Return the expression for the start of the minute or hour that a column's time lies in."""
    return TruncClock(F(time), resolution.name.lower(), UTC)


def merged(
    rollups: models.QuerySet[Any], resolution: Resolution, units: models.Aggregate | None = None
) -> models.QuerySet[Any]:
    """Compute the rollups of a resolution from finer ones, as rows of ``_STEP_COLUMNS``."""
    start: models.expressions.Combinable = Value(EPOCH, models.DateTimeField())
    if resolution != Resolution.SERIES:
        start = start_of("bucket", resolution)
    rows: models.QuerySet[Any] = (
        rollups.annotate(key=Value(resolution.value), start=start)
        .values("key", "namespace", "name", "start")
        .annotate(
            first=Min("first_timestamp"), last=Max("last_timestamp"), number=Sum("count"),
            least=Min("min"), most=Max("max"), units=units or sums_sql.Units("sum", "rest", peak=inf),
        )
        .order_by()
        .values_list("key", "namespace", "name", "start", "first", "last", "number", "units", "least", "most")
    )  # fmt: skip
    return rows


def insert_rollups(rows: tuple[str, tuple[Any, ...]], conflict: str = "") -> None:
    """Add rows of ``_STEP_COLUMNS`` to the rollups."""
    sql, parameters = rows
    _insert(_TABLE, _COLUMNS, (sums_sql.rollups(sql, _STEP_COLUMNS), parameters), conflict)


def _insert(table: str, columns: Sequence[str], rows: tuple[str, tuple[Any, ...]], conflict: str = "") -> None:
    sql, parameters = rows
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} ({', '.join(columns)}) {sql} {conflict}", parameters)
