"""Calls Django on the fast path."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from typing_extensions import override

from events.http.plain_errors import refuse
from events.http.utf8_requests import UTF8Request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_WITHOUT_CONTENT = HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED


class QuietHandler(WSGIHandler):
    """Django's handler, without the signals at both ends of a request, and with requests in UTF-8.

    Gains 45 µs a request. Gives up whatever listens to ``request_started`` and ``request_finished``. Here that is only
    Django's care for connections to the database, which the caller of the handler takes over.
    """

    request_class = UTF8Request

    @override
    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        try:
            request = self.request_class(environ)
        except (TypeError, ValueError):  # a parameter in an encoding that doesn't exist, or that can't be decoded
            return refuse(HTTPStatus.BAD_REQUEST, "The Content-Type can't be read.", environ, start_response)
        return self.deliver(request, self.get_response(request), start_response)

    def deliver(self, request: HttpRequest, response: HttpResponseBase, start_response: StartResponse) -> Any:
        """Start an answer with its status and headers, and return its content."""
        start(response, start_response)
        if not isinstance(response, HttpResponse):
            return response
        request.close()
        return [response.content]


def start(response: HttpResponseBase, start_response: StartResponse) -> None:
    """Call ``start_response`` with a response's status and headers, without a length where there is no content."""
    if response.status_code in _WITHOUT_CONTENT:
        del response["Content-Length"]  # as RFC 9110, 8.6, wants it; middleware has set it to 0
    cookies = (("Set-Cookie", cookie.output(header="")) for cookie in response.cookies.values())
    start_response(f"{response.status_code} {response.reason_phrase}", [*response.items(), *cookies])
