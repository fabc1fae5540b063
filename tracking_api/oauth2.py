"""The pages of django-oauth-toolkit that the service has: client credentials only.

Its other flows are about users who lend an application their rights; here an application has its own.
"""

from django.http import HttpRequest, HttpResponse
from django.urls import path
from oauth2_provider import urls as toolkit
from oauth2_provider import views


class TokenView(views.TokenView):
    """Issues tokens, without the toolkit's detour for device codes."""

    def post(self, request: HttpRequest) -> HttpResponse:
        """A token, or an error of RFC 6749, section 5.2."""
        response: HttpResponse = self.authorization_flow_token_response(request)
        return response


app_name = toolkit.app_name
# The toolkit's own patterns take any word for an id, and fail on it.
urlpatterns = [
    path("token/", TokenView.as_view(), name="token"),
    path("revoke_token/", views.RevokeTokenView.as_view(), name="revoke-token"),
    path("introspect/", views.IntrospectTokenView.as_view(), name="introspect"),
    path("applications/", views.ApplicationList.as_view(), name="list"),
    path("applications/register/", views.ApplicationRegistration.as_view(), name="register"),
    path("applications/<int:pk>/", views.ApplicationDetail.as_view(), name="detail"),
    path("applications/<int:pk>/delete/", views.ApplicationDelete.as_view(), name="delete"),
    path("applications/<int:pk>/update/", views.ApplicationUpdate.as_view(), name="update"),
]
