"""Takes what most senders send by the shortest way: no request of Django's or REST framework's is made of it.

It accepts a part of what ``TrackView`` accepts, stores the same, and answers the same, header for header. Whatever it
does not accept goes the whole way, where it is accepted or refused in the right words.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings
from django.http import HttpResponse
from rest_framework.exceptions import APIException

from events.access.grants import check_rows
from events.access.rate_limits import EVENTS, NEW_SERIES, REQUESTS
from events.access.tokens import KnownToken, remembered_token
from events.access.usage import usage_meter
from events.http.error_handlers import answer_to
from events.http.fast_path.handler import start
from events.http.fast_path.middleware import is_our_host
from events.http.renderers import JSONRenderer
from events.http.utf8_requests import UTF8Request
from events.ingest.decoding import Batch, decode_json
from events.ingest.store import store
from events.observability.observation import current
from events.views import TrackView

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PATHS = {"/api/track/", "/api/track"}
_CONTENT_TYPES = {"application/json", "application/json; charset=utf-8"}
# A body that is refused is decoded once more on the whole way, so a large one goes that way from the beginning.
_MOST_BYTES = 64 << 10
# With any of these a request is not plain: the whole way knows what each of them means.
_NOT_PLAIN = {"HTTP_CONTENT_ENCODING", "HTTP_IDEMPOTENCY_KEY", "HTTP_ORIGIN"}


class PlainRequest(NamedTuple):
    """A request that may be answered here, and the events that it sends."""

    known: KnownToken
    batch: Batch


def take(environ: WSGIEnvironment) -> PlainRequest | None:
    """Read a plain request; None where it has to go the whole way.

    Then nothing is counted, and the body can be read from its beginning.
    """
    if environ["PATH_INFO"] not in PATHS or not _is_plain(environ):
        return None
    known = remembered_token(environ.get("HTTP_AUTHORIZATION", ""))
    if known is None or not known.may("write") or _is_limited(known):
        return None
    stream = environ["wsgi.input"]
    try:
        batch = decode_json(stream.read(int(environ["CONTENT_LENGTH"])))
        check_rows(known.grant, batch.rows, single=batch.single)
    except APIException:
        stream.seek(0)
        return None
    current().client = known.client
    usage_meter.count_request(known.client, known.long_lived_id)
    return PlainRequest(known, batch)


def answer_stored(plain: PlainRequest, start_response: StartResponse) -> list[bytes]:
    """Answer a plain request whose events are stored."""
    content = JSONRenderer().render(plain.batch.answer())
    start_response("201 Created", [*_headers().items(), ("Content-Length", str(len(content)))])
    return [content]


def answer_failed(environ: WSGIEnvironment, error: Exception, start_response: StartResponse) -> list[bytes]:
    """Answer a plain request of which it isn't known whether its events are stored."""
    response = answer_to(UTF8Request(environ), error, HttpResponse())
    for name, value in _headers().items():
        response.headers.setdefault(name, value)
    response.headers["Content-Length"] = str(len(response.content))
    start(response, start_response)
    return [response.content]


def quick_answer(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes] | None:
    """Store the events of a plain request, and answer; None where the request has to go the whole way."""
    plain = take(environ)
    return None if plain is None else store_and_answer(plain, environ, start_response)


def store_and_answer(plain: PlainRequest, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Store the events of a plain request, and answer."""
    try:
        store(plain.batch, plain.known.client, None)
    except Exception as error:  # the events may be stored, so the whole way must not store them again
        return answer_failed(environ, error, start_response)
    return answer_stored(plain, start_response)


def _is_plain(environ: WSGIEnvironment) -> bool:
    return (
        environ["REQUEST_METHOD"] == "POST"
        and environ.get("CONTENT_TYPE") in _CONTENT_TYPES
        and 0 < int(environ.get("CONTENT_LENGTH") or 0) <= min(_MOST_BYTES, settings.MAX_BODY_BYTES)
        and not environ.get("QUERY_STRING")
        and _NOT_PLAIN.isdisjoint(environ)
        and is_our_host(environ.get("HTTP_HOST", ""))
        and (not settings.SECURE_SSL_REDIRECT or _is_secure(environ))
    )


def _is_limited(known: KnownToken) -> bool:
    return bool(REQUESTS.quota(known) or EVENTS.quota(known) or NEW_SERIES.quota(known))


def _is_secure(environ: WSGIEnvironment) -> bool:
    header: tuple[str, str] | None = settings.SECURE_PROXY_SSL_HEADER
    return header is not None and environ.get(header[0]) == header[1]


def _headers() -> dict[str, str]:
    return _headers_of_answers(is_cors=bool(settings.CORS_ALLOWED_ORIGINS))


@cache
def _headers_of_answers(*, is_cors: bool) -> dict[str, str]:
    """Return the header fields of the view's answers, which are worked out once."""
    headers = {"Content-Type": JSONRenderer.media_type, **TrackView().default_response_headers}
    varies = {"Vary": "origin"} if is_cors else {}
    return {**headers, "X-Content-Type-Options": "nosniff", **varies}
