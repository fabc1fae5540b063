"""``manage.py import_events``: append the events of a file or a pipe to the log."""

import os
import time
import zlib
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError
from typing_extensions import override

from events.database.dialect import is_postgresql
from events.management.progress import progress_bar
from events.management.system_checks import OWN_CHECKS
from events.models import Bookmark
from events.transfer import files, importing
from events.transfer.import_formats import ImportFailed, delimiter_of, reader_of
from events.transfer.importing import OtherLines, Step

MOST_LINES_NAMED = 100
# Writers that wait for SQLite's one lock look again after some milliseconds, so the import must leave a gap.
_PAUSE_SECONDS = 0.01


def told(read: Callable[[str], str]) -> Callable[[str], str]:
    """Make the type of an argument of ``read``, whose ValueError becomes the command's error with the same message."""

    def argument(text: str) -> str:
        try:
            return read(text)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None

    return argument


class Command(BaseCommand):
    help = (
        "Append events of CSV or NDJSON, such as export_events writes, or of a file of the archive. An import that was "
        "interrupted goes on where it stopped when it is run again, and one that was done does nothing."
    )
    requires_system_checks = OWN_CHECKS

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", help="the file to read, unpacked where it ends in .gz; - for standard input")
        parser.add_argument(
            "--format", choices=files.IMPORT_FORMATS, help="needed where the file's suffix doesn't tell it"
        )
        parser.add_argument(
            "--encoding",
            type=told(files.encoding_named),
            metavar="NAME",
            help="such as cp1252; by default the byte order mark tells it, or else it is UTF-8",
        )
        parser.add_argument(
            "--delimiter",
            type=told(delimiter_of),
            metavar="CHARACTER",
            help="what separates the columns of CSV, such as | or the word tab; by default comma, semicolon or tab, as "
            "in the header",
        )
        parser.add_argument("--ignore-extra", action="store_true", help="leave out unknown columns of CSV")
        parser.add_argument(
            "--rejects",
            type=lambda path: Path(path).resolve(),
            metavar="FILE",
            help="write bad lines to this file as they are, and go on; by default the first one stops the import",
        )
        parser.add_argument(
            "--bookmark", metavar="NAME", help="the name by which the import is found again; by default the file's path"
        )
        parser.add_argument("--restart", action="store_true", help="forget what was imported of this source before")

    @override
    def handle(
        self, *args: Any, path: str, format: str | None, encoding: str | None, delimiter: str | None,
        ignore_extra: bool, rejects: Path | None, bookmark: str | None, restart: bool, **options: Any,
    ) -> None:  # fmt: skip
        self.encoding, self.delimiter, self.ignore_extra = encoding, delimiter, ignore_extra
        self.events = self.rejected = 0
        began = time.monotonic()
        source = bookmark or (path if path == files.PIPE else os.path.realpath(path))
        try:
            file_format = files.format_of(path, format, files.IMPORT_FORMATS)
            self._import(path, file_format, importing.bookmark_of(source, restart=restart), rejects)
        except OtherLines as error:
            raise CommandError(
                f"{path}: {error} Import all of it with --restart, or choose another --bookmark."
            ) from None
        except (ImportFailed, OSError, EOFError, ValueError, zlib.error, DatabaseError, InterfaceError) as error:
            raise CommandError(f"{path}: {str(error).strip()}") from None
        except KeyboardInterrupt:
            raise CommandError(f"Interrupted after {self.events} events; run it again to go on.") from None
        took = time.monotonic() - began
        rejected = f" Rejected {self.rejected}, which are in {rejects}." if self.rejected else ""
        rate = f"{self.events / took:.0f} a second"
        self.stdout.write(f"Imported {self.events} events in {took:.1f} s, {rate}.{rejected}")

    def _import(self, path: str, file_format: str, bookmark: Bookmark, rejects: Path | None) -> None:
        with files.reading(path, file_format, self.encoding) as (lines, encoding, file):
            reader = reader_of(lines, file_format, encoding, delimiter=self.delimiter, ignore_extra=self.ignore_extra)
            size = os.fstat(file.fileno()).st_size if file.seekable() else None
            unit = {"unit": " events"} if size is None else {"unit": "B", "unit_scale": True}
            with progress_bar(size, **unit) as bar:
                for step in self._reported(importing.steps(reader, bookmark, rejects), bookmark):
                    bar.update(step.events if size is None else file.tell() - bar.n)
                    bar.set_postfix_str(f"{self.events} events", refresh=False)
                    if not is_postgresql():
                        time.sleep(_PAUSE_SECONDS)

    def _reported(self, steps: Iterator[Step], bookmark: Bookmark) -> Iterator[Step]:
        next(steps)
        if bookmark.events:
            self.stderr.write(f"{bookmark.events} events were imported before.", lambda text: text)
        for step in steps:
            self.events += step.events
            for number, _, reason in step.rejected[: max(MOST_LINES_NAMED - self.rejected, 0)]:
                self.stderr.write(f"Line {number}: {reason}")
            self.rejected += len(step.rejected)
            yield step
