"""Owns the dashboard: a page whose scripts call the API."""

from typing import Any

from django.conf import settings
from django.contrib.auth.mixins import PermissionRequiredMixin
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.generic import TemplateView
from typing_extensions import override

from events.access.tokens import VIEW_EVENTS

_MOST_LISTED = 1_000


class DashboardView(PermissionRequiredMixin, TemplateView):
    """``/``: charts of the events, for users who may view them; others log in, or learn what they lack."""

    permission_required = VIEW_EVENTS
    template_name = "events/dashboard.html"

    @override
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add ``most_listed``, how many series the page may list at a time."""
        return super().get_context_data(most_listed=min(_MOST_LISTED, settings.MAX_SERIES), **kwargs)

    @override
    def handle_no_permission(self) -> HttpResponseBase:  # type: ignore[override]  # wider than a redirect
        """Redirect to the log-in page, which leads back here; answer a user who is logged in with 403."""
        if self.request.user.is_authenticated:
            return render(self.request, "events/no_permission.html", status=403)
        return super().handle_no_permission()
