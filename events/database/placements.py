"""Tells on which nodes of a cluster the partitions lie, as the node that is asked knows it."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from events.database import partitions

IS_CLUSTER = "SELECT to_regclass('pg_dist_placement') IS NOT NULL"
# whatever lies with a watermark is moved with it
_PLACEMENTS = """
    SELECT string_agg(concat(shardid, ' ', placement.groupid), ', ' ORDER BY shardid)
    FROM pg_dist_shard AS shard JOIN pg_dist_placement AS placement USING (shardid)
    WHERE shard.logicalrelid = to_regclass('events_watermark')
"""

_are_placed: dict[tuple[int, ...], bool] = {}  # by the keys of all partitions


def placements(connection: BaseDatabaseWrapper) -> str | None:
    """Return a text that differs once a partition lies on another node; None where nothing is distributed.

    The connection leads to PostgreSQL. One query on a cluster, none on a single server.
    """
    keys = partitions.keys()
    if not keys:
        return None
    with connection.cursor() as cursor:
        if keys not in _are_placed:
            cursor.execute(IS_CLUSTER)
            _are_placed[keys] = bool(cursor.fetchone()[0])
        if not _are_placed[keys]:
            return None
        cursor.execute(_PLACEMENTS)
        found: str | None = cursor.fetchone()[0]
    return found
