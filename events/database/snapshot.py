"""Owns the snapshot: one consistent view of the database for several queries."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from events.database import partitions, reading
from events.database.dialect import is_postgresql
from events.database.placements import placements

# With this memory PostgreSQL groups a large tail by hashes. It expects far too many groups, and with its default of
# 4 MB it would sort the events on the disk instead.
_BEGIN = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL work_mem = '16MB'"


class MovedError(OperationalError):
    """A partition was moved to another node of the cluster amid a snapshot. The next try may succeed."""


@contextmanager
def snapshot() -> Iterator[None]:
    """Let every query in the block see the database as the first one did, without holding up anybody.

    Inside a transaction of the caller, the isolation of that transaction holds instead.

    Each node of a cluster has a snapshot of its own. One that began there before a partition was moved to it knows
    nothing of the partition, or not all, so MovedError is raised at the end where one was moved meanwhile.
    """
    connection = reading.connection()
    connection.ensure_connection()
    if connection.in_atomic_block or getattr(connection.connection, "in_transaction", False):
        yield
    elif is_postgresql():
        placed = placements(connection)
        try:
            with transaction.atomic(connection.alias), connection.execute_wrapper(_Beginning()):
                yield
        except Exception:
            _refuse_moved(connection, placed)  # what was read of it may be what led to the error
            raise
        _refuse_moved(connection, placed)
    else:
        # atomic() would take SQLite's one write lock at once
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                if connection.connection.in_transaction:  # some errors make SQLite roll back by itself
                    cursor.execute("ROLLBACK")


class _Beginning:
    """Sends what makes a transaction a snapshot in one message with its first statement, which saves a round trip."""

    def __init__(self) -> None:
        self._is_sent = False

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if self._is_sent:
            return execute(sql, params, many, context)
        self._is_sent = True
        cursor = context["cursor"]
        # The statement of a cursor with a name is wrapped in DECLARE. Citus takes one that shares a message for a query
        # within a function, which must not be distributed.
        if cursor.name is None and not partitions.are_several():
            return execute(f"{_BEGIN}; {sql}", params, many, context)
        with cursor.connection.cursor() as other:
            other.execute(_BEGIN)
        return execute(sql, params, many, context)


def _refuse_moved(connection: BaseDatabaseWrapper, placed: str | None) -> None:
    if placed is not None and placed != placements(connection):
        raise MovedError("A partition was moved to another node of the cluster meanwhile.")


def snapshot_id() -> str | None:
    """Return a text that differs between any two snapshots whose data differ; None where there is no such text.

    There is none on SQLite, nor on a standby, which doesn't list the transactions in progress. One query on PostgreSQL.
    """
    if not is_postgresql() or reading.is_of_replica():
        return None
    with reading.connection().cursor() as cursor:
        cursor.execute("SELECT pg_current_snapshot()::text")
        return str(cursor.fetchone()[0])
