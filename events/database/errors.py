"""What an error of the database says: that it is away, that it takes no writes, that it cancelled a statement."""

import re
import sqlite3

import psycopg2.errors
from django.db import DatabaseError, InterfaceError, OperationalError

_SQLITE_AWAY = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY,
}  # fmt: skip
# What Citus says where a node goes away within a transaction: its own words, or those of its connection to the node. It
# calls both internal errors, as it does mistakes of the node. Of what a node says amid a COPY it passes on the words
# alone, without the code by which Django knows that the node is stopped or has no room.
_NODE_AWAY = re.compile(
    r"failure on connection marked as essential|server closed the connection unexpectedly|connection not open"
    r"|could not (?:send data to|receive data from) server"
    r"|terminating connection due to|canceling statement due to|no space left on device|could not extend file"
    r"|out of (?:shared )?memory",
    re.IGNORECASE,
)
# Django knows them as InternalError, as it does mistakes of the database.
_POSTGRESQL_AWAY = (
    psycopg2.errors.ReadOnlySqlTransaction,  # another server has taken over, or there is no room
    psycopg2.errors.IdleInTransactionSessionTimeout,
    psycopg2.errors.TransactionTimeout,
)


def is_database_away(error: BaseException | None) -> bool:
    """Tell whether it says that the database is out of reach, locked, or takes no writes; the next try may succeed."""
    cause = error.__cause__ if error else None
    if isinstance(error, OperationalError) and isinstance(cause, sqlite3.Error):
        # SQLite has this one class for its own troubles and for mistakes in our statements
        return _sqlite_code(cause) in _SQLITE_AWAY
    if type(error) is DatabaseError and isinstance(cause, psycopg2.Error):
        # what libpq says where it can't write any more, and where a warning was the last that it could read
        return cause.pgcode is None
    if isinstance(cause, psycopg2.errors.InternalError_) and _NODE_AWAY.search(str(cause)):
        return True
    return isinstance(error, OperationalError | InterfaceError) or isinstance(cause, _POSTGRESQL_AWAY)


def is_read_only(error: BaseException | None) -> bool:
    """Tell whether it says that the server, or the file, behind this connection takes no writes."""
    cause = error.__cause__ if error else None
    return isinstance(cause, psycopg2.errors.ReadOnlySqlTransaction) or _sqlite_code(cause) == sqlite3.SQLITE_READONLY


def is_cancelled(error: BaseException | None) -> bool:
    """Tell whether it says that the database cancelled a statement that took too long."""
    cause = error.__cause__ if error else None
    return isinstance(cause, psycopg2.errors.QueryCanceled) or _sqlite_code(cause) == sqlite3.SQLITE_INTERRUPT


def _sqlite_code(cause: BaseException | None) -> int:
    """Return SQLite's primary result code; SQLITE_OK where the error is none of SQLite's."""
    code: int = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF
