"""Opens files and pipes of events, and finds out their format and encoding."""

from __future__ import annotations

import codecs
import gzip
import io
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from events.transfer import archived

FORMATS = ("csv", "csv.gz", "ndjson", "ndjson.gz")
_PARQUET = "parquet"
IMPORT_FORMATS = (*FORMATS, _PARQUET)
PIPE = "-"

_BUFFER_BYTES = 1 << 20
# A file that is read in a wide encoding but written in another has no newline, and would be one line.
_MOST_LINE_BYTES = 1 << 24
_GZIP_LEVEL = 2  # files are a tenth to a quarter larger than at the best level, but packed many times as fast
_UTF_8 = "utf-8"
_MARKS = {
    "utf-32-le": codecs.BOM_UTF32_LE,  # comes before utf-16-le, with whose mark it begins
    "utf-32-be": codecs.BOM_UTF32_BE,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    _UTF_8: codecs.BOM_UTF8,
}
# The byte order of encodings that leave it to a mark, where there is no mark: the one that Windows writes.
_WITHOUT_MARK = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}


def format_of(path: str, given: str | None, formats: Sequence[str] = FORMATS) -> str:
    """Return the given format, or the one of the path's suffix, or NDJSON for a pipe. Raises ValueError."""
    suffixes = (each for each in formats if path.lower().endswith(f".{each}"))
    file_format = given or ("ndjson" if path == PIPE else next(suffixes, None))
    if file_format is None:
        raise ValueError(f"The format must be told by --format or a suffix: {', '.join(formats)}.")
    return file_format


def encoding_named(text: str) -> str:
    """Find Python's own name of a text encoding (library reference, codecs, "Standard Encodings").

    Raises ValueError for an encoding that Python doesn't know.
    """
    if not _is_encoding(text):
        raise ValueError(f"“{text}” is no encoding that Python knows; utf-8, cp1252 and utf-16 are some.")
    return codecs.lookup(text).name.removesuffix("-sig")


def _is_encoding(name: str) -> bool:
    try:
        return bool("\n".encode(name))
    except (LookupError, ValueError):  # unknown, or a codec of something else than text, such as zip
        return False


def mark_of(encoding: str) -> bytes:
    """Return the byte order mark of an encoding of Unicode; empty for others, and for UTF-8, which needs none."""
    return b"" if encoding == _UTF_8 else _MARKS.get(encoding, b"")


class Source(NamedTuple):
    """Unpacked lines after any byte order mark, their encoding, and the file, whose position tells the progress."""

    lines: Iterator[bytes]
    encoding: str
    file: BinaryIO


def standard_input() -> int:
    """Return the number of the file that is standard input. Raises OSError where it is closed."""
    if sys.stdin is None:
        raise OSError("Standard input is closed.")
    return sys.stdin.fileno()


@contextmanager
def reading(path: str, file_format: str, encoding: str | None = None) -> Iterator[Source]:
    """Open a file for reading; where no encoding is given, its byte order mark tells it, or else it is UTF-8.

    A file of an archive is read as the lines of NDJSON that its events would be. Raises ValueError where the mark is
    the one of another encoding than the given.
    """
    if file_format == _PARQUET:
        if path == PIPE:
            raise ValueError("A Parquet file is not read in order, so it can't come from a pipe.")
        if encoding:
            raise ValueError("A Parquet file has no encoding; leave --encoding out.")
        with open(path, "rb") as parquet:
            yield Source(archived.lines_of(parquet), _UTF_8, parquet)
        return
    with (
        open(standard_input() if path == PIPE else path, "rb", _BUFFER_BYTES, closefd=path != PIPE) as file,
        io.BufferedReader(
            cast(io.RawIOBase, gzip.open(file) if file_format.endswith(".gz") else file), _BUFFER_BYTES
        ) as lines,
    ):
        head = lines.peek(max(map(len, _MARKS.values())))
        marked = next((each for each, mark in _MARKS.items() if head.startswith(mark)), None)
        if marked:
            lines.read(len(_MARKS[marked]))
        if marked and not marked.startswith(encoding or marked):
            raise ValueError(f"It begins with the byte order mark of {marked}; leave --encoding out.")
        found = marked or _WITHOUT_MARK.get(encoding or "", encoding) or _UTF_8
        yield Source(_lines(cast(BinaryIO, lines), found), found, file)


def _lines(file: BinaryIO, encoding: str) -> Iterator[bytes]:
    newline = "\n".encode(encoding)
    return iter(file) if newline == b"\n" else _split(file, encoding, newline)


def _split(file: BinaryIO, encoding: str, newline: bytes) -> Iterator[bytes]:
    """Split a file into lines in an encoding whose newline has several bytes, or is not the one of ASCII."""
    rest, width = b"", len(newline)
    while piece := file.read(_BUFFER_BYTES):
        start, at, rest = 0, len(rest) - len(rest) % width, rest + piece
        while (at := rest.find(newline, at)) >= 0:
            if at % width:  # these bytes belong to two characters
                at += 1
                continue
            at += width
            yield rest[start:at]
            start = at
        rest = rest[start:]
        if len(rest) > _MOST_LINE_BYTES:
            raise ValueError(f"It has a line of more than {_MOST_LINE_BYTES} bytes, so it is hardly in {encoding}.")
    if rest:
        yield rest


@contextmanager
def writing(path: str, file_format: str) -> Iterator[BinaryIO]:
    """Open a file for writing bytes; it gets its name once it is whole, and never where the block raises."""
    if path == PIPE or (Path(path).exists() and not Path(path).is_file()):
        target = sys.stdout.fileno() if path == PIPE else path
        with open(target, "wb", _BUFFER_BYTES, closefd=path != PIPE) as pipe, _packed(pipe, file_format) as packed:
            yield packed
        return
    # one of its own, as another export to the same path would give a shared one its name before it is whole
    draft = Path(f"{path}.{secrets.token_hex(4)}.part")
    try:
        with draft.open("xb", _BUFFER_BYTES) as file, _packed(file, file_format) as packed:
            yield packed
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _packed(file: BinaryIO, file_format: str) -> Iterator[BinaryIO]:
    if not file_format.endswith(".gz"):
        yield file
        return
    with (
        gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packing,
        io.BufferedWriter(cast(io.RawIOBase, packing), _BUFFER_BYTES) as packed,
    ):
        yield packed
