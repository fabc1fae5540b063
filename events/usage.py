"""How much each client sends: counted in memory, and added to the database every few seconds."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from multiprocessing.util import Finalize
from threading import Lock, Timer

from django.conf import settings
from django.db import Error, connection, transaction

from events.models import ClientUsage

logger = logging.getLogger(__name__)

_TABLE = ClientUsage._meta.db_table
_ADD = (
    f"INSERT INTO {_TABLE} (client, last_used, requests, events) VALUES (%s, %s, %s, %s)"  # noqa: S608
    " ON CONFLICT (client) DO UPDATE SET last_used = {most}(" + _TABLE + ".last_used, excluded.last_used),"
    f" requests = {_TABLE}.requests + excluded.requests, events = {_TABLE}.events + excluded.events"
)


class UsageMeter:
    """What this process has counted since it was last written down.

    A process that is killed loses the counts of the last ``CLIENT_USAGE_SECONDS``, and nothing else.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._write_lock = Lock()
        self._counts: dict[str, list[float]] = {}
        self._timer: Timer | None = None

    def count_request(self, client: str) -> None:
        """One more request of a client."""
        self._count(client, 1, 0)

    def count_events(self, client: str, events: int) -> None:
        """So many more events that were stored for a client."""
        self._count(client, 0, events)

    def _count(self, client: str, requests: int, events: int) -> None:
        if not settings.CLIENT_USAGE_SECONDS:
            return
        with self._lock:
            counts = self._counts.get(client)
            if counts is None:
                counts = self._counts[client] = [0, 0, 0]
            counts[0] = time.time()
            counts[1] += requests
            counts[2] += events
            if self._timer is None:
                self._start_timer()

    def _start_timer(self) -> None:
        self._timer = Timer(settings.CLIENT_USAGE_SECONDS, self._flush_aside)
        self._timer.daemon = True
        self._timer.start()

    def _flush_aside(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self.flush()
        finally:
            connection.close()

    def flush(self) -> None:
        """Add what was counted to the database, in one transaction; where that fails, it is kept for the next time."""
        with self._write_lock:
            with self._lock:
                counts, self._counts = self._counts, {}
            try:
                _add(counts)
            except Error as error:
                logger.warning("The use by clients is not written down yet: %s", error)
                self._take_back(counts)

    def _take_back(self, counts: dict[str, list[float]]) -> None:
        with self._lock:
            for client, (last_used, requests, events) in counts.items():
                known = self._counts.setdefault(client, [last_used, 0, 0])
                known[1] += requests
                known[2] += events
            if self._timer is None:
                self._start_timer()

    def forget(self) -> None:
        """Count from nothing."""
        with self._lock:
            self._counts = {}
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None


def _add(counts: dict[str, list[float]]) -> None:
    if not counts:
        return
    adapt = connection.ops.adapt_datetimefield_value
    rows = [
        (client, adapt(datetime.fromtimestamp(last_used, UTC)), requests, events)
        for client, (last_used, requests, events) in sorted(counts.items())  # in one order, or two could deadlock
    ]
    most = "GREATEST" if connection.vendor == "postgresql" else "MAX"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(_ADD.format(most=most), rows)


def _flush_at_exit() -> None:
    usage_meter.flush()
    connection.close()


usage_meter = UsageMeter()
# Not atexit, which the server's workers, as processes that multiprocessing has forked, end without.
Finalize(None, _flush_at_exit, exitpriority=0)
