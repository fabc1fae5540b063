"""Bodies into events: whole, unpacked, and never more than the limit."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any
from urllib.parse import parse_qsl

from django.conf import settings
from django.http import QueryDict
from rest_framework import parsers
from rest_framework.exceptions import ParseError
from typing_extensions import override

from events.ingest.decoding import Batch, decode_form, decode_json, decode_ndjson
from events.ingest.unpacking import read_body

Context = Mapping[str, Any] | None


class EventParser(parsers.BaseParser):
    """Reads a body and leaves it to ``decode``; so ``request.data`` is a Batch of valid events."""

    # Other media types that senders name what it reads.
    also: frozenset[str] = frozenset()

    @override
    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Context = None) -> Any:
        """The events, as a Batch. Raises what ``read_body`` and ``decode`` raise."""
        context = parser_context or {}
        body = read_body(stream, context["request"].META).removeprefix(BOM_UTF8)
        return self.decode(body, media_type, context)

    def decode(self, body: bytes, media_type: str | None, context: Mapping[str, Any]) -> Batch:
        """The events in a body. Raises ParseError, ValidationError or RequestTooLarge."""
        raise NotImplementedError

    def decode_nothing(self) -> Batch:
        """Judge a request without a body, of which REST framework asks no parser. Raises ValidationError."""
        return decode_json(b"{}")


class EventJSONParser(EventParser):
    """An event or an array of events, in JSON."""

    media_type = "application/json"
    # What fetch and Postman name a text. A page elsewhere may send it unasked, but not with the token that it takes.
    also = frozenset({"text/plain"})

    @override
    def decode(self, body: bytes, media_type: str | None, context: Mapping[str, Any]) -> Batch:
        """One event by itself, or as many as there are."""
        return decode_json(body)


class EventNDJSONParser(EventParser):
    """Events in JSON, one a line."""

    media_type = "application/x-ndjson"
    also = frozenset({"application/ndjson", "application/jsonl", "application/x-jsonlines", "application/jsonlines"})

    @override
    def decode(self, body: bytes, media_type: str | None, context: Mapping[str, Any]) -> Batch:
        """As many events as there are lines."""
        return decode_ndjson(body)

    @override
    def decode_nothing(self) -> Batch:
        """No events, as an empty array."""
        return decode_ndjson(b"")


class EventFormParser(EventParser):
    """An event as a URL-encoded form in UTF-8."""

    media_type = "application/x-www-form-urlencoded"

    @override
    def decode(self, body: bytes, media_type: str | None, context: Mapping[str, Any]) -> Batch:
        """One event."""
        most_fields = settings.DATA_UPLOAD_MAX_NUMBER_FIELDS
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=most_fields)
        except UnicodeDecodeError:
            raise ParseError("The form is not UTF-8.") from None
        except ValueError as error:
            raise ParseError(f"Form parse error - {error}") from None
        fields = QueryDict(mutable=True)
        for key, value in pairs:
            fields.appendlist(key, value)
        return decode_form(fields)


class EventMultiPartParser(EventParser):
    """An event as a multipart form in UTF-8."""

    media_type = "multipart/form-data"

    @override
    def decode(self, body: bytes, media_type: str | None, context: Mapping[str, Any]) -> Batch:
        """One event."""
        if not body.rstrip().endswith(b"--"):
            raise ParseError("The multipart form ends before its closing boundary.")
        # Django replaces what it can't decode. Latin-1 decodes every byte, so the bytes can be had back and judged.
        parsed = parsers.MultiPartParser().parse(BytesIO(body), media_type, {**context, "encoding": "latin-1"})
        fields = QueryDict(mutable=True)
        try:
            for key, values in parsed.data.lists():
                fields.setlist(_utf8(key), [_utf8(value) for value in values])
        except UnicodeError:
            raise ParseError("The form is not UTF-8.") from None
        fields.update(parsed.files)  # a file is no value of any field, and is refused as such
        return decode_form(fields)


def _utf8(latin: str) -> str:
    return latin.encode("latin-1").decode()
