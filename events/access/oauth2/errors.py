"""Makes the refusals of the OAuth2 endpoints: the JSON of RFC 6749, section 5.2, always with a description."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from oauthlib.oauth2.rfc6749.errors import InvalidRequestError, OAuth2Error
from typing_extensions import override

from events.observability.observation import current

# RFC 7617, 2.1: the charset tells clients to send their credentials in UTF-8
_BASIC = 'Basic realm="Tracking API", charset="UTF-8"'
_MOST_CHARACTERS = 60

# oauthlib and the toolkit answer some errors without a description.
_DESCRIPTIONS = {
    "invalid_client": "The client is unknown, or its secret is wrong.",
    "invalid_request": "The request lacks a parameter.",
    "unauthorized_client": "The client is registered for another grant type than client_credentials.",
    "unsupported_grant_type": "The only grant_type here is client_credentials.",
    "unsupported_token_type": "There are access tokens only.",
}

_NO_CLIENT = "The client's id and secret are missing: send them in an Authorization header (Basic), or in the form."

_View = Callable[..., HttpResponseBase]


class UnreadableError(InvalidRequestError):
    """Something in the request is not UTF-8, so nobody can say which client it tries."""


class SlowDownError(OAuth2Error):
    """Too many attempts or tokens. The error code is from RFC 8628, as RFC 6749 has none for this case."""

    error = "slow_down"
    status_code = 429

    def __init__(self, description: str, wait_seconds: int) -> None:
        super().__init__(description)
        self.wait_seconds = wait_seconds

    @property
    @override
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.wait_seconds)}


def answers_errors(view: _View) -> _View:
    """Make a view answer an OAuth2Error that it raises, describe every refusal, and note its code for the log."""

    @wraps(view)
    def answered(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        try:
            response = view(request, *args, **kwargs)
        except OAuth2Error as error:
            response = refusal(error)
        if isinstance(response, HttpResponse) and response.status_code >= HTTPStatus.BAD_REQUEST:
            _explain(request, response)
        return response

    return answered


def refusal(error: OAuth2Error) -> HttpResponse:
    """Return the answer to an error; it says that caches must not store it (RFC 6749, 5.2 and 5.1)."""
    headers = {"Cache-Control": "no-store", **error.headers}
    return JsonResponse(dict(error.twotuples), status=error.status_code, headers=headers)


def described(text: str) -> str:
    """Return a text cut to 60 characters, with “?” for each one that an ``error_description`` may not have."""
    shown = "".join(map(_allowed, text[: _MOST_CHARACTERS + 1]))
    return shown if len(shown) <= _MOST_CHARACTERS else f"{shown[:_MOST_CHARACTERS]}..."


def _allowed(character: str) -> str:
    return character if " " <= character <= "~" and character not in '"\\' else "?"


def _explain(request: HttpRequest, response: HttpResponse) -> None:
    body = _body_of(request, response)
    body["error_description"] = "".join(map(_allowed, body["error_description"]))
    response.content = json.dumps(body).encode()
    response["Content-Type"] = "application/json"
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        response["WWW-Authenticate"] = _BASIC
    current().refusal = body["error"]


def _names_client(request: HttpRequest) -> bool:
    return "HTTP_AUTHORIZATION" in request.META or bool(request.POST.get("client_id"))


def _body_of(request: HttpRequest, response: HttpResponse) -> dict[str, str]:
    if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        method = described(request.method or "")
        description = f"The method {method} is not taken here; there are {response['Allow']}."
        return {"error": "invalid_request", "error_description": description}
    body: dict[str, str] = json.loads(response.content)
    description = _DESCRIPTIONS.get(body["error"], "The request is refused.")
    if body["error"] == "invalid_client" and not _names_client(request):
        description = _NO_CLIENT
    return {"error": body["error"], "error_description": description, **body}
