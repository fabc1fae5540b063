"""The shapes of bodies and answers, in the terms of OpenAPI (JSON Schema)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from events.ingest import MOST_ITEMS_NAMED

Schema = dict[str, Any]

# `timestamps.from_unix` and `models.validate_path_segment` are the rules that these put into words.

_SEEN = r"[^/\x00]*[^/\x00\s\x1c-\x1f\x85][^/\x00]*"
SEGMENT: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    # not “.” or “..”, and with something besides what Python takes for white space
    "pattern": rf"^(?!\.{{1,2}}$){_SEEN}$",
}
SERIES_KEY: Schema = {
    "type": "string",
    "pattern": rf"^(?=[^/]{{1,255}}/[^/]{{1,255}}$)(?!\.{{1,2}}/){_SEEN}/(?!\.{{1,2}}$){_SEEN}$",
}
_UNIX_TIME: Schema = {
    "anyOf": [
        {"type": "number", "minimum": -62_135_596_800_000, "maximum": -100_000_000_000},
        {"type": "number", "minimum": -62_135_596_800, "maximum": 253_402_300_799_999},
    ],
    "description": "Seconds since 1970, or milliseconds where the size is 1e11 or more.",
}
_TIMESTAMP: Schema = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"$ref": "#/components/schemas/UnixTime"}],
    "description": "ISO 8601, in UTC where it has no offset, or unix time as a number; kept to the microsecond.",
}
_TIMESTAMP_TEXT: Schema = {
    "anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "string", "pattern": r"^(-?[0-9]{1,10}|[0-9]{11,14})(\.[0-9]{1,20})?$"},
    ],
    "description": "The same where everything is text, as in a query; unix time without an exponent.",
}
_VALUE: Schema = {
    "type": "number",
    "description": "A finite double.",
    "minimum": -sys.float_info.max,
    "maximum": sys.float_info.max,
}
_STORED: Schema = {
    "type": "string",
    "format": "date-time",
    "description": "In UTC, with a fraction only where there is one.",
}


def _object(properties: Mapping[str, Schema]) -> Schema:
    """An object with all of these properties and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def ref(name: str) -> Schema:
    """The component of that name."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema) -> Schema:
    """A list of such."""
    return {"type": "array", "items": items}


def components() -> dict[str, Schema]:
    """The schemas that operations refer to."""
    event = {"namespace": SEGMENT, "name": SEGMENT, "timestamp": ref("Timestamp"), "value": _VALUE}
    messages = array({"type": "string"})
    return {
        "Timestamp": _TIMESTAMP,
        "TimestampText": _TIMESTAMP_TEXT,
        "UnixTime": _UNIX_TIME,
        "Event": _object(event),
        "EventForm": _object({**event, "timestamp": ref("TimestampText")}),
        "Events": {**array(ref("Event")), "maxItems": settings.MAX_EVENTS},
        "StoredEvent": _object({**event, "timestamp": _STORED, "value": {"type": "number"}}),
        "Accepted": _object({"accepted": {"type": "integer", "minimum": 0, "maximum": settings.MAX_EVENTS}}),
        "Item": _object({"aggregatedTimestamp": _STORED, "value": {"type": ["number", "null"]}}),
        "Series": _object(
            {
                "namespace": {"type": "string"},
                "name": {"type": "string"},
                "count": {"type": "integer", "minimum": 1},
                "firstTimestamp": _STORED,
                "lastTimestamp": _STORED,
            }
        ),
        "Detail": _object({"detail": {"type": "string"}}),
        "FieldErrors": {
            "type": "object",
            "description": "What is wrong, by field.",
            "minProperties": 1,
            "additionalProperties": messages,
        },
        "BatchErrors": {
            "type": "object",
            "description": f"What is wrong, by the index of the item; the first {MOST_ITEMS_NAMED} of them.",
            "minProperties": 1,
            "patternProperties": {"^[0-9]+$": {"anyOf": [ref("FieldErrors"), ref("Detail")]}},
            "additionalProperties": False,
        },
    }
