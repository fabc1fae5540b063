"""Every path of the service."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from events.dashboard import DashboardView, own_content_only

urlpatterns = [
    path("", own_content_only(DashboardView.as_view()), name="dashboard"),
    path("api/", include("events.urls")),
    path("o/", include("tracking_api.oauth2")),
    path("accounts/login/", own_content_only(LoginView.as_view(redirect_authenticated_user=True)), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
]

handler404 = "events.error_handlers.not_found"
handler500 = "events.error_handlers.server_error"
