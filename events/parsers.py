"""Bodies into data: strictly UTF-8 and never more than the limit, so that what is stored is what was sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any
from urllib.parse import parse_qsl

from django.conf import settings
from django.http import QueryDict
from rest_framework import parsers
from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from events.exceptions import RequestTooLarge

Context = Mapping[str, Any] | None


def read_body(stream: IO[bytes], parser_context: Context) -> bytes:
    """The whole body.

    Raises RequestTooLarge past ``MAX_BODY_BYTES``, without reading on, and ParseError where the body is shorter than
    its ``Content-Length``: the client went away while it sent, and what did arrive may well be valid by itself.
    """
    limit = settings.MAX_BODY_BYTES
    body = stream.read(limit + 1)
    if len(body) > limit:
        raise RequestTooLarge(f"The body is larger than the {limit} bytes allowed.")
    request: Request | None = (parser_context or {}).get("request")
    if request and len(body) < int(request.META.get("CONTENT_LENGTH") or 0):
        raise ParseError("The body ended before its Content-Length.")
    return body


class JSONParser(parsers.BaseParser):
    """JSON in UTF-8, as RFC 8259 has it: without NaN and infinities."""

    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Context = None) -> Any:
        """The decoded value. Raises ParseError, also for nesting too deep to follow."""
        try:
            return json.loads(read_body(stream, parser_context).decode(), parse_constant=_refuse_constant)
        except UnicodeDecodeError as error:
            raise ParseError(f"The body is not UTF-8: {error.reason} at byte {error.start}.") from None
        except ValueError as error:
            raise ParseError(f"JSON parse error - {error}") from None
        except RecursionError:
            raise ParseError("JSON parse error - nested too deeply") from None


class FormParser(parsers.BaseParser):
    """URL-encoded forms in UTF-8."""

    media_type = "application/x-www-form-urlencoded"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Context = None) -> QueryDict:
        """The fields, each with every value it was given. Raises ParseError."""
        limit = settings.DATA_UPLOAD_MAX_NUMBER_FIELDS
        try:
            pairs = parse_qsl(
                read_body(stream, parser_context).decode(),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=limit,
            )
        except UnicodeDecodeError:
            raise ParseError("The form is not UTF-8.") from None
        except ValueError as error:
            raise ParseError(f"Form parse error - {error}") from None
        fields = QueryDict(mutable=True)
        for key, value in pairs:
            fields.appendlist(key, value)
        return fields


class MultiPartParser(parsers.MultiPartParser):
    """Multipart forms in UTF-8."""

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> parsers.DataAndFiles[Any, Any]:
        """The fields and files. Raises ParseError."""
        # Django replaces what it can't decode. Latin-1 decodes every byte, so the bytes can be had back and judged.
        context = {**(parser_context or {}), "encoding": "latin-1"}
        parsed = super().parse(BytesIO(read_body(stream, parser_context)), media_type, context)
        fields = QueryDict(mutable=True)
        try:
            for key, values in parsed.data.lists():
                fields.setlist(key, [value.encode("latin-1").decode() for value in values])
        except UnicodeError:
            raise ParseError("The form is not UTF-8.") from None
        return parsers.DataAndFiles(fields, parsed.files)


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
