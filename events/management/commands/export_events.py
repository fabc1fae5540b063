"""``manage.py export_events``: write the log to a file or a pipe."""

import time
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from typing_extensions import override

from events.archive.models import ArchivedFile, held_by
from events.archive.store import ArchiveError
from events.calendar import timestamps
from events.calendar.granularity import last_of_day
from events.database import partitions
from events.database.snapshot import snapshot
from events.log.namespace_patterns import fits
from events.management.progress import progress_bar
from events.management.system_checks import OWN_CHECKS
from events.models import Event, Watermark
from events.transfer import exporting, files
from events.transfer.archived import files_within, records_of


def instant(text: str) -> datetime:
    """Read an instant as the API does. Raises ArgumentTypeError."""
    try:
        return timestamps.from_text(text)
    except timestamps.AmbiguousText as error:
        raise ArgumentTypeError(str(error)) from None
    except ValueError as error:
        raise ArgumentTypeError(f"Must be {error}.") from None


def last_instant(text: str) -> datetime:
    """Read the end of a window as the API does: a date alone is the end of that day, in UTC."""
    day = timestamps.day_of(text)
    return instant(text) if day is None else last_of_day(day, UTC)


class Command(BaseCommand):
    help = (
        "Write events as CSV or NDJSON, in the order that they came, as they were at one moment. import_events reads "
        "both formats; POST /api/track/ takes NDJSON. With --archived those of the archive come first, by series and "
        "time."
    )
    requires_system_checks = OWN_CHECKS

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", help="the file to write, packed where it ends in .gz; - for standard output")
        parser.add_argument("--format", choices=files.FORMATS, help="needed where the file's suffix doesn't tell it")
        parser.add_argument(
            "--namespace", metavar="PATTERN", help="only this namespace or, with * at the end, all that start so"
        )
        parser.add_argument("--name", help="only events of this name")
        parser.add_argument(
            "--from", dest="start", type=instant, metavar="TIMESTAMP", help="the first instant, included"
        )
        parser.add_argument(
            "--to", dest="end", type=last_instant, metavar="TIMESTAMP", help="the last instant, or day in UTC, included"
        )

        parser.add_argument("--archived", action="store_true", help="also the events that the archive holds")

    @override
    def handle(
        self, *args: Any, path: str, format: str | None, namespace: str | None, name: str | None,
        start: datetime | None, end: datetime | None, archived: bool, **options: Any,
    ) -> None:  # fmt: skip
        if archived and not settings.ARCHIVE:
            raise CommandError("--archived needs ARCHIVE, which says where the archive is.")
        began = time.monotonic()
        try:
            file_format = files.format_of(path, format)
            with snapshot():
                if moves := Watermark.objects.moves():
                    raise CommandError(f"{moves[0]}. Export once that is done.")
                events = Event.objects.within(start, end)
                if namespace is not None:
                    there = chain(*(Event.objects.of_partition(each).namespaces() for each in partitions.every()))
                    events = events.filter(
                        namespace__in={each for each in there if fits(each, namespace)} or [namespace]
                    )
                if name is not None:
                    events = events.filter(name=name)
                held = self._held(namespace, name, start, end) if archived else []
                # what is being deleted from the log as it is archived
                events = events.exclude(held_by(each for each in held if each.state == ArchivedFile.State.LISTED))
                records = chain.from_iterable(records_of(each, start, end) for each in held)
                with (
                    progress_bar(events.count() + sum(each.events for each in held)) as bar,
                    files.writing(path, file_format) as file,
                ):
                    count = exporting.export(events, file_format, file, bar.update, records)
        except BrokenPipeError:
            raise CommandError("The reader of the pipe has gone away.") from None
        except (OSError, ValueError, DatabaseError, ArchiveError) as error:
            raise CommandError(str(error).strip()) from None
        took = time.monotonic() - began
        # standard output may be where the events went
        self.stderr.write(f"Exported {count} events in {took:.1f} s, {count / took:.0f} a second.", lambda text: text)

    def _held(
        self, namespace: str | None, name: str | None, start: datetime | None, end: datetime | None
    ) -> list[ArchivedFile]:
        found = ArchivedFile.objects.all() if name is None else ArchivedFile.objects.filter(name=name)
        return [
            each for each in files_within(found, start, end) if namespace is None or fits(each.namespace, namespace)
        ]
