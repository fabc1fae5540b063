"""Owns the settings of every session with PostgreSQL, also behind poolers: limits, and how values are written.

The startup parameter ``options`` won't do, as poolers refuse or drop it. A pooler may give each transaction another of
the server's sessions: what one transaction sets for good is lost to the next one, and found by strangers. So behind a
pooler each transaction brings the settings along, in the message of its first statement, which costs no round trip.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from psycopg2.extensions import TRANSACTION_STATUS_IDLE, connection, cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal
from typing_extensions import override

SETTINGS = "SESSION_SETTINGS"  # a key of the database's dictionary in Django's settings, beside OPTIONS
# PostgreSQL's defaults of settings that a server, a database or a role may have changed. They decide how numbers,
# instants and bytes are written, what compares as equal, and which rows a transaction sees. standard_conforming_strings
# is left out: the driver reads it once, when it connects, and quotes accordingly.
_PLAIN = {
    "extra_float_digits": "1",  # a lower number would round 0.1 + 0.2 to 0.3
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "array_nulls": "on",
    "transform_null_equals": "off",
}
# An answer takes a few milliseconds. Starting more processes for it, or compiling its expressions, takes longer than
# that saves, and other CPUs are for other requests.
_PLAN = {"max_parallel_workers_per_gather": "0", "jit": "off"}
# Only a cluster knows these. By its default, a batch of many series would open many sessions with each node, and cost a
# hundred times as much as by one. What a transaction sets holds on its nodes too.
_OF_CLUSTERS = {"citus.max_adaptive_executor_pool_size": "1", "citus.propagate_set_commands": "local"}
# The sessions of a cluster's nodes among each other have only what is set for the database of each node.
NODES_HOLD = {**_PLAIN, **_PLAN}
_ISOLATION = {"default_transaction_isolation": "read committed", "default_transaction_deferrable": "off"}
_ALONE = re.compile(r"\s*(?:VACUUM|(?:CREATE|DROP)\s+DATABASE|[A-Z\s]*?\bCONCURRENTLY)\b", re.IGNORECASE)


def hold(
    session: connection, settings: Mapping[str, str], wait: Callable[[connection], None] = lambda session: None
) -> bool:
    """Apply the settings to a new connection, and PostgreSQL's defaults for all that answers depend on.

    ``wait`` waits for the answer where the connection itself doesn't.

    Returns whether the connection leads to a pooler. A pooler is recognized by the process id that it gives out, which
    it makes up so that clients can cancel their statements. One round trip.
    """
    wanted = {**NODES_HOLD, **_OF_CLUSTERS, **settings}
    rows = (SQL("({}, {})").format(Literal(name), Literal(value)) for name, value in (_ISOLATION | wanted).items())
    pairs = SQL(", ").join(rows)
    # set for good only where the session is ours alone, not behind a pooler
    ask = SQL(
        "SELECT pg_backend_pid() <> {0}, (SELECT count(set_config(name, value, false))"
        " FROM (VALUES {1}) AS wanted (name, value) WHERE pg_backend_pid() = {0})"
    ).format(Literal(session.info.backend_pid), pairs)
    with session.cursor() as asking:
        asking.execute(ask)
        wait(session)
        [(is_pooled, _)] = asking.fetchall()
    if is_pooled:
        # the isolation level comes first: it can't be set any more once a transaction has run a query
        of_transaction = {name.removeprefix("default_"): value for name, value in _ISOLATION.items()}
        set_local = (
            SQL("SET LOCAL {} = {}; ").format(Identifier(name), Literal(value))
            for name, value in (of_transaction | wanted).items()
        )
        session.cursor_factory = partial(_BringingCursor, SQL("").join(set_local).as_string(session))
    return bool(is_pooled)


class _BringingCursor(cursor):
    """Begins each transaction with the settings, whether it has several statements or a single one."""

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
        with self.connection.cursor() as other:  # this cursor has a name, so its statement is wrapped in DECLARE
            other.execute(self._settings)
        return query
