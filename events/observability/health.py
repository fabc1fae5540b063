"""Checks whether the service can work: the database answers, its tables are up to date, the rollups keep up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Count, F, Min
from django.utils import timezone

from events.alerts.lag import AlertLag
from events.alerts.lag import read_lag as read_alert_lag
from events.archive import faults
from events.database import partitions
from events.database.snapshot import snapshot
from events.distribution import cluster
from events.log.models import Event
from events.rollups.models import Watermark

logger = logging.getLogger(__name__)


class Lag(NamedTuple):
    """How far the rollups are behind the log: the ids past the watermark, and for how many seconds there were any.

    ``seconds`` is None where that is unknown. Ids that were handed out and never used count too.
    """

    events: int
    seconds: float | None


@dataclass(frozen=True)
class Health:
    """What each check found wrong, None where nothing is; and the lag, where it could be read."""

    database: str | None
    migrations: str | None = None
    rollups: str | None = None
    lag: Lag | None = None
    alerts: AlertLag | None = None  # where there are any
    archive_faults: int | None = None  # where there is an archive

    @property
    def is_ready(self) -> bool:
        """Tell whether no check found anything wrong."""
        return not (self.database or self.migrations or self.rollups)

    def report(self) -> dict[str, Any]:
        """Return the body of ``/readyz``."""
        details = {"database": self.database, "migrations": self.migrations, "rollups": self.rollups}
        checks: dict[str, dict[str, Any]] = {
            name: {"ok": True} if detail is None else {"ok": False, "detail": detail}
            for name, detail in details.items()
        }
        if self.lag is not None:
            seconds = self.lag.seconds and round(self.lag.seconds, 1)
            checks["rollups"] |= {"lagEvents": self.lag.events, "lagSeconds": seconds}
        if self.alerts is not None:
            checks["alerts"] = self._alerts_report(self.alerts)
        if self.archive_faults is not None:
            checks["archive"] = self._archive_report(self.archive_faults)
        return {"ready": self.is_ready, "checks": checks}

    @staticmethod
    def _alerts_report(lag: AlertLag) -> dict[str, Any]:
        """Say how far the alerts' evaluation is behind; requests can be worked on all the same, so it stays ready."""
        report = {"ok": not lag.is_late, "lagSeconds": lag.rounded}
        if lag.seconds is None:
            return {**report, "detail": "No worker has evaluated the alerts yet."}
        return {**report, "detail": f"An evaluation has been due for {lag.seconds:.0f} s."} if lag.is_late else report

    @staticmethod
    def _archive_report(faults: int) -> dict[str, Any]:
        """Say how many series can't be archived; nothing is lost over it, so the service stays ready."""
        if not faults:
            return {"ok": True}
        return {"ok": False, "detail": f"{faults} series could not be archived and pruned; the worker's log says why."}


_UNKNOWN = "Not known without the database."


def check() -> Health:
    """Check the health over this thread's connection.

    Seven queries, two more where there are alerts, and one where there is an archive. A database that is away raises
    nothing.
    """
    try:
        connection.ensure_connection()
        missing = missing_migrations()
        if missing:
            detail = f"Not applied: {', '.join(missing)}. Run manage.py migrate."
            return Health(None, detail, "Not known before the migrations are applied.")
        answering = _answering()
        lag = read_lag(answering)
        rollups_detail = _lag_detail(lag) if lag.events else _silence_detail(answering)
        alerts = read_alert_lag()
        archive_faults = faults.count()
    except (DatabaseError, InterfaceError) as error:
        # the log alone gets the error's text, as it may tell whoever asks about the network
        logger.error("Not ready: %s: %s", type(error).__name__, str(error).strip().partition("\n")[0])
        return Health("The database can't be reached or is busy.", _UNKNOWN, _UNKNOWN)
    return Health(None, None, rollups_detail, lag, alerts, archive_faults)


def read_lag(keys: Sequence[int] | None = None) -> Lag:
    """Return the lag, of some of several partitions. Two queries on one snapshot; one for several partitions."""
    if partitions.are_several():
        return _read_lag_of(partitions.keys() if keys is None else keys)
    with snapshot():
        watermark = Watermark.objects.current(None)
        newest = Event.objects.order_by("pk").values_list("pk", flat=True).last() or 0
    events = max(0, newest - watermark.event_id)
    return Lag(events, _seconds_since(watermark.complete_at) if events else 0)


def _read_lag_of(keys: Sequence[int]) -> Lag:
    """Return the events past the watermarks of several partitions, and the oldest look at one that has any."""
    looked = F("partition__complete_at")
    past = Event.objects.past_watermarks().filter(partition__in=keys).order_by()
    # NULL, where no worker has looked, counts as the oldest
    found = past.aggregate(events=Count("pk"), looked=Min(looked), known=Count(looked))
    if not found["events"]:
        return Lag(0, 0)
    return Lag(found["events"], _seconds_since(found["looked"] if found["known"] == found["events"] else None))


def _answering() -> Sequence[int]:
    """List the keys of the partitions whose node answers, as their series can be served. None of a single one."""
    if not cluster.is_cluster():
        return partitions.keys()
    return cluster.partitions_on(cluster.ask_every_node("SELECT 1"))


def _seconds_since(looked: datetime | None) -> float | None:
    return None if looked is None else max(0, (timezone.now() - looked).total_seconds())


def _lag_detail(lag: Lag) -> str | None:
    limit = settings.READY_LAG_SECONDS
    if limit == 0 or (lag.seconds is not None and lag.seconds <= limit):
        return None
    if lag.seconds is None:
        return "No worker has looked yet. Run manage.py roll_up --watch 1."
    return f"{lag.events} events behind for {lag.seconds:.0f} s, more than READY_LAG_SECONDS={limit} s."


def _silence_detail(answering: Sequence[int]) -> str | None:
    """Describe a missing worker; None where one is there: even an idle one notes every few seconds that it looked."""
    limit = settings.READY_LAG_SECONDS
    watermarks = Watermark.objects.filter(pk__in=answering or [partitions.ONLY])
    looked = watermarks.aggregate(looked=Min("complete_at"))["looked"]
    if limit == 0 or looked is None:
        return None
    seconds = (timezone.now() - looked).total_seconds()
    if seconds <= limit:
        return None
    return f"No worker has looked for {seconds:.0f} s, more than READY_LAG_SECONDS={limit} s."


@cache
def _last_migrations() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


def missing_migrations() -> list[str]:
    """List the migrations that are not applied."""
    applied = MigrationRecorder(connection).applied_migrations()
    return sorted(f"{app}.{name}" for app, name in _last_migrations() if (app, name) not in applied)


class HealthCache:
    """Keeps the health for a second, and checks it in a thread with a connection of its own, one check at a time.

    So no probe waits for a connection that requests use, and many probes cost the database no more than one.
    """

    fresh_seconds = 1

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: Future[Health] | None = None
        self._checked_at = 0.0

    def health(self) -> Health:
        """Return the health, at most a second old. Waits for a check for DATABASE_TIMEOUT_SECONDS at most."""
        with self._lock:
            latest = self._latest
            if latest is None or (latest.done() and time.monotonic() - self._checked_at > self.fresh_seconds):
                latest = Future()
                threading.Thread(target=self._check, args=(latest,), name="health", daemon=True).start()
                self._latest = latest
        try:
            return latest.result(settings.DATABASE_TIMEOUT_SECONDS)
        except TimeoutError:
            detail = f"The database didn't answer within {settings.DATABASE_TIMEOUT_SECONDS} s."
            return Health(detail, _UNKNOWN, _UNKNOWN)

    def _check(self, future: Future[Health]) -> None:
        try:
            health = check()
        except BaseException as error:  # raised again to whoever asked
            self._checked_at = time.monotonic()
            future.set_exception(error)
        else:
            self._checked_at = time.monotonic()
            future.set_result(health)
        finally:
            connection.close()


health_cache = HealthCache()
