"""Appends single events over sessions with PostgreSQL that an event loop watches, so that no thread waits for them."""

from __future__ import annotations

import select
import time
from typing import Any

import psycopg2
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg2.extensions import POLL_OK, POLL_READ
from psycopg2.extensions import connection as Session

from events.database.postgresql import session as sessions
from events.log.append import Row, current_statements, parameters_of


class AsyncAppender:
    """A session that stores one event at a time: ``begin`` sends it, and ``is_stored`` tells once it is committed.

    The loop asks ``is_stored`` whenever the socket of ``fileno`` can be read. What can be read at any other time is
    that the server goes away.
    """

    def __init__(self) -> None:
        """Open a session with the settings of all sessions, and wait until it is ready; not to be called in a loop.

        Behind a pooler it is never ready: ``is_pooled`` is True then. Raises Django's errors of the database.
        """
        wrapper: Any = connections[DEFAULT_DB_ALIAS]
        options = wrapper.get_connection_params()
        options.pop("cursor_factory", None)
        seconds = wrapper.settings_dict["CONN_MAX_AGE"]
        self._closes_at = None if seconds is None else time.monotonic() + seconds
        self._statements = current_statements()
        with wrapper.wrap_database_errors:
            self._session = psycopg2.connect(**options, async_=True)
            try:
                _wait(self._session)
                self.is_pooled = sessions.hold(self._session, wrapper.settings_dict[sessions.SETTINGS], _wait)
                self._cursor = self._session.cursor()
                if not self.is_pooled:
                    self._cursor.execute(self._statements.prepare)
                    _wait(self._session)
                self._fileno: int = self._session.fileno()  # the driver no longer says it once the server has gone
            except BaseException:
                self._session.close()
                raise

    def fileno(self) -> int:
        """Return the descriptor of the session's socket, which stays open until ``close``."""
        return self._fileno

    def is_obsolete(self) -> bool:
        """Tell whether another session is to be opened in place of this one."""
        is_old = self._closes_at is not None and time.monotonic() >= self._closes_at
        return is_old or self._statements is not current_statements()

    def begin(self, row: Row) -> None:
        """Send a row to be stored. Raises psycopg2's errors; then nobody knows whether it is stored."""
        self._cursor.execute(self._statements.execute, parameters_of(row, is_postgresql=True))

    def is_stored(self) -> bool:
        """Tell whether the row is committed. Raises psycopg2's errors; then nobody knows whether it is stored."""
        return bool(self._session.poll() == POLL_OK)

    def close(self) -> None:
        """Close the session; one that is closed already stays so."""
        self._session.close()


def _wait(session: Session) -> None:
    """Wait until the server has answered. Raises OperationalError after ``DATABASE_TIMEOUT_SECONDS`` of silence."""
    while (state := session.poll()) != POLL_OK:
        waiting = [session]
        reading, writing = (waiting, []) if state == POLL_READ else ([], waiting)
        if select.select(reading, writing, [], settings.DATABASE_TIMEOUT_SECONDS) == ([], [], []):
            raise psycopg2.OperationalError("timeout expired")
