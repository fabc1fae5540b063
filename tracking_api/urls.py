"""Every path of the service."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from events.dashboard import DashboardView, own_content_only
from events.probes import PROBES
from tracking_api.failures import slow_log_ins

urlpatterns = [
    path("", own_content_only(DashboardView.as_view()), name="dashboard"),
    path("api/", include("events.urls")),
    path("o/", include("tracking_api.oauth2")),
    path(
        "accounts/login/",
        own_content_only(slow_log_ins(LoginView.as_view(redirect_authenticated_user=True))),
        name="login",
    ),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("admin/login/", slow_log_ins(admin.site.login)),
    path("admin/", admin.site.urls),
    *(path(probe[1:], view, name=probe[1:]) for probe, view in PROBES.items()),
]

handler404 = "events.error_handlers.not_found"
handler500 = "events.error_handlers.server_error"
