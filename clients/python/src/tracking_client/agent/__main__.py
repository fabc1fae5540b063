"""The command ``tracking-agent``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tracking_client.agent.lines import track_lines
from tracking_client.tracker import Tracker

try:
    from tracking_client.agent.collector import Collector, Metric
    from tracking_client.agent.configuration import Configuration, WrongConfigurationError, configured
except ImportError as error:
    sys.exit(f"tracking-agent needs its extra, {error}: pip install 'tracking-client[agent]'")

_FIRST_SECONDS = 1.0  # between two looks at the counters, where only one turn is wanted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent until it is told to end, or one turn of it; return the status of the process."""
    parser = argparse.ArgumentParser(prog="tracking-agent", description="Track the health of this host.")
    parser.add_argument("--config", type=Path, help="a file in TOML; TRACKING_AGENT_CONFIG names one too")
    parser.add_argument("--once", action="store_true", help="read once, send, print what was sent, and end")
    parser.add_argument("--dry-run", action="store_true", help="read once, print what would be sent, and end")
    parser.add_argument(
        "--stdin", action="store_true", help="track events that come as NDJSON on standard input instead"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    if options.config is None and os.environ.get("TRACKING_AGENT_CONFIG"):
        options.config = Path(os.environ["TRACKING_AGENT_CONFIG"])
    try:
        configuration = configured(options.config, os.environ)
        collector = Collector(configuration)
        if options.dry_run:
            _print(_read_once(collector))
            return 0
        tracker = Tracker(
            configuration.url, configuration.client_id, configuration.client_secret, spool=configuration.spool
        )  # fmt: skip
    except (WrongConfigurationError, ValueError) as error:
        print(f"tracking-agent: {error}", file=sys.stderr)  # noqa: T201
        return 2
    if options.stdin:
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # the service refuses such a name
        return track_lines(tracker, sys.stdin, configuration.namespace)
    return _run_once(collector, tracker) if options.once else _run(collector, tracker, configuration)


def _read_once(collector: Collector) -> list[Metric]:
    for _ in collector.read():
        pass
    time.sleep(_FIRST_SECONDS)
    return list(collector.read())


def _print(metrics: Iterable[Metric]) -> None:
    rows = [(metric.namespace, metric.name, f"{metric.value:.6g}") for metric in metrics]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    for namespace, name, value in rows:
        print(f"{namespace.ljust(widths[0])}  {name.ljust(widths[1])}  {value}")  # noqa: T201


def _track(tracker: Tracker, metrics: Iterable[Metric]) -> None:
    now = round(time.time(), 3)  # all of a turn at the same time
    for metric in metrics:
        tracker.track(metric.namespace, metric.name, metric.value, now)


def _run_once(collector: Collector, tracker: Tracker) -> int:
    metrics = _read_once(collector)
    _track(tracker, metrics)
    is_sent = tracker.flush(30)
    refused = tracker.counts.refused
    tracker.close()
    _print(metrics)
    if is_sent and not refused:
        return 0
    print(f"tracking-agent: {refused} events were refused, {tracker.waiting} wait.", file=sys.stderr)  # noqa: T201
    return 1


def _run(collector: Collector, tracker: Tracker, configuration: Configuration) -> int:
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    due = time.monotonic()
    while True:
        _track(tracker, collector.read())
        # turns that a long one has taken the time of are left out
        due += configuration.interval_seconds * max(1, -(-(time.monotonic() - due) // configuration.interval_seconds))
        if ending.wait(due - time.monotonic()):
            tracker.close()
            return 0


if __name__ == "__main__":
    sys.exit(main())
