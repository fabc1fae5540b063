"""Content negotiation that never refuses: a browser or a careless client gets an answer, not a 406."""

from collections.abc import Iterable

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class JSONAlways(DefaultContentNegotiation):
    """Answers JSON whatever ``Accept`` says."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        """The first parser where the request names its very media type, as nearly all do; else as the base class."""
        first = next(iter(parsers))
        if request.content_type == first.media_type:
            return first
        return super().select_parser(request, parsers)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """The view's first renderer."""
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class JSONUnlessNamed(JSONAlways):
    """Answers another format where the parameter ``format`` or a media type in ``Accept`` names it, else JSON."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """The renderer named; the view's first where none is."""
        first, *others = renderers
        wanted = request.query_params.get("format") or ""
        accepted = {part.split(";")[0].strip().lower() for part in request.META.get("HTTP_ACCEPT", "").split(",")}
        for renderer in others:
            if wanted == renderer.format or (not wanted and renderer.media_type in accepted):
                return renderer, renderer.media_type
        return first, first.media_type
