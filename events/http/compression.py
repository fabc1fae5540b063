"""Compressed answers of the API, for who accepts them: a tenth to a quarter of the bytes, at some 10 ms a megabyte.

Only what was asked for and found, under ``/api/``: pages hold tokens against forgery, token answers hold tokens, and
errors repeat what a request said. The length of a compressed answer that has both would give the secret away (BREACH).
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

_LEVEL = 1  # of either; 6, gzip's own default, takes three to six times as long for an eighth less
_LEAST_BYTES = 1_000  # what fits into one packet is no faster for being smaller
_MEDIA_TYPES = {
    "application/json", "application/x-ndjson", "text/csv", "application/yaml", "application/vnd.oai.openapi",
}  # fmt: skip


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self, mode: Any = ..., /) -> bytes: ...


_PACKERS: dict[str, Callable[[], _Packer]] = {  # the better one first
    "zstd": lambda: zstd.ZstdCompressor(level=_LEVEL),
    "gzip": lambda: zlib.compressobj(_LEVEL, wbits=zlib.MAX_WBITS | 16),
}
_SO_FAR = {"zstd": zstd.ZstdCompressor.FLUSH_BLOCK, "gzip": zlib.Z_SYNC_FLUSH}
# Between pieces the server sees to limits and to clients that have gone; of like lines none would come for long.
_SILENT_BYTES = 1 << 20


class CompressionMiddleware:
    """Packs answers as ``Accept-Encoding`` wants, a piece at a time where they come in pieces.

    Their ``ETag`` is weak then: the bytes differ by the coding, and what they say doesn't (RFC 9110, 8.8.1).
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The answer, packed where that is wanted and worth it."""
        response = self.get_response(request)
        if request.method in {"GET", "HEAD"} and is_api(request.path_info) and _is_packable(response):
            patch_vary_headers(response, ["Accept-Encoding"])
            if coding := coding_of(request.META.get("HTTP_ACCEPT_ENCODING", "")):
                _pack(response, coding)
        return response


def coding_of(accept_encoding: str) -> str | None:
    """The coding that is wanted most; None where that is none, or none of ours (RFC 9110, 12.5.3)."""
    wanted: dict[str, float] = {}
    for name, weight in weights(accept_encoding):
        name = name.removeprefix("x-")
        wanted[name] = max(weight, wanted.get(name, 0.0))
    wanted.setdefault("gzip", wanted.get("*", 0.0))  # not zstd: who says “any” may mean those of old
    coding = max(_PACKERS, key=lambda each: wanted.get(each, 0.0))
    weight = wanted.get(coding, 0.0)
    return coding if weight > 0 and weight >= wanted.get("identity", 0.0) else None


def _is_packable(response: HttpResponseBase) -> bool:
    if response.status_code == 304:  # of an answer that is
        return True
    media_type = response.get("Content-Type", "").partition(";")[0]
    return response.status_code == 200 and media_type in _MEDIA_TYPES and "Content-Encoding" not in response


def _pack(response: HttpResponseBase, coding: str) -> None:
    # also of one that is too short to be packed, as a 304 can't know that
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
