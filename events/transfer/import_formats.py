"""Reads the lines of an import as events: NDJSON, or CSV as spreadsheets and exports write it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError

from events.ingest import decoding
from events.log.append import Row
from events.transfer.exporting import COLUMNS

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_NEEDED = f"A header must name {', '.join(COLUMNS[:-1])} and {COLUMNS[-1]}, in any order"
_BLANK = ' \r\n,;\t"'  # a line of nothing but these is an empty line of a spreadsheet
# After a quote that is not closed, all that follows would be taken for a column's name.
_MOST_HEADER_LINES = 20
_MOST_NAMED_CHARACTERS = 200
# The line before the header by which some programs tell Excel the delimiter.
_SEP = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE | re.DOTALL)


class ImportFailed(Exception):
    """The import ended before its source did; the message says why, and what was stored."""


def reader_of(
    lines: Iterator[bytes], file_format: str, encoding: str, *, delimiter: str | None, ignore_extra: bool
) -> Format:
    """Make the reader of lines in a format of ``files.FORMATS``.

    ``delimiter`` and ``ignore_extra`` are for CSV only. Raises ImportFailed where they are given for NDJSON, and where
    the header of a CSV is wrong.
    """
    if file_format.startswith("csv"):
        return CSV(lines, encoding, delimiter=delimiter, ignore_extra=ignore_extra)
    if delimiter or ignore_extra:
        raise ImportFailed("NDJSON has no columns; --delimiter and --ignore-extra are for CSV.")
    return NDJSON(lines, encoding)


class Format(Protocol):
    """Reads lines as events."""

    source: Iterator[bytes]  # the lines that are not taken yet
    encoding: str
    header: list[bytes]

    def take(self, most: int) -> list[bytes]:
        """Take about ``most`` of the next lines, and go on to the end of a record; return the lines."""

    def rows(self) -> list[Row]:
        """Decode the lines that were taken last. Raises one of ``decoding.DECODE_ERRORS`` unless all are events."""

    def records(self, lines: Sequence[bytes]) -> Iterator[tuple[list[bytes], Row | str | None]]:
        """Yield each record's lines, with its event, or the reason why it is none, or None where it is blank."""


class NDJSON:
    """Reads an event a line."""

    def __init__(self, lines: Iterator[bytes], encoding: str) -> None:
        self.header: list[bytes] = []
        self.source, self.encoding, self._lines = lines, encoding, list[bytes]()

    def take(self, most: int) -> list[bytes]:
        """Take the next lines, ``most`` at most; each is a record."""
        self._lines = list(islice(self.source, most))
        return self._lines

    def rows(self) -> list[Row]:
        """Decode the lines that were taken last."""
        if self.encoding == "utf-8":
            return decoding.decode_lines(self._lines)
        return decoding.decode_lines([line.decode(self.encoding).encode() for line in self._lines])

    def records(self, lines: Sequence[bytes]) -> Iterator[tuple[list[bytes], Row | str | None]]:
        """Yield each line with its event, the reason why it is none, or None where it is blank."""
        for line in lines:
            try:
                text = line.decode(self.encoding).encode()
                yield [line], decoding.decode_line(text) if text.strip() else None
            except UnicodeError as error:
                yield [line], _unreadable(error, self.encoding)
            except (ParseError, ValidationError) as error:
                yield [line], _as_text(error.detail)


class CSV:
    """Reads a header that names the four columns, and then an event a record (RFC 4180).

    The columns may be in any order and their names in any case; further columns are left out with ``ignore_extra``, and
    refused otherwise. The delimiter is ``delimiter``, or else the one that a line ``sep=`` before the header names, or
    else the one of ``DELIMITERS`` by which most columns are found. Raises ImportFailed for any other header.
    """

    def __init__(
        self, lines: Iterator[bytes], encoding: str, *, delimiter: str | None = None, ignore_extra: bool = False
    ) -> None:
        self.encoding, self._failed = encoding, False
        self._taken: list[bytes] = []
        self._records: list[list[str]] = []
        header = _read_header(self._texts(lines), delimiter)
        self.header, more = self._taken[: header.lines], self._taken[header.lines :]
        self.source: Iterator[bytes] = chain(more, lines)
        if reason := self._unread(self.header[header.number - 1 :]):
            raise ImportFailed(f"Line {header.number}: {reason}")
        _check_columns(header, ignore_extra=ignore_extra)
        self._delimiter, self._width = header.delimiter, len(header.names)
        self._in_order = itemgetter(*(header.names.index(column) for column in COLUMNS))

    def take(self, most: int) -> list[bytes]:
        """Take the next ``most`` lines, and further ones up to the end of a record."""
        lines = list(islice(self.source, most))
        self._failed = False
        try:
            text = b"".join(lines).decode(self.encoding).replace("\r\n", "\n")
        except UnicodeDecodeError:
            text = "\r"  # leads to the slow way below, which validates each line
        if '"' not in text and "\r" not in text:  # then each record is one line, split at the delimiters
            delimiter = self._delimiter
            self._records = [line.split(delimiter) for line in text.split("\n") if line]
            return lines
        self._taken, self._records = [], []
        reader = self._reader(chain(lines, self.source))
        while len(self._taken) < len(lines):
            try:
                self._records += filter(None, [next(reader)])
            except csv.Error:
                self._failed = True
        return self._taken

    def rows(self) -> list[Row]:
        """Decode the lines that were taken last."""
        if self._failed or any(len(record) != self._width for record in self._records):
            raise ValueError
        return decoding.decode_texts(map(self._in_order, self._records))

    def records(self, lines: Sequence[bytes]) -> Iterator[tuple[list[bytes], Row | str | None]]:
        """Yield each record's lines with its event, the reason why it is none, or None where it is blank."""
        taken = self._taken = []
        reader = self._reader(iter(lines))
        while True:
            start = len(taken)
            try:
                record = next(reader, None)
                result = None if not record else self._validated(record)
            except csv.Error as error:
                record, result = [], f"{error}."
            if record is None:
                return
            yield taken[start:], self._unread(taken[start:]) or result

    def _validated(self, record: list[str]) -> Row | str:
        if len(record) != self._width:
            fields = "1 field" if len(record) == 1 else f"{len(record)} fields"
            return f"{fields} where the header has {self._width}."
        try:
            return decoding.decode_text(dict(zip(COLUMNS, self._in_order(record), strict=True)))
        except ValidationError as error:
            return _as_text(error.detail)

    def _unread(self, lines: list[bytes]) -> str | None:
        try:
            b"".join(lines).decode(self.encoding)
        except UnicodeDecodeError as error:
            return _unreadable(error, self.encoding)
        return None

    def _reader(self, lines: Iterator[bytes]) -> Iterator[list[str]]:
        return csv.reader(self._texts(lines), delimiter=self._delimiter, strict=True)

    def _texts(self, lines: Iterator[bytes]) -> Iterator[str]:
        for line in lines:
            self._taken.append(line)
            try:
                yield line.decode(self.encoding)
            except UnicodeDecodeError:
                self._failed = True
                yield line.decode(self.encoding, "replace")  # the record is refused, but where it ends must be known


def delimiter_of(text: str) -> str:
    """Return the character that separates fields, given as itself or as the word tab. Raises ValueError."""
    delimiter = {"tab": "\t", "\\t": "\t"}.get(text.lower(), text)
    if len(delimiter) != 1 or delimiter.isalnum() or delimiter in '"\r\n\0 ':
        raise ValueError(f"A delimiter is one character such as ; or the word tab, not “{_shown([text])}”.")
    return delimiter


class _Header(NamedTuple):
    number: int  # of its first line
    lines: int  # how many there are up to its end
    delimiter: str
    names: list[str]


def _read_header(texts: Iterator[str], delimiter: str | None) -> _Header:
    """Skip blank lines and ``sep=``, and read the header by the delimiter that finds most of the columns in it.

    Raises ImportFailed where there is no header, or none that can be read.
    """
    for number, text in enumerate(texts, 1):
        if sep := _SEP.fullmatch(text.lstrip()):
            try:
                delimiter = delimiter or delimiter_of(sep[1])
            except ValueError as error:
                raise ImportFailed(f"Line {number}: {error}") from None
        elif text.strip(_BLANK):
            break
    else:
        raise ImportFailed(f"There is no header. {_NEEDED}.")
    seen = [text]
    found = []
    for each in [delimiter] if delimiter else DELIMITERS:
        reader = csv.reader(_again(seen, texts), delimiter=each, strict=True)
        try:
            names = [name.strip().lower() for name in next(reader)]
        except csv.Error as error:
            reason = error
        else:
            found.append(_Header(number, number - 1 + reader.line_num, each, names))
    if not found:
        raise ImportFailed(f"Line {number}: {reason}.")
    return max(found, key=lambda header: (len({*header.names} & {*COLUMNS}), len(header.names)))


def _again(seen: list[str], texts: Iterator[str]) -> Iterator[str]:
    yield from seen
    for text in islice(texts, max(_MOST_HEADER_LINES - len(seen), 0)):
        seen.append(text)
        yield text


def _check_columns(header: _Header, *, ignore_extra: bool) -> None:
    names = header.names
    separator = DELIMITERS.get(header.delimiter, f"“{_shown([header.delimiter])}”")
    found = f"Line {header.number}, the header, names {_shown(names)} (separated by {separator})"
    missing = [column for column in COLUMNS if column not in names]
    if missing and "\0" in names[0]:
        wide = "utf-16-be" if names[0].startswith("\0") else "utf-16-le"
        raise ImportFailed(f"{found}. It looks like UTF-16: tell it by --encoding {wide}.")
    if missing:
        separators = ", ".join(DELIMITERS.values())
        raise ImportFailed(
            f"{found} and not {', '.join(missing)}. {_NEEDED}, separated by {separators} or the --delimiter."
        )
    if twice := [column for column in COLUMNS if names.count(column) > 1]:
        raise ImportFailed(f"{found}: {', '.join(twice)} more than once.")
    extra = [name for name in names if name not in COLUMNS]
    if extra and not ignore_extra:
        raise ImportFailed(f"{found}; --ignore-extra imports it without {_shown(extra)}.")


def _shown(names: Iterable[str]) -> str:
    """Join names to one line, with escapes for what can't be printed, and cut off where it gets too long."""
    text = ", ".join(names)
    shown = "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text[:_MOST_NAMED_CHARACTERS]
    )
    return shown + ("…" if len(text) > _MOST_NAMED_CHARACTERS else "")


def _unreadable(error: UnicodeError, encoding: str) -> str:
    where = f" from its byte {error.start + 1} on" if isinstance(error, UnicodeDecodeError) else ""
    other = "cp1252" if encoding == "utf-8" else "utf-8"
    return f"It is not {encoding.upper()}{where}: tell its encoding by --encoding, such as {other}."


def _as_text(detail: Any) -> str:
    """Write what is wrong on one line: ``value: A valid number is required.``"""
    if isinstance(detail, dict):
        return " ".join(f"{field}: {_as_text(each)}" for field, each in detail.items())
    if isinstance(detail, list):
        return " ".join(map(_as_text, detail))
    text = str(detail) if isinstance(detail, ErrorDetail) else f"{detail}"
    return text if text.endswith(".") else f"{text}."
