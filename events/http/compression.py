"""Compresses answers of the API where clients accept it: to a tenth or a quarter of the bytes, at 10 ms a megabyte.

Compressed are only answers under ``/api/`` with status 200, as what holds a secret beside text that an attacker chooses
would give the secret away by its compressed length (BREACH). Pages hold CSRF tokens, answers of the token endpoint hold
tokens, and errors repeat what a request said.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, cast

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from events.http.negotiation import weights
from events.http.paths import is_api

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LEVEL = 1  # for both codings; 6, gzip's default, takes three to six times as long for an eighth less
_LEAST_BYTES = 1_000  # an answer that fits into one packet anyway doesn't arrive earlier for being smaller
_MEDIA_TYPES = {
    "application/json", "application/x-ndjson", "text/csv", "application/yaml", "application/vnd.oai.openapi",
}  # fmt: skip


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self, mode: Any = ..., /) -> bytes: ...


_PACKERS: dict[str, Callable[[], _Packer]] = {  # max() takes the first of equals, so the better coding comes first
    "zstd": lambda: zstd.ZstdCompressor(level=_LEVEL),
    "gzip": lambda: zlib.compressobj(_LEVEL, wbits=zlib.MAX_WBITS | 16),
}
_SO_FAR = {"zstd": zstd.ZstdCompressor.FLUSH_BLOCK, "gzip": zlib.Z_SYNC_FLUSH}
# The server looks for limits and for clients that have gone between pieces. Lines that are much alike pack so well that
# without a flush no piece would come for long.
_SILENT_BYTES = 1 << 20


class CompressionMiddleware:
    """Compresses answers as ``Accept-Encoding`` asks, piece by piece where they come in pieces.

    A compressed answer's ``ETag`` is weak: the bytes differ by the coding, their meaning doesn't (RFC 9110, 8.8.1).
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer, and compress the answer where the client accepts that and it is worth it."""
        response = self.get_response(request)
        if request.method in {"GET", "HEAD"} and is_api(request.path_info) and _is_packable(response):
            patch_vary_headers(response, ["Accept-Encoding"])
            if coding := coding_of(request.META.get("HTTP_ACCEPT_ENCODING", "")):
                _pack(response, coding)
        return response


def coding_of(accept_encoding: str) -> str | None:
    """Return the coding that is wanted most; None for no coding, or for none that is known (RFC 9110, 12.5.3)."""
    wanted: dict[str, float] = {}
    for name, weight in weights(accept_encoding):
        name = name.removeprefix("x-")
        wanted[name] = max(weight, wanted.get(name, 0.0))
    wanted.setdefault("gzip", wanted.get("*", 0.0))  # not zstd: a client that accepts any coding may be older than zstd
    coding = max(_PACKERS, key=lambda each: wanted.get(each, 0.0))
    weight = wanted.get(coding, 0.0)
    return coding if weight > 0 and weight >= wanted.get("identity", 0.0) else None


def _is_packable(response: HttpResponseBase) -> bool:
    if response.status_code == 304:  # stands for an answer that would be packed
        return True
    media_type = response.get("Content-Type", "").partition(";")[0]
    return response.status_code == 200 and media_type in _MEDIA_TYPES and "Content-Encoding" not in response


def _pack(response: HttpResponseBase, coding: str) -> None:
    # the ETag of a short answer is weak too, though it isn't packed, as a 304 can't know how long its answer would be
    if "ETag" in response and not response["ETag"].startswith("W/"):
        response["ETag"] = f"W/{response['ETag']}"
    if isinstance(response, StreamingHttpResponse):
        response.streaming_content = _pieces(cast(Iterable[bytes], response.streaming_content), coding)
        response["Content-Encoding"] = coding
        del response["Content-Length"]
    elif isinstance(response, HttpResponse) and len(response.content) >= _LEAST_BYTES:
        packer = _PACKERS[coding]()
        response.content = packer.compress(response.content) + packer.flush()
        response["Content-Encoding"] = coding
        response["Content-Length"] = str(len(response.content))


def _pieces(pieces: Iterable[bytes], coding: str) -> Iterator[bytes]:
    packer = _PACKERS[coding]()
    silent = 0
    for piece in pieces:
        silent += len(piece)
        packed = packer.compress(piece)
        if silent > _SILENT_BYTES:
            packed += packer.flush(_SO_FAR[coding])
        if packed:
            silent = 0
            yield packed
    yield packer.flush()
