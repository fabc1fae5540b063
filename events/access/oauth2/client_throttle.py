"""Limits wrong client secrets on the OAuth2 endpoints."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from oauthlib.oauth2.rfc6749.errors import OAuth2Error

from events.access.login_throttle import TooManyFailuresError, slowed
from events.access.oauth2.errors import SlowDownError, UnreadableError
from events.access.oauth2.forms import credentials_of

_View = Callable[..., HttpResponseBase]


def slow_clients(view: _View) -> _View:
    """Limit wrong client secrets and unreadable credentials on an endpoint; past the limit it raises SlowDownError."""
    slowed_view = slowed(view, _client_ids, {401, 403}, (UnreadableError,))

    @wraps(view)
    def answered(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        try:
            return slowed_view(request, *args, **kwargs)
        except TooManyFailuresError as error:
            raise SlowDownError(str(error), error.wait_seconds) from None

    return answered


def _client_ids(request: HttpRequest) -> list[str]:
    """Return every client id that a request tries; the empty id where its encoding can't be read."""
    try:
        return [client_id for client_id, _ in credentials_of(request)]
    except UnreadableError:
        return [""]
    except OAuth2Error:  # the endpoint refuses the request before it compares any secret
        return []
