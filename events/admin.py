"""The admin site: events to browse, at a cost that doesn't grow with the table."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import CharField, Q
from django.http import HttpRequest
from django.utils.functional import cached_property

from events import timestamps
from events.models import Event, EventQuerySet

MOST_CHOICES = 200


class BoundedPaginator(Paginator):
    """Counts no further than the newest 10,000 matches, and so never the whole table."""

    most_rows = 10_000

    @cached_property
    def count(self) -> int:
        """How many rows there are, or ``most_rows`` where there are more."""
        return cast(EventQuerySet, self.object_list).order_by().values("pk")[: self.most_rows].count()


class SeriesPartFilter(admin.SimpleListFilter):
    """Chooses by namespace or name, from the values that occur."""

    def values(self, request: HttpRequest) -> Iterator[str]:
        """The values to choose from."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The first few of them; another one can still be given in the URL."""
        return [(value, value) for value in islice(self.values(request), MOST_CHOICES)]

    def queryset(self, request: HttpRequest, queryset: Any) -> EventQuerySet:
        """The events with just that value."""
        value = self.value()
        events = cast(EventQuerySet, queryset)
        if value is None:
            return events
        # PostgreSQL can't compare with a NUL, which no event has
        return events.none() if "\0" in value else events.filter(**{str(self.parameter_name): value})


class NamespaceFilter(SeriesPartFilter):
    """Events of one namespace."""

    title = parameter_name = "namespace"

    def values(self, request: HttpRequest) -> Iterator[str]:
        """Every namespace."""
        return Event.objects.namespaces()


class NameFilter(SeriesPartFilter):
    """Events of one name; shown once a namespace is chosen, whose names it lists."""

    title = parameter_name = "name"

    def values(self, request: HttpRequest) -> Iterator[str]:
        """The names of the chosen namespace."""
        namespace = request.GET.get("namespace")
        return Event.objects.names(namespace) if namespace and "\0" not in namespace else iter(())


class WindowForm(forms.Form):
    """Both ends of a date range, in UTC."""

    start = forms.DateTimeField(required=False, widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))
    end = forms.DateTimeField(required=False, widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))


class WindowFilter(admin.ListFilter):
    """Events between two instants, both included."""

    title = "date range (UTC)"
    template = "admin/events/event/window_filter.html"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self.expected_parameters():
            if name in params:
                self.used_parameters[name] = params.pop(name)[-1]
        self.form = WindowForm(self.used_parameters, auto_id="window_%s")
        self.others = [(key, value) for key, value in request.GET.items() if key not in {*WindowForm.base_fields, "p"}]

    def expected_parameters(self) -> list[str | None]:
        """The names of both ends."""
        return list(WindowForm.base_fields)

    def has_output(self) -> bool:
        """Always: the form has no choices that could run out."""
        return True

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """What the template shows: the form, and the rest of the query to keep."""
        yield {"form": self.form, "others": self.others}

    def queryset(self, request: HttpRequest, queryset: Any) -> EventQuerySet:
        """The events within; an end that is no date is left open, and the form says so."""
        self.form.is_valid()
        window = self.form.cleaned_data
        return cast(EventQuerySet, queryset).within(window.get("start"), window.get("end"))


@admin.register(Event)
class EventAdmin(admin.ModelAdmin):
    """Newest first: by arrival, which the id tells, or by timestamp within one series, which the index tells."""

    list_display = ("time", "namespace", "name", "value")
    list_filter = (NamespaceFilter, NameFilter, WindowFilter)
    search_fields = ("namespace", "name")
    search_help_text = "Part of a namespace or a name"
    sortable_by = ()
    paginator = BoundedPaginator
    list_per_page = 100
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions_selection_counter = False  # with it the page would offer to select every match, and count them
    formfield_overrides = {CharField: {"strip": False}}

    @admin.display(description="timestamp")
    def time(self, event: Event) -> str:
        """The timestamp as the API writes it."""
        return timestamps.to_text(event.timestamp)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """The order that an index serves."""
        return ("-timestamp", "-pk") if {"namespace", "name"} <= request.GET.keys() else ("-pk",)

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[EventQuerySet, bool]:
        """The events of the series whose namespace or name contains the term, found in the index, not in the rows."""
        term = search_term.strip().lower()
        if not term:
            return queryset, False
        matches = Q(pk__in=[])
        for namespace in Event.objects.namespaces():
            if term in namespace.lower():
                matches |= Q(namespace=namespace)
            else:
                names = [name for name in Event.objects.names(namespace) if term in name.lower()]
                if names:
                    matches |= Q(namespace=namespace, name__in=names)
        return queryset.filter(matches), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list, which tells its template where the pages end."""
        return super().changelist_view(request, {"most_rows": BoundedPaginator.most_rows, **(extra_context or {})})
