"""Writes answers as bytes, in each format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
from rest_framework import renderers
from typing_extensions import override

from events.http.csv_files import csv_pieces, marked

_PIECE_CHARACTERS = 1 << 14


class JSONRenderer(renderers.BaseRenderer):
    """Compact JSON in UTF-8."""

    media_type = "application/json"
    format = "json"
    charset = None

    @override
    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        return b"" if data is None else msgspec.json.encode(data, enc_hook=str)


class StreamRenderer(JSONRenderer):
    """A format of lines, which can be written piece by piece; errors are JSON all the same."""

    def lines(self, items: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
        """Yield the items as bytes, some thousand bytes at a time."""
        raise NotImplementedError


class CSVRenderer(StreamRenderer):
    """Comma-separated values (RFC 4180): a header line, and a line an item; an empty bucket's value is empty."""

    media_type = "text/csv"
    format = "csv"
    columns: Sequence[str] = ("aggregatedTimestamp", "value")

    @override
    def lines(self, items: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
        return csv_pieces(chain([self.columns], (item.values() for item in items)))


class SeriesCSVRenderer(CSVRenderer):
    """The catalogue as CSV; a name that a spreadsheet would take for a formula comes after an apostrophe."""

    columns = ("namespace", "name", "count", "firstTimestamp", "lastTimestamp")

    @override
    def lines(self, items: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
        return super().lines(
            {**item, "namespace": marked(item["namespace"]), "name": marked(item["name"])} for item in items
        )


class NDJSONRenderer(StreamRenderer):
    """JSON, an item a line."""

    media_type = "application/x-ndjson"
    format = "ndjson"

    @override
    def lines(self, items: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
        piece = bytearray()
        for item in items:
            piece += msgspec.json.encode(item) + b"\n"
            if len(piece) >= _PIECE_CHARACTERS:
                yield bytes(piece)
                piece.clear()
        yield bytes(piece)
