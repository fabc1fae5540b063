"""The dashboard: a page whose scripts ask the API's own endpoints."""

from typing import Any

from django.conf import settings
from django.contrib.auth.mixins import PermissionRequiredMixin
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.generic import TemplateView

from events.access.tokens import VIEW_EVENTS

_MOST_LISTED = 1_000


class DashboardView(PermissionRequiredMixin, TemplateView):
    """``/``: charts of the events, for users who may view them; others log in, or learn what they lack."""

    permission_required = VIEW_EVENTS
    template_name = "events/dashboard.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """With how many series the page may list at a time."""
        return super().get_context_data(most_listed=min(_MOST_LISTED, settings.MAX_SERIES), **kwargs)

    def handle_no_permission(self) -> HttpResponseBase:  # type: ignore[override]  # wider than a redirect
        """The log-in page, which leads back here; 403 for who is logged in already."""
        if self.request.user.is_authenticated:
            return render(self.request, "events/no_permission.html", status=403)
        return super().handle_no_permission()
