"""Divides the log, its rollups and watermarks into partitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection, models, transaction

from events.database import partitions
from events.database.dialect import choose, is_postgresql
from events.log.models import Event
from events.rollups.models import Pruned, Rollup, Watermark
from events.rollups.statements import STEP_TABLE

_DIVIDED: tuple[type[models.Model], ...] = (Event, Rollup, Pruned)
# On PostgreSQL the keys hold the partition, as on a cluster nothing else can be unique.
_PRIMARY_KEYS = {
    Event: "id, partition",
    Rollup: "resolution, namespace, name, bucket, partition",
    Pruned: "namespace, name, partition",
}


def divide(keys: Sequence[int], progress: Callable[[str], object] = lambda text: None) -> None:
    """Divide everything into partitions with these keys, in one transaction; nobody may be at work meanwhile.

    ``progress`` is told in a sentence what comes next. Raises ValueError where there are several partitions already.
    """
    if partitions.are_several():
        raise ValueError(f"There are {len(partitions.keys())} partitions already.")
    with transaction.atomic(), connection.cursor() as cursor:
        watermark = Watermark.objects.locked(None)
        for model in _DIVIDED:
            progress(f"Giving the rows of {model._meta.db_table} their partition.")
            _fill(model, keys)
            if is_postgresql():
                _require(model, cursor)
        _create_step_table(cursor)
        Watermark.objects.all()._raw_delete(connection.alias)
        of_each = {field.attname: getattr(watermark, field.attname) for field in Watermark._meta.fields}
        Watermark.objects.bulk_create(Watermark(**{**of_each, "id": key}) for key in keys)
    partitions.forget()


def _fill(model: type[models.Model], keys: Sequence[int]) -> None:
    rows: models.QuerySet[Any] = model._default_manager.all()
    if is_postgresql():
        number = f"('x' || left(md5(namespace || '/' || name), 8))::bit(32)::bigint % {len(keys)}"
        key = f"(ARRAY[{', '.join(map(str, keys))}]::smallint[])[1 + {number}]"
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE {model._meta.db_table} SET partition = {key}")  # noqa: S608
        return
    for namespace, name in rows.order_by().values_list("namespace", "name").distinct():
        of_series: models.QuerySet[Any] = models.QuerySet(model)
        of_series.filter(namespace=namespace, name=name).update(partition=partitions.key_of(keys, namespace, name))


def _require(model: type[models.Model], cursor: Any) -> None:
    """Let no row be stored without its partition."""
    table = model._meta.db_table
    cursor.execute(
        f"ALTER TABLE {table} ALTER partition DROP DEFAULT, ALTER partition SET NOT NULL,"
        f" DROP CONSTRAINT {table}_pkey, ADD PRIMARY KEY ({_PRIMARY_KEYS[model]})"
    )


def _create_step_table(cursor: Any) -> None:
    names = "namespace, name, bucket"
    cursor.execute(
        f"CREATE TABLE {STEP_TABLE} AS SELECT resolution, {names}, first_timestamp, last_timestamp, count,"  # noqa: S608
        f" {choose(postgresql='NULL::numeric', sqlite='NULL')} AS units, min, max, partition"
        f" FROM {Rollup._meta.db_table} WHERE false"
    )
    if is_postgresql():
        cursor.execute(f"ALTER TABLE {STEP_TABLE} ADD PRIMARY KEY ({names}, partition)")
