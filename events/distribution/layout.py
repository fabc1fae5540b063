"""Divides the log, its rollups and watermarks into partitions.

Whatever else there is (users, clients, grants, what is known of series, annotations, boards, alerts with their states
and deliveries, the list of archived files) has few rows and is not divided: on a cluster it stays on the coordinator,
and no statement joins it with what is divided. So a row of these may be given another namespace or name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection, models, transaction

from events.database import partitions
from events.database.dialect import choose, is_postgresql
from events.database.postgresql.session import NODES_HOLD
from events.distribution import cluster
from events.log.models import Event
from events.rollups.models import Histogram, Pruned, Rollup, Thinned, Watermark
from events.rollups.statements import STEP_TABLE

# Of tables that refer to each other, sharing one shares the others.
_SHARE = """
    SELECT citus_add_local_table_to_metadata(%s, cascade_via_foreign_keys => true)
    WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = %s::regclass)
"""
_SEQUENCES = """
    SELECT sequence, pg_sequence_last_value(sequence::regclass)
    FROM pg_attribute CROSS JOIN pg_get_serial_sequence(attrelid::regclass::text, attname) AS sequence
    WHERE attrelid = ANY(%s::regclass[]) AND attidentity <> ''
        AND pg_sequence_last_value(sequence::regclass) IS NOT NULL
"""
_PROBE = "events_partition_probe"
_DIVIDED: tuple[type[models.Model], ...] = (Event, Rollup, Histogram, Pruned, Thinned)
# On PostgreSQL the keys hold the partition, as on a cluster nothing else can be unique.
_PRIMARY_KEYS = {
    Event: "id, partition",
    Rollup: "resolution, namespace, name, bucket, partition",
    Histogram: "resolution, namespace, name, bucket, bin, partition",
    Pruned: "namespace, name, partition",
    Thinned: "namespace, name, partition",
}


def divide(keys: Sequence[int], progress: Callable[[str], object] = lambda text: None) -> None:
    """Divide everything into partitions with these keys, in one transaction; nobody may be at work meanwhile.

    ``progress`` is told in a sentence what comes next. Raises ValueError where there are several partitions already.
    """
    if partitions.are_several():
        raise ValueError(f"There are {len(partitions.keys())} partitions already.")
    with transaction.atomic(), connection.cursor() as cursor:
        watermark = Watermark.objects.locked(None)
        if watermark.move:
            raise ValueError(f"{watermark.move}. Wait until that is done.")
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


def distribute(shards: int, progress: Callable[[str], object]) -> None:
    """Divide everything into so many partitions, and distribute them over the nodes of the cluster, in one transaction.

    Nobody may be at work meanwhile. Raises ValueError where there are several partitions already.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL citus.multi_shard_modify_mode TO 'sequential'")
        cursor.execute(f"CREATE TABLE {_PROBE} (partition smallint)")
        _create_distributed(cursor, _PROBE, "partition", f"shard_count => {int(shards)}, colocate_with => 'none'")
        divide(_keys(cursor), progress)
        columns = {model._meta.db_table: "partition" for model in _DIVIDED}
        columns |= {STEP_TABLE: "partition", Watermark._meta.db_table: "id"}
        for table, column in columns.items():
            progress(f"Distributing {table}.")
            _create_distributed(cursor, table, column, f"colocate_with => '{_PROBE}'")
        cursor.execute(f"DROP TABLE {_PROBE}")
    progress("Removing what the coordinator still holds.")
    with connection.cursor() as cursor:
        for table in columns:
            cursor.execute("SELECT truncate_local_data_after_distributing_table(%s)", [table])
    cluster.forget()
    set_up_nodes()


def set_up_nodes() -> None:
    """Give every node the settings that answers depend on; done again, those that came since too."""
    with connection.cursor() as cursor:
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        for setting, value in NODES_HOLD.items():
            command = f"ALTER DATABASE {name} SET {setting} = {value if ', ' in value else repr(value)}"
            cursor.execute("SELECT run_command_on_all_nodes(%s)", [command])


def share_tables(progress: Callable[[str], object]) -> None:
    """Let every node know the tables that stay on the coordinator, so that a service may be led to any of them.

    Done again, it shares tables that came since.
    """
    tables = cluster.find_unshared(connection)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_SEQUENCES, [tables])
        last_ids = cursor.fetchall()
        for table in tables:
            progress(f"Sharing {table}.")
            cursor.execute(_SHARE, [table, table])
        for sequence, last_id in last_ids:  # Citus makes a new sequence, which begins at 1
            cursor.execute("SELECT setval(%s, %s)", [sequence, last_id])


def _create_distributed(cursor: Any, table: str, column: str, options: str) -> None:
    cursor.execute(f"SELECT create_distributed_table('{table}', '{column}', {options})")


def _keys(cursor: Any) -> list[int]:
    """Choose the keys: numbers of which the cluster's hash leads each to a shard of its own, so that load is even."""
    shard = f"get_shard_id_for_distribution_column('{_PROBE}', key::smallint)"
    cursor.execute(f"SELECT min(key) FROM generate_series(1, 32767) AS key GROUP BY {shard} ORDER BY 1")  # noqa: S608
    return [key for (key,) in cursor.fetchall()]


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
