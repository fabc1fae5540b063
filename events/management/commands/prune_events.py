"""``manage.py prune_events``: delete old events, and keep their rollups."""

import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from typing_extensions import override

from events.archive.store import ArchiveError
from events.calendar import timestamps
from events.calendar.ages import age
from events.management.progress import Bar, progress_bar
from events.management.system_checks import ARCHIVE_CHECKS
from events.worker import retention
from events.worker.retention import Series


def _age(value: str) -> timedelta:
    try:
        return age(value)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


class Command(BaseCommand):
    help = (
        "Delete the events of whole hours that are older than an age and rolled up, and keep their rollups: aggregates "
        "stay as they are. With ARCHIVE, files keep the events, of whole days. The service goes on meanwhile."
    )
    requires_system_checks = ARCHIVE_CHECKS

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--older-than", type=_age, required=True, metavar="AGE", help="the age, such as 90d or 36h")
        parser.add_argument(
            "--namespace",
            default="*",
            metavar="PATTERN",
            help="only this namespace or, with * at the end, all that start so",
        )
        parser.add_argument(
            "--with-rollups", action="store_true", help="delete their rollups too, so that nothing is kept"
        )
        parser.add_argument("--dry-run", action="store_true", help="only say how many events would be deleted")

    @override
    def handle(
        self, *args: Any, older_than: timedelta, namespace: str, with_rollups: bool, dry_run: bool, **options: Any
    ) -> None:
        chosen = list(retention.older_than(older_than, namespace))
        total = sum(retention.prunable(series).count() for series in chosen)
        count, buckets = total, 0
        if not dry_run:
            with progress_bar(total) as bar:
                count = sum(self._steps(bar, chosen, retention.prune))
            if with_rollups:
                with progress_bar(unit=" rollups") as bar:
                    buckets = sum(self._steps(bar, chosen, retention.prune_rollups))
        verb = "Would delete" if dry_run else "Deleted"
        also = f" and {buckets} rollups" if with_rollups and not dry_run else ""
        before = timestamps.to_text(retention.start_of_kept(older_than))
        self.stdout.write(f"{verb} {count} events{also} before {before}.")

    def _steps(self, bar: Bar, chosen: Iterable[Series], steps_of: Callable[[Series], Iterator[int]]) -> Iterator[int]:
        start = time.monotonic()
        for series in chosen:
            try:
                for count in steps_of(series):
                    bar.update(count)
                    yield count
                    time.sleep(retention.pause_seconds(time.monotonic() - start))
                    start = time.monotonic()
            except ArchiveError as error:
                raise CommandError(f"{series.namespace}/{series.name} is not pruned: {error}") from None
