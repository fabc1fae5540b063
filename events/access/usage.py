"""Counts what each client sends, and when a long-lived token was last used; writes it down every few seconds."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from multiprocessing.util import Finalize
from threading import Lock, Timer
from typing import Any, NamedTuple

from django.conf import settings
from django.db import Error, connection, transaction

from events.access.models import ClientUsage, LongLivedToken
from events.database.dialect import greatest

logger = logging.getLogger(__name__)

_TABLE = ClientUsage._meta.db_table
_ADD = (
    f"INSERT INTO {_TABLE} (client, last_used, requests, events) VALUES (%s, %s, %s, %s)"  # noqa: S608
    " ON CONFLICT (client) DO UPDATE SET last_used = {most}(" + _TABLE + ".last_used, excluded.last_used),"
    f" requests = {_TABLE}.requests + excluded.requests, events = {_TABLE}.events + excluded.events"
)
_USE_TOKEN = (
    f"UPDATE {LongLivedToken._meta.db_table} SET last_used = %s"  # noqa: S608
    " WHERE token_id = %s AND (last_used IS NULL OR last_used < %s)"
)


class _Counts(NamedTuple):
    clients: dict[str, list[float]]  # unix time of the last use, requests, events
    tokens: dict[int, float]  # unix time of the last use, of long-lived tokens only


class UsageMeter:
    """The counts of this process since they were last written to the database.

    A process that is killed loses the counts of the last ``CLIENT_USAGE_SECONDS``, and nothing else.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._write_lock = Lock()
        self._counts = _Counts({}, {})
        self._timer: Timer | None = None
        self._is_flushed_at_exit = False

    def count_request(self, client: str, token_id: int | None = None) -> None:
        """Count a request of a client; ``token_id`` is the id of a long-lived token that the request came with."""
        self._count(client, 1, 0, token_id)

    def count_events(self, client: str, events: int) -> None:
        """Count events that were stored for a client."""
        self._count(client, 0, events)

    def _count(self, client: str, requests: int, events: int, token_id: int | None = None) -> None:
        if not settings.CLIENT_USAGE_SECONDS:
            return
        with self._lock:
            counts = self._counts.clients.get(client)
            if counts is None:
                counts = self._counts.clients[client] = [0, 0, 0]
            counts[0] = now = time.time()
            counts[1] += requests
            counts[2] += events
            if token_id is not None:
                self._counts.tokens[token_id] = now
            if not self._is_flushed_at_exit:
                # Not atexit, which a process that multiprocessing forked doesn't call. Not before the first count, as
                # that process calls only the finalizers that it has registered itself.
                Finalize(None, _flush_at_exit, exitpriority=0)
                self._is_flushed_at_exit = True
            if self._timer is None:
                self._start_timer()

    def _start_timer(self) -> None:
        self._timer = Timer(settings.CLIENT_USAGE_SECONDS, self._flush_in_background)
        self._timer.daemon = True
        self._timer.start()

    def _flush_in_background(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self.flush()
        finally:
            connection.close()

    def flush(self) -> None:
        """Add the counts to the database in one transaction; where that fails, keep them for the next time."""
        with self._write_lock:
            with self._lock:
                counts, self._counts = self._counts, _Counts({}, {})
            try:
                _add(counts)
            except Error as error:
                logger.warning("The use by clients is not written down yet: %s", error)
                self._take_back(counts)

    def _take_back(self, counts: _Counts) -> None:
        with self._lock:
            for client, (last_used, requests, events) in counts.clients.items():
                known = self._counts.clients.setdefault(client, [last_used, 0, 0])
                known[1] += requests
                known[2] += events
            for token_id, last_used in counts.tokens.items():
                self._counts.tokens.setdefault(token_id, last_used)
            if self._timer is None:
                self._start_timer()

    def forget(self) -> None:
        """Drop what was counted and not written down yet."""
        with self._lock:
            self._counts = _Counts({}, {})
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None


def _add(counts: _Counts) -> None:
    if not counts.clients:
        return
    # in one order, as two processes that lock the same rows in different orders could deadlock
    rows = [
        (client, _moment(last_used), requests, events)
        for client, (last_used, requests, events) in sorted(counts.clients.items())
    ]
    uses = [(_moment(last_used), token_id, _moment(last_used)) for token_id, last_used in sorted(counts.tokens.items())]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(_ADD.format(most=greatest()), rows)
        cursor.executemany(_USE_TOKEN, uses)


def _moment(timestamp: float) -> Any:
    """Convert a unix time to what the database's driver takes for an instant."""
    return connection.ops.adapt_datetimefield_value(datetime.fromtimestamp(timestamp, UTC))


def _flush_at_exit() -> None:
    usage_meter.flush()
    connection.close()


usage_meter = UsageMeter()
