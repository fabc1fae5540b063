"""Finds the ids up to which every event is settled: it is committed, or it will never be."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from django.db import connection

from events.database import partitions
from events.database.dialect import is_postgresql
from events.distribution import cluster
from events.log.models import Event
from events.rollups.marks import Marks

_POLL_SECONDS = 0.005


class Settled(NamedTuple):
    """The last settled id of each origin, and the partitions that holds for: those on nodes that answer."""

    marks: Marks
    partitions: Sequence[int | None]


def settle(patience: Callable[[], bool]) -> Settled | None:
    """Find an id up to which every transaction has ended, whether it committed or not; None where patience ran out.

    Ids are handed out before they are committed, so the highest visible id says nothing about lower ones. As
    CREATE INDEX CONCURRENTLY does, this waits for the transactions that hold a writer's lock on the log now. A writer
    takes the lock before its ids, so every id handed out by now belongs to one of these transactions or to one that
    has ended. Unlike LOCK TABLE, waiting holds no writer up. On SQLite writers come one at a time, and leave no gaps.
    """
    if cluster.is_cluster():
        return _settle_cluster(patience)
    last = _last_id()
    if last is None or not _wait_until_gone(_writers, patience):
        return None
    return Settled(Marks.of_the_only_origin(last), partitions.every())


def _settle_cluster(patience: Callable[[], bool]) -> Settled | None:
    """Do the same for the ids of each node. The ids of a node that is away are left for later.

    A transaction takes ids on the node that it enters by, and holds the lock on the log there. When it has ended for
    its client, other nodes may not have heard of that yet, and still hold its locks on their shards. So this waits for
    the locks on the log first, and then for those on its shards.
    """
    entries = cluster.ask_for_entries()
    if not _wait_until_gone(lambda: cluster.ask_for_entries().writers, patience, entries.writers):
        return None
    answering = set(entries.groups)

    def writers_on_shards() -> set[str]:
        found = cluster.ask_for_writers(entries)
        answering.intersection_update(found)
        return {f"{group} {each}" for group, writers in found.items() for each in writers}

    if not _wait_until_gone(writers_on_shards, patience):
        return None
    return Settled(Marks(entries.last_ids), cluster.partitions_on(answering))


def handed_out() -> Marks | None:
    """Return the last id of each origin that was handed out by now, committed or not; None where a node is away.

    On SQLite it is the highest id that is stored.
    """
    if not cluster.is_cluster():
        return Marks.of_the_only_origin(_last_id() or 0)
    entries = cluster.ask_for_entries()
    return Marks(entries.last_ids) if cluster.are_all(entries.groups) else None


def _last_id() -> int | None:
    """Return the last id that was handed out; None where there is none on SQLite."""
    if not is_postgresql():
        return Event.objects.order_by("pk").values_list("pk", flat=True).last()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", [Event._meta.db_table])
        sequence = cursor.fetchone()[0]
        cursor.execute(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}")  # noqa: S608
        return int(cursor.fetchone()[0])


def _wait_until_gone(
    writers: Callable[[], set[str]], patience: Callable[[], bool], left: set[str] | None = None
) -> bool:
    """Wait until none is left of those who write now; tell whether that came about in time."""
    left = writers() if left is None else left
    while left:
        if not patience():
            return False
        time.sleep(_POLL_SECONDS)
        left &= writers()
    return True


def _writers() -> set[str]:
    """List the other transactions that hold a lock on the log as strong as a writer's, or stronger."""
    if not is_postgresql():
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND relation = %s::regclass"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
            " AND granted AND pid IS DISTINCT FROM pg_backend_pid()",
            [Event._meta.db_table],
        )
        return {transaction for (transaction,) in cursor.fetchall()}
