"""The pages and endpoints of django-oauth-toolkit that the service has: the ones of the client credentials flow.

The toolkit's other flows let users lend an application their rights; here an application has rights of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import View
from oauth2_provider import urls as toolkit
from oauth2_provider import views
from oauth2_provider.scopes import get_scopes_backend
from oauthlib.common import Request
from oauthlib.oauth2.rfc6749.errors import InvalidClientError
from typing_extensions import override

from events.access.oauth2.client_pages import (
    ClientDelete,
    ClientDetail,
    ClientList,
    ClientRegistration,
    ClientSecret,
    ClientUpdate,
)
from events.access.oauth2.client_throttle import slow_clients
from events.access.oauth2.errors import answers_errors, refusal
from events.access.oauth2.forms import credentials_of, parameters_of

_METADATA_SECONDS = 3_600


class TokenView(views.TokenView):
    """Issues tokens, without the toolkit's extra steps for device codes. Errors are RFC 6749's, section 5.2."""

    @override
    def post(self, request: HttpRequest) -> HttpResponse:
        response: HttpResponse = self.authorization_flow_token_response(request)
        return response


class IntrospectTokenView(views.IntrospectTokenView):
    """Tells a client the scopes and the expiry of a token (RFC 7662)."""

    @override
    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response: HttpResponse = self.get_token_response(dict(parameters_of(request)).get("token"))
        return response

    post = get

    @override
    def unauthenticated_response(self, request: HttpRequest, oauthlib_request: Request | None = None) -> HttpResponse:
        error = getattr(oauthlib_request, "oauth2_error", None)
        if request.META.get("HTTP_AUTHORIZATION", "").lower().startswith("bearer ") and error:
            return JsonResponse(error, status=403)
        return refusal(InvalidClientError(status_code=403))


@method_decorator(cache_control(public=True, max_age=_METADATA_SECONDS), name="get")
class ServerMetadataView(View):
    """Describes the endpoints: their URLs, and what they accept (RFC 8414)."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Answer with the metadata; its URLs have the host of this request."""
        issuer = request.build_absolute_uri("/").rstrip("/")
        methods = ["client_secret_basic", "client_secret_post"]
        endpoints = {"token": "token", "revocation": "revoke-token", "introspection": "introspect"}
        metadata: dict[str, object] = {
            "issuer": issuer,
            "scopes_supported": list(get_scopes_backend().get_all_scopes()),
            "response_types_supported": [],
            "grant_types_supported": ["client_credentials"],
            "service_documentation": issuer + reverse("api-docs"),
        }
        for name, view in endpoints.items():
            metadata[f"{name}_endpoint"] = issuer + reverse(f"oauth2_provider:{view}")
            metadata[f"{name}_endpoint_auth_methods_supported"] = methods
        return JsonResponse(metadata)


def _endpoint(view_class: type[View]) -> Callable[..., HttpResponseBase]:
    """Make an endpoint of a view, which is called only for its own methods, and with a request that can be read."""
    view = view_class.as_view()
    methods = [method.upper() for method in view_class.http_method_names if hasattr(view_class, method)]
    methods += ["HEAD"] if "GET" in methods else []

    @slow_clients
    def answer(request: HttpRequest) -> HttpResponseBase:
        credentials_of(request)  # raises for a request that can't be read, before any secret is compared
        return view(request)

    @csrf_exempt  # these endpoints ask for no cookie
    @answers_errors
    def endpoint(request: HttpRequest) -> HttpResponseBase:
        if request.method not in methods:
            return HttpResponseNotAllowed(methods)
        return view(request) if request.method == "OPTIONS" else answer(request)

    return endpoint


def _both(route: str, view: Callable[..., HttpResponseBase], name: str) -> list[URLPattern]:
    """Return a path without its slash, as a redirect would turn a POST into a GET, and with it, as links have it."""
    return [path(route, view, name=name), path(f"{route}/", view, name=name)]


app_name = toolkit.app_name
# The toolkit's own patterns accept any word as an id, and its views then fail on it.
urlpatterns = [
    *_both("token", _endpoint(TokenView), "token"),
    *_both("revoke_token", _endpoint(views.RevokeTokenView), "revoke-token"),
    *_both("introspect", _endpoint(IntrospectTokenView), "introspect"),
    *_both("applications", ClientList.as_view(), "list"),
    *_both("applications/register", ClientRegistration.as_view(), "register"),
    *_both("applications/<int:pk>", ClientDetail.as_view(), "detail"),
    *_both("applications/<int:pk>/delete", ClientDelete.as_view(), "delete"),
    *_both("applications/<int:pk>/update", ClientUpdate.as_view(), "update"),
    *_both("applications/<int:pk>/secret", ClientSecret.as_view(), "secret"),
]
