"""Describes the shapes of bodies and answers as JSON Schema, in OpenAPI's terms."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import Direction, extend_schema_field
from rest_framework.serializers import ChoiceField
from typing_extensions import override

from events import fields, serializers
from events.aggregation.question import AGGREGATION_TYPES, PERCENTILE
from events.alerts.firings import MOST_FIRINGS
from events.alerts.models import SEVERITIES
from events.http.exceptions import MOST_ITEMS_NAMED
from events.query.questions import MOST_QUESTIONS, QuestionSerializer
from events.series.overview import PAGE_SERIES

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    """Return a reference to the component with a name."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema) -> Schema:
    """Return the schema of a list of items."""
    return {"type": "array", "items": items}


# The rules behind these schemas stand in `timestamps`, `serializers` and `log/models.py`. The patterns
# mean the same in every dialect of regular expressions: they have no look-ahead, and no \s, which differs.

# What Python takes for white space, except two line separators, which JSON and YAML read differently.
_WHITE = r"\t-\r\x1c-\x20\x85\xa0" + "\u1680\u2000-\u200a\u202f\u205f\u3000"
_SEEN = rf"[^/\x00]*[^/\x00{_WHITE}][^/\x00]*"
SEGMENT: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": f"^{_SEEN}$",
    "not": {"enum": [".", ".."]},
}
_ON_A_LINE = r"[^\x00-\x1f\x7f]"
LINE: Schema = {"type": "string", "pattern": rf"^{_ON_A_LINE}*[^\x00-\x20\x7f{_WHITE}]{_ON_A_LINE}*$"}
SERIES_KEY: Schema = {
    "type": "string",
    "pattern": "^[^/]{1,255}/[^/]{1,255}$",
    "allOf": [{"pattern": f"^{_SEEN}/{_SEEN}$"}],
    "not": {"pattern": r"^\.{1,2}/|/\.{1,2}$"},
}


def _iso_8601(offset_signs: str) -> str:
    """Return the pattern of ISO 8601 as ``timestamps.from_iso`` reads it.

    The pattern also matches a few days that the calendar doesn't have, and a second 60 where there was no leap second.
    """
    hour, second = "([01][0-9]|2[0-3])", "([0-5][0-9]|60)([.,][0-9]+)?"
    offset = f" ?([Zz]|[{offset_signs}]{hour}(:?[0-5][0-9])?)"
    zeros = "(:00(:00([.,]0+)?)?|00(00([.,]0+)?)?)?"
    time = f"[Tt ]({hour}(:[0-5][0-9](:{second})?|[0-5][0-9]({second})?)?|24{zeros})({offset})?"
    month, day, week = "(0[1-9]|1[0-2])", "(0[1-9]|[12][0-9]|3[01])", "[Ww](0[1-9]|[1-4][0-9]|5[0-3])"
    day_of_year = "(00[1-9]|0[1-9][0-9]|[12][0-9][0-9]|3[0-5][0-9]|36[0-6])"
    extended = f"[0-9]{{4}}-({month}-{day}|{week}-[1-7]|{day_of_year})"
    basic = f"[0-9]{{4}}({month}{day}|{week}[1-7]|{day_of_year})"
    return f"^({extended}({time})?|{basic}{time})$"


ISO_8601 = _iso_8601("+-")
# In a query, a “+” that was not escaped arrives as a space.
ISO_8601_TEXT = _iso_8601("+ -")
# Without a sign these may mean a date: seconds before 1971, a basic date and, further below, a spreadsheet's day.
_DATE_DIGITS = "[0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])"
_UNTIL_1971 = "[0-9]{1,7}|[0-2][0-9]{7}|30[0-9]{6}|31[0-4][0-9]{5}|315[0-2][0-9]{4}|3153[0-5][0-9]{3}"
UNIX_TEXT: Schema = {
    "type": "string",
    "pattern": r"^([+-][0-9]{1,20}(\.[0-9]{0,20})?|[0-9]{1,20}(\.[0-9]{0,20})?)$",
    # roughly the years 1 to 9999
    "allOf": [{"pattern": r"^([+]?0*([0-9]{1,14}|1[0-9]{14}|2[0-5][0-9]{13})|-0*[0-9]{1,14})(\.[0-9]*)?$"}],
    "not": {"pattern": rf"^(0*({_UNTIL_1971})|{_DATE_DIGITS}|0*[2-7][0-9]{{4}}\.[0-9]*)$"},
}
NUMBER_TEXT = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$"
# Matches far more names than there are. An enum of all six hundred helped no reader, and its names clash in a generated
# Python client.
ZONE_NAME = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z][A-Za-z0-9_+-]*)*$"

_UNIX_TIME: Schema = {
    "anyOf": [
        {"type": "number", "minimum": -62_135_596_800_000, "maximum": -100_000_000_000},
        {"type": "number", "minimum": -62_135_596_800, "exclusiveMaximum": 253_402_300_800_000},
    ],
    "description": "Seconds since 1970, or milliseconds where the size is 1e11 or more.",
}
# `date-time` is named although the pattern includes it, as generated clients recognize an instant by it.
_TIMESTAMP: Schema = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "pattern": ISO_8601}, ref("UnixTime")],
    "description": "ISO 8601, a date alone, of a week or by the day of the year too, in UTC where it has no offset; or "
    "unix time as a number. Rounded half up to the microsecond. `24:00:00` is the start of the next day, the leap "
    "second `23:59:60` (UTC) that of the next second.",
    "examples": ["2020-11-12T11:10:00Z", "2020-11-12", "2020-W46-4", "2020-317", 1605179400, 1605179400000.5],
}
_TIMESTAMP_TEXT: Schema = {
    "anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "string", "pattern": ISO_8601_TEXT},
        UNIX_TEXT,
        {"type": "integer", "minimum": -62_135_596_800_000, "maximum": -100_000_000_000},
        {"type": "integer", "minimum": -62_135_596_800, "maximum": -1},
        # these include numbers of eight digits that look like a date, which JSON Schema can't exclude by a pattern
        {"type": "integer", "minimum": 31_536_000, "maximum": 253_402_300_799_999},
    ],
    "description": "The same where everything is text, as in a query; unix time without an exponent. Digits that may "
    "mean a date (seconds before 1971, 20201112, a spreadsheet's 44147.46) are unix time only after a sign: `+1`, in a "
    "URL `%2B1`.",
    "examples": ["2020-11-12T11:10:00Z", "2020-11-12", "2020-W46-4", "2020-317", "1605179400.25", "+1"],
}
_VALUE: Schema = {
    "type": "number",
    "description": "A finite double.",
    "minimum": -sys.float_info.max,
    "maximum": sys.float_info.max,
}
_NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
_VALUE_TEXT: Schema = {"anyOf": [_VALUE, {"type": "string", "pattern": NUMBER_TEXT}]}
_STORED: Schema = {
    "type": "string",
    "format": "date-time",
    "description": "In UTC, with a fraction only where there is one.",
}


def _object(properties: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    """Return the schema of an object with all of these properties, but for optional ones, and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _question(event_fields: Mapping[str, Schema]) -> Schema:
    """Return the schema of a question: the series, and the parameters of the aggregation endpoint but its format.

    No default is named, as generated TypeScript clients would require what has one.
    """
    fields = QuestionSerializer().fields
    choices = {
        name: {"type": "string", "enum": list(field.choices)}
        for name, field in fields.items()
        if isinstance(field, ChoiceField)
    }
    zone: Schema = {"type": "string", "pattern": ZONE_NAME}
    ends: dict[str, Schema] = {name: {"anyOf": [ref("TimestampText"), ref("UnixTime")]} for name in ("tsMin", "tsMax")}
    series = {name: event_fields[name] for name in ("namespace", "name")}
    described = _object({**series, **ends, **choices, "timezone": zone})
    for name, schema in described["properties"].items():
        if fields[name].help_text:
            schema["description"] = str(fields[name].help_text)
    return {**described, "required": list(series)}


def components(event: Schema) -> dict[str, Schema]:
    """Return the schemas that operations refer to and that no serializer has."""
    fields, messages = event["properties"], array({"type": "string"})
    return {
        "UnixTime": _UNIX_TIME,
        "Events": {**array(ref("Event")), "maxItems": settings.MAX_EVENTS},
        "EventForm": _object({**fields, "timestamp": ref("TimestampText"), "value": _VALUE_TEXT}),
        "StoredEvent": _object({**fields, "timestamp": _STORED, "value": {"type": "number"}}),
        "Accepted": _object({"accepted": {"type": "integer", "minimum": 0, "maximum": settings.MAX_EVENTS}}),
        "Item": _object({"aggregatedTimestamp": _STORED, "value": {"type": ["number", "null"]}}),
        "Query": _object(
            {"questions": {**array(ref("Question")), "minItems": 1, "maxItems": MOST_QUESTIONS}},
        ),
        "Question": _question(fields),
        "Answers": _object({"answers": {**array(ref("Answer")), "maxItems": MOST_QUESTIONS}}),
        "Answer": _object(
            {
                "status": {"type": "integer", "enum": [200, 400, 403, 413, 503]},
                "body": {"anyOf": [array(ref("Item")), ref("Detail"), ref("FieldErrors")]},
                "accuracy": {"type": "string", "description": "Of percentiles, as `Tracking-Accuracy`."},
            },
            optional=("accuracy",),
        ),
        "Series": _object(
            {
                "namespace": {"type": "string"},
                "name": {"type": "string"},
                "count": {"type": "integer", "minimum": 1},
                "firstTimestamp": _STORED,
                "lastTimestamp": _STORED,
            }
        ),
        "Overview": _object(
            {
                "count": {"type": "integer", "minimum": 0},
                "page": {"type": "integer", "minimum": 1},
                "pages": {"type": "integer", "minimum": 1},
                "series": {**array(ref("OverviewLine")), "maxItems": PAGE_SERIES},
            }
        ),
        "OverviewLine": _object(
            {
                "namespace": {"type": "string"},
                "name": {"type": "string"},
                "count": {"type": "integer", "minimum": 1},
                "firstTimestamp": _STORED,
                "lastTimestamp": _STORED,
                "lastValue": _NUMBER_OR_NULL,
                "changePercent": _NUMBER_OR_NULL,
                "isQuiet": {"type": "boolean"},
                "hours": _object(
                    {
                        "firstTimestamp": _STORED,
                        "aggregationType": {"type": "string", "enum": ["avg", "count"]},
                        "values": array(_NUMBER_OR_NULL),
                    }
                ),
                "unit": {"type": "string"},
                "description": {"type": "string"},
                "isHidden": {"type": "boolean"},
                "renamedTo": {"type": ["string", "null"]},
            }
        ),
        "Statistics": _object(
            {
                "namespace": {"type": "string"},
                "name": {"type": "string"},
                "count": {"type": "integer", "minimum": 0},
                "sum": _NUMBER_OR_NULL,
                "avg": _NUMBER_OR_NULL,
                "min": _NUMBER_OR_NULL,
                "max": _NUMBER_OR_NULL,
                "description": {"type": "string"},
                "unit": {"type": "string"},
            }
        ),
        "StoredAnnotation": _object(
            {
                "id": {"type": "string", "format": "uuid"},
                "namespace": {"type": "string"},
                "timestamp": _STORED,
                "end": {**_STORED, "type": ["string", "null"]},
                "title": {"type": "string"},
                "text": {"type": "string"},
                "tags": array({"type": "string"}),
            }
        ),
        "Firings": _object(
            {
                "lagSeconds": {"type": ["number", "null"], "minimum": 0},
                "firings": {**array(ref("Firing")), "maxItems": MOST_FIRINGS},
            }
        ),
        "Firing": _object(
            {
                "alert": {"type": "integer"},
                "alertName": {"type": "string"},
                "severity": {"type": "string", "enum": list(SEVERITIES)},
                "condition": {"type": "string"},
                "namespace": {"type": "string"},
                "name": {"type": "string"},
                "firedAt": _STORED,
                "resolvedAt": {**_STORED, "type": ["string", "null"]},
                "value": _NUMBER_OR_NULL,
                "revision": {"type": "string"},
            }
        ),
        "Detail": _object({"detail": {"type": "string"}}),
        "FieldErrors": {
            "type": "object",
            "description": "What is wrong, by field.",
            "minProperties": 1,
            "additionalProperties": messages,
        },
        "ListErrors": {
            "type": "object",
            "description": "What is wrong, by field; in a list by the index of what is wrong in it.",
            "minProperties": 1,
            "additionalProperties": {"anyOf": [messages, {"type": "object", "additionalProperties": messages}]},
        },
        "BatchErrors": {
            "type": "object",
            "description": f"What is wrong, by the index of the item; the first {MOST_ITEMS_NAMED} of them.",
            "minProperties": 1,
            "propertyNames": {"pattern": "^[0-9]+$"},
            "additionalProperties": {"anyOf": [ref("Detail"), ref("FieldErrors")]},
        },
    }


class LimitExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Describes a limit by the setting MAX_SERIES, as it is when the description is made."""

    target_class = fields.LimitField

    @override
    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> Schema:
        return {"type": "integer", "minimum": 1, "maximum": settings.MAX_SERIES}


extend_schema_field({"type": "integer", "minimum": 1, "maximum": 999_999_999})(fields.PageField)
extend_schema_field(_TIMESTAMP, "Timestamp")(fields.TimestampField)
extend_schema_field(_TIMESTAMP_TEXT, "TimestampText")(fields.WindowEndField)
for _field, _schema in {
    fields.NumberField: _VALUE,
    fields.TextField: {"type": "string", "pattern": r"^[^\x00]*$"},
    fields.SegmentField: SEGMENT,
    serializers.SeriesKeyField: SERIES_KEY,
    # a pattern and no list, as of a list and a pattern together some generators make clients that nobody can read
    fields.AggregationTypeField: {
        "type": "string",
        "pattern": f"^({'|'.join(AGGREGATION_TYPES)}|{PERCENTILE})$",
        "examples": ["p95"],
    },
    fields.TimeZoneField: {"type": "string", "pattern": ZONE_NAME, "examples": ["Europe/Berlin"]},
}.items():
    extend_schema_field(_schema)(_field)
