"""Makes drf-spectacular put the description of the API together, in OpenAPI 3.1."""

from __future__ import annotations

from typing import Any, cast

from django.conf import settings
from django.urls import reverse
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from typing_extensions import override

from events.openapi.schemas import Schema, components
from events.serializers import EventSerializer


def add_components(result: Schema, **kwargs: Any) -> Schema:
    """Add the components that no serializer describes. drf-spectacular calls this last, and takes what it returns."""
    found = result["components"]["schemas"]
    for each in found.values():
        if each.get("type") == "object":
            each["additionalProperties"] = False
    found |= components(found["Event"])
    return result


def without_slash(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Drop the last slash of paths that end with a parameter, as the documentation names them; words keep theirs."""
    return [
        (path.rstrip("/") if path.endswith("}/") else path, regex, method, callback)
        for path, regex, method, callback in endpoints
    ]


def path_first(parameter: Schema) -> tuple[bool, bool]:
    """Return the sort key of a parameter: path first, then the query in the serializer's order, ``format`` last."""
    return parameter["in"] != "path", parameter["name"] == "format"


class Description(AutoSchema):
    """Completes drf-spectacular's description of an operation with what it doesn't find or can't write."""

    @override
    def get_operation(self, *args: Any, **kwargs: Any) -> Schema:
        operation = super().get_operation(*args, **kwargs) or {}
        # makes the component Event, which bodies refer to by its name
        self.resolve_serializer(EventSerializer, "request")
        for parameter in operation.get("parameters", []):
            parameter["schema"].pop("x-spec-enum-id", None)
            if parameter["schema"].keys() == {"allOf"}:
                [parameter["schema"]] = parameter["schema"]["allOf"]
            if parameter["in"] == "query":
                parameter["allowEmptyValue"] = True
                parameter["schema"].pop("minLength", None)
        if "requestBody" in operation:
            operation["requestBody"]["required"] = True
        if operation:
            operation.setdefault("security", [])  # that none is needed is said as well
        return operation


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes how a client gets its token: for its id and secret, or from elsewhere."""

    target_class = "events.access.tokens.BearerAuthentication"
    name = ["client", "token"]

    @override
    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[str]]]:
        return [{"client": [cast(Any, auto_schema.view).required_scope]}, {"token": []}]

    @override
    def get_security_definition(self, auto_schema: AutoSchema) -> list[Schema]:
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
    """Describes how a user's browser reads without a token: by its session."""

    target_class = "events.access.tokens.BrowserAuthentication"
    name = "user"

    @override
    def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "A user who is logged in and may view events; where there is no `Authorization`.",
        }
