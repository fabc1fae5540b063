"""Writes the log of events as CSV or NDJSON, in the order that the events came to each partition."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, cast

import msgspec
from django.db import connection, models
from django.db.models import F, Func, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast
from typing_extensions import override

from events.database import partitions
from events.database.dialect import is_postgresql
from events.log.models import EventQuerySet

COLUMNS = ("namespace", "name", "timestamp", "value")

# Events as they are written, each of the columns; of the timestamps the text.
Records = Sequence[tuple[str, str, str, float]]

_LINES_AT_A_TIME = 1_000
_PIECE_BYTES = 1 << 15
# PostgreSQL takes twice as long to join the parts of a line as to write them side by side. So it writes the JSON of
# each field and one empty column, between separators that JSON never contains. Which characters meet at a separator
# tells which fields it is between.
_JSON_COLUMNS = "FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02'"
_JSON_GAPS = (
    (b"\x02-0\n", b"\x02-0.0\n"),  # an integer has no sign at zero
    (b'"\x02\x02"', b'","timestamp":"'),
    (b'"\x02"', b'","name":"'),
    (b'"\x02', b'Z","value":'),
)


class _Text(Func):
    output_field = models.TextField()


class _Pieces(io.RawIOBase):
    """A file that takes what PostgreSQL sends, and passes it on in whole lines."""

    def __init__(self, file: BinaryIO, kind: str, progress: Callable[[int], object]) -> None:
        self._file, self._progress = file, progress
        self._finish = _json_lines if kind == "ndjson" else bytes
        self._rest = b""

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, piece: Any) -> int:
        """Take a piece; the next one may continue its last line."""
        whole, newline, self._rest = (self._rest + bytes(piece)).rpartition(b"\n")
        if newline:
            self._file.write(self._finish(whole + newline))
            self._progress(whole.count(b"\n") + 1)
        return len(piece)


def _json_lines(lines: bytes) -> bytes:
    for gap, text in _JSON_GAPS:
        lines = lines.replace(gap, text)
    return b'{"namespace":' + lines[:-1].replace(b"\n", b'}\n{"namespace":') + b"}\n"


def export(
    events: EventQuerySet,
    file_format: str,
    file: BinaryIO,
    progress: Callable[[int], object],
    archived: Iterable[Records] = (),
) -> int:
    """Write the archived events, which come some at a time, and then those of the log; return how many there were.

    ``progress`` is called with how many were written since its last call. Timestamps are in UTC with a fraction where
    they have one, and values are written so that the same doubles are read back. One query, of which a few lines are in
    memory at a time. To be called in a transaction on PostgreSQL.
    """
    kind = file_format.removesuffix(".gz")
    if kind == "csv":
        file.write(",".join(COLUMNS).encode() + b"\n")
    count = 0
    for records in archived:
        file.write(_LINES[kind](records))
        progress(len(records))
        count += len(records)
    write = _copy if is_postgresql() else _fetch
    return count + sum(
        write(events.of_partition(partition).order_by("pk"), kind, file, progress) for partition in partitions.every()
    )


def _copy(events: EventQuerySet, kind: str, file: BinaryIO, progress: Callable[[int], object]) -> int:
    timestamp = Func(Value("UTC"), F("timestamp"), function="timezone", output_field=models.DateTimeField())
    if kind == "csv":
        text = _Text(Cast(timestamp, models.TextField()), Value(" "), Value("T"), function="replace")
        columns: list[Combinable] = [F("namespace"), F("name"), _Text(text, Value("Z"), function="concat"), F("value")]
    else:
        namespace, name, instant = (_Text(each, function="to_json") for each in (F("namespace"), F("name"), timestamp))
        columns = [namespace, name, Value(None, models.TextField()), instant, F("value")]
    sql, parameters = events.values_list(*columns).query.sql_with_params()
    with connection.cursor() as cursor, connection.wrap_database_errors:
        # PostgreSQL's defaults, which may be set otherwise: fewer digits would round, and dates have other styles
        cursor.execute("SET LOCAL extra_float_digits = 1; SET LOCAL datestyle = 'ISO'")
        select = cursor.mogrify(sql, parameters).decode()
        with io.BufferedWriter(_Pieces(file, kind, progress), _PIECE_BYTES) as pieces:
            cursor.copy_expert(
                f"COPY ({select}) TO STDOUT ({'FORMAT csv' if kind == 'csv' else _JSON_COLUMNS})", pieces
            )
        return cast(int, cursor.rowcount)


def _fetch(events: EventQuerySet, kind: str, file: BinaryIO, progress: Callable[[int], object]) -> int:
    rows = events.values_list("namespace", "name", Cast("timestamp", models.TextField()), "value")
    sql, parameters = rows.query.sql_with_params()
    count = 0
    with connection.chunked_cursor() as cursor:
        cursor.execute(sql, parameters)
        while found := cursor.fetchmany(_LINES_AT_A_TIME):
            file.write(_LINES[kind]((*names, written_instant(text), value) for *names, text, value in found))
            progress(len(found))
            count += len(found)
    return count


def written_instant(text: str) -> str:
    """Write an instant of UTC, given as “2020-11-12 11:10:00.500000”, as it is exported: ``2020-11-12T11:10:00.5Z``."""
    day, time = text.split(" ")
    return f"{day}T{time.rstrip('0') if '.' in time else time}Z"


def _csv(records: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    # quotes around every name, as Python puts none around a carriage return
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerows(records)
    return text.getvalue().encode()


def _ndjson(records: Iterable[Sequence[Any]]) -> bytes:
    return msgspec.json.Encoder().encode_lines(dict(zip(COLUMNS, record, strict=True)) for record in records)


_LINES = {"csv": _csv, "ndjson": _ndjson}
