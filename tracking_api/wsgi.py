"""The WSGI entry point: ``tracking_api.wsgi:application``.

The server's threads, of which there are many, read the bodies; SERVER_THREADS threads, each with a database connection
of its own, do the work. So a client that sends slowly, or stops halfway, keeps nobody else waiting.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tracking_api.settings")

_django = get_wsgi_application()
_workers = ThreadPoolExecutor(settings.SERVER_THREADS, thread_name_prefix="worker")
_PIECE_BYTES = 1 << 16
_BODY_IN_MEMORY_BYTES = 1 << 20


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
    """Read the body here, whole, and answer in a worker; refuse a body that can't be known to be whole."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        # The server gives a chunked body that breaks off as one that ends.
        return _refuse(start_response, HTTPStatus.LENGTH_REQUIRED, "The body must come with its Content-Length.")
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if not 0 < length <= settings.MAX_BODY_BYTES:  # without a body, or with one that is refused unread
        return _workers.submit(_django, environ, start_response).result()
    with SpooledTemporaryFile(_BODY_IN_MEMORY_BYTES) as body:
        missing = length
        while missing and (piece := environ["wsgi.input"].read(min(missing, _PIECE_BYTES))):
            body.write(piece)
            missing -= len(piece)
        if missing:
            return _refuse(start_response, HTTPStatus.BAD_REQUEST, "The body ended before its Content-Length.")
        body.seek(0)
        environ["wsgi.input"] = body
        return _workers.submit(_django, environ, start_response).result()


def _refuse(start_response: "StartResponse", status: HTTPStatus, detail: str) -> list[bytes]:
    answer = b'{"detail":"%s"}' % detail.encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
    start_response(f"{status.value} {status.phrase}", headers)
    return [answer]
