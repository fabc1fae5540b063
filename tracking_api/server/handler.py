"""From a WSGI environment to Django's answer, whichever server asks."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import django
from django.http import FileResponse, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from typing_extensions import override

from events.database.statement_timeout import limit_statements
from events.http.fast_path.handler import QuietHandler, start

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

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


class Handler(QuietHandler):
    """Leads requests to Django, and leaves long answers to be made by whoever asked."""

    @override
    def deliver(self, request: HttpRequest, response: HttpResponseBase, start_response: StartResponse) -> Any:
        if isinstance(response, StreamingHttpResponse) and not isinstance(response, FileResponse):
            return LongAnswer(request, response, start_response)
        return super().deliver(request, response, start_response)


django_handler = Handler()


def freeze() -> None:
    """Leave what is loaded by now out of garbage collections, which then hold nobody up for long."""
    gc.collect()
    gc.freeze()
