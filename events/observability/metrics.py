"""Counts requests for Prometheus, those of all workers where `manage.py serve` made a directory for the counts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from django.urls import Resolver404, resolve
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from typing_extensions import override

from events.processes import is_running

if TYPE_CHECKING:
    from events.observability.health import Health
    from events.observability.observation import Observation

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_EVENTS = (1, 10, 100, 1_000, 10_000)
_SAMPLE_SECONDS = 1
_PATH_CHARACTERS = 300


def endpoint_of(path: str) -> str:
    """Return the name of what a path leads to; there are few names, however many paths there are."""
    try:
        return (_endpoint_of if len(path) <= _PATH_CHARACTERS else _endpoint_of.__wrapped__)(path)
    except Resolver404:
        return "other"


# Anybody may send any path. Long ones aren't cached, nor those that lead nowhere, so the cache takes half a megabyte at
# most.
@lru_cache(maxsize=1_000)
def _endpoint_of(path: str) -> str:
    match = resolve(path)
    return "admin" if "admin" in match.app_names else match.view_name


class Metrics:
    """The counts of this process. Counting a request takes one call, and some microseconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._accepted = Counter("tracking_events_accepted", "Events stored.", registry=self.registry)
        self._batch = Histogram(
            "tracking_batch_events", "Events stored by a request.", buckets=_EVENTS, registry=self.registry
        )
        self._refused = Counter(
            "tracking_requests_refused", "Requests to store events that were refused.", ["reason"],
            registry=self.registry,
        )  # fmt: skip
        self._duration = Histogram(
            "tracking_request_duration_seconds", "From the whole request to its answer.", ["endpoint", "status"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._observe_duration: dict[tuple[str, int], Callable[[float], None]] = {}
        self._database_errors = Counter(
            "tracking_database_errors", "Requests that the database failed.", ["kind"], registry=self.registry
        )
        self._connections = Gauge(
            "tracking_connections", "Database connections of all workers.", ["state"], multiprocess_mode="livesum",
            registry=self.registry,
        )  # fmt: skip

    def count(self, seen: Observation, seconds: float) -> None:
        """Count a request that was answered."""
        key = endpoint_of(seen.path), seen.status
        observe = self._observe_duration.get(key)
        if observe is None:
            observe = self._observe_duration[key] = self._duration.labels(*key).observe
        observe(seconds)
        if seen.events:
            self._accepted.inc(seen.events)
            self._batch.observe(seen.events)
        if seen.status >= 400 and key[0] == "track":
            self._refused.labels(seen.refusal or f"status_{seen.status}").inc()
        if seen.database_error:
            self._database_errors.labels(seen.database_error).inc()

    def watch_connections(self, free: Callable[[], int], total: int) -> None:
        """Sample every second how many of the connections are free, as counting each use would slow down requests."""

        def sample() -> None:
            while True:
                idle = min(free(), total)
                self._connections.labels("free").set(idle)
                self._connections.labels("used").set(total - idle)
                time.sleep(_SAMPLE_SECONDS)

        threading.Thread(target=sample, name="connection-metrics", daemon=True).start()

    def exposition(self, health: Health) -> bytes:
        """Return the metrics of all workers, and the health, in Prometheus' text format."""
        registry = CollectorRegistry()
        directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if directory:
            _forget_the_dead(Path(directory))
            _WorkersCollector(registry, directory)  # type: ignore[no-untyped-call]
        else:
            registry.register(self.registry)
        registry.register(_HealthCollector(health))
        return generate_latest(registry)


class _WorkersCollector(MultiProcessCollector):
    @override
    def collect(self) -> Iterable[Metric]:
        # a file that a worker is just making is empty, and can't be read
        files = [str(file) for file in Path(self._path).glob("*.db") if _size_bytes(file)]
        found: Iterable[Metric] = self.merge(files, accumulate=True)  # type: ignore[no-untyped-call]
        return found


def _size_bytes(file: Path) -> int:
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return 0


class _HealthCollector(Collector):
    def __init__(self, health: Health) -> None:
        self.health = health

    @override
    def collect(self) -> Iterator[Metric]:
        up, lag = self.health.database is None, self.health.lag
        yield GaugeMetricFamily("tracking_database_up", "Whether the database answers.", value=up)
        yield GaugeMetricFamily("tracking_ready", "Whether /readyz answers 200.", value=self.health.is_ready)
        if lag is not None:
            yield GaugeMetricFamily("tracking_watermark_lag_events", "Events not rolled up yet.", value=lag.events)
            yield GaugeMetricFamily(
                "tracking_watermark_lag_seconds", "For how long the rollups lack some.", value=lag.seconds
            )
        alerts = self.health.alerts
        if alerts is not None:
            yield GaugeMetricFamily("tracking_alerts_firing", "Series for which an alert fires.", value=alerts.firing)
            yield GaugeMetricFamily(
                "tracking_alerts_lag_seconds", "For how long the alerts should have been evaluated.",
                value=alerts.seconds,
            )  # fmt: skip
        if self.health.archive_faults is not None:
            yield GaugeMetricFamily(
                "tracking_archive_faults", "Series that could not be archived and pruned.",
                value=self.health.archive_faults,
            )  # fmt: skip


def _forget_the_dead(directory: Path) -> None:
    """Remove the gauges of workers that have ended, as their connections are closed; their counters stay."""
    for file in directory.glob("gauge_live*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not is_running(pid):
            with suppress(FileNotFoundError):  # another worker, asked at the same time, may have removed it
                mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]
