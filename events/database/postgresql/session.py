"""What holds in every session with PostgreSQL, whoever stands between: limits, and how it writes values.

Not by the startup parameter ``options``, which poolers refuse or drop. A pooler may give each transaction another of
the server's sessions, where what one transaction sets for good is lost to the next, and found by those of others.
Behind one, each transaction brings the settings along, in the message of its first statement and so at no round trip
of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from psycopg2.extensions import TRANSACTION_STATUS_IDLE, connection, cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal
from typing_extensions import override

SETTINGS = "SESSION_SETTINGS"  # beside OPTIONS in Django's dictionary of the database
# The defaults, of what a server, a database or a role may have otherwise. They change how numbers, instants and bytes
# are written, what compares as equal, and which rows a transaction sees. Not standard_conforming_strings: the driver
# looks at it once, as it connects, and quotes by that.
_PLAIN = {
    "extra_float_digits": "1",  # less would round: 0.1 + 0.2 to 0.3
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "array_nulls": "on",
    "transform_null_equals": "off",
}
_ISOLATION = {"default_transaction_isolation": "read committed", "default_transaction_deferrable": "off"}
_ALONE = re.compile(r"\s*(?:VACUUM|(?:CREATE|DROP)\s+DATABASE|[A-Z\s]*?\bCONCURRENTLY)\b", re.IGNORECASE)


def hold(session: connection, settings: Mapping[str, str]) -> bool:
    """Have the settings hold on a new connection from now on, and PostgreSQL's defaults of what answers depend on.

    Says whether it is a connection to a pooler. One round trip.

    A pooler gives out a process id of its own making, by which clients ask it to cancel their statements.
    """
    wanted = {**_PLAIN, **settings}
    rows = (SQL("({}, {})").format(Literal(name), Literal(value)) for name, value in (_ISOLATION | wanted).items())
    pairs = SQL(", ").join(rows)
    # set for good in no session but one that is ours alone
    ask = SQL(
        "SELECT pg_backend_pid() <> {0}, (SELECT count(set_config(name, value, false))"
        " FROM (VALUES {1}) AS wanted (name, value) WHERE pg_backend_pid() = {0})"
    ).format(Literal(session.info.backend_pid), pairs)
    with session.cursor() as asking:
        asking.execute(ask)
        [(is_pooled, _)] = asking.fetchall()
    if is_pooled:
        # the level before all else: it can't be set once a transaction has seen anything
        of_transaction = {name.removeprefix("default_"): value for name, value in _ISOLATION.items()}
        set_local = (
            SQL("SET LOCAL {} = {}; ").format(Identifier(name), Literal(value))
            for name, value in (of_transaction | wanted).items()
        )
        session.cursor_factory = partial(_BringingCursor, SQL("").join(set_local).as_string(session))
    return bool(is_pooled)


class _BringingCursor(cursor):
    """Begins each transaction with the settings, be it one of several statements or of a single one."""

    def __init__(self, settings: str, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._settings = settings

    @override
    def execute(self, query: str | bytes | Composable, vars: Any = None) -> None:
        super().execute(self._begun(query), vars)

    @override
    def copy_expert(self, sql: str | bytes | Composable, *args: Any, **options: Any) -> None:
        super().copy_expert(self._begun(sql), *args, **options)

    def _begun(self, query: str | bytes | Composable) -> str:
        if isinstance(query, Composable):
            query = query.as_string(self)
        elif isinstance(query, bytes):
            query = query.decode()
        if self.connection.info.transaction_status != TRANSACTION_STATUS_IDLE or _ALONE.match(query):
            return query
        if self.name is None:
            return self._settings + query
        with self.connection.cursor() as other:  # of what this one sends, the driver makes a cursor of the server's
            other.execute(self._settings)
        return query
