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
from events.database import partitions
from events.database.dialect import choose, greatest, is_postgresql, least
from events.database.trunc_clock import TruncClock
from events.rollups import sums, sums_sql
from events.rollups.models import Resolution, Rollup, Thinned

_KEY = ("resolution", "namespace", "name", "bucket")
_COLUMNS = (*_KEY, "first_timestamp", "last_timestamp", "count", "sum", "rest", "is_exact", "min", "max")
_STEP_COLUMNS = (*_KEY, "first_timestamp", "last_timestamp", "count", "units", "min", "max")
_TABLE = Rollup._meta.db_table
# The table that a step's buckets are made from. A release that changes its columns must give it a new name: a pooler's
# sessions may outlive an upgrade and keep the old table.
_TEMPORARY_STEP = "events_rollup_exact_step"
# The same where there are several partitions: it lies beside the rollups, so that no row of a step leaves its node.
STEP_TABLE = "events_rollup_partition_step"
_REGISTRY = Apps()  # of their own, so that migrations and permissions don't see tables that aren't there


class _StepRow(models.Model):
    """A row of a step's table, whose columns are ``_STEP_COLUMNS``."""

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
        abstract = True

    @override
    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} {self.bucket}"


class _TemporaryStepRow(_StepRow):
    class Meta:
        apps = _REGISTRY
        app_label = "events"
        db_table = _TEMPORARY_STEP


class _PartitionStepRow(_StepRow):
    partition = models.SmallIntegerField()

    class Meta:
        apps = _REGISTRY
        app_label = "events"
        db_table = STEP_TABLE


def fill_step(events: models.QuerySet[Any], resolution: Resolution, partition: int | None) -> int:
    """Fill the table that one step's buckets are made from, and return the number of events.

    The events are of one partition, whose watermark is locked.
    """
    table, where = _step(partition)
    with connection.cursor() as cursor:
        if partition is None:
            units = choose(postgresql="NULL::numeric AS units", sqlite="NULL AS units")
            columns = ", ".join(units if column == "units" else column for column in _STEP_COLUMNS)
            cleared = choose(postgresql="ON COMMIT DELETE ROWS", sqlite="")
            cursor.execute(
                f"CREATE TEMPORARY TABLE IF NOT EXISTS {table} {cleared}"  # noqa: S608
                f" AS SELECT {columns} FROM {_TABLE} WHERE false"
            )
        cursor.execute(f"DELETE FROM {table}{where}")  # noqa: S608
        rows = of_events(events, resolution, partition).query.sql_with_params()
        _insert(table, _with_partition(_STEP_COLUMNS, partition), rows)
        cursor.execute(f"SELECT coalesce(sum(count), 0) FROM {table}{where}")  # noqa: S608
        return int(cursor.fetchone()[0])


def add_step(resolutions: Sequence[Resolution], *, finest: Resolution, partition: int | None) -> None:
    """Add the rows of the step's table to the rollups of each resolution, in the order of the rollups' key.

    Minutes of hours that are to have none are left out.
    """
    conflict = _conflict(partition)
    is_new_ground = _is_new_ground(partition)
    is_thinned = Resolution.MINUTE in resolutions and _note_thinned(partition)
    for resolution in resolutions:
        clause = "" if is_new_ground and resolution != Resolution.SERIES else conflict
        sql, parameters = _merged_step(resolution, resolution != finest, partition)
        if is_thinned and resolution == Resolution.MINUTE:
            table, where = _step(partition)
            sql += f" {'AND' if where else 'WHERE'} NOT EXISTS (SELECT 1 FROM {_within_thinned(table, partition)})"  # noqa: S608
        insert_rollups((sql, parameters), clause, partition=partition)


def _within_thinned(step: str, partition: int | None) -> str:
    """Write the table of the hours without minutes, and the condition that a row of the step lies in them."""
    table = Thinned._meta.db_table
    return (
        f"{table} WHERE {table}.namespace = {step}.namespace AND {table}.name = {step}.name"
        f" AND {step}.bucket >= {table}.since AND {step}.bucket < {table}.before"
        f"{partitions.and_within(partition, table)}{partitions.and_within(partition, step)}"
    )


def _note_thinned(partition: int | None) -> bool:
    """Note of which series the step has minutes in hours that are to have none; tell whether there is any."""
    step, _ = _step(partition)
    table = Thinned._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT {table}.namespace, {table}.name FROM {step}, {_within_thinned(step, partition)}"  # noqa: S608
        )
        found = cursor.fetchall()
    for namespace, name in found:
        Thinned.objects.of_series(namespace, name).filter(has_new=False).update(has_new=True)
    return bool(found)


def _conflict(partition: int | None) -> str:
    """Write the clause that adds a row to the rollup that is there already."""
    smallest, largest = least(), greatest()
    added = ", ".join(f"{column} = {sql}" for column, sql in sums_sql.added(_TABLE, "excluded").items())
    # on SQLite the key has no partition, as it never has to be on another node
    key = _with_partition(_KEY, partition) if is_postgresql() else _KEY
    return (
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET"
        f" first_timestamp = {smallest}({_TABLE}.first_timestamp, excluded.first_timestamp),"
        f" last_timestamp = {largest}({_TABLE}.last_timestamp, excluded.last_timestamp),"
        f" count = {_TABLE}.count + excluded.count, {added},"
        f" min = {smallest}({_TABLE}.min, excluded.min), max = {largest}({_TABLE}.max, excluded.max)"
    )


def move_rollups(rollups: models.QuerySet[Rollup], to: tuple[str, str], partition: int | None) -> int:
    """Move rollups of one series to another one of its partition, which may have buckets of the same time.

    Returns how many were moved. To be called in a transaction that has locked the watermark.
    """
    others = _with_partition(_COLUMNS, partition)[3:]
    names = [Value(each, models.TextField()) for each in to]
    rows: models.QuerySet[Any] = rollups.order_by().values_list("resolution", *names, "bucket", *others[1:])
    sql, parameters = rows.query.sql_with_params()
    _insert(_TABLE, ("resolution", "namespace", "name", *others), (sql, parameters), _conflict(partition))
    return int(rollups.order_by()._raw_delete(connection.alias))


def _step(partition: int | None) -> tuple[str, str]:
    """Return the table of a partition's step, and the condition that chooses its rows."""
    return (_TEMPORARY_STEP, "") if partition is None else (STEP_TABLE, f" WHERE partition = {partition}")


def _with_partition(columns: tuple[str, ...], partition: int | None) -> tuple[str, ...]:
    """Add the column of the partition where there are several.

    Citus sees that rows stay on their node where their partition is read from a column, but not where it is a constant.
    """
    return columns if partition is None else (*columns, "partition")


@cache
def _merged_step(resolution: Resolution, grouped: bool, partition: int | None) -> tuple[str, tuple[Any, ...]]:
    """Write the SELECT of the step's rows in a resolution; cached, as others wait for a step's lock."""
    if not grouped:
        columns = ", ".join(_with_partition(_STEP_COLUMNS, partition))
        table, where = _step(partition)
        return f"SELECT {columns} FROM {table}{where}", ()  # noqa: S608
    rows: models.QuerySet[Any] = _TemporaryStepRow.objects.all()
    if partition is not None:
        rows = _PartitionStepRow.objects.filter(partition=partition)
    sql, parameters = merged(rows, resolution, partition, sums_sql.UnitsTotal("units")).query.sql_with_params()
    return sql, parameters


def _is_new_ground(partition: int | None) -> bool:
    """Tell whether every bucket of the step is later than all stored ones of its series, so that none can conflict.

    That is so when a history is loaded in order. PostgreSQL takes twice as long for a row that might conflict.
    """
    if not is_postgresql():
        return False
    table, _ = _step(partition)
    using = ", ".join(_with_partition(("namespace", "name"), partition))
    within = "" if partition is None else f" AND partition = {partition}"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT 1 FROM {table} AS step JOIN {_TABLE} AS stored USING ({using})"  # noqa: S608
            f" WHERE stored.resolution = {Resolution.SERIES.value}{within}"
            " AND date_trunc('hour', step.bucket) <= stored.last_timestamp LIMIT 1"
        )
        return cursor.fetchone() is None


def of_events(events: models.QuerySet[Any], resolution: Resolution, partition: int | None) -> models.QuerySet[Any]:
    """Compute the rollups of a partition's events in a resolution, as rows of ``_STEP_COLUMNS``."""
    more = _with_partition((), partition)
    rows: models.QuerySet[Any] = (
        events.order_by()
        .annotate(key=Value(resolution.value), start=start_of("timestamp", resolution))
        .values("key", "namespace", "name", "start", *more)
        .annotate(
            first=Min("timestamp"), last=Max("timestamp"), number=Count("pk"),
            least=Min("value"), most=Max("value"), units=sums_sql.Units("value", peak=sums.OVERFLOWING),
        )
        .values_list("key", "namespace", "name", "start", "first", "last", "number", "units", "least", "most", *more)
    )  # fmt: skip
    return rows


def start_of(time: str, resolution: Resolution) -> TruncClock:
    """Return the expression for the start of the minute or hour that a column's time lies in."""
    return TruncClock(F(time), resolution.name.lower(), UTC)


def merged(
    rollups: models.QuerySet[Any], resolution: Resolution, partition: int | None, units: models.Aggregate | None = None
) -> models.QuerySet[Any]:
    """Compute the rollups of a resolution from a partition's finer ones, as rows of ``_STEP_COLUMNS``."""
    more = _with_partition((), partition)
    start: models.expressions.Combinable = Value(EPOCH, models.DateTimeField())
    if resolution != Resolution.SERIES:
        start = start_of("bucket", resolution)
    rows: models.QuerySet[Any] = (
        rollups.annotate(key=Value(resolution.value), start=start)
        .values("key", "namespace", "name", "start", *more)
        .annotate(
            first=Min("first_timestamp"), last=Max("last_timestamp"), number=Sum("count"),
            least=Min("min"), most=Max("max"), units=units or sums_sql.Units("sum", "rest", peak=inf),
        )
        .order_by()
        .values_list("key", "namespace", "name", "start", "first", "last", "number", "units", "least", "most", *more)
    )  # fmt: skip
    return rows


def insert_rollups(rows: tuple[str, tuple[Any, ...]], conflict: str = "", *, partition: int | None) -> None:
    """Add a partition's rows of ``_STEP_COLUMNS`` to the rollups."""
    sql, parameters = rows
    columns, step_columns = (_with_partition(each, partition) for each in (_COLUMNS, _STEP_COLUMNS))
    _insert(_TABLE, columns, (sums_sql.rollups(sql, step_columns), parameters), conflict)


def _insert(table: str, columns: Sequence[str], rows: tuple[str, tuple[Any, ...]], conflict: str = "") -> None:
    sql, parameters = rows
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} ({', '.join(columns)}) {sql} {conflict}", parameters)
