"""Sets Django up, and makes its answers to WSGI environments, for this project's server and for others."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import django
from django.http import FileResponse, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from typing_extensions import override

from events.http.fast_path.handler import QuietHandler, start
from events.observability.observation import current

_THRESHOLDS = 700, 10, 10  # Python's own; manage.py has others for the start

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tracking_api.settings")
django.setup(set_prefix=False)

from events.quick_track import quick_answer  # noqa: E402  # needs Django's models


class LongAnswer:
    """An answer in pieces, none of which is made yet; ``tracking_api.server.streams`` makes them.

    ``owner`` is the client that it counts for: that of the token, or the signed-in user; None where neither is known.
    """

    streaming = True

    def __init__(self, request: HttpRequest, response: StreamingHttpResponse, start_response: StartResponse) -> None:
        self.request, self.response, self.start_response = request, response, start_response
        self.owner = current().client or _user_of(request)

    def start(self) -> None:
        """Call ``start_response`` with the status and headers."""
        start(self.response, self.start_response)

    def close(self) -> None:
        """Close the response, and with it what the answer is made from."""
        self.response.close()


class Handler(QuietHandler):
    """Django's handler, past which plain events go, and which returns a streaming answer as a ``LongAnswer``."""

    @override
    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        return quick_answer(environ, start_response) or super().__call__(environ, start_response)

    @override
    def deliver(self, request: HttpRequest, response: HttpResponseBase, start_response: StartResponse) -> Any:
        if isinstance(response, StreamingHttpResponse) and not isinstance(response, FileResponse):
            return LongAnswer(request, response, start_response)
        return super().deliver(request, response, start_response)


django_handler = Handler()


def freeze() -> None:
    """Exclude all objects that exist by now from garbage collections, which are short then, as frequent as usual."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def _user_of(request: HttpRequest) -> str | None:
    """Return the user who is signed in, named as the client is by that user's own tokens; None where nobody is."""
    user = getattr(request, "user", None)  # set by middleware that not every request meets, or by the view
    return f"user {user.pk}" if user is not None and user.is_authenticated else None
