"""The description of the API in OpenAPI 3.1, put together by drf-spectacular."""

from __future__ import annotations

from typing import Any, cast

from django.conf import settings
from django.urls import reverse
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample

from events.openapi import operations
from events.openapi.schemas import Schema, components


def add_components(result: Schema, **kwargs: Any) -> Schema:
    """The description with its components; drf-spectacular calls it last."""
    result.setdefault("components", {})["schemas"] = components()
    return result


def without_slash(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """The paths as the documentation names them: a slash after words of ours, none after words of the client's."""
    return [
        (path.rstrip("/") if path.endswith("}/") else path, regex, method, callback)
        for path, regex, method, callback in endpoints
    ]


def path_first(parameter: Schema) -> tuple[bool, bool]:
    """Sorts the parameters of a call: those of the path, those of the query as the serializer has them, the format."""
    return parameter["in"] != "path", parameter["name"] == "format"


class Description(AutoSchema):
    """Tells drf-spectacular of a call what can't be read off its view."""

    @property
    def _call(self) -> operations.Call:
        if self.path == "/api/track/":
            return operations.track()
        if self.path == "/api/events/{namespace}/{name}":
            return operations.aggregation()
        return operations.catalogue(of_namespace="namespace" in self.path)

    def get_operation(self, *args: Any, **kwargs: Any) -> Schema:
        """All of it, with what drf-spectacular has no word for."""
        operation = super().get_operation(*args, **kwargs) or {}
        if "requestBody" in operation:
            operation["requestBody"]["required"] = True
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "query":
                parameter["allowEmptyValue"] = True
        return operation

    def get_operation_id(self) -> str:
        """The name that generated clients call it by."""
        return self._call.id

    def get_summary(self) -> str:
        """A few words."""
        return self._call.summary

    def get_description(self) -> str:  # type: ignore[override]  # drf-spectacular's own takes no arguments either
        """Some sentences, in Markdown."""
        return self._call.description

    def get_tags(self) -> list[str]:
        """The heading that it stands under."""
        return ["Events"]

    def get_override_parameters(self) -> list[Any]:
        """Parameters and the headers of answers."""
        return list(self._call.parameters)

    def get_request_serializer(self) -> Any:
        """A schema by media type; None without a body."""
        return self._call.request

    def get_response_serializers(self) -> Any:
        """An answer by status and media type."""
        return dict(self._call.responses)

    def get_examples(self) -> list[OpenApiExample]:
        """Real requests."""
        return list(self._call.examples)


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a client comes by its token: by its id and secret, or from elsewhere."""

    target_class = "events.access.tokens.BearerAuthentication"
    name = ["client", "token"]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[str]]]:
        """Either, with the scope that the view asks for."""
        return [{"client": [cast(Any, auto_schema.view).required_scope]}, {"token": []}]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[Schema]:
        """The flow of client credentials, and a token as it is."""
        scopes = settings.OAUTH2_PROVIDER["SCOPES"]
        flow = {"tokenUrl": reverse("oauth2_provider:token"), "scopes": scopes}
        return [
            {
                "type": "oauth2",
                "description": "The id and secret of a client, registered at `/o/applications/register/`.",
                "flows": {"clientCredentials": flow},
            },
            {"type": "http", "scheme": "bearer", "description": "A token that was had before."},
        ]


class BrowserScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a user's browser reads without a token."""

    target_class = "events.access.tokens.BrowserAuthentication"
    name = "user"

    def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
        """The cookie of a log-in."""
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "A user who is logged in and may view events; where there is no `Authorization`.",
        }
