"""Turns bodies into events: decodes and validates them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from io import BytesIO
from itertools import islice, starmap
from math import isfinite, nan
from typing import Annotated, Any

import msgspec
from django.conf import settings
from django.core.exceptions import ValidationError as DjangoValidationError
from django.core.validators import ProhibitNullCharactersValidator
from django.http import QueryDict
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.serializers import as_serializer_error

from events.calendar import timestamps
from events.fields import NUMBER_TEXT
from events.http.exceptions import MOST_ITEMS_NAMED, RequestTooLarge
from events.log.append import Row
from events.log.models import validate_path_segment
from events.serializers import EventSerializer, JSONObject

MOST_TEXT_CHARACTERS = 255


@dataclass(frozen=True)
class Batch:
    """The valid events of one request; ``single`` where the body was one event by itself, not an array of events."""

    rows: Sequence[Row]
    single: bool = False

    def answer(self) -> dict[str, Any]:
        """Return what the client is told once the events are stored: the event itself, or how many were accepted."""
        if not self.single:
            return {"accepted": len(self.rows)}
        [row] = self.rows
        timestamp = timestamps.to_text(timestamps.from_microseconds(row.microseconds))
        return {"namespace": row.namespace, "name": row.name, "timestamp": timestamp, "value": row.value}

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal, of the events in their order, however they were written down."""
        return hashlib.sha256(msgspec.msgpack.encode((self.single, self.rows))).hexdigest()


# The fast decoder. It accepts a part of what the serializer accepts, and makes the same rows of it. Whatever it refuses
# is validated again by the serializer, which accepts it or finds the words for the error.

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_TEXT_CHARACTERS)]


class _Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    namespace: _Text
    name: _Text
    timestamp: datetime | int | float
    value: float


class _WrittenEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    namespace: _Text
    name: _Text
    timestamp: msgspec.Raw
    value: float


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_events = msgspec.json.Decoder(list[_Event]).decode
# These decoders keep a timestamp as it is written, for rounding by digits that a double doesn't keep.
_decode_written_event = msgspec.json.Decoder(_WrittenEvent).decode
_decode_written_events = msgspec.json.Decoder(list[_WrittenEvent]).decode
_decode_timestamp = msgspec.json.Decoder(datetime | int | float).decode
_prohibit_null = ProhibitNullCharactersValidator()


@lru_cache(maxsize=10_000)
def _check_segment(text: str) -> None:
    _prohibit_null(text)
    validate_path_segment(text)


def _row(event: _Event) -> Row:
    _check_segment(event.namespace)
    _check_segment(event.name)
    timestamp = event.timestamp
    if isinstance(timestamp, datetime):
        microseconds = timestamps.microseconds_of(timestamp)
    elif isinstance(timestamp, float):
        microseconds = timestamps.microseconds_of_double(timestamp)
    else:
        microseconds = timestamps.microseconds_of_unix(timestamp)
    # Row(…) would take twice as long
    return tuple.__new__(Row, (event.namespace, event.name, microseconds, event.value))


def _row_of_written(event: _WrittenEvent) -> Row:
    written = bytes(event.timestamp)
    timestamp = _decode_timestamp(written)
    if not isinstance(timestamp, float):
        return _row(_Event(event.namespace, event.name, timestamp, event.value))
    _check_segment(event.namespace)
    _check_segment(event.name)
    try:
        microseconds = timestamps.microseconds_of_double(timestamp)
    except timestamps.DigitsNeeded:
        microseconds = timestamps.microseconds_of_unix(Decimal(written.decode()))
    return Row(event.namespace, event.name, microseconds, event.value)


def _row_of_object(body: bytes) -> Row:
    event = _decode_event(body)
    _check_keys(body, _COMMAS_WITHIN)
    try:
        return _row(event)
    except timestamps.DigitsNeeded:
        return _row_of_written(_decode_written_event(body))


def _rows_of_lines(lines: Sequence[bytes], body: bytes) -> list[Row]:
    """Decode each line as an event; ``body`` is all lines together."""
    try:
        rows = [_row(_decode_event(line)) for line in lines]
    except timestamps.DigitsNeeded:
        rows = [_row_of_written(_decode_written_event(line)) for line in lines]
    _check_keys(body, _COMMAS_WITHIN * len(rows))
    return rows


def _rows_of_array(body: bytes) -> list[Row]:
    events = _decode_events(body)
    _check_count(len(events))
    if events:
        _check_keys(body, (_COMMAS_WITHIN + 1) * len(events) - 1)
    try:
        return list(map(_row, events))
    except timestamps.DigitsNeeded:
        return list(map(_row_of_written, _decode_written_events(body)))


# What the fast decoder raises where the serializer must decide.
DECODE_ERRORS = (ValueError, RecursionError, msgspec.MsgspecError, DjangoValidationError)
# The commas between the four members of an event in JSON; it has fewer only where it lacks a key.
_COMMAS_WITHIN = 3
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # a string that isn't closed goes to the end


def _check_keys(body: bytes, commas: int) -> None:
    """Raise ValueError where an event has a key twice, as the decoder would keep the last one and say nothing.

    ``body`` is what the decoder took, and ``commas`` is how many commas its events have with each key once. An event
    has all of the four keys, no others, and no value that holds values. So each repeated key adds one comma outside of
    texts, and nothing takes any away; commas in texts can only make the body's number larger.
    """
    if body.count(b",") != commas and _STRING.sub(b"", body).count(b",") != commas:
        raise ValueError


def decode_json(body: bytes) -> Batch:
    """Decode one event, or an array of events.

    Raises ParseError, ValidationError, or RequestTooLarge past ``MAX_EVENTS``.
    """
    try:
        if body[:1] != b"{" and body[:64].lstrip()[:1] == b"[":
            return Batch(_rows_of_array(body))
        return Batch([_row_of_object(body)], single=True)
    except DECODE_ERRORS:
        _check_structure(body)
        data = load_json(body)
    if not isinstance(data, list):
        return Batch([_validate(EventSerializer(data={}), data)], single=True)
    _check_count(len(data))
    return Batch(_validate_all(data))


def decode_ndjson(body: bytes) -> Batch:
    """Decode one event a line; blank lines don't count.

    Raises ValidationError, or RequestTooLarge past ``MAX_EVENTS``.
    """
    all_lines = (line.rstrip(b"\n") for line in BytesIO(body) if not line.isspace())
    lines = list(islice(all_lines, settings.MAX_EVENTS))
    _check_count(len(lines) + sum(1 for _ in all_lines))
    try:
        return Batch(_rows_of_lines(lines, body))
    except DECODE_ERRORS:
        _check_structure(body)
        return Batch(_validate_all(map(_load_line, lines)))


def decode_form(fields: QueryDict) -> Batch:
    """Decode the one event of a form. Raises ValidationError."""
    return Batch([_validate(EventSerializer(data=fields), fields)], single=True)


# The decoders of imports, where an event is a line or a record of text: fast for many at once, or one by one with a
# reason for each error.


def decode_lines(lines: Iterable[bytes]) -> list[Row]:
    """Decode an event a line of JSON; blank lines are left out.

    Raises one of ``DECODE_ERRORS`` where a line must be decoded by ``decode_line``, which may still accept it.
    """
    lines = [line for line in lines if not line.isspace()]
    return _rows_of_lines(lines, b"".join(lines))


def decode_line(line: bytes) -> Row:
    """Decode the event of one line of JSON. Raises ParseError or ValidationError."""
    try:
        return _row_of_object(line)
    except DECODE_ERRORS:
        return _validate(EventSerializer(data={}), load_json(line))


def decode_texts(records: Iterable[tuple[str, str, str, str]]) -> list[Row]:
    """Decode an event a record, where each field is text as in a form.

    Raises one of ``DECODE_ERRORS`` where a record must be decoded by ``decode_text``, which may still accept it.
    """
    return list(starmap(_row_of_texts, records))


def decode_text(record: Mapping[str, str]) -> Row:
    """Decode the event of one record of text. Raises ValidationError."""
    fields = QueryDict(mutable=True)
    fields.update(dict(record))
    return decode_form(fields).rows[0]


_SURROGATE = re.compile("[\ud800-\udfff]")


@lru_cache(maxsize=10_000)
def _check_text(text: str) -> None:
    if not 0 < len(text) <= MOST_TEXT_CHARACTERS or _SURROGATE.search(text):
        raise ValueError
    _check_segment(text)


def _row_of_texts(namespace: str, name: str, timestamp: str, value: str) -> Row:
    _check_text(namespace)
    _check_text(name)
    try:
        instant = msgspec.convert(timestamp, datetime)
    except msgspec.ValidationError:
        instant = timestamps.from_text(timestamp)
    number = float(value) if NUMBER_TEXT.fullmatch(value) else nan
    if not isfinite(number):
        raise ValueError
    return tuple.__new__(Row, (namespace, name, timestamps.microseconds_of(instant), number))


# The slow decoder, which explains what is wrong.


# A comma follows each of an event's four values but the last, and each event.
_COMMAS_AN_EVENT = 4
_COMMAS_MORE = 1_000


def _check_structure(body: bytes) -> None:
    """Refuse a body with more values than MAX_EVENTS events have, as reading it would take 25 times its memory.

    Raises RequestTooLarge.
    """
    most = _COMMAS_AN_EVENT * settings.MAX_EVENTS + _COMMAS_MORE
    if body.count(b",") <= most:
        return
    outside = end = 0
    for text in _STRING.finditer(body):
        outside += body.count(b",", end, text.start())
        end = text.end()
        if outside > most:
            break
    if outside + body.count(b",", end) > most:
        raise RequestTooLarge(f"The request has more values than {settings.MAX_EVENTS} events; no more are allowed.")


def load_json(body: bytes) -> Any:
    """Decode JSON; floats know how they are written, objects which keys they have twice. Raises ParseError."""
    try:
        return json.loads(
            body.decode(), parse_float=timestamps.WrittenFloat, parse_constant=_refuse_constant,
            object_pairs_hook=JSONObject.of_pairs,
        )  # fmt: skip
    except UnicodeDecodeError as error:
        raise ParseError(f"The body is not UTF-8: {error.reason} at byte {error.start}.") from None
    except ValueError as error:
        # Python's own message on a long number names a setting of Python, which is nothing to a client
        reason = "number too long" if "set_int_max_str_digits" in str(error) else error
        raise ParseError(f"JSON parse error - {reason}") from None
    except RecursionError:
        raise ParseError("JSON parse error - nested too deeply") from None


def _load_line(line: bytes) -> Any:
    try:
        return load_json(line)
    except ParseError as error:
        return error


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _validate(serializer: EventSerializer, item: Any) -> Row:
    try:
        event = serializer.run_validation(item)
    except ValidationError as error:
        raise ValidationError(as_serializer_error(error)) from None
    microseconds = timestamps.microseconds_of(event["timestamp"])
    return Row(event["namespace"], event["name"], microseconds, event["value"])


def _validate_all(items: Iterable[Any]) -> list[Row]:
    serializer = EventSerializer(data={})
    rows: list[Row] = []
    errors: dict[str, Any] = {}
    for index, item in enumerate(items):
        try:
            if isinstance(item, ParseError):
                errors[str(index)] = {"detail": item.detail}
            else:
                rows.append(_validate(serializer, item))
        except ValidationError as error:
            errors[str(index)] = error.detail
        if len(errors) == MOST_ITEMS_NAMED:
            break
    if errors:
        raise ValidationError(errors)
    return rows


def _check_count(count: int) -> None:
    if count > settings.MAX_EVENTS:
        raise RequestTooLarge(f"The request has {count} events; {settings.MAX_EVENTS} are allowed.")
