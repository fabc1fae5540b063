"""Owns the dashboard: the overview and the chart. Their scripts call the API."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.generic import TemplateView
from typing_extensions import override

from events.access.permissions import PermittedPage, administrators
from events.access.tokens import VIEW_EVENTS

_MOST_LISTED = 1_000
# What links to the chart had when it was at “/”.
_OF_CHART = {"series", "range", "from", "to", "granularity", "type", "timezone", "refresh", "compare", "view"}


class DashboardView(PermittedPage, TemplateView):
    """A page for users who may view events; others log in, or learn what they lack."""

    permission_required = VIEW_EVENTS

    @override
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add ``most_listed``, how many series the page may list at a time, and ``administrators`` to be asked."""
        return super().get_context_data(
            most_listed=min(_MOST_LISTED, settings.MAX_SERIES), administrators=administrators, **kwargs
        )


class OverviewPage(DashboardView):
    """``/``: all series, with how each is going. Links from when the chart was at this path still lead to it."""

    template_name = "events/overview.html"

    @override
    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the overview; redirect to the chart where the query is one of its."""
        if _OF_CHART & request.GET.keys():
            return redirect(f"{reverse('chart')}?{request.META['QUERY_STRING']}")
        return super().get(request, *args, **kwargs)


class ChartPage(DashboardView):
    """``/chart``: charts of the events."""

    template_name = "events/chart.html"
