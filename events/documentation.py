"""The description of the API as a file and as a page; open to all, as it says nothing that the code doesn't."""

from __future__ import annotations

from typing import Any

from drf_spectacular.renderers import OpenApiJsonRenderer2, OpenApiYamlRenderer, OpenApiYamlRenderer2
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.response import Response

from events.negotiation import JSONUnlessNamed

# Nothing from elsewhere, and no script or style within the page. Swagger UI has its icons as data.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


class SchemaView(SpectacularAPIView):
    """``GET /api/schema/``: OpenAPI 3.1, as JSON or, by ``?format=yaml`` or ``Accept``, as YAML."""

    renderer_classes = [OpenApiJsonRenderer2, OpenApiYamlRenderer2, OpenApiYamlRenderer]
    content_negotiation_class = JSONUnlessNamed


class DocumentationView(SpectacularSwaggerSplitView):
    """``GET /api/docs/``: the same for people, who can try every call with a client of theirs."""

    url_name = "api-schema"
    template_name = "events/documentation.html"
    template_name_js = "events/documentation.js"

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        """With a policy that lets nothing in from elsewhere."""
        answer = super().finalize_response(request, response, *args, **kwargs)
        answer.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return answer
