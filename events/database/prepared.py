"""Runs statements that are prepared in the sessions with PostgreSQL, which parses and plans each once in a session."""

from __future__ import annotations

from itertools import compress, count
from operator import not_
from typing import Any
from weakref import WeakKeyDictionary

from django.db import NotSupportedError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg2.errors import FeatureNotSupported, InvalidSqlStatementName
from psycopg2.extensions import AsIs, connection

from events.database import partitions, reading
from events.database.dialect import is_postgresql
from events.database.statements import Given, Statement

# in a session, where each takes some tens of kilobytes
_MOST = 64

# The names of those that are prepared, by their SQL and what of its parameters is always the same. A session is used by
# one thread at a time.
_names: WeakKeyDictionary[connection, dict[tuple[str, tuple[Any, ...]], str]] = WeakKeyDictionary()
_numbers = count()


class ForgottenStatement(OperationalError):
    """The session has lost a statement, or can't run it since tables have changed. The next try will succeed."""


def fetch(statement: Statement) -> list[tuple[Any, ...]]:
    """Run a statement in the session that is read, and return its rows as the driver does.

    One that may be prepared is run by its name; once in a session, a query more prepares it. Raises ForgottenStatement.
    """
    wrapper = reading.connection()
    with wrapper.cursor() as cursor:
        named = _by_name(statement, wrapper, cursor) if statement.template and _keeps(wrapper) else statement
        try:
            cursor.execute(named.sql, named.parameters)
        except (OperationalError, NotSupportedError) as error:
            if not isinstance(error.__cause__, FeatureNotSupported | InvalidSqlStatementName):
                raise
            _names.pop(wrapper.connection, None)
            raise ForgottenStatement(*error.args) from error.__cause__
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def _keeps(wrapper: BaseDatabaseWrapper) -> bool:
    """Tell whether a statement that is prepared helps the next transaction.

    A pooler may give that another session, and Citus keeps no plans.
    """
    return is_postgresql() and not getattr(wrapper, "is_pooled", False) and not partitions.are_several()


def _by_name(statement: Statement, wrapper: BaseDatabaseWrapper, cursor: Any) -> Statement:
    """Return what runs a statement by its name, prepared now where it isn't yet; itself where too many are."""
    template: Any = statement.template
    is_given = [isinstance(each, Given) for each in template]
    key = statement.sql, tuple(compress(template, map(not_, is_given)))
    names = _names.setdefault(wrapper.connection, {})
    if key not in names:
        if len(names) >= _MOST:
            return statement
        name, places = f"kept_{next(_numbers)}", count(1)
        numbered = [AsIs(f"${next(places)}") if isinstance(each, Given) else each for each in template]
        cursor.execute(f"PREPARE {name} AS {statement.sql}", numbered)
        names[key] = name
    given = tuple(compress(statement.parameters, is_given))
    return Statement(f"EXECUTE {names[key]} ({', '.join(['%s'] * len(given))})", given)
