"""Asks the nodes of a Citus cluster what only they know: who writes to their shards, and whether they answer.

Nothing here asks anything where the tables are not distributed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any, NamedTuple

from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from events.database import partitions
from events.database.dialect import is_postgresql
from events.log.models import Event
from events.rollups.marks import ORIGIN_BITS

_COORDINATOR = 0  # its group; the workers' are above
_LOG = Event._meta.db_table
_IS_DISTRIBUTED = f"SELECT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrelid = to_regclass('{_LOG}'))"  # noqa: S608
_WRITER_MODES = "('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
_GRANTED = f"""
    locks.locktype = 'relation' AND locks.granted AND locks.mode IN {_WRITER_MODES}
        AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608
_MINE = "{mine}"  # in what every node is asked: the session that asks, which the coordinator fills in
# The order counts: the last id is read, then the locks are looked at, then the clock.
_ENTRIES = f"""
    SELECT jsonb_build_object('last_id', last_id, 'writers', writers, 'clock', clock_timestamp())
    FROM (
        SELECT last_id, (
            SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_array(locks.virtualtransaction, active.global_pid)), '[]')
            FROM pg_locks AS locks LEFT JOIN get_all_active_transactions() AS active ON active.process_id = locks.pid
            WHERE last_id IS NOT NULL AND {_GRANTED} AND locks.relation = '{_LOG}'::regclass
                AND locks.pid IS DISTINCT FROM pg_backend_pid() AND active.global_pid IS DISTINCT FROM {_MINE}
        ) AS writers
        FROM (
            SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('{_LOG}', 'id')::regclass), 0) AS last_id
            OFFSET 0
        ) AS ids
        OFFSET 0
    ) AS looked
"""  # noqa: S608
_ASK_EVERY_NODE = f"""
    SELECT node.nodeid, node.groupid, answer.success, answer.result
    FROM run_command_on_all_nodes(replace(%s, '{_MINE}', citus_backend_gpid()::text), true, true) AS answer
    JOIN pg_dist_node AS node USING (nodeid)
"""  # noqa: S608
_GROUP_OF_EACH_KEY = f"""
    SELECT watermark.id, placement.groupid
    FROM unnest(%s::smallint[]) AS watermark (id)
    JOIN pg_dist_placement AS placement
        ON placement.shardid = get_shard_id_for_distribution_column('{_LOG}', watermark.id)
"""  # noqa: S608


class Entries(NamedTuple):
    """What the nodes that answer say of the events that enter by them."""

    last_ids: dict[int, int]  # the last id that each origin has handed out
    groups: set[int]  # of the nodes
    writers: set[str]  # the transactions that hold a writer's lock on the log
    sessions: set[int]  # of these transactions
    clocks: dict[int, str]  # when each node looked, by its own clock


def is_cluster() -> bool:
    """Tell whether the tables are distributed. No query where there is a single partition."""
    return is_postgresql() and partitions.are_several() and _is_distributed(partitions.keys())


@cache
def _is_distributed(keys: tuple[int, ...]) -> bool:
    return is_distributed(connection)


def is_distributed(database: Any) -> bool:
    """Tell whether the log is distributed in the database of a connection, which is PostgreSQL."""
    with database.cursor() as cursor:
        cursor.execute("SELECT to_regclass('pg_dist_partition') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return False
        cursor.execute(_IS_DISTRIBUTED)
        return bool(cursor.fetchone()[0])


def is_coordinator(database: Any) -> bool:
    """Tell whether a connection to a cluster leads to its coordinator."""
    with database.cursor() as cursor:
        cursor.execute("SELECT groupid FROM pg_dist_local_group")
        return bool(cursor.fetchone()[0] == _COORDINATOR)


def find_unshared(database: Any) -> list[str]:
    """List the tables of the models that only the coordinator has, or that this node lacks."""
    with database.cursor() as cursor:
        cursor.execute("SELECT logicalrelid::regclass::text FROM pg_dist_partition")
        shared = {table.strip('"') for (table,) in cursor.fetchall()}
    tables = {*database.introspection.django_table_names(), MigrationRecorder.Migration._meta.db_table}
    return sorted(tables - shared)


def forget() -> None:
    """Look up again whether the tables are distributed when that is needed next."""
    _is_distributed.cache_clear()


def find_obstacles() -> Iterator[str]:
    """Yield what stands in the way of distributing the tables of this database, in sentences."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT extversion FROM pg_extension WHERE extname = 'citus'")
        if cursor.fetchone() is None:
            yield "The database has no Citus: CREATE EXTENSION citus on every node, and citus_add_node() on the first."
            return
        if not is_coordinator(connection):
            yield "DATABASE_URL leads to a worker; it must lead to the coordinator."
            return
        cursor.execute("SELECT count(*) FROM pg_dist_node WHERE isactive AND shouldhaveshards")
        if not cursor.fetchone()[0]:
            yield "No node may have shards: add some with citus_add_node()."
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend' AND application_name NOT LIKE 'citus%'"
        )
        if others := cursor.fetchone()[0]:
            yield f"{others} other sessions are connected: stop the service and its workers first."


def ask_every_node(sql: str) -> dict[int, str]:
    """Run a statement on every node, and return the text that each answers, by group; those away are left out."""
    return {group: result for _, group, result in _answers(sql)}


def ask_for_entries() -> Entries:
    """Ask every node for the last id that it has handed out, and for the transactions that may have such ids."""
    entries = Entries({}, set(), set(), set(), {})
    for node, group, result in _answers(_ENTRIES):
        answer = json.loads(result)
        if answer["last_id"]:
            entries.last_ids[answer["last_id"] >> ORIGIN_BITS] = answer["last_id"]
        entries.groups.add(group)
        entries.clocks[node] = answer["clock"]
        for transaction, session in answer["writers"]:
            entries.writers.add(f"{group} {transaction}")
            if session is not None:
                entries.sessions.add(session)
    return entries


def ask_for_writers(entries: Entries) -> dict[int, set[str]]:
    """List, for each node, the transactions with a writer's lock on a shard that may have ids of the entries."""
    clocks, sessions = json.dumps(entries.clocks), ",".join(map(str, entries.sessions))
    # A prepared transaction keeps its locks on the shards when it holds none on the log any more: that is how a commit
    # looks of which one node has not heard yet. Of the others, those count that may have ids from before the look at
    # the entries: they began before it on the node that they entered by, or their session was writing then.
    sql = f"""
        SELECT coalesce(string_agg(DISTINCT locks.virtualtransaction, ' '), '')
        FROM pg_locks AS locks JOIN pg_class ON pg_class.oid = locks.relation
        WHERE {_GRANTED} AND pg_class.relname ~ '^{_LOG}_[0-9]+$'
            AND locks.pid IS DISTINCT FROM pg_backend_pid()
            AND NOT EXISTS (
                SELECT 1 FROM get_all_active_transactions() AS active
                WHERE active.process_id = locks.pid AND (active.global_pid = {_MINE} OR (
                    active.transaction_stamp
                        > ('{clocks}'::jsonb ->> active.initiator_node_identifier::text)::timestamptz
                    AND active.global_pid <> ALL('{{{sessions}}}'::bigint[])
                ))
            )
    """  # noqa: S608
    return {group: set(result.split()) for group, result in ask_every_node(sql).items()}


def are_all(groups: Collection[int]) -> bool:
    """Tell whether these groups are those of all nodes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT groupid FROM pg_dist_node")
        return {group for (group,) in cursor.fetchall()} <= set(groups)


def partitions_on(groups: Collection[int]) -> list[int]:
    """List the keys of the partitions that lie on nodes of these groups, in order."""
    with connection.cursor() as cursor:
        cursor.execute(_GROUP_OF_EACH_KEY, [list(partitions.keys())])
        return sorted(key for key, group in cursor.fetchall() if group in groups)


def _answers(sql: str) -> list[tuple[int, int, str]]:
    with connection.cursor() as cursor:
        cursor.execute(_ASK_EVERY_NODE, [sql])
        return [(node, group, result) for node, group, success, result in cursor.fetchall() if success]
