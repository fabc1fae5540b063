"""Owns what the URL of an admin's page may ask for: a list's own filters and a short search."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from typing_extensions import override

MOST_SEARCH_CHARACTERS = 255


class FilteredChangeList(ChangeList):
    """A list that is narrowed by its filters alone; Django takes every lookup of every field from the URL."""

    @override
    def get_filters(self, request: HttpRequest) -> Any:
        found = super().get_filters(request)
        if others := found[2]:
            raise DisallowedModelAdminLookup(f"Filtering by {', '.join(others)} not allowed")
        return found

    @override
    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        # were the search cut, an action could find more than was asked for
        if len(self.query) > MOST_SEARCH_CHARACTERS:
            raise IncorrectLookupParameters
        return super().get_queryset(request, exclude_parameters)


class StrictListMixin(admin.ModelAdmin):
    """Lets no list, and no form to add a row, fail for what its URL asks for."""

    @override
    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FilteredChangeList

    @override
    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {}  # values from the URL would not be validated, and the fields of an instant fail for a text

    @override
    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        # each word is a condition, of which SQLite takes a thousand; a form's field asks too
        if len(search_term) > MOST_SEARCH_CHARACTERS:
            return queryset.none(), False
        return super().get_search_results(request, queryset, search_term)
