"""Writes and reads events as Parquet, and tells whether what is read is what was written.

pyarrow is imported where it is needed, as most installations archive nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from math import fsum
from typing import Any, BinaryIO, NamedTuple

from events.archive.store import INSTALL, ArchiveAwayError, ArchiveError

# Measured on several kinds of data: docs/decisions/13-archive.md. Names repeat in every row, so they are numbers.
_ENCODINGS = {"timestamp": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"}
_OPTIONS = {
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": ["namespace", "name"],
    "column_encoding": _ENCODINGS,
    "write_statistics": ["timestamp"],  # by which readers skip what lies outside of a window
    "write_page_checksum": True,  # or most bytes that a disk has changed would be read as other values
    "store_schema": False,  # saves a third of a small file, and the types are told without it
}


class Stretch(NamedTuple):
    """Some events of a series: their timestamps in microseconds since 1970, and their values."""

    microseconds: Sequence[int]
    values: Sequence[float]


class Content:
    """What was written to a file, or read from it: the number of events, their sum, and a digest of every bit."""

    def __init__(self) -> None:
        self.events = 0
        self._sums: list[float] = []
        self._digest = blake2b(digest_size=16)

    def add(self, stretch: Stretch) -> None:
        """Add the events that follow."""
        self.events += len(stretch.values)
        self._sums.append(_sum(stretch.values))
        self._digest.update(array("q", stretch.microseconds).tobytes())
        self._digest.update(array("d", stretch.values).tobytes())

    @property
    def sum(self) -> float | None:
        """The sum of the values; None where no double holds it."""
        total = _sum(self._sums)
        return total if abs(total) < float("inf") else None

    def differs_from(self, other: Content) -> str | None:
        """Say how it differs; None where it doesn't."""
        for what, of_this, of_other in (("events", self.events, other.events), ("as sum", self.sum, other.sum)):
            if of_this != of_other:
                return f"{of_this} {what} and not {of_other}"
        return None if self._digest.digest() == other._digest.digest() else "other events of the same number and sum"


class Writer:
    """Writes the events of one series."""

    def __init__(self, file: BinaryIO, namespace: str, name: str) -> None:
        self._pyarrow = _pyarrow()
        self._names = (namespace, name)
        instant = self._pyarrow.timestamp("us", tz="UTC")
        types = {"namespace": "string", "name": "string", "timestamp": instant, "value": "double"}
        self._schema = self._pyarrow.schema(
            [self._pyarrow.field(column, each, nullable=False) for column, each in types.items()]
        )
        self.content = Content()
        self._writer = self._pyarrow.parquet.ParquetWriter(file, self._schema, **_OPTIONS)

    def write(self, stretch: Stretch) -> None:
        """Write the events that follow."""
        pyarrow = self._pyarrow
        count = len(stretch.values)
        columns = [
            *(pyarrow.repeat(pyarrow.scalar(text, "string"), count) for text in self._names),
            pyarrow.array(stretch.microseconds, "int64").cast(self._schema.field("timestamp").type),
            pyarrow.array(stretch.values, "double"),
        ]
        self._writer.write_table(pyarrow.table(columns, schema=self._schema))
        self.content.add(stretch)

    def close(self) -> None:
        """Write the end of the file."""
        self._writer.close()


def read(file: BinaryIO, path: str) -> Iterator[Stretch]:
    """Yield the events of a file with one series, some thousand at a time.

    Raises ArchiveError, which names the path, where the file is damaged.
    """
    for _, _, stretch in _read(file, ["timestamp", "value"], f"{path}: "):
        yield stretch


def read_named(file: BinaryIO) -> Iterator[tuple[Sequence[str], Sequence[str], Stretch]]:
    """Yield the namespaces, the names and the events of a file. Raises ArchiveError where it is none of an archive."""
    return _read(file, ["namespace", "name", "timestamp", "value"])


def _read(
    file: BinaryIO, columns: Sequence[str], named: str = ""
) -> Iterator[tuple[Sequence[str], Sequence[str], Stretch]]:
    pyarrow = _pyarrow()
    try:
        parquet = pyarrow.parquet.ParquetFile(file, page_checksum_verification=True)
        for number in range(parquet.num_row_groups):
            table = parquet.read_row_group(number, columns=columns)
            instants = table["timestamp"].cast(pyarrow.timestamp("us", tz="UTC")).cast("int64")
            names = [table[column].to_pylist() for column in columns[:-2]] or [[], []]
            yield names[0], names[1], Stretch(instants.to_pylist(), table["value"].cast("double").to_pylist())
    except (pyarrow.ArrowException, KeyError, OSError, ValueError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # it is the disk's; what pyarrow can't make out it tells as an OSError without a number
        reason = str(error).partition("\n")[0]
        raise ArchiveError(f"{named}No file of an archive, or a damaged one: {reason}") from error


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ArchiveAwayError(f"pyarrow is missing; {INSTALL}", is_wrong=True) from None
    return pyarrow


def check() -> None:
    """Raise ArchiveAwayError where the library is missing."""
    _pyarrow()


def _sum(values: Sequence[float]) -> float:
    try:
        return fsum(values)
    except (OverflowError, ValueError):  # of doubles that are large, or of their sums
        return float("inf")
