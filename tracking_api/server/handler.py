"""From a WSGI environment to Django's answer, whichever server asks."""

from __future__ import annotations

import gc
import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import django
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from typing_extensions import override

from events.database.statement_timeout import limit_statements
from events.http.plain_errors import refuse
from events.http.utf8_requests import UTF8Request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tracking_api.settings")
django.setup(set_prefix=False)
limit_statements()


class LongAnswer:
    """An answer that comes in pieces, of which none is made yet; ``tracking_api.server.streams`` has it made."""

    streaming = True

    def __init__(self, request: HttpRequest, response: StreamingHttpResponse, start_response: StartResponse) -> None:
        self.request, self.response, self.start_response = request, response, start_response

    def start(self) -> None:
        """Give status and headers."""
        start(self.response, self.start_response)

    def close(self) -> None:
        """Let go of what the answer is made from."""
        self.response.close()


class Handler(WSGIHandler):
    """Django's, without its signals at both ends of a request, which take a quarter of the time of a small one.

    What they look after are connections, and these are looked after by who calls.
    """

    request_class = UTF8Request

    @override
    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        try:
            request = self.request_class(environ)
        except (TypeError, ValueError):  # of a parameter in an encoding that isn't, or that doesn't fit another
            return refuse(HTTPStatus.BAD_REQUEST, "The Content-Type can't be read.", environ, start_response)
        response = self.get_response(request)
        if isinstance(response, StreamingHttpResponse) and not isinstance(response, FileResponse):
            return LongAnswer(request, response, start_response)
        start(response, start_response)
        if not isinstance(response, HttpResponse):
            return response
        request.close()
        return [response.content]


def start(response: HttpResponseBase, start_response: StartResponse) -> None:
    """Give a response's status and headers to the server."""
    cookies = (("Set-Cookie", cookie.output(header="")) for cookie in response.cookies.values())
    start_response(f"{response.status_code} {response.reason_phrase}", [*response.items(), *cookies])


django_handler = Handler()


def freeze() -> None:
    """Leave what is loaded by now out of garbage collections, which then hold nobody up for long."""
    gc.collect()
    gc.freeze()
