"""Serves the description of the API as a file and as a page; open to all, as it holds no secrets."""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any

from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer2, OpenApiYamlRenderer, OpenApiYamlRenderer2
from drf_spectacular.settings import spectacular_settings
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.response import Response
from typing_extensions import override

from events.http import csp
from events.http.negotiation import JSONUnlessNamed

CONTENT_SECURITY_POLICY = csp.policy(form_action="'none'")
_making = Lock()  # the generator sets itself up at its first call, and fails where another thread calls it meanwhile


def described(file_format: str) -> str | bytes:
    """Return the description of the API, where ``file_format`` is the ``format`` of a renderer of ``SchemaView``."""
    with _making:
        return _described(file_format)


@cache  # anybody may ask for it, and making it takes a thousand times as long as returning it
def _described(file_format: str) -> str | bytes:
    renderer = {each.format: each for each in SchemaView.renderer_classes}[file_format]()
    schema = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    rendered: str | bytes = renderer.render(schema, renderer_context={})
    return rendered


class SchemaView(SpectacularAPIView):
    """``GET /api/schema/``: OpenAPI 3.1, as JSON or, by ``?format=yaml`` or ``Accept``, as YAML."""

    renderer_classes = [OpenApiJsonRenderer2, OpenApiYamlRenderer2, OpenApiYamlRenderer]
    content_negotiation_class = JSONUnlessNamed

    @extend_schema(exclude=True)
    @override
    def get(self, request: Request) -> HttpResponse:
        renderer = request.accepted_renderer
        charset = f"; charset={renderer.charset}" if renderer.charset else ""
        return HttpResponse(
            described(renderer.format),
            content_type=f"{renderer.media_type}{charset}",
            headers={"Content-Disposition": f'inline; filename="{spectacular_settings.TITLE}.{renderer.format}"'},
        )


class DocumentationView(SpectacularSwaggerSplitView):
    """``GET /api/docs/``: a page that shows the description, where people can try every call as a client."""

    url_name = "api-schema"
    template_name = "events/documentation.html"
    template_name_js = "events/documentation.js"

    @override
    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        answer = super().finalize_response(request, response, *args, **kwargs)
        answer.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return answer
