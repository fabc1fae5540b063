"""Imports events of CSV or NDJSON into the log, in steps; a bookmark tells where the next step starts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from django.db import transaction

from events.database.dialect import choose
from events.ingest import decoding
from events.log import append
from events.log.append import Row
from events.transfer.files import mark_of
from events.transfer.import_formats import Format, ImportFailed
from events.transfer.models import Bookmark

_OF_SOURCE = ("lines", "digest", "head", "events", "rejected", "rejects", "rejects_bytes", "is_done")
_STEP_LINES = {"postgresql": 50_000, "sqlite": 5_000}


class OtherLines(ImportFailed):
    """The source doesn't begin with the lines that were imported from it before; nothing was stored."""


class Rejected(NamedTuple):
    """A line, or a record of several, that is no event."""

    number: int
    lines: list[bytes]
    reason: str


class Step(NamedTuple):
    """How many lines of the source are done after a step, and what the step stored and rejected."""

    lines: int
    events: int
    rejected: list[Rejected]


# What was read for a step: lines, the events in them, and the rejected records, numbered from the first line as 1.
Lines = tuple[list[bytes], list[Row], list[Rejected]]


class Rejects:
    """The file that bad lines are written to as they are, so that they can be corrected and imported."""

    def __init__(self, path: Path, bookmark: Bookmark, header: list[bytes], newline: bytes) -> None:
        self.path, self.bytes, self._header, self._newline = path, bookmark.rejects_bytes, header, newline
        size = path.stat().st_size if path.exists() else 0
        # only a step that was not finished leaves more than the bookmark knows of
        is_own = size == self.bytes or (size > self.bytes and not bookmark.is_done)
        if bookmark.rejects == str(path) and is_own:
            return
        if size:
            raise self._other_content()
        # the bookmark names the file before its first byte is written, so that a later run knows it as its own
        _store([], bookmark, {"rejects": str(path), "rejects_bytes": 0})
        self.bytes = 0

    def add(self, lines: Iterable[bytes]) -> None:
        """Write lines so that they outlast a power cut, over what an unfinished step has left of them.

        Raises ImportFailed where anything else is there, such as lines that were mended meanwhile.
        """
        content = b"".join(lines if self.bytes else chain(self._header, lines))
        if not content.endswith(self._newline):  # the source ends here, but may grow
            content += self._newline
        with self.path.open("a+b") as file:
            file.seek(self.bytes)
            if not content.startswith(file.read()):
                raise self._other_content()
            file.truncate(self.bytes)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            self.bytes = file.seek(0, os.SEEK_END)

    def _other_content(self) -> ImportFailed:
        return ImportFailed(f"{self.path} holds something else than rejects of this import; choose another file.")


def bookmark_of(source: str, *, restart: bool) -> Bookmark:
    """Return the bookmark of a source, made where it is missing; with ``restart`` a new one that is at the start."""
    if restart:
        Bookmark.objects.filter(source=source).delete()
    return Bookmark.objects.get_or_create(source=source)[0]


def steps(reader: Format, bookmark: Bookmark, rejects: Path | None) -> Iterator[Step]:
    """Import what follows the bookmark; each step is one transaction, which moves the bookmark too.

    The first step yielded stands for what was imported before. A finished import is forgotten where the source begins
    with another line than it did, but not where it has none. Without ``rejects`` the first bad line ends the import,
    and all lines before it are stored. Raises ImportFailed, and OtherLines where the source doesn't begin with the
    lines imported before.
    """
    first = list(islice(reader.source, 1))
    reader.source = chain(first, reader.source)
    head = _digest(reader.header + first).hexdigest()
    unended = _digest([*reader.header, *(_without_end(line, reader.encoding) for line in first)]).hexdigest()
    if bookmark.is_done and not first:  # what empties a file may be about to write it anew
        yield Step(bookmark.lines, 0, [])
        return
    if bookmark.is_done and bookmark.head not in {head, unended}:
        _begin_anew(bookmark)
    digest, number = _digest(reader.header), len(reader.header)
    if bookmark.lines:
        number = _skip(reader, bookmark, digest, number)
    kept = None
    if rejects is not None:
        header, newline = [mark_of(reader.encoding), *reader.header], "\n".encode(reader.encoding)
        kept = Rejects(rejects, bookmark, header, newline)
    yield Step(number, 0, [])
    for taken, rows, rejected in _read(reader, stop=kept is None):
        rejected = [each._replace(number=number + each.number) for each in rejected]
        if rejected and kept is None:
            taken = taken[: rejected[0].number - number - 1]
        digest.update(b"".join(taken))
        number += len(taken)
        changes: dict[str, Any] = {"lines": number, "digest": digest.hexdigest(), "head": head}
        changes |= {"events": bookmark.events + len(rows), "is_done": False}
        if kept and rejected:
            kept.add(chain.from_iterable(each.lines for each in rejected))
            changes |= {"rejected": bookmark.rejected + len(rejected), "rejects_bytes": kept.bytes}
        if rows or kept or (taken and not bookmark.was):  # blank lines alone don't make it another source
            _store(rows, bookmark, changes)
        if rejected and kept is None:
            raise ImportFailed(f"Line {rejected[0].number}: {rejected[0].reason} The lines before it are imported.")
        yield Step(number, len(rows), rejected)
    Bookmark.objects.filter(pk=bookmark.pk).update(is_done=True)


def _digest(lines: list[bytes]) -> hashlib.blake2b:
    return hashlib.blake2b(b"".join(lines), digest_size=32)


def _begin_anew(bookmark: Bookmark) -> None:
    """Begin at the start, which is stored with the first step: what stores nothing leaves the old source known."""
    bookmark.was = bookmark.lines, bookmark.digest
    unread = Bookmark()
    for name in _OF_SOURCE:
        setattr(bookmark, name, getattr(unread, name))


def _without_end(line: bytes, encoding: str) -> bytes:
    return line.removesuffix("\n".encode(encoding)).removesuffix("\r".encode(encoding))


def _skip(reader: Format, bookmark: Bookmark, digest: hashlib.blake2b, number: int) -> int:
    last = b""
    while number < bookmark.lines:
        skipped = list(islice(reader.source, min(_STEP_LINES["postgresql"], bookmark.lines - number)))
        if not skipped:
            break
        digest.update(b"".join([last, *skipped[:-1]]))
        last = skipped[-1]
        number += len(skipped)
    unended = digest.copy()
    unended.update(_without_end(last, reader.encoding))  # the source ended with it, and has grown since
    digest.update(last)
    if number != bookmark.lines or bookmark.digest not in {digest.hexdigest(), unended.hexdigest()}:
        raise OtherLines(f"It doesn't begin with the {bookmark.lines} lines that were imported before.")
    return number


def _read(reader: Format, *, stop: bool) -> Iterator[Lines]:
    """Yield the lines of each step."""
    while lines := reader.take(choose(**_STEP_LINES)):
        yield lines, *_decoded(reader, lines, stop)


def _decoded(reader: Format, lines: list[bytes], stop: bool) -> tuple[list[Row], list[Rejected]]:
    try:
        return reader.rows(), []
    except decoding.DECODE_ERRORS:
        return _sort_out(reader, lines, stop)


def _sort_out(reader: Format, lines: list[bytes], stop: bool) -> tuple[list[Row], list[Rejected]]:
    rows: list[Row] = []
    rejected: list[Rejected] = []
    number = 1
    for taken, result in reader.records(lines):
        if isinstance(result, str):
            rejected.append(Rejected(number, taken, result))
            if stop:
                break
        elif result:
            rows.append(result)
        number += len(taken)
    return rows, rejected


def _store(rows: list[Row], bookmark: Bookmark, changes: dict[str, Any]) -> None:
    with transaction.atomic():
        lines, digest = bookmark.was or (bookmark.lines, bookmark.digest)
        here = Bookmark.objects.filter(pk=bookmark.pk, lines=lines, digest=digest)
        if not here.update(**{name: getattr(bookmark, name) for name in _OF_SOURCE} | changes):
            raise ImportFailed("Another import of the same source is at work.")
        if rows:
            append.append(rows)
    bookmark.was = None
    for field, value in changes.items():
        setattr(bookmark, field, value)
