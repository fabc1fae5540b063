"""What the admin's event list shows: its filters, by the catalogue, and its pages, by the newest events of series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import InvalidPage, Page, Paginator
from django.http import HttpRequest
from typing_extensions import override

from events.admin.newest_events import Newest, first_namespaces
from events.aggregation.catalogue import Catalogue
from events.aggregation.catalogue import Page as CataloguePage
from events.calendar import granularities, timestamps
from events.log.models import Event, EventQuerySet
from events.log.namespace_patterns import EVERYWHERE, Namespaces
from events.log.series import SeriesKey

MOST_CHOICES = 200


def _in_namespace(namespace: str | None) -> Namespaces:
    return EVERYWHERE if namespace is None else Namespaces(frozenset([namespace]), ())


class SeriesPartFilter(admin.SimpleListFilter):
    """Chooses by namespace or name, from the first values that occur; another one can still be given in the URL."""

    def values(self, request: HttpRequest) -> Iterable[str]:
        """The values to choose from, each as often as it occurs."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Each of them once."""
        return [(value, value) for value in dict.fromkeys(self.values(request))]

    def has_output(self) -> bool:
        """Also where a value is given that doesn't occur, which must not let everything through."""
        return self.value() is not None or super().has_output()

    def queryset(self, request: HttpRequest, queryset: Any) -> EventQuerySet:
        """The same, as the selection sees to it."""
        return cast(EventQuerySet, queryset)


class NamespaceFilter(SeriesPartFilter):
    """Events of one namespace."""

    title = parameter_name = "namespace"

    def values(self, request: HttpRequest) -> Iterable[str]:
        """The first namespaces, by code point."""
        return sorted(first_namespaces(MOST_CHOICES))


class NameFilter(SeriesPartFilter):
    """Events of one name, in the chosen namespace or in all."""

    title = parameter_name = "name"

    def values(self, request: HttpRequest) -> Iterable[str]:
        """The names of the first series, of the chosen namespace or of all."""
        of_namespace = Catalogue(_in_namespace(request.GET.get("namespace")))
        return (series["name"] for series in of_namespace.page(MOST_CHOICES).series)


class WindowEndField(forms.DateTimeField):
    """Where a range ends, itself included: a date alone is the end of that day."""

    @override
    def to_python(self, value: Any) -> datetime | None:
        day = timestamps.day_of(value) if isinstance(value, str) else None
        return super().to_python(value) if day is None else granularities.last_of_day(day, UTC)


class WindowForm(forms.Form):
    """Both ends of a date range, in UTC."""

    start = forms.DateTimeField(required=False, widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))
    end = WindowEndField(required=False, widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))

    @classmethod
    def of(cls, data: Any) -> WindowForm:
        """The form of a query, its instants written as a browser's field takes them, without a zone."""
        ends = {}
        for name, field in cls.base_fields.items():
            try:
                instant = field.clean(data.get(name))
            except forms.ValidationError:
                instant = None
            ends[name] = timestamps.to_text(instant).removesuffix("Z") if instant else data.get(name)
        return cls(ends, auto_id="window_%s")

    @property
    def window(self) -> tuple[datetime | None, datetime | None]:
        """Both ends; one that is no date is open, and the form says so."""
        self.is_valid()
        return self.cleaned_data.get("start"), self.cleaned_data.get("end")


class WindowFilter(admin.ListFilter):
    """Events between two instants, both included."""

    title = "date range (UTC)"
    template = "admin/events/event/window_filter.html"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self.expected_parameters():
            if name in params:
                self.used_parameters[name] = params.pop(name)[-1]
        self.form = WindowForm.of(self.used_parameters)
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
        """The same, as the selection sees to it."""
        return cast(EventQuerySet, queryset)


class Selection:
    """The events that a query of the list is for; where they are of too many series, those of the first ones alone."""

    most_series = 5_000  # each is looked at several times

    def __init__(self, request: HttpRequest) -> None:
        self.namespace, self.name = request.GET.get("namespace"), request.GET.get("name")
        self.term = request.GET.get("q", "").strip()
        self.window = WindowForm.of(request.GET).window

    @cached_property
    def _page(self) -> CataloguePage:
        found = Catalogue(_in_namespace(self.namespace), self.name, self.term)
        return found.page(self.most_series)

    @property
    def is_cut(self) -> bool:
        """Whether there are more series than are looked at, and the events of the others are left out."""
        return not self.is_everything and self._page.has_more

    @property
    def is_everything(self) -> bool:
        """Whether nothing was chosen."""
        return self.namespace is None and self.name is None and not self.term and self.window == (None, None)

    @property
    def stored(self) -> int | None:
        """How many events the series have, whatever the window; None where they are too many to look."""
        return None if self._page.has_more else sum(series["count"] for series in self._page.series)

    @cached_property
    def newest(self) -> Newest:
        """The events, by timestamp."""
        keys = [SeriesKey(series["namespace"], series["name"]) for series in self._page.series]
        return Newest(keys, *self.window)


class SelectionPaginator(Paginator):
    """Pages of the newest events: by arrival where nothing is chosen, which the id tells, by timestamp otherwise.

    They end after ``most_rows``, and so nothing is ever counted or read much further.
    """

    most_rows = 10_000

    def __init__(self, selection: Selection, per_page: int) -> None:
        super().__init__(cast(Any, selection), per_page)
        self.selection = selection

    @cached_property
    def count(self) -> int:
        """How many rows the pages have."""
        if self.selection.is_everything:
            return Event.objects.order_by().values("pk")[: self.most_rows].count()
        return self.selection.newest.count(self.most_rows)

    @property
    def total(self) -> int:
        """How many events there are: past ``most_rows`` by the catalogue, which doesn't know of windows.

        Where that has too many series it is ``most_rows``.
        """
        if self.count < self.most_rows or self.selection.window != (None, None):
            return self.count
        return max(self.count, self.selection.stored or 0)

    def page(self, number: Any) -> Page:
        """The events of one page."""
        number = self.validate_number(number)
        start = (number - 1) * self.per_page
        stop = min(start + self.per_page, self.count)
        if self.selection.is_everything:
            events = list(Event.objects.order_by("-pk")[start:stop])
        else:
            events = self.selection.newest.page(start, stop) if stop > start else []
        return Page(events, number, self)


class EventChangeList(ChangeList):
    """The list. Its pages come from the selection, and not from its queryset.

    That one is every event, for the actions, which take from it what was ticked: by the ids alone, as SQLite would
    sooner go through all events of a chosen series.
    """

    def get_results(self, request: HttpRequest) -> None:
        """One page of the selection; its first where there is one only."""
        self.paginator = SelectionPaginator(Selection(request), self.list_per_page)
        try:
            page = self.paginator.page(self.page_num)
        except InvalidPage:
            raise IncorrectLookupParameters from None
        self.result_list = cast(Any, page.object_list)
        self.result_count = self.paginator.total
        self.multi_page = self.paginator.num_pages > 1
        self.full_result_count = None
        self.show_full_result_count = self.can_show_all = False
        self.show_admin_actions = True
