"""Owns what may be asked of the admin's pages: a list's own filters, a short search, and rows that there can be."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.contrib.contenttypes.views import shortcut
from django.core.exceptions import ValidationError
from django.db.models import ManyToManyField, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from typing_extensions import override

from events.http.simultaneous import again_where_taken
from events.keys import KeysField, is_key

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


def row_page(request: HttpRequest, content_type_id: str, object_id: str) -> HttpResponse:
    """Lead to the page of a row, as Django does. Raises Http404 where there is none, also for a key that can't be."""
    try:
        return shortcut(request, content_type_id, object_id)
    except (OverflowError, ValidationError):  # SQLite's of a large number, and that of a text that is no UUID
        raise Http404("There is no such row.") from None


class StrictListMixin(admin.ModelAdmin):
    """Lets no list and no form fail for what is asked of it."""

    formfield_overrides = {ManyToManyField: {"form_class": KeysField}}

    @override
    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FilteredChangeList

    @override
    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {}  # values from the URL would not be validated, and the fields of an instant fail for a text

    @again_where_taken
    @override
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return super().changeform_view(request, *args, **kwargs)

    @override
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if ACTION_CHECKBOX_NAME in request.POST:
            data = request.POST.copy()
            ticked = data.getlist(ACTION_CHECKBOX_NAME)
            data.setlist(ACTION_CHECKBOX_NAME, [text for text in ticked if is_key(self.model, text)])
            request.POST = data  # type: ignore[assignment]
        return super().changelist_view(request, extra_context)

    @override
    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        # each word is a condition, of which SQLite takes a thousand; a form's field asks too
        if len(search_term) > MOST_SEARCH_CHARACTERS:
            return queryset.none(), False
        return super().get_search_results(request, queryset, search_term)
