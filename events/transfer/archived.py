"""Reads files of the archive, for exports that hold archived events too, and for imports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from typing import BinaryIO

import msgspec

from events.archive import parquet
from events.archive.models import ArchivedFile, ArchivedFileQuerySet
from events.archive.store import ArchiveError, store, told
from events.calendar.timestamps import from_microseconds, microseconds_of
from events.transfer.exporting import written_instant


def files_within(files: ArchivedFileQuerySet, start: datetime | None, end: datetime | None) -> list[ArchivedFile]:
    """List the files that may hold events of a window, whose ends are included; None leaves an end open. One query."""
    files = files.holding()
    if start is not None:
        files = files.filter(end__gt=start)
    if end is not None:
        files = files.filter(start__lte=end)
    return list(files)


def records_of(
    file: ArchivedFile, start: datetime | None, end: datetime | None
) -> Iterator[list[tuple[str, str, str, float]]]:
    """Yield the events of a file that lie in a window, as they are exported, some thousand at a time.

    They have the namespace and name of the list, as the series may have been given others since. Raises ArchiveError.
    """
    least, most = (microseconds_of(end) if end else None for end in (start, end))
    try:
        opened = store().open(file.path)
    except FileNotFoundError:
        raise ArchiveError(
            f"{file.path} is not in the archive. If files were merged just now, run it again; if not, restore it."
        ) from None
    with told(), closing(opened):
        for stretch in parquet.read(opened, file.path):
            yield [
                (file.namespace, file.name, _text_of(instant), value)
                for instant, value in zip(*stretch, strict=True)
                if (least is None or instant >= least) and (most is None or instant <= most)
            ]


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the events of a file as lines of NDJSON. Raises ValueError where it is no file of an archive."""
    encode = msgspec.json.Encoder().encode
    try:
        for namespaces, names, stretch in parquet.read_named(file):
            # a file that was made elsewhere may lack some, which the import refuses
            instants: Sequence[int | None] = stretch.microseconds
            for namespace, name, instant, value in zip(namespaces, names, instants, stretch.values, strict=True):
                text = None if instant is None else _text_of(instant)
                yield encode({"namespace": namespace, "name": name, "timestamp": text, "value": value}) + b"\n"
    except (ArchiveError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _text_of(microseconds: int) -> str:
    return written_instant(str(from_microseconds(microseconds).replace(tzinfo=None)))
