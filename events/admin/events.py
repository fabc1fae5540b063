"""The admin's pages of events: to browse, export and delete them, at a cost that doesn't grow with the table."""

from collections.abc import Iterable, Iterator
from datetime import time, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AdminSplitDateTime, BaseAdminDateWidget, BaseAdminTimeWidget
from django.db.models import CharField, DateTimeField
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.html import format_html
from typing_extensions import override

from events.admin.event_list import EventChangeList, EventPaginator, SeriesFilter, WindowFilter
from events.admin.lists import StrictListMixin
from events.calendar import timestamps
from events.http.csv_files import csv_pieces, marked
from events.log.models import Event, EventQuerySet
from events.text_inputs import LineBreaksMixin

_AROUND = timedelta(minutes=30)


class _TimeInput(BaseAdminTimeWidget):
    supports_microseconds = True

    @override
    def format_value(self, value: Any) -> str | None:
        return value.isoformat() if isinstance(value, time) else super().format_value(value)


class _TimestampInput(AdminSplitDateTime):
    """The admin's inputs of a date and a time, with the fraction of the second."""

    supports_microseconds = True

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        forms.MultiWidget.__init__(self, [BaseAdminDateWidget, _TimeInput({"size": "15"})], attrs)  # as its base has it


class EventForm(LineBreaksMixin, forms.ModelForm):
    """An event, of which stays what isn’t changed."""


def _is_final(event: Event | None) -> bool:
    # by the stored timestamp, as a form may already have set another one on the event
    stored = event and Event.objects.filter(pk=event.pk).first()
    return stored is not None and (stored.is_pruned() or stored.is_moving())


@admin.register(Event)
class EventAdmin(StrictListMixin):
    """The pages of events. The list has the newest first: all by arrival, those of a series by timestamp."""

    list_display = ("time", "namespace", "name", "value", "chart")
    list_filter = (SeriesFilter, WindowFilter)
    search_fields = ("namespace", "name")  # shows the search box; SeriesFilter does the search
    search_help_text = "Part of a namespace or a name: finds series to choose from"
    paginator = EventPaginator
    sortable_by = ()
    actions = ("export_csv",)
    list_per_page = 100
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions_selection_counter = False  # the counter would offer to select every match
    fields = ("namespace", "name", "timestamp", "value", "chart")
    readonly_fields = ("chart",)
    form = EventForm
    formfield_overrides = {
        CharField: {"strip": False},
        DateTimeField: {"form_class": forms.SplitDateTimeField, "widget": _TimestampInput},
    }

    @admin.display(description="timestamp")
    def time(self, event: Event) -> str:
        """Return the timestamp as the API writes it."""
        return timestamps.to_text(event.timestamp)

    @admin.display
    def chart(self, event: Event) -> str:
        """Return a link to the hour around the event on the dashboard."""
        if event.pk is None:
            return "-"
        ends = {"from": _shifted(event, -_AROUND), "to": _shifted(event, _AROUND)}
        query = urlencode({"series": f"{event.namespace}/{event.name}", **ends}, quote_via=quote, safe="")
        return format_html('<a href="/chart?{}">chart</a>', query)

    @admin.action(description="Export selected events as CSV", permissions=["view"])
    def export_csv(self, request: HttpRequest, queryset: EventQuerySet) -> StreamingHttpResponse:
        """Answer with the ticked events as a CSV file, newest first.

        A text that a spreadsheet would take for a formula comes after an apostrophe, which keeps it a text there.
        """
        rows = _csv_rows(queryset.order_by("-timestamp", "-pk").iterator())
        headers = {"Content-Disposition": 'attachment; filename="events.csv"'}
        return StreamingHttpResponse(csv_pieces(rows), content_type="text/csv; charset=utf-8", headers=headers)

    @override
    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[EventChangeList]:
        return EventChangeList

    @override
    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[EventQuerySet, bool]:
        return queryset, False

    @override
    def has_change_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        return super().has_change_permission(request, obj) and not _is_final(obj)

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not _is_final(obj)

    @override
    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        # any other lookup could read the whole table, or fail on its value
        return lookup in {*SeriesFilter.parameters, *WindowFilter.parameters}

    @override
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if "select_across" in request.POST:  # an action takes the ticked events, never all
            ticked = request.POST.copy()
            del ticked["select_across"]
            request.POST = ticked  # type: ignore[assignment]
        return super().changelist_view(request, extra_context)


def _csv_rows(events: Iterable[Event]) -> Iterator[tuple[object, ...]]:
    yield "namespace", "name", "timestamp", "value"
    for event in events:
        yield marked(event.namespace), marked(event.name), timestamps.to_text(event.timestamp), event.value


def _shifted(event: Event, by: timedelta) -> str:
    """Return the event's timestamp moved by a duration; not moved where that leaves the years 1 to 9999."""
    try:
        return timestamps.to_text(event.timestamp + by)
    except OverflowError:
        return timestamps.to_text(event.timestamp)
