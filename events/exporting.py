"""The log of events as CSV or NDJSON, in the order that they came."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec
from django.db import connection, models
from django.db.models import F, Func, Value
from django.db.models.functions import Cast

from events.models import EventQuerySet

COLUMNS = ("namespace", "name", "timestamp", "value")

_LINES_AT_A_TIME = 1_000
_JSON = '{"namespace":%s,"name":%s,"timestamp":"%s","value":%s}'
# One column that is never quoted, as JSON holds neither of these characters.
_AS_LINES = "FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02'"


class _Text(Func):
    output_field = models.TextField()


class _Counted:
    """A file that says how many lines were written to it, which on PostgreSQL come one by one."""

    def __init__(self, file: BinaryIO, progress: Callable[[int], object]) -> None:
        self._write, self._progress = file.write, progress
        self.lines = 0

    def write(self, line: bytes) -> None:
        """One line."""
        self._write(line)
        self.lines += 1
        if self.lines % _LINES_AT_A_TIME == 0:
            self._progress(_LINES_AT_A_TIME)


def export(events: EventQuerySet, form: str, file: BinaryIO, progress: Callable[[int], object]) -> int:
    """Write the events, and tell ``progress`` of some at a time; gives how many there were.

    Timestamps are written as the API does, values so that they are read as the same doubles. One query, of which a
    few lines are in memory at a time. Within a transaction on PostgreSQL.
    """
    kind = form.removesuffix(".gz")
    if kind == "csv":
        file.write(",".join(COLUMNS).encode() + b"\n")
    counted = _Counted(file, progress)
    if connection.vendor == "postgresql":
        _copy(events.order_by("pk"), kind, counted)
    else:
        for lines in _lines(events.order_by("pk"), kind):
            counted.write(lines)
    return counted.lines


def _copy(events: EventQuerySet, kind: str, file: _Counted) -> None:
    # the fraction only where there is one
    timestamp = _Text(F("timestamp"), Value('YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), function="to_char")
    timestamp = _Text(timestamp, Value(".000000Z"), Value("Z"), function="replace")
    if kind == "csv":
        rows: models.QuerySet[Any, Any] = events.values_list("namespace", "name", timestamp, "value")
    else:
        texts = [_Text(F(each), function="to_json") for each in ("namespace", "name")]
        rows = events.values_list(_Text(Value(_JSON), *texts, timestamp, F("value"), function="format"))
    sql, parameters = rows.query.sql_with_params()
    with connection.cursor() as cursor, connection.wrap_database_errors:
        cursor.execute("SET LOCAL extra_float_digits = 1")  # the default; less would round
        select = cursor.mogrify(sql, parameters).decode()
        cursor.copy_expert(f"COPY ({select}) TO STDOUT ({'FORMAT csv' if kind == 'csv' else _AS_LINES})", file)


def _lines(events: EventQuerySet, kind: str) -> Iterator[bytes]:
    rows = events.values_list("namespace", "name", Cast("timestamp", models.TextField()), "value")
    sql, parameters = rows.query.sql_with_params()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    with connection.chunked_cursor() as cursor:
        cursor.execute(sql, parameters)
        while found := cursor.fetchmany(_LINES_AT_A_TIME):
            for namespace, name, timestamp, value in found:
                instant = f"{timestamp[:10]}T{timestamp[11:]}Z"
                if kind == "csv":
                    writer.writerow((namespace, name, instant, value))
                    yield text.getvalue().encode()
                    text.seek(0)
                    text.truncate()
                else:
                    fields = {"namespace": namespace, "name": name, "timestamp": instant, "value": value}
                    yield msgspec.json.encode(fields) + b"\n"
