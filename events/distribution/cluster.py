"""Asks the nodes of a Citus cluster what only they know: who writes to their shards, and whether they answer.

Nothing here asks anything where the tables are not distributed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from django.db import connection

from events.database import partitions
from events.database.dialect import is_postgresql
from events.log.models import Event

COORDINATOR = 0  # its group; the workers' are above
_LOG = Event._meta.db_table
_IS_DISTRIBUTED = f"SELECT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrelid = to_regclass('{_LOG}'))"  # noqa: S608
# A prepared transaction keeps its locks on the shards when it holds none on the coordinator any more: that is how a
# commit looks of which one node has not heard yet. {mine} are the backends that work for this very session.
_WRITERS = f"""
    SELECT coalesce(string_agg(DISTINCT locks.virtualtransaction, ' '), '')
    FROM pg_locks AS locks JOIN pg_class ON pg_class.oid = locks.relation
    WHERE locks.locktype = 'relation' AND pg_class.relname ~ '^{_LOG}_[0-9]+$'
        AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND locks.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
        AND locks.granted AND locks.pid IS DISTINCT FROM pg_backend_pid()
        AND NOT EXISTS (SELECT 1 FROM pg_stat_activity AS activity
            WHERE activity.pid = locks.pid AND activity.application_name = '{{mine}}')
"""  # noqa: S608
_ASK_EVERY_NODE = """
    SELECT node.groupid, answer.success, answer.result
    FROM run_command_on_all_nodes(
        replace(%s, '{mine}', 'citus_internal gpid=' || citus_backend_gpid()), true, true
    ) AS answer JOIN pg_dist_node AS node USING (nodeid)
"""
_GROUP_OF_EACH_KEY = f"""
    SELECT watermark.id, placement.groupid
    FROM unnest(%s::smallint[]) AS watermark (id)
    JOIN pg_dist_placement AS placement
        ON placement.shardid = get_shard_id_for_distribution_column('{_LOG}', watermark.id)
"""  # noqa: S608


class Answers(NamedTuple):
    """What the nodes answered, by their groups, and the partitions that lie on nodes that did."""

    by_group: dict[int, str]
    partitions: list[int]


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
        cursor.execute("SELECT groupid FROM pg_dist_local_group")
        if cursor.fetchone()[0] != COORDINATOR:
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


def ask_every_node(sql: str) -> Answers:
    """Run a statement on every node, and return the text that each answers; those that are away are left out."""
    with connection.cursor() as cursor:
        cursor.execute(_ASK_EVERY_NODE, [sql])
        by_group = {group: result for group, success, result in cursor.fetchall() if success}
        cursor.execute(_GROUP_OF_EACH_KEY, [list(partitions.keys())])
        on_nodes = sorted(key for key, group in cursor.fetchall() if group in by_group)
    return Answers(by_group, on_nodes)


def ask_for_writers() -> Answers:
    """List, for each node, the transactions that hold a lock on a shard of the log as strong as a writer's."""
    return ask_every_node(_WRITERS)
