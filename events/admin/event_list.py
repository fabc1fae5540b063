"""Chooses what the admin's event list shows: the newest events of all, or of one series within a window."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from typing_extensions import override

from events.aggregation.catalogue import Catalogue
from events.calendar import timestamps
from events.calendar.granularity import last_of_day
from events.log.models import Event, EventQuerySet

MOST_CHOICES = 200
_PAST_MILLISECONDS = re.compile(r"(?<=\.\d{3})\d+")
_IN_MILLISECONDS = re.compile(r"\.\d{3}(?!\d)")
_REST_OF_MILLISECOND = timedelta(microseconds=999)


class InstantField(forms.DateTimeField):
    """An instant, given in UTC; one that is outside the years 1 to 9999 there is no date."""

    @override
    def to_python(self, value: Any) -> datetime | None:
        instant = super().to_python(value)
        try:
            return instant and instant.astimezone(UTC)
        except OverflowError:
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid") from None


class WindowEndField(InstantField):
    """The end of a range, included; a date means all of that day, and a millisecond all of that."""

    @override
    def to_python(self, value: Any) -> datetime | None:
        text = value if isinstance(value, str) else ""
        day = timestamps.day_of(text)
        if day is not None:
            return last_of_day(day, UTC)
        instant = super().to_python(value)
        return instant + _REST_OF_MILLISECOND if instant and _IN_MILLISECONDS.search(text) else instant


class InstantInput(forms.DateTimeInput):
    """A browser's field of an instant, which shows milliseconds at most."""

    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__({"max": "9999-12-31T23:59:59.999", "step": "any"})  # else whole minutes from what is shown

    @override
    def format_value(self, value: Any) -> str | None:
        shown = super().format_value(value)
        return shown and _PAST_MILLISECONDS.sub("", shown)


class WindowForm(forms.Form):
    """Both ends of a date range, in UTC."""

    start = InstantField(required=False, widget=InstantInput)
    end = WindowEndField(required=False, widget=InstantInput)

    @classmethod
    def of(cls, data: Any) -> WindowForm:
        """Make the form of a query, with its instants as a browser's field takes them: in UTC, without an offset."""
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
        """Return both ends; an end that is missing or no date is None, and of the latter the form says so."""
        self.is_valid()
        return self.cleaned_data.get("start"), self.cleaned_data.get("end")


def chosen_events(request: HttpRequest) -> EventQuerySet:
    """Return the events that the list's query asks for: all by arrival, or those of a series by timestamp.

    For any other query it returns no events, as no index has those of several series in the order of time.
    """
    query, (first, last) = request.GET, WindowForm.of(request.GET).window
    if "namespace" in query and "name" in query:
        events = Event.objects.of_series(query["namespace"], query["name"]).within(first, last)
        return events.order_by("-timestamp", "-pk")
    everything = Event.objects.order_by("-pk")
    is_narrowed = first or last or query.get("q", "").strip() or {"namespace", "name"} & query.keys()
    return everything.none() if is_narrowed else everything


class _QueryFilter(admin.ListFilter):
    """Takes its parameters out of the query and leaves the queryset as it is; ``chosen_events`` reads them instead."""

    parameters: tuple[str, ...] = ()

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.used_parameters = {name: params.pop(name)[-1] for name in self.parameters if name in params}
        self.request = request

    @override
    def expected_parameters(self) -> list[str | None]:
        return list(self.parameters)

    @override
    def has_output(self) -> bool:
        return True

    @override
    def queryset(self, request: HttpRequest, queryset: Any) -> EventQuerySet:
        return cast(EventQuerySet, queryset)


class SeriesFilter(_QueryFilter):
    """Offers the first MOST_CHOICES series that the search finds; any other one can still be named in the URL."""

    title = "series"
    parameters = ("namespace", "name")

    @override
    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        query_string = changelist.get_query_string(remove=list(self.parameters))
        yield {"selected": not self.used_parameters, "query_string": query_string, "display": "All"}
        for series in Catalogue(search=changelist.query.strip()).page(MOST_CHOICES).series:
            key = {"namespace": series["namespace"], "name": series["name"]}
            query_string = changelist.get_query_string(key)
            display = f"{key['namespace']}/{key['name']}"
            yield {"selected": key == self.used_parameters, "query_string": query_string, "display": display}


class WindowFilter(_QueryFilter):
    """Chooses events of the series between two instants, both included."""

    title = "date range (UTC)"
    template = "admin/events/event/window_filter.html"
    parameters = tuple(WindowForm.base_fields)

    @override
    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        others = [(key, value) for key, value in self.request.GET.items() if key not in {*self.parameters, "p"}]
        yield {"form": WindowForm.of(self.used_parameters), "others": others}


class EventPaginator(Paginator):
    """Pages that end after ``most_rows``, so that no query counts or reads more rows."""

    most_rows = 10_000

    @cached_property
    @override
    def count(self) -> int:
        """Return how many rows the pages have, ``most_rows`` at most."""
        # in the order of an index, as PostgreSQL may otherwise go through the whole table for the rows of a series
        events = cast(QuerySet[Event], self.object_list)
        order = str(events.query.order_by[0])
        return int(events.order_by(order).values(order.removeprefix("-"))[: self.most_rows].count())


class EventChangeList(ChangeList):
    """The list of the chosen events.

    Until the results are read, the queryset is all events. An action filters it by the ids of the ticked events; if it
    were narrowed to a series, SQLite would go through all events of that series.
    """

    @override
    def get_results(self, request: HttpRequest) -> None:
        self.queryset = chosen_events(request)
        super().get_results(request)
