"""Reads bodies as bytes: whole, unpacked, and never more than the limit."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Mapping
from typing import IO, Any, Protocol

from django.conf import settings
from rest_framework.exceptions import ParseError, UnsupportedMediaType

from events.http.exceptions import RequestTooLarge

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PIECE_BYTES = 1 << 16
# The base-2 logarithm of the window that a zstd decoder must support, and of the largest one it allows (RFC 9659).
_WINDOW_LOG = 23
# The most members or frames of a body: an empty one has some ten bytes, and takes as long as thousands of bytes.
_MOST_PARTS = 1_000
_ERRORS = (zlib.error, zstd.ZstdError)


class _Unpacker(Protocol):
    """Takes a packed body piece by piece, and returns no more of the body than it is asked for."""

    parts: int  # how many members or frames have begun

    @property
    def eof(self) -> bool:
        """Tell whether the body may end here."""

    def unpack(self, packed: bytes, most: int) -> tuple[bytes, bytes]:
        """Return some of the body, ``most`` bytes at most, and what of ``packed`` is left for the next call."""


def _rest(stream: zlib._Decompress) -> bytes:
    return stream.unused_data if stream.eof else stream.unconsumed_tail


class _Gzip:
    """Unpacks gzip: members one after another (RFC 1952)."""

    parts = 0

    def __init__(self) -> None:
        self._member = self._new()

    def _new(self) -> zlib._Decompress:
        self.parts += 1
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: with gzip's header and checksum

    @property
    def eof(self) -> bool:
        return self._member.eof

    def unpack(self, packed: bytes, most: int) -> tuple[bytes, bytes]:
        if self._member.eof:
            self._member = self._new()
        body = self._member.decompress(packed, most)
        return body, _rest(self._member)


class _Deflate:
    """Unpacks deflate with zlib's header (RFC 1950), as it should be, or without (RFC 1951), as it often is."""

    parts = 1

    def __init__(self) -> None:
        self._stream: zlib._Decompress | None = None
        self._head = b""

    @property
    def eof(self) -> bool:
        return self._stream is not None and self._stream.eof

    def unpack(self, packed: bytes, most: int) -> tuple[bytes, bytes]:
        if self._stream is None:
            self._head += packed
            if len(self._head) < 2:
                return b"", b""
            packed = self._head
            # zlib's header has the method 8 and a checksum; no encoder begins a block without a header like that
            is_zlib = packed[0] & 0xF == 8 and int.from_bytes(packed[:2], "big") % 31 == 0
            self._stream = zlib.decompressobj(wbits=zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        if self.eof:
            raise zlib.error("it goes on after its end")
        body = self._stream.decompress(packed, most)
        return body, _rest(self._stream)


class _Zstd:
    """Unpacks zstd: frames one after another (RFC 8878)."""

    parts = 0

    def __init__(self) -> None:
        self._frame = self._new()

    def _new(self) -> zstd.ZstdDecompressor:
        self.parts += 1
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})

    @property
    def eof(self) -> bool:
        return self._frame.eof

    def unpack(self, packed: bytes, most: int) -> tuple[bytes, bytes]:
        if self._frame.eof:
            self._frame = self._new()
        body = self._frame.decompress(packed, most)
        # the decoder keeps the rest of an unfinished frame itself, and is called again with no bytes
        return body, self._frame.unused_data if self._frame.eof else b""


UNPACKERS: dict[str, type[_Gzip] | type[_Deflate] | type[_Zstd]] = {
    "gzip": _Gzip, "x-gzip": _Gzip, "deflate": _Deflate, "zstd": _Zstd
}  # fmt: skip


def read_body(stream: IO[bytes], meta: Mapping[str, Any]) -> bytes:
    """Return the whole body, unpacked where ``Content-Encoding`` is gzip, deflate or zstd.

    Raises RequestTooLarge past ``MAX_BODY_BYTES``, packed or unpacked, without reading on; UnsupportedMediaType for
    another encoding; ParseError for a body that is not in the encoding that it names.
    """
    if int(meta.get("CONTENT_LENGTH") or 0) > settings.MAX_BODY_BYTES:
        raise _too_large()
    encoding = meta.get("HTTP_CONTENT_ENCODING", "").strip().lower() or "identity"
    if encoding in UNPACKERS:
        return _unpack(stream, encoding)
    if encoding != "identity":
        known = "only gzip, deflate and zstd are known"
        raise UnsupportedMediaType(encoding, f"Unsupported content encoding “{encoding[:50]}”: {known}.")
    body = stream.read(settings.MAX_BODY_BYTES + 1)
    if len(body) > settings.MAX_BODY_BYTES:
        raise _too_large()
    return body


def _unpack(stream: IO[bytes], encoding: str) -> bytes:
    body = bytearray()
    unpacker: _Unpacker = UNPACKERS[encoding]()
    try:
        while packed := stream.read(_PIECE_BYTES):
            unpacked = b""
            # a decoder may hold back bytes that were more than it was asked for
            while packed or (unpacked and not unpacker.eof):
                unpacked, packed = unpacker.unpack(packed, settings.MAX_BODY_BYTES + 1 - len(body))
                body += unpacked
                if len(body) > settings.MAX_BODY_BYTES:
                    raise _too_large()
                if unpacker.parts > _MOST_PARTS:
                    raise RequestTooLarge(f"The {encoding} body has more than the {_MOST_PARTS} parts allowed.")
    except _ERRORS as error:
        raise ParseError(f"The body is not {encoding}: {str(error).rstrip('.')}.") from None
    if not unpacker.eof:
        raise ParseError(f"The {encoding} body ends too early.")
    return bytes(body)


def _too_large() -> RequestTooLarge:
    return RequestTooLarge(f"The body is larger than the {settings.MAX_BODY_BYTES} bytes allowed.")
