"""Describes what drf-spectacular can't read off views and serializers: each call's texts, headers, errors, examples."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from django.conf import settings
from django.utils.functional import lazy
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from events.ingest.decoding import MOST_KEY_CHARACTERS
from events.ingest.parsers import EventJSONParser, EventNDJSONParser
from events.ingest.unpacking import UNPACKERS
from events.openapi.schemas import SEGMENT, Schema, array, ref
from events.serializers import (
    AggregationQuerySerializer,
    CatalogueQuerySerializer,
    FiringsQuerySerializer,
    OverviewQuerySerializer,
    StatisticsQuerySerializer,
)

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
READ_HEADER, SOURCES = "Tracking-Read", ("primary", "replica")
URL_ENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"

Responses = dict[int | tuple[int, str], OpenApiResponse]
View = TypeVar("View", bound=Callable[..., Any])


def _fill(text: str) -> str:
    return text.format(settings, settings.MAX_EVENTS + 1)


# Makes a text with settings in it lazily, so that it has the settings of when the description is made, not of when this
# module is loaded.
_limits = lazy(_fill, str)

_ERRORS: dict[int, tuple[str, Any]] = {
    401: ("No usable token.", "The access token is unknown or has expired."),
    404: ("No such path.", "Not found."),
    405: ("No such method here; `Allow` names those that there are.", 'Method "DELETE" not allowed.'),
    408: (
        "Sent too slowly: a head and a body have their seconds, each as a whole.",
        _limits("The head took longer than {0.HEADER_SECONDS} s."),
    ),
    413: ("Too many events or bytes.", _limits("The request has {1} events; {0.MAX_EVENTS} are allowed.")),
    414: ("The path and query are too long.", "The path and query are longer than the 8192 bytes allowed."),
    415: (
        "Neither JSON nor NDJSON nor a form, or packed otherwise.",
        f'Unsupported media type "application/xml" in request. Accepted: {JSON}, {NDJSON}, {URL_ENCODED}, {MULTIPART}.',
    ),
    422: ("The `Idempotency-Key` came before, with other events.", "This Idempotency-Key was used for another body."),
    429: (
        "More than the client may send a minute, or series it may start a day: try again after `Retry-After` seconds.",
        "More than 600 requests a minute; try again in 12 s.",
    ),
    431: (
        "The head is too large, all its fields together.",
        _limits("The request's head is larger than the {0.MAX_HEADER_BYTES} bytes allowed."),
    ),
    503: (
        "The database is away or busy: try again after `Retry-After` seconds, with an `Idempotency-Key` if once "
        "matters.",
        "The database can't be reached or is busy; try again.",
    ),
}


def _errors(*statuses: int) -> Responses:
    """Describe the errors whose body is one sentence."""
    found: Responses = {}
    for status in statuses:
        text, detail = _ERRORS[status]
        found[status, JSON] = _answer(ref("Detail"), text, **{HTTPStatus(status).phrase: {"detail": detail}})
    return found


def _any_of(*names: str) -> Schema:
    """Return the schema of any of some components. Generated clients try them in order: name the narrowest first."""
    return {"anyOf": [ref(name) for name in names]}


def _answer(schema: Schema, text: str, **examples: Any) -> OpenApiResponse:
    shown = [OpenApiExample(name.replace("_", " "), value, response_only=True) for name, value in examples.items()]
    return OpenApiResponse(schema, text, shown)


def _forbidden(scope: str, *shapes: str, **examples: Any) -> OpenApiResponse:
    """Describe a 403: a ``Detail`` where the token lacks the scope; one of ``shapes`` too where the grant does."""
    schema = _any_of("Detail", *shapes) if shapes else ref("Detail")
    no_scope = {"detail": f"The access token lacks the scope {scope}."}
    text = "The token lacks the scope, or the client is not granted it there."
    return _answer(schema, text, No_scope=no_scope, **examples)


def _not_granted(scope: str) -> dict[str, list[str]]:
    return {"namespace": [f"The client is not granted the scope {scope} in “Shop”."]}


def _header(name: str, text: str, *statuses: int, kind: type = str) -> OpenApiParameter:
    return OpenApiParameter(name, kind, OpenApiParameter.HEADER, description=text, response=list(statuses) or False)


_HEADERS = [
    _header("WWW-Authenticate", "`Bearer`, with what is wrong with the token (RFC 6750).", 401),
    _header("Allow", "The methods that there are.", 405),
    _header("Retry-After", "Seconds to wait.", 429, 503, kind=int),
    _header("RateLimit-Policy", "The limits of the client, where it has any (an IETF draft).", 200, 201, 429),
    _header("RateLimit", "What is left of them.", 200, 201, 429),
]


# of the calls that read
_READ_HEADERS = [
    OpenApiParameter(
        READ_HEADER, {"type": "string", "enum": list(SOURCES), "default": SOURCES[0]}, OpenApiParameter.HEADER,
        description="`primary`: the answer has every event acknowledged before. `replica`: it may be from a replica, "
        "which takes load off the primary, and lack the events of the last moments.",
    ),
    _header(
        READ_HEADER,
        "Where the request has this header: `primary`, or `replica; lag=0.4`: how many seconds ago, at most, an event "
        "was acknowledged that the answer lacks. The primary answers too where no replica will do.",
        200, 304,
    ),
]  # fmt: skip


def _segment(name: str, example: str) -> OpenApiParameter:
    shown = [OpenApiExample("Such as", example)]
    return OpenApiParameter(name, SEGMENT, "path", description=f"The {name}, percent-encoded.", examples=shown)


def _call(parameters: Sequence[Any], responses: Responses, **words: Any) -> Callable[[View], View]:
    """Describe a method of a view: its own parameters and answers, and those that every call has."""
    responses = {**responses, **_errors(401, 405, 408, 414, 429, 431, 503)}
    return extend_schema(tags=["Events"], parameters=[*parameters, *_HEADERS], responses=responses, **words)


_EVENT = {"namespace": "Shop", "name": "order", "timestamp": "2020-11-12T11:10:00Z", "value": 142}
_LATER = {"namespace": "Shop", "name": "order", "timestamp": 1605225600, "value": 58}
_FORM = {**_LATER, "timestamp": "1605225600"}


def _lines(*objects: Mapping[str, Any]) -> str:
    return "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in objects)


def _request(name: str, value: Any, media_type: str) -> OpenApiExample:
    return OpenApiExample(name, value, media_type=media_type, request_only=True)


# a string and not an array of events, as a generated client would send an array as JSON
_LINES: Schema = {
    "type": "string",
    "description": _limits("Each line is an `Event` in JSON, or blank; {0.MAX_EVENTS} of them at most."),
}
_TEXT: Schema = {"type": "string", "description": "What could be `application/json`, and is called a text."}
_KEY: Schema = {
    "type": "string", "minLength": 1, "maxLength": MOST_KEY_CHARACTERS, "pattern": "^[ -~]*$",
    "examples": ["order-4711"],
}  # fmt: skip

track = _call(
    operation_id="track",
    summary="Store events",
    description=_limits(
        "One event, or a batch of them as a JSON array or as NDJSON, an event a line. 201 means that all are "
        "committed; anything else, that none is.\n\n"
        "A request may have {0.MAX_EVENTS} events and {0.MAX_BODY_BYTES} bytes, unpacked. Any body "
        "may be packed with gzip, deflate or zstd: `gzip -c events.ndjson | curl --data-binary @- "
        "-H 'Content-Encoding: gzip' -H 'Content-Type: application/x-ndjson' …`"
    ),
    parameters=[
        OpenApiParameter(
            "Idempotency-Key", _KEY, "header",
            description="Sent again by the same client with the same events, the request stores nothing and is "
            "answered as the first time.",
        ),
        OpenApiParameter(
            "Content-Encoding", str, "header", enum=[*UNPACKERS, "identity"], description="How the body is packed."
        ),
    ],
    request={
        JSON: _any_of("Event", "Events"),
        **dict.fromkeys([NDJSON, *sorted(EventNDJSONParser.also)], _LINES),
        **dict.fromkeys([URL_ENCODED, MULTIPART], ref("EventForm")),
        **dict.fromkeys(sorted(EventJSONParser.also), _TEXT),
    },
    examples=[
        _request("An event", _EVENT, JSON),
        _request("A batch", [_EVENT, _LATER], JSON),
        _request("A batch, an event a line", _lines(_EVENT, _LATER), NDJSON),
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
        (403, JSON): _forbidden(
            "write", "BatchErrors", "FieldErrors",
            An_event=_not_granted("write"), A_batch={"17": _not_granted("write")},
        ),
        **_errors(413, 415, 422),
    },
)  # fmt: skip


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(",".join(map(str, cells)) + "\r\n" for cells in (rows[0], *(row.values() for row in rows)))


def _read(
    name: str, shape: str, shown: Sequence[Mapping[str, Any]], json_text: str, csv_text: str, line_text: str
) -> Responses:
    """Describe an answer in its three formats; each has the same example."""
    example = name.replace(" ", "_")
    return {
        (200, JSON): _answer(array(ref(shape)), json_text, **{example: shown}),
        (200, CSV): _answer({"type": "string"}, csv_text, **{example: _table(shown)}),
        (200, NDJSON): _answer({"type": "string"}, line_text, **{example: _lines(*shown)}),
    }


_BUCKETS = "The buckets, ordered by time; none where the series has no events and `fill` makes none up."
_ITEMS = [
    {"aggregatedTimestamp": "2020-11-12T11:10:00Z", "value": 142.0},
    {"aggregatedTimestamp": "2020-11-13T00:00:00Z", "value": 58.0},
]

aggregate = _call(
    operation_id="aggregate",
    summary="Aggregate a series",
    description=_limits(
        "The events of one series within a window, grouped by the calendar; exact, and as fresh as the last "
        "201.\n\n"
        "JSON has {0.MAX_ITEMS} items at most; a question with more is a 400 that names a coarser "
        "granularity. CSV and NDJSON have no limit to the items that are stored, and with `fill` one of "
        "{0.MAX_STREAM_ITEMS}: they are read from one snapshot, and sent with their `Content-Length` once "
        "they are whole, so the first byte may take its time.\n\n"
        "The `ETag` of an answer, sent back as `If-None-Match`, makes a 304 of one that would be the same."
    ),
    parameters=[
        _segment("namespace", "Shop"), _segment("name", "order"), AggregationQuerySerializer, *_READ_HEADERS,
        _header("If-None-Match", "The `ETag` of an answer."),
        _header("ETag", "Another one whenever the answer may be another.", 200, 304),
    ],
    examples=[
        OpenApiExample("Such as", "2020-11-01", parameter_only=("tsMin", "query")),
        OpenApiExample("Such as", "1605312000000", parameter_only=("tsMax", "query")),
    ],
    responses={
        **_read("The sum of each day", "Item", _ITEMS, _BUCKETS, _BUCKETS, _BUCKETS),
        304: OpenApiResponse(None, "The answer is what `If-None-Match` names."),
        (400, JSON): _answer(
            _any_of("Detail", "FieldErrors"),
            "Bad input: the body names each parameter and what it accepts.",
            A_parameter={"fill": ["“one” is not accepted. Choose one of: none, null, zero, previous."]},
        ),
        (403, JSON): _forbidden("aggregation", "FieldErrors", A_namespace=_not_granted("aggregation")),
        **_errors(404),
    },
)  # fmt: skip

_SERIES = {
    "namespace": "Shop", "name": "order", "count": 2,
    "firstTimestamp": "2020-11-12T11:10:00Z", "lastTimestamp": "2020-11-13T00:00:00Z",
}  # fmt: skip


def _catalogue(parameters: Sequence[Any], forbidden: OpenApiResponse, **words: str) -> Callable[[View], View]:
    return _call(
        description=_limits(
            "The catalogue: every series that has events, ordered by namespace and name.\n\n"
            "Where there are more than {0.MAX_SERIES}, JSON must be asked for some at a time: `limit` says "
            "how many, and `Link` leads to the next ones. CSV and NDJSON without `limit` hold all."
        ),
        parameters=[
            *parameters, CatalogueQuerySerializer, *_READ_HEADERS,
            _header("Link", 'Where the next series are, as `<…>; rel="next"`; absent on the last page.', 200),
        ],
        responses={
            **_read(
                "One series", "Series", [_SERIES], "The series.",
                "The same; a text that a spreadsheet would take for a formula comes after an apostrophe.",
                "The same, a series a line.",
            ),
            (400, JSON): _answer(
                _any_of("Detail", "FieldErrors"),
                "Bad input, or more series than are allowed without `limit`.",
                A_parameter={"page": ["Unknown field. Accepted: limit, after, search, format."]},
            ),
            (403, JSON): forbidden,
            **_errors(404),
        },
        **words,
    )  # fmt: skip


list_series = _catalogue([], _forbidden("read"), operation_id="list_series", summary="List all series")
list_series_of_namespace = _catalogue(
    [_segment("namespace", "Shop")],
    _forbidden("read", "FieldErrors", A_namespace=_not_granted("read")),
    operation_id="list_series_of_namespace",
    summary="List the series of a namespace",
)

_LINE = {
    **_SERIES,
    "lastValue": 58.0, "changePercent": None, "isQuiet": True,
    "hours": {"firstTimestamp": "2020-11-12T01:00:00Z", "aggregationType": "avg",
              "values": [None] * 10 + [142.0] + [None] * 12 + [58.0]},
    "unit": "EUR", "description": "What an order is worth", "isHidden": False,
}  # fmt: skip

overview = _call(
    operation_id="overview",
    summary="List series, and how they are going",
    description="A page of the series that have events, each with its last value, the hours of its last day (up to "
    "now, or up to its last event where that is older), by how many percent that day differs from the one before, and "
    "whether nothing has come for much longer than usual. Where all values are 1, hours and change are about the "
    "number of events, else about their average.",
    parameters=[OverviewQuerySerializer],
    responses={
        (200, JSON): _answer(
            ref("Overview"), "The page.", A_page={"count": 1, "page": 1, "pages": 1, "series": [_LINE]}
        ),
        (400, JSON): _answer(
            ref("FieldErrors"),
            "Bad input: the body names each parameter and what it accepts.",
            A_parameter={"page": ["Must be a whole number from 1."]},
        ),
        (403, JSON): _forbidden("read"),
    },
)  # fmt: skip

statistics = _call(
    operation_id="statistics",
    summary="Describe a series as a whole",
    description="Count, sum, average, least and most value of all events within a window, exact and as fresh as the "
    "last 201; and the unit and the description that somebody gave the series. What there is no value for is `null`.",
    parameters=[_segment("namespace", "Shop"), _segment("name", "order"), StatisticsQuerySerializer],
    responses={
        (200, JSON): _answer(
            ref("Statistics"),
            "The statistics; of a series without events in the window the count is 0.",
            An_answer={"namespace": "Shop", "name": "order", "count": 2, "sum": 200.0, "avg": 100.0, "min": 58.0,
                       "max": 142.0, "description": "What an order is worth", "unit": "EUR"},
        ),
        (400, JSON): _answer(
            _any_of("Detail", "FieldErrors"),
            "Bad input: the body names each parameter and what it accepts.",
            A_parameter={"tsMin": ["Must not be later than tsMax."]},
        ),
        (403, JSON): _forbidden("aggregation", "FieldErrors", A_namespace=_not_granted("aggregation")),
        **_errors(404),
    },
)  # fmt: skip

_FIRING = {
    "alert": 7, "alertName": "CPU", "severity": "critical", "condition": "avg over 5 min above 90",
    "namespace": "Server-1", "name": "cpu.percent", "firedAt": "2020-11-12T11:10:00Z",
    "resolvedAt": "2020-11-12T11:25:00Z", "value": 97.5, "revision": "",
}  # fmt: skip

list_firings = _call(
    operation_id="list_firings",
    summary="List which alerts fired when",
    description="Each time that an alert fired for a series, with the value it fired on; `resolvedAt` is `null` while "
    "it does, and `revision` says what events that came late have made of that value. In order of their beginning; of "
    "more than 1,000 the newest. `lagSeconds` is for how long the alerts should have been evaluated, `null` where no "
    "worker ever did.",
    parameters=[FiringsQuerySerializer],
    responses={
        (200, JSON): _answer(
            ref("Firings"),
            "What fired at any time within the window.",
            An_answer={"lagSeconds": 0, "firings": [_FIRING]},
        ),
        (400, JSON): _answer(
            ref("FieldErrors"),
            "Bad input: the body names each parameter and what it accepts.",
            A_parameter={"series": ["Must be the namespace and the name of a series, such as Shop/order."]},
        ),
        (403, JSON): _forbidden("read", "FieldErrors", A_namespace=_not_granted("read")),
    },
)  # fmt: skip
