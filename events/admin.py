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

    def has_output(self) -> bool:
        """Also where a value is given that doesn't occur, which must not let everything through."""
        return self.value() is not None or super().has_output()

    def queryset(self, request: HttpRequest, queryset: Any) -> EventQuerySet:
        """The events with just that value."""
        value = self.value()
        chosen = {} if value is None else {str(self.parameter_name): value}
        return cast(EventQuerySet, queryset).filter(**chosen)


class NamespaceFilter(SeriesPartFilter):
    """Events of one namespace."""

    title = parameter_name = "namespace"

    def values(self, request: HttpRequest) -> Iterator[str]:
        """Every namespace."""
        return Event.objects.namespaces()


class NameFilter(SeriesPartFilter):
    """Events of one name, in the chosen namespace or in all."""

    title = parameter_name = "name"

    def values(self, request: HttpRequest) -> Iterator[str]:
        """The names of the chosen namespace; each name once, where none is chosen."""
        namespace = request.GET.get("namespace")
        namespaces = Event.objects.namespaces() if namespace is None else iter([namespace])
        return iter(dict.fromkeys(name for each in namespaces for name in Event.objects.names(each)))


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


def _is_pruned(event: Event | None) -> bool:
    # as it is stored, and not as a form would have it
    stored = event and Event.objects.filter(pk=event.pk).first()
    return stored is not None and stored.is_pruned()


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
        """The events whose namespace or name contains the term; which do is found in the index, not in the rows."""
        term = search_term.strip().lower()
        if not term:
            return queryset, False
        namespaces = list(Event.objects.namespaces())
        names = {name for namespace in namespaces for name in Event.objects.names(namespace)}
        matches = Q(namespace__in=[namespace for namespace in namespaces if term in namespace.lower()])
        return queryset.filter(matches | Q(name__in=[name for name in names if term in name.lower()])), False

    def has_change_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        """Not where the event's hour is pruned."""
        return super().has_change_permission(request, obj) and not _is_pruned(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        """Not where the event's hour is pruned."""
        return super().has_delete_permission(request, obj) and not _is_pruned(obj)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Those of the filters above: any other could read the whole table, or fail on its value."""
        return lookup in {"namespace", "name", *WindowForm.base_fields}

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Nothing: what a URL holds is not checked as a form is."""
        return {}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list, which tells its template where the pages end. An action takes what was ticked, never all."""
        if "select_across" in request.POST:
            ticked = request.POST.copy()
            del ticked["select_across"]
            request.POST = ticked  # type: ignore[assignment]
        return super().changelist_view(request, {"most_rows": BoundedPaginator.most_rows, **(extra_context or {})})
