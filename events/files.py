"""Files and pipes of events: which format they are in, and how they are opened."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

FORMATS = ("csv", "csv.gz", "ndjson", "ndjson.gz")
PIPE = "-"

_BUFFER_BYTES = 1 << 20
_GZIP_LEVEL = 2  # a tenth to a quarter larger than the best, and many times as fast
_BOM = b"\xef\xbb\xbf"


def format_of(path: str, given: str | None) -> str:
    """The format that was given or else the one of the suffix; of a pipe, NDJSON. Raises ValueError."""
    found = given or ("ndjson" if path == PIPE else next((each for each in FORMATS if path.endswith(f".{each}")), None))
    if found is None:
        raise ValueError(f"The format must be told by --format or a suffix: {', '.join(FORMATS)}.")
    return found


@contextmanager
def reading(path: str, form: str) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The unpacked bytes after any byte order mark, and the file itself, whose position tells how much was read."""
    with (
        open(sys.stdin.fileno() if path == PIPE else path, "rb", _BUFFER_BYTES, closefd=path != PIPE) as file,
        io.BufferedReader(
            cast(io.RawIOBase, gzip.open(file) if form.endswith(".gz") else file), _BUFFER_BYTES
        ) as lines,
    ):
        if lines.peek(len(_BOM)).startswith(_BOM):
            lines.read(len(_BOM))
        yield cast(BinaryIO, lines), file


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
