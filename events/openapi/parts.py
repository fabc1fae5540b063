"""Makes the parts of which the description of each call is put together: parameters, headers, answers, errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from django.conf import settings
from django.utils.functional import lazy
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from events.ingest.store import MOST_KEY_CHARACTERS
from events.ingest.unpacking import UNPACKERS
from events.openapi.schemas import SEGMENT, Schema, ref

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
ACCURACY_HEADER = "Tracking-Accuracy"
READ_HEADER, SOURCES = "Tracking-Read", ("primary", "replica")
URL_ENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"

Responses = dict[int | tuple[int, str], OpenApiResponse]
View = TypeVar("View", bound=Callable[..., Any])


def _fill(text: str) -> str:
    return text.format(settings, settings.MAX_EVENTS + 1)


# Makes a text with settings in it lazily, so that it has the settings of when the description is made, not of when this
# module is loaded.
limits = lazy(_fill, str)

_ERRORS: dict[int, tuple[str, Any]] = {
    401: ("No usable token.", "The access token is unknown or has expired."),
    404: ("No such path.", "Not found."),
    405: ("The path has no such method; `Allow` names those it has.", 'Method "DELETE" not allowed.'),
    408: (
        "Sent too slowly: a head and a body have their seconds, each as a whole.",
        limits("The head took longer than {0.HEADER_SECONDS} s."),
    ),
    413: ("Too many events or bytes.", limits("The request has {1} events; {0.MAX_EVENTS} are allowed.")),
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
        limits("The request's head is larger than the {0.MAX_HEADER_BYTES} bytes allowed."),
    ),
    503: (
        "The database is away or busy: try again after `Retry-After` seconds, with an `Idempotency-Key` if once "
        "matters.",
        "The database can't be reached or is busy; try again.",
    ),
}


def errors(*statuses: int) -> Responses:
    """Describe the errors whose body is one sentence."""
    found: Responses = {}
    for status in statuses:
        text, detail = _ERRORS[status]
        found[status, JSON] = answer(ref("Detail"), text, **{HTTPStatus(status).phrase: {"detail": detail}})
    return found


def document_errors() -> Responses:
    """Describe the errors of a body that must be one document of JSON."""
    unsupported = f'Unsupported media type "application/xml" in request. Accepted: {JSON}.'
    too_large = "The body has more than the 250000 bytes allowed here."
    return {
        (413, JSON): answer(ref("Detail"), "More bytes than are allowed.", Too_large={"detail": too_large}),
        (415, JSON): answer(ref("Detail"), "No JSON, or packed otherwise.", Unsupported={"detail": unsupported}),
    }


def any_of(*names: str) -> Schema:
    """Return the schema of any of some components. Generated clients try them in order: name the narrowest first."""
    return {"anyOf": [ref(name) for name in names]}


def answer(schema: Schema, text: str, **examples: Any) -> OpenApiResponse:
    """Describe an answer of JSON, with examples by their names."""
    shown = [OpenApiExample(name.replace("_", " "), value, response_only=True) for name, value in examples.items()]
    return OpenApiResponse(schema, text, shown)


def forbidden(scope: str, *shapes: str, **examples: Any) -> OpenApiResponse:
    """Describe a 403: a ``Detail`` where the token lacks the scope; one of ``shapes`` too where the grant does."""
    schema = any_of("Detail", *shapes) if shapes else ref("Detail")
    no_scope = {"detail": f"The access token lacks the scope {scope}."}
    text = "The token lacks the scope, or the client is not granted it there."
    return answer(schema, text, No_scope=no_scope, **examples)


def not_granted(scope: str) -> dict[str, list[str]]:
    """Return what a 403 says of a namespace that the grant lacks."""
    return {"namespace": [f"The client is not granted the scope {scope} in “Shop”."]}


def header(name: str, text: str, *statuses: int, kind: type = str) -> OpenApiParameter:
    """Describe a field of the answers with some statuses; of the request where there are none."""
    return OpenApiParameter(name, kind, OpenApiParameter.HEADER, description=text, response=list(statuses) or False)


_HEADERS = [
    header("WWW-Authenticate", "`Bearer`, with what is wrong with the token (RFC 6750).", 401),
    header("Allow", "The methods that there are.", 405),
    header("Retry-After", "Seconds to wait.", 429, 503, kind=int),
    header("RateLimit-Policy", "The limits of the client, where it has any (an IETF draft).", 200, 201, 429),
    header("RateLimit", "What is left of them.", 200, 201, 429),
]


# of the calls that take a body
PACKING = OpenApiParameter(
    "Content-Encoding", str, "header", enum=[*UNPACKERS, "identity"], description="How the body is packed."
)

# of the calls that read
READ_HEADERS = [
    OpenApiParameter(
        READ_HEADER, {"type": "string", "enum": list(SOURCES), "default": SOURCES[0]}, OpenApiParameter.HEADER,
        description="`primary`: the answer has every event acknowledged before. `replica`: it may be from a replica, "
        "which takes load off the primary, and lack the events of the last moments.",
    ),
    header(
        READ_HEADER,
        "Where the request has this header: `primary`, or `replica; lag=0.4`: how many seconds ago, at most, an event "
        "was acknowledged that the answer lacks. The primary answers too where no replica will do.",
        200, 304,
    ),
]  # fmt: skip


def segment(name: str, example: str) -> OpenApiParameter:
    """Describe a namespace or a name in a path."""
    shown = [OpenApiExample("Such as", example)]
    return OpenApiParameter(name, SEGMENT, "path", description=f"The {name}, percent-encoded.", examples=shown)


def idempotency_key(again: str) -> OpenApiParameter:
    """Describe the ``Idempotency-Key`` of a request."""
    key: Schema = {
        "type": "string", "minLength": 1, "maxLength": MOST_KEY_CHARACTERS, "pattern": "^[ -~]*$",
        "examples": ["order-4711"],
    }  # fmt: skip
    text = f"Sent again by the same client {again}, the request stores nothing and is answered as the first time."
    return OpenApiParameter("Idempotency-Key", key, "header", description=text)


def call(parameters: Sequence[Any], responses: Responses, tag: str = "Events", **words: Any) -> Callable[[View], View]:
    """Describe a method of a view: its own parameters and answers, and those that every call has."""
    responses = {**responses, **errors(401, 405, 408, 414, 429, 431, 503)}
    of_body = [PACKING] if "request" in words else []
    return extend_schema(tags=[tag], parameters=[*parameters, *of_body, *_HEADERS], responses=responses, **words)


def request(name: str, value: Any, media_type: str) -> OpenApiExample:
    """Make an example of a request's body."""
    return OpenApiExample(name, value, media_type=media_type, request_only=True)
