"""What each call of the API takes and gives, in the terms of OpenAPI."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from events.ingest.decoding import MOST_KEY_CHARACTERS
from events.ingest.parsers import EventJSONParser, EventNDJSONParser
from events.ingest.unpacking import UNPACKERS
from events.openapi.schemas import SEGMENT, SERIES_KEY, ZONE_NAME, Schema, array, ref
from events.serializers import (
    FORMATS,
    MOST_SEARCHED_CHARACTERS,
    AggregationQuerySerializer,
    NamedChoiceField,
    TimestampField,
    TimeZoneField,
)

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
URL_ENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

Responses = dict[int | tuple[int, str], OpenApiResponse]


@dataclass(frozen=True)
class Call:
    """What drf-spectacular asks of one."""

    id: str
    summary: str
    description: str
    responses: Responses
    parameters: Sequence[OpenApiParameter] = ()
    request: Mapping[str, Schema] | None = None
    examples: Sequence[OpenApiExample] = ()


_ERRORS = {
    401: ("No usable token.", "The access token is unknown or has expired."),
    404: ("No such path.", "Not found."),
    405: ("No such method here; `Allow` names those that there are.", 'Method "DELETE" not allowed.'),
    408: (
        "Sent too slowly: a head and a body have their seconds, each as a whole.",
        "The head took longer than {header_seconds} s.",
    ),
    413: ("Too many events or bytes.", "The request has {too_many} events; {max_events} are allowed."),
    414: ("The path and query are too long.", "The path and query are longer than the 8192 bytes allowed."),
    415: (
        "Neither JSON nor NDJSON nor a form, or packed otherwise.",
        'Unsupported media type "application/xml" in request. Accepted: application/json, application/x-ndjson, '
        "application/x-www-form-urlencoded, multipart/form-data.",
    ),
    422: ("The `Idempotency-Key` came before, with other events.", "This Idempotency-Key was used for another body."),
    429: (
        "More than the client may send a minute, or series it may start a day: try again after `Retry-After` seconds.",
        "More than 600 requests a minute; try again in 12 s.",
    ),
    431: (
        "The head is too large, all its fields together.",
        "The request's head is larger than the {max_header_bytes} bytes allowed.",
    ),
    503: (
        "The database is away or busy: try again after `Retry-After` seconds, with an `Idempotency-Key` if once "
        "matters.",
        "The database can't be reached or is busy; try again.",
    ),
}  # fmt: skip


def _errors(*statuses: int) -> Responses:
    found: Responses = {}
    for status in statuses:
        description, detail = _ERRORS[status]
        detail = detail.format(
            max_events=settings.MAX_EVENTS, too_many=settings.MAX_EVENTS + 1,
            header_seconds=settings.HEADER_SECONDS, max_header_bytes=settings.MAX_HEADER_BYTES,
        )  # fmt: skip
        example = OpenApiExample(HTTPStatus(status).phrase, {"detail": detail}, response_only=True)
        found[status, JSON] = OpenApiResponse(ref("Detail"), description, [example])
    return found


def _any_of(*names: str) -> Schema:
    """One of these components; generated clients try them in this order, the narrowest first."""
    return {"anyOf": [ref(name) for name in names]}


def _forbidden(scope: str, *shapes: str, **examples: Any) -> Responses:
    """What the token or the client's grant doesn't allow; the latter in those shapes besides."""
    answer = _answer(
        _any_of("Detail", *shapes) if shapes else ref("Detail"),
        "The token lacks the scope, or the client is not granted it there.",
        No_scope={"detail": f"The access token lacks the scope {scope}."}, **examples,
    )  # fmt: skip
    return {(403, JSON): answer}


def _not_granted(scope: str) -> dict[str, list[str]]:
    return {"namespace": [f"The client is not granted the scope {scope} in “Shop”."]}


def _header(name: str, text: str, statuses: Sequence[int], kind: type = str) -> OpenApiParameter:
    return OpenApiParameter(name, kind, OpenApiParameter.HEADER, description=text, response=list(statuses))


def _answer(schema: Schema, text: str, **examples: Any) -> OpenApiResponse:
    shown = [OpenApiExample(name.replace("_", " "), value, response_only=True) for name, value in examples.items()]
    return OpenApiResponse(schema, text, shown)


_CHALLENGE = _header("WWW-Authenticate", "`Bearer`, with what is wrong with the token (RFC 6750).", [401])
_ALLOW = _header("Allow", "The methods that there are.", [405])
_RETRY = _header("Retry-After", "Seconds to wait.", [429, 503], int)
_LIMITS = [
    _header("RateLimit-Policy", "The limits of the client, where it has any (an IETF draft).", [200, 201, 429]),
    _header("RateLimit", "What is left of them.", [200, 201, 429]),
]
_EVENT = {"namespace": "Shop", "name": "order", "timestamp": "2020-11-12T11:10:00Z", "value": 142}
_LATER = {"namespace": "Shop", "name": "order", "timestamp": 1605225600, "value": 58}
_FORM = {**_LATER, "timestamp": "1605225600"}
_LINES = (
    '{"namespace":"Shop","name":"order","timestamp":"2020-11-12T11:10:00Z","value":142}\n'
    '{"namespace":"Shop","name":"order","timestamp":1605225600,"value":58}\n'
)
_ITEMS = [
    {"aggregatedTimestamp": "2020-11-12T11:10:00Z", "value": 142.0},
    {"aggregatedTimestamp": "2020-11-13T00:00:00Z", "value": 58.0},
]


def _request(name: str, value: Any, media_type: str) -> OpenApiExample:
    return OpenApiExample(name, value, media_type=media_type, request_only=True)


def track() -> Call:
    """``POST /api/track/``."""
    # what is sent, and not an array of it: that is what a generated client would send
    lines = {
        "type": "string",
        "description": f"Each line is an `Event` in JSON, or blank; {settings.MAX_EVENTS} of them at most.",
    }
    text = {"type": "string", "description": "What could be `application/json`, and is called a text."}
    return Call(
        id="track",
        summary="Store events",
        description=(
            "One event, or a batch of them as a JSON array or as NDJSON, an event a line. 201 means that all are "
            "committed; anything else, that none is.\n\n"
            f"A request may have {settings.MAX_EVENTS} events and {settings.MAX_BODY_BYTES} bytes, unpacked. Any body "
            "may be packed with gzip, deflate or zstd: `gzip -c events.ndjson | curl --data-binary @- "
            "-H 'Content-Encoding: gzip' -H 'Content-Type: application/x-ndjson' …`"
        ),
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                {
                    "type": "string", "minLength": 1, "maxLength": MOST_KEY_CHARACTERS, "pattern": "^[ -~]*$",
                    "examples": ["order-4711"],
                },
                OpenApiParameter.HEADER,
                description="Sent again by the same client with the same events, the request stores nothing and is "
                "answered as the first time.",
            ),
            OpenApiParameter(
                "Content-Encoding",
                str,
                OpenApiParameter.HEADER,
                enum=[*UNPACKERS, "identity"],
                description="How the body is packed.",
            ),
            _CHALLENGE, _ALLOW, _RETRY, *_LIMITS,
        ],
        request={
            JSON: _any_of("Event", "Events"),
            NDJSON: lines,
            URL_ENCODED: ref("EventForm"),
            MULTIPART: ref("EventForm"),
            **dict.fromkeys(sorted(EventNDJSONParser.also), lines),
            **dict.fromkeys(sorted(EventJSONParser.also), text),
        },
        examples=[
            _request("An event", _EVENT, JSON),
            _request("A batch", [_EVENT, _LATER], JSON),
            _request("A batch, an event a line", _LINES, NDJSON),
            _request("A form", _FORM, URL_ENCODED),
            _request("A multipart form", _FORM, MULTIPART),
        ],
        responses={
            (201, JSON): _answer(
                _any_of("StoredEvent", "Accepted"),
                "Committed: the event as it is stored, or how many of a batch.",
                An_event={**_EVENT, "value": 142.0}, A_batch={"accepted": 2},
            ),
            (400, JSON): _answer(
                _any_of("Detail", "BatchErrors", "FieldErrors"),
                "Bad input, and nothing was stored. The body names each field of an event and what is wrong with it; "
                "of a batch, each bad item by its index from 0; of what can't be read at all, why.",
                An_event={"value": ["Must be a JSON number, without quotes."]},
                A_batch={
                    "17": {"value": ["Must be a JSON number, without quotes."]},
                    "18": {"name": ["This field is required."]},
                },
                No_JSON={"detail": "JSON parse error - Expecting value: line 1 column 1 (char 0)"},
            ),
            **_forbidden(
                "write", "BatchErrors", "FieldErrors",
                An_event=_not_granted("write"), A_batch={"17": _not_granted("write")},
            ),
            **_errors(401, 405, 408, 413, 414, 415, 422, 429, 431, 503),
        },
    )  # fmt: skip


_MEANINGS = {
    "tsMin": "Where the window starts, itself included: ISO 8601 or unix time, as in an event; a date alone is the "
    "start of that day in `timezone`. Open where not given.",
    "tsMax": "Where the window ends, itself included; a date alone is the end of that day in `timezone`.",
    "granularity": "The calendar unit that events are grouped by; `week` starts on Monday, `none` groups equal "
    "timestamps only and is never filled.",
    "aggregationType": "How the values of a bucket become one.",
    "timezone": "The IANA name of the zone whose calendar the buckets follow, summer time included, such as "
    "`Europe/Berlin`.",
    "fill": "What an empty bucket within the window gives: nothing, `null`, `zero`, or the `previous` value, which for "
    "the first ones is that of the last bucket before the window. A window with both ends given is filled for a "
    "series that never was sent, too.",
    "timestamp": "What a bucket is named by: the `first` timestamp of its events, or the start of the `bucket`.",
    "format": "What the answer is written in; `Accept` may say it too. `csv` and `ndjson` have no limit to stored "
    "items.",
}
_SHOWN = {"tsMin": "2020-11-01", "tsMax": "1605312000000", "namespace": "Shop", "name": "order"}


def _shown(name: str) -> list[OpenApiExample]:
    return [OpenApiExample("Such as", _SHOWN[name])] if name in _SHOWN else []


def _query() -> list[OpenApiParameter]:
    """The parameters of the aggregation endpoint, from the serializer that reads them."""
    found = []
    for name, field in AggregationQuerySerializer().fields.items():
        schema: Schema = {"type": "string"}
        if isinstance(field, TimestampField):
            schema = ref("TimestampText")
        elif isinstance(field, NamedChoiceField):
            schema = {"type": "string", "enum": list(field.choices)}
            schema["default"] = field.default if isinstance(field.default, str) else schema["enum"][0]
        elif isinstance(field, TimeZoneField):
            schema = {"type": "string", "pattern": ZONE_NAME, "default": "UTC", "examples": ["Europe/Berlin"]}
        found.append(OpenApiParameter(name, schema, description=_MEANINGS[name], examples=_shown(name)))
    return found


def _segment(name: str) -> OpenApiParameter:
    text = f"The {name}, percent-encoded."
    return OpenApiParameter(name, SEGMENT, OpenApiParameter.PATH, description=text, examples=_shown(name))


def aggregation() -> Call:
    """``GET /api/events/<namespace>/<name>``."""
    text = "The buckets, ordered by time; none where the series has no events and `fill` makes none up."
    return Call(
        id="aggregate",
        summary="Aggregate a series",
        description=(
            "The events of one series within a window, grouped by the calendar; exact, and as fresh as the last "
            "201.\n\n"
            f"JSON has {settings.MAX_ITEMS} items at most; a question with more is a 400 that names a coarser "
            "granularity. CSV and NDJSON have no limit to the items that are stored, and with `fill` one of "
            f"{settings.MAX_STREAM_ITEMS}: they are read from one snapshot, and sent with their `Content-Length` once "
            "they are whole, so the first byte may take its time.\n\n"
            "The `ETag` of an answer, sent back as `If-None-Match`, makes a 304 of one that would be the same."
        ),
        parameters=[
            _segment("namespace"), _segment("name"), *_query(),
            OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="The `ETag` of an answer."),
            _header("ETag", "Another one whenever the answer may be another.", [200, 304]),
            _CHALLENGE, _ALLOW, _RETRY, *_LIMITS,
        ],
        responses={
            (200, JSON): _answer(array(ref("Item")), text, The_sum_of_each_day=_ITEMS),
            (200, CSV): _answer(
                {"type": "string"}, text,
                The_sum_of_each_day="aggregatedTimestamp,value\r\n2020-11-12T11:10:00Z,142.0\r\n"
                "2020-11-13T00:00:00Z,58.0\r\n",
            ),
            (200, NDJSON): _answer(
                {"type": "string"}, text,
                The_sum_of_each_day='{"aggregatedTimestamp":"2020-11-12T11:10:00Z","value":142.0}\n'
                '{"aggregatedTimestamp":"2020-11-13T00:00:00Z","value":58.0}\n',
            ),
            304: OpenApiResponse(None, "The answer is what `If-None-Match` names."),
            (400, JSON): _answer(
                _any_of("Detail", "FieldErrors"),
                "Bad input: the body names each parameter and what it accepts.",
                A_parameter={"fill": ["“one” is not accepted. Choose one of: none, null, zero, previous."]},
            ),
            **_forbidden("aggregation", "FieldErrors", A_namespace=_not_granted("aggregation")),
            **_errors(401, 404, 405, 408, 414, 429, 431, 503),
        },
    )  # fmt: skip


def _catalogue_query() -> list[OpenApiParameter]:
    number = {"type": "integer", "minimum": 1, "maximum": settings.MAX_SERIES}
    forms = {"type": "string", "enum": list(FORMATS), "default": FORMATS[0]}
    return [
        OpenApiParameter("limit", number, description="How many series, at most."),
        OpenApiParameter(
            "after",
            SERIES_KEY,
            description="`namespace/name`, such as `Shop/order`: only series past this one, which need not be there.",
        ),
        OpenApiParameter(
            "search",
            {"type": "string", "maxLength": MOST_SEARCHED_CHARACTERS, "pattern": r"^[^\x00]*$"},
            description="Only series with this text in their `namespace/name`, in any case.",
        ),
        OpenApiParameter("format", forms, description="What the answer is written in; `Accept` may say it too."),
    ]


def catalogue(*, of_namespace: bool) -> Call:
    """``GET /api/events/`` or ``GET /api/events/<namespace>``."""
    series = {
        "namespace": "Shop", "name": "order", "count": 2,
        "firstTimestamp": "2020-11-12T11:10:00Z", "lastTimestamp": "2020-11-13T00:00:00Z",
    }  # fmt: skip
    line = {"type": "string"}
    not_granted = {"A_namespace": _not_granted("read")}
    return Call(
        id="list_series_of_namespace" if of_namespace else "list_series",
        summary="List the series of a namespace" if of_namespace else "List all series",
        description=(
            "The catalogue: every series that has events, ordered by namespace and name.\n\n"
            f"Where there are more than {settings.MAX_SERIES}, JSON must be asked for some at a time: `limit` says how "
            "many, and `Link` leads to the next ones. CSV and NDJSON without `limit` hold all."
        ),
        parameters=[
            *([_segment("namespace")] if of_namespace else []), *_catalogue_query(),
            _header("Link", 'Where the next series are, as `<…>; rel="next"`; absent on the last page.', [200]),
            _CHALLENGE, _ALLOW, _RETRY, *_LIMITS,
        ],
        responses={
            (200, JSON): _answer(array(ref("Series")), "The series.", One_series=[series]),
            (200, CSV): _answer(
                line, "The same; a text that a spreadsheet would take for a formula comes after an apostrophe.",
                One_series=f"{','.join(series)}\r\n{','.join(map(str, series.values()))}\r\n",
            ),
            (200, NDJSON): _answer(
                line, "The same, a series a line.", One_series=json.dumps(series, separators=(",", ":")) + "\n"
            ),
            (400, JSON): _answer(
                _any_of("Detail", "FieldErrors"),
                "Bad input, or more series than are allowed without `limit`.",
                A_parameter={"page": ["Unknown field. Accepted: limit, after, search, format."]},
            ),
            **(_forbidden("read", "FieldErrors", **not_granted) if of_namespace else _forbidden("read")),
            **_errors(401, 404, 405, 408, 414, 429, 431, 503),
        },
    )  # fmt: skip
