"""Owns the dashboard: the overview, the chart, and the page of a series. Their scripts call the API."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.mixins import PermissionRequiredMixin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.generic import TemplateView
from typing_extensions import override

from events.access.oauth2.client_pages import administrators
from events.access.tokens import VIEW_EVENTS
from events.aggregation.catalogue import Catalogue, Series
from events.log.models import validate_path_segment
from events.log.namespace_patterns import Namespaces
from events.series.models import SeriesSettings

CHANGE_SERIES = "events.change_seriessettings"
_MOST_LISTED = 1_000
# What links to the chart had when it was at “/”.
_OF_CHART = {"series", "range", "from", "to", "granularity", "type", "timezone", "refresh", "compare", "view"}


class DashboardView(PermissionRequiredMixin, TemplateView):
    """A page for users who may view events; others log in, or learn what they lack."""

    permission_required = VIEW_EVENTS

    @override
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add ``most_listed``, how many series the page may list at a time, and ``administrators`` to be asked."""
        return super().get_context_data(
            most_listed=min(_MOST_LISTED, settings.MAX_SERIES), administrators=administrators, **kwargs
        )

    @override
    def handle_no_permission(self) -> HttpResponseBase:  # type: ignore[override]  # wider than a redirect
        """Redirect to the log-in page, which leads back here; answer a user who is logged in with 403."""
        if self.request.user.is_authenticated:
            return render(self.request, "events/no_permission.html", {"administrators": administrators}, status=403)
        return super().handle_no_permission()


class OverviewPage(DashboardView):
    """``/``: all series, with how each is going. A link of the time when the chart was here leads on to it."""

    template_name = "events/overview.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the overview; redirect to the chart where the query is one of its."""
        if _OF_CHART & request.GET.keys():
            return redirect(f"{reverse('chart')}?{request.META['QUERY_STRING']}")
        return super().get(request, *args, **kwargs)


class ChartPage(DashboardView):
    """``/chart``: charts of the events."""

    template_name = "events/chart.html"


class SeriesForm(forms.ModelForm):
    """What a user may say of a series."""

    class Meta:
        model = SeriesSettings
        fields = ("description", "unit", "is_hidden")
        widgets = {
            "description": forms.Textarea(attrs={"rows": 3}),
            "unit": forms.TextInput(attrs={"list": "units", "autocomplete": "off"}),
        }
        labels = {"is_hidden": "Hidden from the overview"}


class SeriesPage(DashboardView):
    """``/series/<namespace>/<name>``: what is known of a series, to be changed by users who may change it."""

    template_name = "events/series.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the series. Raises Http404 where nothing is known of it, neither an event nor a word."""
        return self._show(SeriesForm(instance=self._settings(), label_suffix=""))

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Store what the user says of the series. Raises PermissionDenied where the user may not."""
        if not request.user.has_perm(CHANGE_SERIES):
            raise PermissionDenied("Only users with the permission “Can change series settings” may change a series.")
        form = SeriesForm(request.POST, instance=self._settings(), label_suffix="")
        if not form.is_valid():
            return self._show(form, status=400)
        form.save()
        return redirect(f"{request.path}?saved=1")

    def _settings(self) -> SeriesSettings:
        namespace, name = self.kwargs["namespace"], self.kwargs["name"]
        found = SeriesSettings.objects.of_series(namespace, name).first()
        if found is None and self._line is None:
            raise Http404(f"There is no series “{namespace}/{name}”.")
        return found or SeriesSettings(namespace=namespace, name=name)

    @cached_property
    def _line(self) -> Series | None:
        """Return the series' line in the catalogue; None where it has no events."""
        namespace, name = self.kwargs["namespace"], self.kwargs["name"]
        try:
            for segment in (namespace, name):
                validate_path_segment(segment)
        except ValidationError:
            return None
        lines = Catalogue(Namespaces(frozenset([namespace]), ()), name=name).page(1).series
        return lines[0] if lines else None

    def _show(self, form: SeriesForm, status: int = 200) -> HttpResponse:
        form.use_required_attribute = False
        may_change = self.request.user.has_perm(CHANGE_SERIES)
        for field in form.fields.values():
            field.disabled = not may_change
        context = self.get_context_data(form=form, line=self._line, may_change=may_change, **self.kwargs)
        return self.render_to_response(context, status=status)
