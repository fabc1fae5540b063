"""The WSGI entry point: ``tracking_api.wsgi:application``.

The server has many threads, and any of them may wait for a client that sends slowly, or stops halfway. Only once its
request is whole does a thread take one of SERVER_THREADS database connections and work; so slow clients keep nobody
waiting, and the database sees no more connections than it was promised.
"""

import gc
import os
from functools import partial
from http import HTTPStatus
from io import BytesIO
from tempfile import SpooledTemporaryFile, TemporaryFile
from threading import BoundedSemaphore, get_ident
from typing import IO, TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import DEFAULT_DB_ALIAS, connections
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from tracking_api.affinity import keep_to_one_cpu
from tracking_api.connection_pool import MOST_THREADS, ConnectionPool
from tracking_api.observation import current, metrics, observe
from tracking_api.statement_timeout import limit_statements

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tracking_api.settings")

_PIECE_BYTES = 1 << 16
_BODY_IN_MEMORY_BYTES = 1 << 20
# Clients that stop halfway keep as many threads waiting, and leave the others to probes and reads.
_MOST_INCOMING = MOST_THREADS * 3 // 4
django.setup(set_prefix=False)
limit_statements()
keep_to_one_cpu()

from events.error_handlers import NO_ROOM, answer_to  # noqa: E402  # needs the models, and those Django set up
from events.probes import PROBES  # noqa: E402


class _Handler(WSGIHandler):
    """Django's, without its signals at both ends of a request, which take a quarter of the time of a small one.

    What they look after are connections, and these are looked after here.
    """

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
        try:
            request = self.request_class(environ)
        except (TypeError, ValueError):  # of a parameter in an encoding that isn't, or that doesn't fit another
            return _refuse(HTTPStatus.BAD_REQUEST, "The Content-Type can't be read.", environ, start_response)
        response = self.get_response(request)
        if isinstance(response, StreamingHttpResponse) and not isinstance(response, FileResponse):
            return _Stream(request, response, start_response)
        _start(response, start_response)
        if not isinstance(response, HttpResponse):
            return response
        request.close()
        return [response.content]


def _start(response: HttpResponseBase, start_response: "StartResponse") -> None:
    cookies = (("Set-Cookie", cookie.output(header="")) for cookie in response.cookies.values())
    start_response(f"{response.status_code} {response.reason_phrase}", [*response.items(), *cookies])


_django = _Handler()


def _shared_connections() -> ConnectionPool:
    made = [connections.create_connection(DEFAULT_DB_ALIAS) for _ in range(settings.SERVER_THREADS)]
    for connection in made:
        connection.inc_thread_sharing()  # by one thread after another, never by two at once
    return ConnectionPool(made)


_pool = _shared_connections()
_free_streams = BoundedSemaphore(settings.SERVER_THREADS)
_incoming: set[int] = set()  # the threads that wait for a body
if (_counted := metrics()) is not None:
    _counted.watch_connections(_pool.count_free, settings.SERVER_THREADS)

# What is loaded by now stays: without it a full collection has little to look at, and holds nobody up for long.
gc.collect()
gc.freeze()


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
    """Read the body whole, then answer with one of the connections; refuse a body that can't be known to be whole."""
    refusal = _take_body(environ)
    if refusal is not None:
        return observe(environ, start_response, refusal)
    return observe(environ, start_response, _django if environ["PATH_INFO"] in PROBES else _work)


def _work(environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
    connection = _pool.take()
    try:
        connections[DEFAULT_DB_ALIAS] = connection
        connection.close_if_unusable_or_obsolete()
        answer = _django(environ, start_response)
    finally:
        del connections[DEFAULT_DB_ALIAS]
        _pool.give_back(connection)
    return answer.written() if isinstance(answer, _Stream) else answer


def _take_body(environ: "WSGIEnvironment") -> "WSGIApplication | None":
    """Put the body in the place of its stream; what refuses the request where there is none to rely on."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        # The server gives a chunked body that breaks off as one that ends.
        return partial(_refuse, HTTPStatus.LENGTH_REQUIRED, "The body must come with its Content-Length.")
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > settings.MAX_BODY_BYTES:
        if environ["PATH_INFO"].startswith("/api/"):
            return None  # refused unread there, once the token is known
        # Django would read a form of any length, by one of the few connections
        detail = f"The body is larger than the {settings.MAX_BODY_BYTES} bytes allowed."
        return partial(_refuse, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
    if length > 0:
        if len(_incoming) >= _MOST_INCOMING:
            detail = "Too many bodies are on their way; try again."
            return partial(_refuse, HTTPStatus.SERVICE_UNAVAILABLE, detail)
        thread = get_ident()
        _incoming.add(thread)
        try:
            body = _read(environ["wsgi.input"], length)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            return partial(_refuse, HTTPStatus.SERVICE_UNAVAILABLE, "There is no room to take the body; try again.")
        finally:
            _incoming.discard(thread)
        if body is None:
            return partial(_refuse, HTTPStatus.BAD_REQUEST, "The body ended before its Content-Length.")
        environ["wsgi.input"] = body
    return None


class _Stream:
    """An answer that comes in pieces, over a connection of its own, as it may take long.

    As many at a time as there are shared connections; others wait. The pieces go to a file first. Sent as they come,
    they would end alike whether all were there or something broke: the server has no other end for what it wasn't told
    the length of. And a client that reads slowly would hold a connection and a snapshot for as long.
    """

    def __init__(self, request: HttpRequest, response: StreamingHttpResponse, start_response: "StartResponse") -> None:
        self.request, self.response, self.start_response = request, response, start_response

    def written(self) -> Any:
        """The whole answer to be sent; that of an error where making it failed."""
        if self.request.method == "HEAD":
            _start(self.response, self.start_response)
            self.response.close()
            return _File(BytesIO())  # without a length, which nobody knows
        with _free_streams:
            try:
                return self._write()
            except Exception as error:  # whatever a view may raise, and with the same consequences
                answer = answer_to(self.request, error, self.response)
            finally:
                self.response.close()
                connections.close_all()
        _start(answer, self.start_response)
        return [answer.content]

    def _write(self) -> "_File":
        file = SpooledTemporaryFile(_BODY_IN_MEMORY_BYTES)  # noqa: SIM115
        try:
            for piece in self.response:
                file.write(piece)
        except BaseException:
            file.close()
            raise
        self.response["Content-Length"] = str(file.tell())
        file.seek(0)
        _start(self.response, self.start_response)
        return _File(file, _PIECE_BYTES)


class _File(FileWrapper):
    streaming = True


def _read(stream: IO[bytes], length: int) -> IO[bytes] | None:
    """The body, in memory or in a file where it is large; None where it ends too early."""
    body: IO[bytes] = BytesIO() if length <= _BODY_IN_MEMORY_BYTES else TemporaryFile()  # noqa: SIM115
    missing = length
    try:
        while missing and (piece := stream.read(min(missing, _PIECE_BYTES))):
            body.write(piece)
            missing -= len(piece)
        body.seek(0)
    except BaseException:
        body.close()
        raise
    if missing:
        body.close()
        return None
    return body


def _refuse(
    status: HTTPStatus, detail: str, environ: "WSGIEnvironment", start_response: "StartResponse"
) -> list[bytes]:
    current().refusal = status.name.lower()
    answer = b'{"detail":"%s"}' % detail.encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append(("Retry-After", str(settings.RETRY_AFTER_SECONDS)))
    start_response(f"{status.value} {status.phrase}", headers)
    return [answer]
