"""One consistent view of the database for several queries."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

# Memory, so that PostgreSQL groups a large tail by hashes: of the groups it expects far too many, and with the 4 MB it
# has by default it would sort the events instead, on the disk.
_BEGIN = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL work_mem = '16MB'"


@contextmanager
def snapshot() -> Iterator[None]:
    """Within the block every query sees the database as the first one did; nobody waits for it.

    Inside a transaction of the caller's, that one's isolation holds.
    """
    connection.ensure_connection()
    if connection.in_atomic_block or getattr(connection.connection, "in_transaction", False):
        yield
    elif connection.vendor == "postgresql":
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(_BEGIN)
            yield
    else:
        # not atomic(), which takes SQLite's one write lock at once
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                if connection.connection.in_transaction:  # not where SQLite has given up by itself
                    cursor.execute("ROLLBACK")


def snapshot_id() -> str | None:
    """What tells the current snapshot from all in which anything at all differs; None on SQLite. One query."""
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_snapshot()::text")
        return str(cursor.fetchone()[0])
