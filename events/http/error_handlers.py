"""Turns exceptions into answers: in REST framework's shapes, and never a 500 for anything a client sends."""

import errno
import logging
import sys
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.handlers.exception import response_for_exception
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.http.response import HttpResponseBase
from django.views import defaults
from rest_framework import status
from rest_framework.exceptions import APIException, ParseError
from rest_framework.response import Response
from rest_framework.views import exception_handler

from events.database.errors import is_cancelled, is_database_away, is_read_only
from events.http.error_pages import error_page, wants_page
from events.http.exceptions import RequestTooLarge, ServiceUnavailable, StatementCancelled
from events.http.fast_path.views import json_response
from events.http.paths import is_api, is_oauth2_endpoint
from events.http.plain_errors import error_body
from events.observability.observation import current

logger = logging.getLogger(__name__)

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE}
_UNREADABLE = "The request can't be read, or its Host is none of this service's."
# Header fields that an error takes over from the answer it replaces: what the answer depends on, and who may read it.
_OF_ANY_ANSWER = ["Vary", "X-Content-Type-Options", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers"]


def api_exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Answer an exception of REST framework, of Django's reading of requests, or of the database.

    Returns None for any other exception.
    """
    if is_cancelled(exc) or is_database_away(exc):
        _log(exc)
        exc = _unavailable(exc)
    elif isinstance(exc, RequestDataTooBig):
        exc = RequestTooLarge(str(exc))
    elif isinstance(exc, SuspiciousOperation | UnreadablePostError):
        exc = ParseError(str(exc))
    if isinstance(exc, APIException):
        seen = current()
        seen.refusal = exc.default_code
        if isinstance(exc.detail, dict):
            seen.field, seen.reason = _first_error(exc.detail)
    response: Response | None = exception_handler(exc, context)
    if response is not None:
        response.content_type = "application/json"  # an error is JSON, also where the request asked for CSV or NDJSON
    return response


def _first_error(detail: Any) -> tuple[str, str]:
    """Return the path of the first field that is wrong, and the code of what is wrong with it."""
    path = []
    while isinstance(detail, dict | list) and detail:
        if isinstance(detail, dict):
            key, detail = next(iter(detail.items()))
            path.append(str(key))
        else:
            detail = detail[0]
    return ".".join(path), getattr(detail, "code", None) or "invalid"


def has_no_room(error: BaseException) -> bool:
    """Tell whether an error that came up while a temporary file was made or written says that there is no room."""
    if not isinstance(error, OSError):
        return False
    # tempfile names no file where it looks for its directory, which it does once, and can write to none
    return error.errno in _NO_ROOM or (error.errno == errno.ENOENT and error.filename is None)


def answer_to(request: HttpRequest, error: Exception, begun: HttpResponseBase) -> HttpResponse:
    """Answer an error that came up after the view had returned, in the place of the answer that was begun."""
    if has_no_room(error):
        logger.error("No room for an answer: %s", error)
        error = ServiceUnavailable("There is no room to write the answer down; ask for less, or try again.")
    found = api_exception_handler(error, {})
    if found is None:
        return response_for_exception(request, error)
    answer = json_response(found.data, found.status_code)
    for source, names in ((found, ["Retry-After"]), (begun, _OF_ANY_ANSWER)):
        for name in names:
            if name in source:
                answer[name] = source[name]
    return answer


def _log(error: BaseException) -> None:
    # the first line only: in the next ones PostgreSQL repeats the statement, with what the client sent
    logger.error("%s: %s", type(error).__name__, str(error).strip().partition("\n")[0])


def _unavailable(error: BaseException | None) -> ServiceUnavailable:
    """Return the 503 for an error of the database that may be gone when the client tries again."""
    current().database_error = "cancelled" if is_cancelled(error) else "away"
    if is_read_only(error):
        connection.close()  # a new one may lead to the server that has taken over, or open the file for writing again
    return StatementCancelled() if is_cancelled(error) else ServiceUnavailable()


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 400 to a request that Django refuses, as for an unknown ``Host``: JSON where programs ask, else a page."""
    if _is_for_programs(request):
        return _json_error(request, _UNREADABLE, status.HTTP_400_BAD_REQUEST)
    return defaults.bad_request(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404 for a path that leads nowhere: JSON under ``/api/``, a page elsewhere."""
    if is_api(request.path):
        return _json_error(request, "Not found.", status.HTTP_404_NOT_FOUND)
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500; 503 where the database is away or cancelled a statement, also outside the API (log-in, admin)."""
    error = sys.exc_info()[1]
    if is_cancelled(error) or is_database_away(error):
        unavailable = _unavailable(error)
        if wants_page(request) and not _is_for_programs(request):
            return error_page(unavailable.status_code, "Unavailable", str(unavailable.detail), unavailable.wait)
        answer = _json_error(request, str(unavailable.detail), unavailable.status_code)
        answer["Retry-After"] = str(unavailable.wait)
        return answer
    if _is_for_programs(request):
        return _json_error(request, "Server error.", status.HTTP_500_INTERNAL_SERVER_ERROR)
    return defaults.server_error(request)


def _is_for_programs(request: HttpRequest) -> bool:
    return is_api(request.path) or bool(is_oauth2_endpoint(request.path))


def _json_error(request: HttpRequest, detail: str, status_code: int) -> HttpResponse:
    """Return an error in the shape of its path. RFC 6749, 5.2, wants those of OAuth2 endpoints in no cache."""
    body = error_body(request.path, detail, status_code)
    answer = JsonResponse(body, status=status_code)
    if is_oauth2_endpoint(request.path):
        current().refusal = body["error"]
        answer["Cache-Control"] = "no-store"
    return answer
