"""Owns the parsers, one for each media type, which turn a request's body into events."""

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

from events.http.exceptions import RequestTooLarge
from events.ingest.decoding import Batch, decode_form, decode_json, decode_ndjson, load_json
from events.ingest.unpacking import read_body

Context = Mapping[str, Any] | None
_MOST_DOCUMENT_BYTES = 250_000


class EventParser(parsers.BaseParser):
    """Reads a body and hands it to ``decode``, so that ``request.data`` is a Batch of valid events."""

    # Other media types that senders use for the same content.
    also: frozenset[str] = frozenset()

    @override
    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Context = None) -> Any:
        """Read the events as a Batch. Raises what ``read_body`` and ``decode`` raise."""
        context = parser_context or {}
        body = read_body(stream, context["request"].META).removeprefix(BOM_UTF8)
        return self.decode(body, media_type, context)

    def decode(self, body: bytes, media_type: str | None, context: Mapping[str, Any]) -> Batch:
        """Decode the events of a body. Raises ParseError, ValidationError or RequestTooLarge."""
        raise NotImplementedError

    def decode_nothing(self) -> Batch:
        """Validate a request without a body, for which REST framework calls no parser. Raises ValidationError."""
        return decode_json(b"{}")


class EventJSONParser(EventParser):
    """An event or an array of events, in JSON."""

    media_type = "application/json"
    # The type that fetch and Postman give to a text. A page of another site may send it without asking first, but not
    # with the token that is needed.
    also = frozenset({"text/plain"})

    @override
    def decode(self, body: bytes, media_type: str | None, context: Mapping[str, Any]) -> Batch:
        return decode_json(body)


class EventNDJSONParser(EventParser):
    """Events in JSON, one a line."""

    media_type = "application/x-ndjson"
    also = frozenset({"application/ndjson", "application/jsonl", "application/x-jsonlines", "application/jsonlines"})

    @override
    def decode(self, body: bytes, media_type: str | None, context: Mapping[str, Any]) -> Batch:
        return decode_ndjson(body)

    @override
    def decode_nothing(self) -> Batch:
        """Accept no events, as an empty array of JSON is accepted."""
        return decode_ndjson(b"")


class EventFormParser(EventParser):
    """An event as a URL-encoded form in UTF-8."""

    media_type = "application/x-www-form-urlencoded"

    @override
    def decode(self, body: bytes, media_type: str | None, context: Mapping[str, Any]) -> Batch:
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
        if not body.rstrip().endswith(b"--"):
            raise ParseError("The multipart form ends before its closing boundary.")
        # Django replaces what it can't decode. Latin-1 decodes every byte, so the bytes can be restored and checked.
        try:
            parsed = parsers.MultiPartParser().parse(BytesIO(body), media_type, {**context, "encoding": "latin-1"})
        except TypeError:  # Python's, where a parameter of a part's header comes with and without a number
            raise ParseError("A header of the multipart form can't be read.") from None
        fields = QueryDict(mutable=True)
        try:
            for key, values in parsed.data.lists():
                fields.setlist(_utf8(key), [_utf8(value) for value in values])
        except UnicodeError:
            raise ParseError("The form is not UTF-8.") from None
        fields.update(parsed.files)  # no field takes a file, so the serializer refuses it
        return decode_form(fields)


class DocumentParser(parsers.BaseParser):
    """Reads a body of JSON that is about anything but events, packed or not, and gives it as it is."""

    media_type = "application/json"

    @override
    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Context = None) -> Any:
        """Read the document. Raises ParseError, RequestTooLarge and UnsupportedMediaType."""
        body = read_body(stream, (parser_context or {})["request"].META).removeprefix(BOM_UTF8)
        if len(body) > _MOST_DOCUMENT_BYTES:
            raise RequestTooLarge(f"The body has more than the {_MOST_DOCUMENT_BYTES} bytes allowed here.")
        return load_json(body)


def _utf8(latin: str) -> str:
    return latin.encode("latin-1").decode()
