"""The pages of django-oauth-toolkit that the service has: client credentials only.

Its other flows are about users who lend an application their rights; here an application has its own.
"""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path
from oauth2_provider import urls as toolkit
from oauth2_provider import views
from oauth2_provider.models import Application
from oauth2_provider.scopes import SettingsScopes

from events.models import Grant
from tracking_api.failures import slow_clients


class TokenView(views.TokenView):
    """Issues tokens, without the toolkit's detour for device codes."""

    def post(self, request: HttpRequest) -> HttpResponse:
        """A token, or an error of RFC 6749, section 5.2."""
        response: HttpResponse = self.authorization_flow_token_response(request)
        return response


class GrantedScopes(SettingsScopes):
    """The scopes that a client is granted, of those that there are."""

    def get_available_scopes(self, application: Application | None = None, *args: Any, **kwargs: Any) -> list[str]:
        """Those that it may ask for; any other is an ``invalid_scope``."""
        return self._granted(super().get_available_scopes(), application)

    def get_default_scopes(self, application: Application | None = None, *args: Any, **kwargs: Any) -> list[str]:
        """Those that it gets without asking; where that is none of them, all, which are then refused."""
        default: list[str] = super().get_default_scopes()
        return self._granted(default, application) or default

    def _granted(self, scopes: list[str], application: Application | None) -> list[str]:
        grant = Grant.objects.filter(application=application).first()
        return scopes if grant is None else [scope for scope in scopes if scope in grant.scopes]


app_name = toolkit.app_name
# The toolkit's own patterns take any word for an id, and fail on it.
urlpatterns = [
    path("token/", slow_clients(TokenView.as_view()), name="token"),
    path("revoke_token/", slow_clients(views.RevokeTokenView.as_view()), name="revoke-token"),
    path("introspect/", slow_clients(views.IntrospectTokenView.as_view()), name="introspect"),
    path("applications/", views.ApplicationList.as_view(), name="list"),
    path("applications/register/", views.ApplicationRegistration.as_view(), name="register"),
    path("applications/<int:pk>/", views.ApplicationDetail.as_view(), name="detail"),
    path("applications/<int:pk>/delete/", views.ApplicationDelete.as_view(), name="delete"),
    path("applications/<int:pk>/update/", views.ApplicationUpdate.as_view(), name="update"),
]
