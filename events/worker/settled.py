"""Finds the id up to which every event is settled: it is committed, or it will never be."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from django.db import connection

from events.database import partitions
from events.database.dialect import is_postgresql
from events.distribution import cluster
from events.log.models import Event

_POLL_SECONDS = 0.005


class Settled(NamedTuple):
    """The id, and the partitions that it holds for: all but those on nodes that are away."""

    event_id: int
    partitions: Sequence[int | None]


def settle(patience: Callable[[], bool]) -> Settled | None:
    """Find an id up to which every transaction has ended, whether it committed or not; None where patience ran out.

    Ids are handed out before they are committed, so the highest visible id says nothing about lower ones. As
    CREATE INDEX CONCURRENTLY does, this waits for the transactions that hold a writer's lock on the log now. A writer
    takes the lock before its ids, so every id handed out by now belongs to one of these transactions or to one that
    has ended. Unlike LOCK TABLE, waiting holds no writer up. On SQLite writers come one at a time, and leave no gaps.

    On a cluster a transaction may have ended for its client, but not yet on every node. So this waits for the locks on
    the log first, and then for those on its shards.
    """
    if not is_postgresql():
        newest = Event.objects.order_by("pk").values_list("pk", flat=True).last()
        return None if newest is None else Settled(newest, partitions.every())
    last = _last_id()
    if not _wait_until_gone(_writers, patience):
        return None
    if not cluster.is_cluster():
        return Settled(last, partitions.every())
    answered = set(partitions.keys())

    def writers_on_shards() -> set[str]:
        found = cluster.ask_for_writers()
        answered.intersection_update(found.partitions)
        return {f"{group} {each}" for group, result in found.by_group.items() for each in result.split()}

    if not _wait_until_gone(writers_on_shards, patience):
        return None
    return Settled(last, sorted(answered))


def _last_id() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", [Event._meta.db_table])
        sequence = cursor.fetchone()[0]
        cursor.execute(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}")  # noqa: S608
        return int(cursor.fetchone()[0])


def _wait_until_gone(writers: Callable[[], set[str]], patience: Callable[[], bool]) -> bool:
    """Wait until none is left of those who write now; tell whether that came about in time."""
    left = writers()
    while left:
        if not patience():
            return False
        time.sleep(_POLL_SECONDS)
        left &= writers()
    return True


def _writers() -> set[str]:
    """List the other transactions that hold a lock on the log as strong as a writer's, or stronger."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND relation = %s::regclass"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
            " AND granted AND pid IS DISTINCT FROM pg_backend_pid()",
            [Event._meta.db_table],
        )
        return {transaction for (transaction,) in cursor.fetchall()}
