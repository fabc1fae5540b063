"""The WSGI entry point for other servers than our own: ``tracking_api.wsgi:application``.

What a slow or greedy client may hold up is then for that server to limit; docs/deployment.md says which limits of the
service still hold.
"""

from __future__ import annotations

import re
from functools import partial
from http import HTTPStatus
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

from django.db import connections

from tracking_api.server.handler import LongAnswer, django_handler, freeze  # sets Django up

# isort: split
from events.database.statement_timeout import limit_statements
from events.http.error_handlers import answer_to, has_no_room
from events.http.fast_path.handler import start
from events.http.paths import is_api, most_body_bytes
from events.http.plain_errors import refuse
from events.observability.probes import is_probe
from events.observability.recorder import observe
from tracking_api.server.streams import Streams, write_to_file

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PIECE_BYTES = 1 << 16
_BODY_IN_MEMORY_BYTES = 1 << 20
_is_length = re.compile(r"[0-9]{,18}").fullmatch

_streams = Streams()
limit_statements()
freeze()


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    """Read the whole body, then answer; refuse a body that can't be known to be whole."""
    refusal = _take_body(environ)
    if refusal is not None:
        return observe(environ, start_response, refusal)
    return observe(environ, start_response, django_handler if is_probe(environ["PATH_INFO"]) else _work)


def _work(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    for kept in connections.all(initialized_only=True):  # the replica's too, where this thread has one
        kept.close_if_unusable_or_obsolete()
    answer = django_handler(environ, start_response)
    if not isinstance(answer, LongAnswer):
        return answer
    if environ["REQUEST_METHOD"] == "HEAD":
        answer.start()  # without Content-Length, as the answer isn't made
        answer.close()
        return []
    return _made(answer)


def _made(answer: LongAnswer) -> Any:
    try:
        _streams.admit(answer.owner, _streams.most)
        try:
            file = write_to_file(answer, _streams, answer.owner, lambda: True)
        finally:
            _streams.release(answer.owner)
    except Exception as error:  # the view may raise anything, and is answered as any view is
        response = answer_to(answer.request, error, answer.response)
        start(response, answer.start_response)
        return [response.content]
    answer.start()
    return _File(file, _PIECE_BYTES)  # type: ignore[arg-type]  # FileWrapper only reads and closes it


class _File(FileWrapper):
    streaming = True


def _take_body(environ: WSGIEnvironment) -> WSGIApplication | None:
    """Read the body into the place of its stream; where it can't be whole, return an application that refuses it."""
    if not _is_length(environ.get("CONTENT_LENGTH", "")):  # uWSGI passes on whatever was sent
        return partial(refuse, HTTPStatus.BAD_REQUEST, "The Content-Length is no number.")
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if environ.get("HTTP_TRANSFER_ENCODING", "chunked").strip().lower() != "chunked":
        return partial(refuse, HTTPStatus.NOT_IMPLEMENTED, "The only Transfer-Encoding that is known is chunked.")
    is_chunked = "HTTP_TRANSFER_ENCODING" in environ and "CONTENT_LENGTH" not in environ
    if is_chunked and not environ.get("wsgi.input_terminated"):
        # a server without this key ends a chunked body that broke off as if it were whole, or gives no body at all
        return partial(refuse, HTTPStatus.LENGTH_REQUIRED, "The body must come with its Content-Length.")
    most = most_body_bytes(environ["PATH_INFO"])
    if length > most and is_api(environ["PATH_INFO"]):
        return None  # the API refuses it unread, once it has authenticated the client
    if length <= most and (length or is_chunked):
        try:
            body = _read(environ["wsgi.input"], most + 1 if is_chunked else length)
        except OSError as error:
            if not has_no_room(error):
                raise
            return partial(refuse, HTTPStatus.SERVICE_UNAVAILABLE, "There is no room to take the body; try again.")
        size = body.tell()
        if size < length:
            return partial(refuse, HTTPStatus.BAD_REQUEST, "The body ended before its Content-Length.")
        body.seek(0)
        environ["CONTENT_LENGTH"], environ["wsgi.input"] = str(size), body
        length = size
    if length > most:
        detail = f"The body is larger than the {most} bytes allowed."
        return partial(refuse, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
    return None


def _read(stream: IO[bytes], missing: int) -> IO[bytes]:
    """Return a file with the next ``missing`` bytes of the stream, or as many as it has; its position is at the end."""
    body: IO[bytes] = SpooledTemporaryFile(_BODY_IN_MEMORY_BYTES)  # noqa: SIM115
    while missing and (piece := stream.read(min(missing, _PIECE_BYTES))):
        body.write(piece)
        missing -= len(piece)
    body.flush()  # or it would be found out only once the body is read that there is no room
    return body
