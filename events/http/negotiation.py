"""Chooses the format of answers, and never refuses: a browser or a careless client gets an answer, not a 406."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from typing_extensions import override

# A comma or semicolon inside quotes doesn't separate.
_MEMBER = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*+"?)+')
_WEIGHT = re.compile(r";\s*q\s*=\s*([^;\s]*)", re.IGNORECASE)
_QVALUE = re.compile(r"[01]?\.?[0-9]{0,3}(?<=[0-9])")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"?')


def weights(field: str) -> Iterator[tuple[str, float]]:
    """Yield each member of an ``Accept`` or ``Accept-Encoding`` field, in lower case without parameters, and its q.

    A member whose q is not a number from 0 to 1 is left out (RFC 9110, 12.4.2).
    """
    for member in _MEMBER.findall(field):
        plain = _QUOTED.sub('""', member)
        weight = _WEIGHT.search(plain)
        if weight is None:
            yield plain.partition(";")[0].strip().lower(), 1.0
        elif _QVALUE.fullmatch(weight[1]) and float(weight[1]) <= 1:
            yield plain.partition(";")[0].strip().lower(), float(weight[1])


def _quality(media_type: str, ranges: dict[str, float]) -> float:
    """Return the weight of the most specific range that includes a media type; 0 where none does (RFC 9110, 12.5.1)."""
    for each in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if each in ranges:
            return ranges[each]
    return 0.0


def _ranges(accept: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for each, weight in weights(accept):
        name = "*/*" if each == "*" else each  # Java's clients send it
        found[name] = max(weight, found.get(name, 0.0))  # a range may come several times, with different parameters
    return found


class JSONAlways(DefaultContentNegotiation):
    """Answers JSON whatever ``Accept`` says."""

    @override
    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        """Return the first parser where the request names exactly its media type, as nearly all do.

        Else return a parser with the media type in its ``also``, other names of what the parser reads, or the one that
        the base class chooses. Raises UnsupportedMediaType, whose text says what may be sent.
        """
        first = next(iter(parsers))
        if request.content_type == first.media_type:
            return first
        essence = (request.content_type or "").partition(";")[0].strip().lower()
        another = next((each for each in parsers if essence in getattr(each, "also", ())), None)
        # a range, such as */*, names no media type, though the base class takes it for any
        if found := another or ("*" not in essence and super().select_parser(request, parsers)):
            return found
        accepted = ", ".join(each.media_type for each in parsers)
        given = request.content_type or ""
        named = f'Unsupported media type "{given[:100]}" in request' if given else "No Content-Type"
        raise UnsupportedMediaType(given, f"{named}. Accepted: {accepted}.")

    @override
    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class JSONUnlessNamed(JSONAlways):
    """Answers in the format that ``format`` names, else in the one that ``Accept`` wants most; JSON where in doubt."""

    @override
    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the renderer that is named or wanted most; the view's first one of equals, or where none is wanted."""
        best, *others = renderers
        if wanted := request.query_params.get("format"):
            best = next((each for each in others if each.format == wanted), best)
        elif accept := request.META.get("HTTP_ACCEPT"):
            ranges = _ranges(accept)
            # max() takes the first of equals
            best = max([best, *others], key=lambda each: _quality(each.media_type, ranges))
        return best, best.media_type
