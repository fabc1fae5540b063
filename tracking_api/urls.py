"""Every path of the service."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path
from django.views.generic import RedirectView
from oauth2_provider import urls as toolkit
from oauth2_provider import views

# The toolkit's paths, but its own take any word for an id, and fail on it; OpenID Connect and dynamic client
# registration are left out.
oauth2_urlpatterns = [
    *toolkit.metadata_urlpatterns,
    *toolkit.base_urlpatterns,
    path("applications/", views.ApplicationList.as_view(), name="list"),
    path("applications/register/", views.ApplicationRegistration.as_view(), name="register"),
    path("applications/<int:pk>/", views.ApplicationDetail.as_view(), name="detail"),
    path("applications/<int:pk>/delete/", views.ApplicationDelete.as_view(), name="delete"),
    path("applications/<int:pk>/update/", views.ApplicationUpdate.as_view(), name="update"),
    path("authorized_tokens/", views.AuthorizedTokensListView.as_view(), name="authorized-token-list"),
    path(
        "authorized_tokens/<int:pk>/delete/", views.AuthorizedTokenDeleteView.as_view(), name="authorized-token-delete"
    ),
]

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("api/", include("events.urls")),
    path("o/", include((oauth2_urlpatterns, toolkit.app_name))),
    path("accounts/login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
]

handler404 = "events.error_handlers.not_found"
handler500 = "events.error_handlers.server_error"
