"""Makes errors outside REST framework and the OAuth2 endpoints, in the same shapes as theirs."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from django.conf import settings

from events.observability.observation import current

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


_OAUTH2_ERRORS: dict[int, str] = {
    HTTPStatus.SERVICE_UNAVAILABLE: "temporarily_unavailable",
    HTTPStatus.INTERNAL_SERVER_ERROR: "server_error",
}


def error_body(path: str, detail: str, status: int) -> dict[str, str]:
    """Return the body of an error, as REST framework writes it; below ``/o/`` as RFC 6749, 5.2, defines it."""
    if not path.startswith("/o/"):
        return {"detail": detail}
    return {"error": _OAUTH2_ERRORS.get(status, "invalid_request"), "error_description": detail}


def refuse(status: HTTPStatus, detail: str, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Answer a request with an error, as WSGI applications do, before Django sees the request."""
    current().refusal = status.name.lower()
    answer = msgspec.json.encode(error_body(environ["PATH_INFO"], detail, status))
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append(("Retry-After", str(settings.RETRY_AFTER_SECONDS)))
    start_response(f"{status.value} {status.phrase}", headers)
    return [answer]
