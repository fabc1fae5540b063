"""Describes what drf-spectacular can't read off views and serializers: each call's texts, headers, errors, examples."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from events.ingest.parsers import EventJSONParser, EventNDJSONParser
from events.openapi.parts import (
    ACCURACY_HEADER,
    CSV,
    JSON,
    MULTIPART,
    NDJSON,
    READ_HEADERS,
    URL_ENCODED,
    Responses,
    View,
    answer,
    any_of,
    call,
    document_errors,
    errors,
    forbidden,
    header,
    idempotency_key,
    limits,
    not_granted,
    request,
    segment,
)
from events.openapi.schemas import Schema, array, ref
from events.query.questions import MOST_QUESTIONS
from events.serializers import (
    AggregationQuerySerializer,
    CatalogueQuerySerializer,
    FiringsQuerySerializer,
    OverviewQuerySerializer,
    StatisticsQuerySerializer,
)

_EVENT = {"namespace": "Shop", "name": "order", "timestamp": "2020-11-12T11:10:00Z", "value": 142}
_LATER = {"namespace": "Shop", "name": "order", "timestamp": 1605225600, "value": 58}
_FORM = {**_LATER, "timestamp": "1605225600"}


def _lines(*objects: Mapping[str, Any]) -> str:
    return "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in objects)


# a string and not an array of events, as a generated client would send an array as JSON
_LINES: Schema = {
    "type": "string",
    "description": limits("Each line is an `Event` in JSON, or blank; {0.MAX_EVENTS} of them at most."),
}
_TEXT: Schema = {"type": "string", "description": "What could be `application/json`, and is called a text."}

track = call(
    operation_id="track",
    summary="Store events",
    description=limits(
        "One event, or a batch of them as a JSON array or as NDJSON, an event a line. 201 means that all are "
        "committed; anything else, that none is.\n\n"
        "A request may have {0.MAX_EVENTS} events and {0.MAX_BODY_BYTES} bytes, unpacked. Any body "
        "may be packed with gzip, deflate or zstd: `gzip -c events.ndjson | curl --data-binary @- "
        "-H 'Content-Encoding: gzip' -H 'Content-Type: application/x-ndjson' …`"
    ),
    parameters=[idempotency_key("with the same events")],
    request={
        JSON: any_of("Event", "Events"),
        **dict.fromkeys([NDJSON, *sorted(EventNDJSONParser.also)], _LINES),
        **dict.fromkeys([URL_ENCODED, MULTIPART], ref("EventForm")),
        **dict.fromkeys(sorted(EventJSONParser.also), _TEXT),
    },
    examples=[
        request("An event", _EVENT, JSON),
        request("A batch", [_EVENT, _LATER], JSON),
        request("A batch, an event a line", _lines(_EVENT, _LATER), NDJSON),
        request("A form", _FORM, URL_ENCODED),
        request("A multipart form", _FORM, MULTIPART),
    ],
    responses={
        (201, JSON): answer(
            any_of("StoredEvent", "Accepted"),
            "Committed: the event as it is stored, or how many of a batch.",
            An_event={**_EVENT, "value": 142.0}, A_batch={"accepted": 2},
        ),
        (400, JSON): answer(
            any_of("Detail", "BatchErrors", "FieldErrors"),
            "Bad input, and nothing was stored. The body names each field of an event and what is wrong with it; "
            "of a batch, each bad item by its index from 0; of what can't be read at all, why.",
            An_event={"value": ["Must be a JSON number, without quotes."]},
            A_batch={
                "17": {"value": ["Must be a JSON number, without quotes."]},
                "18": {"name": ["This field is required."]},
            },
            No_JSON={"detail": "JSON parse error - Expecting value: line 1 column 1 (char 0)"},
        ),
        (403, JSON): forbidden(
            "write", "BatchErrors", "FieldErrors",
            An_event=not_granted("write"), A_batch={"17": not_granted("write")},
        ),
        **errors(413, 415, 422),
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
        (200, JSON): answer(array(ref(shape)), json_text, **{example: shown}),
        (200, CSV): answer({"type": "string"}, csv_text, **{example: _table(shown)}),
        (200, NDJSON): answer({"type": "string"}, line_text, **{example: _lines(*shown)}),
    }


_BUCKETS = "The buckets, ordered by time; none where the series has no events and `fill` makes none up."
_ITEMS = [
    {"aggregatedTimestamp": "2020-11-12T11:10:00Z", "value": 142.0},
    {"aggregatedTimestamp": "2020-11-13T00:00:00Z", "value": 58.0},
]

aggregate = call(
    operation_id="aggregate",
    summary="Aggregate a series",
    description=limits(
        "The events of one series within a window, grouped by the calendar; exact, and as fresh as the last "
        "201.\n\n"
        "Percentiles and `stddev` are read from {0.PERCENTILE_EVENTS} events at most; a window with more is a 400 "
        "that names the longest one that fits. Of hours whose events are pruned, neither they nor `first` and `last` "
        "are known.\n\n"
        "JSON has {0.MAX_ITEMS} items at most; a question with more is a 400 that names a coarser "
        "granularity. CSV and NDJSON have no limit to the items that are stored, and with `fill` one of "
        "{0.MAX_STREAM_ITEMS}: they are read from one snapshot, and sent with their `Content-Length` once "
        "they are whole, so the first byte may take its time.\n\n"
        "The `ETag` of an answer, sent back as `If-None-Match`, makes a 304 of one that would be the same."
    ),
    parameters=[
        segment("namespace", "Shop"), segment("name", "order"), AggregationQuerySerializer, *READ_HEADERS,
        header("If-None-Match", "The `ETag` of an answer."),
        header("ETag", "Another one whenever the answer may be another.", 200, 304),
        header(ACCURACY_HEADER, "Of percentiles: `exact`, or `0.01` where they come from histograms.", 200),
    ],
    examples=[
        OpenApiExample("Such as", "2020-11-01", parameter_only=("tsMin", "query")),
        OpenApiExample("Such as", "1605312000000", parameter_only=("tsMax", "query")),
    ],
    responses={
        **_read("The sum of each day", "Item", _ITEMS, _BUCKETS, _BUCKETS, _BUCKETS),
        304: OpenApiResponse(None, "The answer is what `If-None-Match` names."),
        (400, JSON): answer(
            any_of("Detail", "FieldErrors"),
            "Bad input: the body names each parameter and what it accepts.",
            A_parameter={"fill": ["“one” is not accepted. Choose one of: none, null, zero, previous."]},
        ),
        (403, JSON): forbidden("aggregation", "FieldErrors", A_namespace=not_granted("aggregation")),
        **errors(404),
    },
)  # fmt: skip

_QUESTION = {"namespace": "Shop", "name": "order", "granularity": "day", "aggregationType": "sum"}
_REVERSED = {**_QUESTION, "tsMin": "2020-11-13", "tsMax": "2020-11-12"}
_ANSWERS = [
    {"status": 200, "body": _ITEMS},
    {"status": 400, "body": {"tsMin": ["Must not be later than tsMax."]}},
]

query = call(
    operation_id="query",
    summary="Aggregate several series at once",
    description=limits(
        f"Up to {MOST_QUESTIONS} questions, each with the parameters of one aggregate. Each is answered or refused by "
        "itself: the answer has, in the order of the questions, the `status` and the `body` that each has when it is "
        "asked alone. All are read in one snapshot of the database.\n\n"
        "All answers together have {0.MAX_ITEMS} items at most, and take {0.STATEMENT_TIMEOUT_SECONDS} s: of what goes "
        "beyond the `status` is 413 or 503. A question counts as a request where requests are limited."
    ),
    parameters=READ_HEADERS,
    request={JSON: ref("Query")},
    examples=[request("Two questions", {"questions": [_QUESTION, _REVERSED]}, JSON)],
    responses={
        (200, JSON): answer(ref("Answers"), "An answer to each question.", Two_answers={"answers": _ANSWERS}),
        (400, JSON): answer(
            any_of("Detail", "FieldErrors"),
            "The body is none of questions: nothing was read.",
            No_question={"questions": ["This list may not be empty."]},
        ),
        (403, JSON): forbidden("aggregation"),
        **document_errors(),
    },
)  # fmt: skip

_SERIES = {
    "namespace": "Shop", "name": "order", "count": 2,
    "firstTimestamp": "2020-11-12T11:10:00Z", "lastTimestamp": "2020-11-13T00:00:00Z",
}  # fmt: skip


def _catalogue(parameters: Sequence[Any], not_allowed: OpenApiResponse, **words: str) -> Callable[[View], View]:
    return call(
        description=limits(
            "The catalogue: every series that has events, ordered by namespace and name.\n\n"
            "Where there are more than {0.MAX_SERIES}, JSON must be asked for some at a time: `limit` says "
            "how many, and `Link` leads to the next ones. CSV and NDJSON without `limit` hold all."
        ),
        parameters=[
            *parameters, CatalogueQuerySerializer, *READ_HEADERS,
            header("Link", 'Where the next series are, as `<…>; rel="next"`; absent on the last page.', 200),
        ],
        responses={
            **_read(
                "One series", "Series", [_SERIES], "The series.",
                "The same; a text that a spreadsheet would take for a formula comes after an apostrophe.",
                "The same, a series a line.",
            ),
            (400, JSON): answer(
                any_of("Detail", "FieldErrors"),
                "Bad input, or more series than are allowed without `limit`.",
                A_parameter={"page": ["Unknown field. Accepted: limit, after, search, format."]},
            ),
            (403, JSON): not_allowed,
            **errors(404),
        },
        **words,
    )  # fmt: skip


list_series = _catalogue([], forbidden("read"), operation_id="list_series", summary="List all series")
list_series_of_namespace = _catalogue(
    [segment("namespace", "Shop")],
    forbidden("read", "FieldErrors", A_namespace=not_granted("read")),
    operation_id="list_series_of_namespace",
    summary="List the series of a namespace",
)

_LINE = {
    **_SERIES,
    "lastValue": 58.0, "changePercent": None, "isQuiet": True,
    "hours": {"firstTimestamp": "2020-11-12T01:00:00Z", "aggregationType": "avg",
              "values": [None] * 10 + [142.0] + [None] * 12 + [58.0]},
    "unit": "EUR", "description": "What an order is worth", "isHidden": False, "renamedTo": None,
}  # fmt: skip

overview = call(
    operation_id="overview",
    summary="List series, and how they are going",
    description="A page of the series that have events, each with its last value, the hours of its last day (up to "
    "now, or up to its last event where that is older), by how many percent that day differs from the one before, and "
    "whether nothing has come for much longer than usual. Where all values are 1, hours and change are about the "
    "number of events, else about their average. `renamedTo` names the series that had this name before it was renamed "
    "or merged: what is listed has come under the old name since.",
    parameters=[OverviewQuerySerializer],
    responses={
        (200, JSON): answer(
            ref("Overview"), "The page.", A_page={"count": 1, "page": 1, "pages": 1, "series": [_LINE]}
        ),
        (400, JSON): answer(
            ref("FieldErrors"),
            "Bad input: the body names each parameter and what it accepts.",
            A_parameter={"page": ["Must be a whole number from 1."]},
        ),
        (403, JSON): forbidden("read"),
    },
)  # fmt: skip

statistics = call(
    operation_id="statistics",
    summary="Describe a series as a whole",
    description="Count, sum, average, least and most value of all events within a window, exact and as fresh as the "
    "last 201; and the unit and the description that somebody gave the series. What there is no value for is `null`.",
    parameters=[segment("namespace", "Shop"), segment("name", "order"), StatisticsQuerySerializer],
    responses={
        (200, JSON): answer(
            ref("Statistics"),
            "The statistics; of a series without events in the window the count is 0.",
            An_answer={"namespace": "Shop", "name": "order", "count": 2, "sum": 200.0, "avg": 100.0, "min": 58.0,
                       "max": 142.0, "description": "What an order is worth", "unit": "EUR"},
        ),
        (400, JSON): answer(
            any_of("Detail", "FieldErrors"),
            "Bad input: the body names each parameter and what it accepts.",
            A_parameter={"tsMin": ["Must not be later than tsMax."]},
        ),
        (403, JSON): forbidden("aggregation", "FieldErrors", A_namespace=not_granted("aggregation")),
        **errors(404),
    },
)  # fmt: skip

_FIRING = {
    "alert": 7, "alertName": "CPU", "severity": "critical", "condition": "avg over 5 min above 90",
    "namespace": "Server-1", "name": "cpu.percent", "firedAt": "2020-11-12T11:10:00Z",
    "resolvedAt": "2020-11-12T11:25:00Z", "value": 97.5, "revision": "",
}  # fmt: skip

list_firings = call(
    operation_id="list_firings",
    summary="List which alerts fired when",
    description="Each time that an alert fired for a series, with the value it fired on; `resolvedAt` is `null` while "
    "it does, and `revision` says what events that came late have made of that value. In order of their beginning; of "
    "more than 1,000 the newest. `lagSeconds` is for how long the alerts should have been evaluated, `null` where no "
    "worker ever did.",
    parameters=[FiringsQuerySerializer],
    responses={
        (200, JSON): answer(
            ref("Firings"),
            "What fired at any time within the window.",
            An_answer={"lagSeconds": 0, "firings": [_FIRING]},
        ),
        (400, JSON): answer(
            ref("FieldErrors"),
            "Bad input: the body names each parameter and what it accepts.",
            A_parameter={"series": ["Must be the namespace and the name of a series, such as Shop/order."]},
        ),
        (403, JSON): forbidden("read", "FieldErrors", A_namespace=not_granted("read")),
    },
)  # fmt: skip
