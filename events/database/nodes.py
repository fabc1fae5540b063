"""Leads to the nodes of a cluster that hold the partitions, over connections of their own for each thread.

A node that is sent an event of another one reads and plans the statement and passes it on, which costs as much again as
storing it. Any node can do that, so where what is known here is missing or outdated, it only costs time.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import NamedTuple

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from events.database import partitions
from events.database.dialect import is_postgresql
from events.database.placements import IS_CLUSTER

logger = logging.getLogger(__name__)

_KNOWN_SECONDS = 60  # partitions are moved to other nodes now and then
_NODES = """
    SELECT watermark.id, node.nodename, node.nodeport
    FROM unnest(%s::smallint[]) AS watermark (id)
    JOIN pg_dist_placement AS placement
        ON placement.shardid = get_shard_id_for_distribution_column('events_watermark', watermark.id)
    JOIN pg_dist_node AS node ON node.groupid = placement.groupid AND node.noderole = 'primary'
    WHERE node.groupid <> (SELECT groupid FROM pg_dist_local_group)
"""


class Node(NamedTuple):
    """Where a node is, as the nodes know each other."""

    host: str
    port: int


class _Known(NamedTuple):
    keys: tuple[int, ...]
    nodes: dict[int, Node]  # without the one that DATABASE_URL leads to
    until: float


_known = _Known((), {}, 0.0)
_rests_until: dict[Node, float] = {}
_of_thread = threading.local()


def connection_of(partition: int | None) -> BaseDatabaseWrapper:
    """Return an open connection to the node that holds a partition, with WRITE_TO_OWNING_NODE; else the usual one.

    It is the usual one within a transaction, and where the node can't be reached. One or two queries a minute.
    """
    usual = connections[DEFAULT_DB_ALIAS]
    if partition is None or not settings.WRITE_TO_OWNING_NODE or not usual.get_autocommit() or not is_postgresql():
        return usual
    node = _nodes(usual).get(partition)
    if node is None or time.monotonic() < _rests_until.get(node, 0.0):
        return usual
    try:
        return _connection_to(node, usual)
    except OperationalError as error:
        _rest(node, error)
        return usual


def forget() -> None:
    """Look up again where the partitions are when that is needed next, and close the connections of this thread."""
    global _known
    _known = _Known((), {}, 0.0)
    _rests_until.clear()
    for kept in _kept().values():
        kept.close()
    _kept().clear()


def _nodes(usual: BaseDatabaseWrapper) -> dict[int, Node]:
    global _known
    keys = partitions.keys()
    if _known.keys != keys or time.monotonic() > _known.until:
        with usual.cursor() as cursor:
            cursor.execute(IS_CLUSTER)
            if cursor.fetchone()[0]:
                cursor.execute(_NODES, [list(keys)])
                rows = cursor.fetchall()
            else:
                rows = []
        _known = _Known(keys, {key: Node(host, port) for key, host, port in rows}, time.monotonic() + _KNOWN_SECONDS)
    return _known.nodes


def _kept() -> dict[Node, BaseDatabaseWrapper]:
    kept: dict[Node, BaseDatabaseWrapper] = _of_thread.__dict__.setdefault("connections", {})
    return kept


def _connection_to(node: Node, usual: BaseDatabaseWrapper) -> BaseDatabaseWrapper:
    kept = _kept().get(node)
    if kept is None:
        kept = _kept()[node] = usual.copy()
        kept.settings_dict |= {"HOST": node.host, "PORT": node.port}
    kept.close_if_unusable_or_obsolete()  # no request of Django does that, as it knows nothing of this connection
    kept.close_if_health_check_failed()
    kept.ensure_connection()
    return kept


def _rest(node: Node, error: Exception) -> None:
    """Leave a node alone for a while, as every request would wait as long for a machine that is gone."""
    seconds = settings.DATABASE_TIMEOUT_SECONDS
    _rests_until[node] = time.monotonic() + seconds
    reason = str(error).strip().partition("\n")[0]
    logger.warning("%s:%s is not written to directly for %s s: %s", *node, seconds, reason)
