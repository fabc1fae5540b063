"""Limits how long a statement of a request may take; commands and migrations are not limited."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from events.database.dialect import is_postgresql
from events.database.postgresql.session import SETTINGS

_STEPS_BETWEEN_LOOKS = 100_000


def limit_statements() -> None:
    """Have the database cancel each statement of this process after STATEMENT_TIMEOUT_SECONDS."""
    for database in connections.settings.values():
        if database["ENGINE"] == "django.db.backends.sqlite3":
            connection_created.connect(_limit_on_sqlite)
        else:
            database[SETTINGS] |= statement_limit()


def statement_limit() -> dict[str, str]:
    """Return the setting, and its value, that makes a PostgreSQL session cancel long statements."""
    return {"statement_timeout": f"{settings.STATEMENT_TIMEOUT_SECONDS}s"}


@contextmanager
def limit_together(seconds: float | None) -> Iterator[None]:
    """Have PostgreSQL cancel the statements within once they have taken so many seconds together; None is no limit.

    To be used in a transaction, of which its last statement's limit stays. SQLite's statements are not limited.
    """
    if seconds is None or not is_postgresql():
        yield
        return
    give_up = time.monotonic() + seconds

    def execute_in_time(execute: Callable[..., Any], sql: str, parameters: Any, many: bool, context: Any) -> Any:
        left = max(1, int(1000 * (give_up - time.monotonic())))
        with connection.wrap_database_errors:
            context["cursor"].cursor.execute(f"SET LOCAL statement_timeout = {left}")
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(execute_in_time):
        yield


def restart_clock(connection: BaseDatabaseWrapper) -> None:
    """Restart a statement's time limit on SQLite, when some of its rows were taken and more are to follow.

    On PostgreSQL nothing is needed: each FETCH is a statement with a limit of its own.
    """
    for wrapper in connection.execute_wrappers:
        if isinstance(wrapper, _Clock):
            wrapper.start = time.monotonic()


class _Clock:
    """Records when a connection's current statement started."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def __call__(self, execute: Callable[..., Any], *args: Any) -> Any:
        self.start = time.monotonic()
        return execute(*args)

    def is_over(self) -> bool:
        return time.monotonic() - self.start > settings.STATEMENT_TIMEOUT_SECONDS


def _limit_on_sqlite(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    clock = _Clock()
    wrappers = [wrapper for wrapper in connection.execute_wrappers if not isinstance(wrapper, _Clock)]
    connection.execute_wrappers = [*wrappers, clock]
    connection.connection.set_progress_handler(clock.is_over, _STEPS_BETWEEN_LOOKS)
