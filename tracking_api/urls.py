"""The paths of the service; those of the API and of OAuth2 are included."""

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from events.access.login_throttle import slow_log_ins
from events.access.oauth2.views import ServerMetadataView
from events.admin.lists import row_page
from events.boards.pages import AddChartPage, BoardFile, BoardListPage, BoardView, PublicBoardPage
from events.dashboard import ChartPage, OverviewPage
from events.observability.probes import PROBES
from events.series_pages import SeriesPage

_log_in = slow_log_ins(LoginView.as_view(redirect_authenticated_user=True))
_log_out = LogoutView.as_view()
_icon = RedirectView.as_view(url=f"{settings.STATIC_URL}events/icon.svg", permanent=True)
_admin_log_in = slow_log_ins(admin.site.login)

# Paths that forms are sent to are also there without their last slash, as a redirect would turn a POST into a GET.
# Each has a name, by which requests are counted. Of two of one name links have the last.
urlpatterns = [
    path("", OverviewPage.as_view(), name="dashboard"),
    path("chart/", ChartPage.as_view(), name="chart"),
    path("chart", ChartPage.as_view(), name="chart"),
    re_path(r"^series/(?P<namespace>[^/]+)/(?P<name>[^/]+)/?\Z", SeriesPage.as_view(), name="series"),
    path("boards", BoardListPage.as_view(), name="boards"),
    path("boards/", BoardListPage.as_view(), name="boards"),
    path("boards/add", AddChartPage.as_view(), name="board-add"),
    path("boards/public/<token>/", PublicBoardPage.as_view(), name="public-board"),
    path("boards/<key>/", BoardView.as_view(), name="board"),
    path("boards/<key>/export", BoardFile.as_view(), name="board-export"),
    path("", include("events.alert_pages.urls")),
    path("api/", include("events.urls")),
    path("o/", include("events.access.oauth2.views")),
    re_path(r"^\.well-known/oauth-authorization-server/?\Z", ServerMetadataView.as_view(), name="oauth2-metadata"),
    path("accounts/login", _log_in, name="login"),
    path("accounts/login/", _log_in, name="login"),
    path("accounts/logout", _log_out, name="logout"),
    path("accounts/logout/", _log_out, name="logout"),
    # asked for by browsers where a page names no icon, as the admin's pages
    path("favicon.ico", _icon, name="favicon"),
    path("admin/login", _admin_log_in, name="admin-login"),
    path("admin/login/", _admin_log_in, name="admin-login"),
    path("admin/r/<path:content_type_id>/<path:object_id>/", admin.site.admin_view(row_page), name="admin-row"),
    path("admin/", admin.site.urls),
    *(path(probe[1:], view, name=probe[1:]) for probe, view in PROBES.items()),
]

handler400 = "events.http.error_handlers.bad_request"
handler404 = "events.http.error_handlers.not_found"
handler500 = "events.http.error_handlers.server_error"
