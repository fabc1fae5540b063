"""Appends to the log of events: by COPY on PostgreSQL, by INSERT on SQLite and for a single event."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg2 import Error
from psycopg2.errors import DuplicatePreparedStatement, InvalidSqlStatementName

from events.calendar import timestamps
from events.database import nodes, partitions
from events.database.dialect import is_postgresql
from events.log.models import Event

_TABLE = Event._meta.db_table
_COLUMNS = ("namespace", "name", "timestamp", "value")
_TYPES = ("varchar", "varchar", "timestamptz", "float8", "smallint")


class Statements:
    """The statements that store rows of some columns."""

    def __init__(self, columns: Sequence[str], after_copy: str = "") -> None:
        names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
        self.insert = f"INSERT INTO {_TABLE} ({names}) VALUES ({places})"  # noqa: S608
        numbers = tuple(f"${number}" for number in range(1, len(columns) + 1))
        prepared = f"({', '.join(_TYPES[: len(columns)])}) AS {self.insert % numbers}"
        # The name depends on the statement: behind a pooler, another version of the service may have prepared its own
        # statement in the same session.
        self.name = f"append_event_{zlib.crc32(prepared.encode()):08x}"
        self.prepare = f"PREPARE {self.name} {prepared}"
        self.execute = f"EXECUTE {self.name} ({places})"
        self.copy = f"COPY {_TABLE} ({names}) FROM STDIN (FORMAT binary){after_copy}"


_OF_THE_ONLY_PARTITION = Statements(_COLUMNS)
# A node of a cluster copies to its own shards by a connection to itself, but not in a transaction, as two statements in
# one message are.
_OF_ONE_OF_SEVERAL = Statements((*_COLUMNS, "partition"), after_copy="; SELECT")

# PostgreSQL's manual, COPY, "Binary Format": a signature, flags and no header extension; then for each row the number
# of fields and each field after its length; at the end a number of fields of -1. All big endian, and a timestamp is
# in microseconds since 2000.
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_COPY_END = struct.pack(">h", -1)
_COPY_EPOCH = timestamps.microseconds_of(datetime(2000, 1, 1))  # noqa: DTZ001
_COPY_BUFFER_BYTES = 1 << 20


class Row(NamedTuple):
    """An event on its way into the log; its timestamp is in microseconds since 1970."""

    namespace: str
    name: str
    microseconds: int
    value: float


def append(rows: Sequence[Row]) -> None:
    """Store the rows, all or none; outside a transaction they are committed on return.

    One statement. Behind a pooler that pools transactions, a single event may take two or three. On a cluster with
    WRITE_TO_OWNING_NODE, events of a single series are sent to the node that has it.
    """
    if not rows:
        return
    if is_postgresql():
        _append_by_driver(nodes.connection_of(_partition_of_all(rows)), rows)
    elif len(rows) == 1:
        with connection.cursor() as cursor:
            cursor.execute(current_statements().insert, parameters_of(rows[0], is_postgresql=False))
    else:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(current_statements().insert, [parameters_of(row, is_postgresql=False) for row in rows])


def current_statements() -> Statements:
    """Return the statements that store rows in the only partition, or in one of several."""
    return _OF_ONE_OF_SEVERAL if partitions.are_several() else _OF_THE_ONLY_PARTITION


def _partition_of_all(rows: Sequence[Row]) -> int | None:
    """Return the partition of rows that are all of one series; None for others, and where there is a single one."""
    namespace, name = rows[0].namespace, rows[0].name
    partition = partitions.partition_of(namespace, name)
    if partition is None or any(row.name != name or row.namespace != namespace for row in rows):
        return None
    return partition


def _append_by_driver(connection: BaseDatabaseWrapper, rows: Sequence[Row]) -> None:
    """Store the rows by psycopg2's own cursor.

    Django's cursor knows no COPY, and for an INSERT it takes longer than everything else here.
    """
    connection.close_if_health_check_failed()
    if connection.connection is None:
        connection.ensure_connection()
    connection.validate_no_broken_transaction()
    statements = current_statements()
    try:
        if len(rows) == 1:
            _insert(connection, statements, parameters_of(rows[0], is_postgresql=True))
        else:
            with connection.connection.cursor() as cursor:
                cursor.copy_expert(statements.copy, BytesIO(_binary(rows)), _COPY_BUFFER_BYTES)
    except Error:
        with connection.wrap_database_errors:
            raise


class _Prepared(threading.local):
    """This thread's cursors of connections on which the statement is prepared, by Django's wrapper of each."""

    def __init__(self) -> None:
        self.cursors: WeakKeyDictionary[BaseDatabaseWrapper, Any] = WeakKeyDictionary()


_prepared = _Prepared()


def _insert(connection: BaseDatabaseWrapper, statements: Statements, parameters: tuple[Any, ...]) -> None:
    """Insert one row by a prepared statement, which the database parses and plans once in a session.

    A pooler may give each transaction another session, where the statement is not prepared yet, or is already.
    """
    if not connection.autocommit:  # in a transaction, a statement that isn't prepared would end it by its error
        with connection.connection.cursor() as cursor:
            cursor.execute(statements.insert, parameters)
        return
    cursor = _prepared.cursors.get(connection)
    if cursor is None or cursor.connection is not connection.connection:
        cursor = connection.connection.cursor()
    else:
        try:
            cursor.execute(statements.execute, parameters)
        except InvalidSqlStatementName:
            pass
        else:
            return
    try:
        # one message is one transaction in one session
        cursor.execute(f"{statements.prepare}; {statements.execute}", parameters)
    except DuplicatePreparedStatement:
        cursor.execute(statements.insert, parameters)
    _prepared.cursors[connection] = cursor


def parameters_of(row: Row, *, is_postgresql: bool) -> tuple[Any, ...]:
    """Return the parameters of the statement that stores a row."""
    # Both databases read text. SQLite compares it, so it must be exactly the text that Django's field writes.
    text = str(timestamps.from_microseconds(row.microseconds))
    parameters = row.namespace, row.name, text if is_postgresql else text.removesuffix("+00:00"), row.value
    partition = partitions.partition_of(row.namespace, row.name)
    return parameters if partition is None else (*parameters, partition)


def _binary(rows: Sequence[Row]) -> bytes:
    """Encode the rows for COPY; a batch has few series, so what tells the series is encoded once for each of them."""
    known: dict[tuple[str, str], tuple[bytes, bytes]] = {}
    pack_rest = struct.Struct(">iqid").pack
    parts = [_COPY_HEADER]
    for namespace, name, microseconds, value in rows:
        of_series = known.get((namespace, name))
        if of_series is None:
            of_series = known[namespace, name] = _binary_of_series(namespace, name)
        parts.append(of_series[0] + pack_rest(8, microseconds - _COPY_EPOCH, 8, value) + of_series[1])
    parts.append(_COPY_END)
    return b"".join(parts)


def _binary_of_series(namespace: str, name: str) -> tuple[bytes, bytes]:
    """Encode what comes before the timestamp of a row, and what comes after its value."""
    texts, partition = (namespace.encode(), name.encode()), partitions.partition_of(namespace, name)
    after = b"" if partition is None else struct.pack(">ih", 2, partition)
    fields = len(_COLUMNS) + bool(after)
    return struct.pack(">h", fields) + b"".join(struct.pack(">i", len(text)) + text for text in texts), after
