"""Files and pipes of events: which format they are in, and how they are opened."""

from __future__ import annotations

import codecs
import gzip
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

FORMATS = ("csv", "csv.gz", "ndjson", "ndjson.gz")
PIPE = "-"

_BUFFER_BYTES = 1 << 20
# In a wide encoding that the file is not in, all of it is one line.
_MOST_LINE_BYTES = 1 << 24
_GZIP_LEVEL = 2  # a tenth to a quarter larger than the best, and many times as fast
_UTF_8 = "utf-8"
_MARKS = {
    "utf-32-le": codecs.BOM_UTF32_LE,  # before the one that it begins with
    "utf-32-be": codecs.BOM_UTF32_BE,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    _UTF_8: codecs.BOM_UTF8,
}
# What is meant by those that a mark should tell more of: what Windows writes.
_WITHOUT_MARK = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}


def format_of(path: str, given: str | None) -> str:
    """The format that was given or else the one of the suffix; of a pipe, NDJSON. Raises ValueError."""
    suffixes = (each for each in FORMATS if path.lower().endswith(f".{each}"))
    found = given or ("ndjson" if path == PIPE else next(suffixes, None))
    if found is None:
        raise ValueError(f"The format must be told by --format or a suffix: {', '.join(FORMATS)}.")
    return found


def encoding_named(text: str) -> str:
    """Python's own name of a text encoding (library reference, codecs, "Standard Encodings"). Raises ValueError."""
    if not _is_encoding(text):
        raise ValueError(f"“{text}” is no encoding that Python knows; utf-8, cp1252 and utf-16 are some.")
    return codecs.lookup(text).name.removesuffix("-sig")


def _is_encoding(name: str) -> bool:
    try:
        return bool("\n".encode(name))
    except (LookupError, ValueError):  # unknown, or a codec of something else than text, such as zip
        return False


def mark_of(encoding: str) -> bytes:
    """The byte order mark by which an encoding of Unicode is known again; none of UTF-8, which needs no mark."""
    return b"" if encoding == _UTF_8 else _MARKS.get(encoding, b"")


class Source(NamedTuple):
    """Unpacked lines after any byte order mark, their encoding, and the file, which tells how much of it was read."""

    lines: Iterator[bytes]
    encoding: str
    file: BinaryIO


@contextmanager
def reading(path: str, form: str, encoding: str | None = None) -> Iterator[Source]:
    """Open a file; without an encoding it has the one of its byte order mark, else UTF-8.

    Raises ValueError where the mark is that of another encoding.
    """
    with (
        open(sys.stdin.fileno() if path == PIPE else path, "rb", _BUFFER_BYTES, closefd=path != PIPE) as file,
        io.BufferedReader(
            cast(io.RawIOBase, gzip.open(file) if form.endswith(".gz") else file), _BUFFER_BYTES
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
    """Lines as they are where a newline has several bytes, or is another."""
    rest, width = b"", len(newline)
    while piece := file.read(_BUFFER_BYTES):
        start, at, rest = 0, len(rest) - len(rest) % width, rest + piece
        while (at := rest.find(newline, at)) >= 0:
            if at % width:  # bytes of two characters
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
def writing(path: str, form: str) -> Iterator[BinaryIO]:
    """Takes bytes; a file has its name once it is whole, and not where the block raises."""
    if path == PIPE or (Path(path).exists() and not Path(path).is_file()):
        target = sys.stdout.fileno() if path == PIPE else path
        with open(target, "wb", _BUFFER_BYTES, closefd=path != PIPE) as pipe, _packed(pipe, form) as packed:
            yield packed
        return
    draft = Path(f"{path}.part")
    try:
        with draft.open("wb", _BUFFER_BYTES) as file, _packed(file, form) as packed:
            yield packed
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _packed(file: BinaryIO, form: str) -> Iterator[BinaryIO]:
    if not form.endswith(".gz"):
        yield file
        return
    with (
        gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packing,
        io.BufferedWriter(cast(io.RawIOBase, packing), _BUFFER_BYTES) as packed,
    ):
        yield packed
