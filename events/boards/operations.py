"""Describes the call of boards for the description of the API."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema

from events.openapi.parts import JSON, PACKING, READ_HEADERS, answer, any_of, document_errors, errors, header
from events.openapi.schemas import ref
from events.query.questions import MOST_QUESTIONS

public_query = extend_schema(
    tags=["Boards"],
    operation_id="query_public_board",
    summary="Aggregate series of a public board",
    description=f"Up to {MOST_QUESTIONS} questions, as `POST /api/query/` takes them, about the series that a board "
    "shows whose public link has the token; of others the `status` is 403. It takes neither token nor session.",
    auth=[],
    parameters=[
        OpenApiParameter("token", {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}, "path", description="The link's."),
        PACKING,
        *READ_HEADERS,
        header("Allow", "The methods that there are.", 405),
        header("Retry-After", "Seconds to wait.", 429, 503, kind=int),
    ],
    request={JSON: ref("Query")},
    responses={
        (200, JSON): answer(ref("Answers"), "An answer to each question."),
        (400, JSON): answer(any_of("Detail", "FieldErrors"), "The body is none of questions."),
        **errors(404, 405, 408, 414, 429, 431, 503),
        **document_errors(),
    },
)
