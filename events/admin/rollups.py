"""The admin's read-only page of the rollups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.auth.decorators import permission_required
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.functional import cached_property
from django.views.decorators.http import require_safe

from events.calendar import timestamps
from events.models import Resolution, Rollup, Watermark

_COLUMNS = ("namespace", "name", "bucket", "first timestamp", "last timestamp", "count", "sum", "min", "max")


class RollupForm(forms.Form):
    """Which rollups: of one resolution, of all series, of a namespace or of one series."""

    resolution = forms.TypedChoiceField(choices=Resolution.choices, coerce=int)
    namespace = forms.CharField(max_length=255, strip=False, required=False)
    name = forms.CharField(max_length=255, strip=False, required=False, help_text="Within a namespace.")

    def clean(self) -> dict[str, Any]:
        """Refuses a name without a namespace, which no index serves."""
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("name") and not cleaned.get("namespace"):
            self.add_error("name", "Give the namespace too.")
        return cleaned

    @property
    def chosen(self) -> QuerySet[Rollup]:
        """Those rollups in the order of their key; none where the form has errors."""
        if not self.is_valid():
            return Rollup.objects.none()
        given = {field: value for field, value in self.cleaned_data.items() if field == "resolution" or value}
        return Rollup.objects.filter(**given).order_by("resolution", "namespace", "name", "bucket")


class RollupPaginator(Paginator):
    """Pages of the first 10,000."""

    most_rows = 10_000

    @cached_property
    def count(self) -> int:
        """How many rows there are, counted no further than that."""
        return cast(QuerySet[Rollup], self.object_list).values("bucket")[: self.most_rows].count()


@require_safe
@permission_required("events.view_rollup", raise_exception=True)
def rollup_list(request: HttpRequest) -> HttpResponse:
    """One page of the rollups that the query asks for."""
    form = RollupForm({"resolution": Resolution.SERIES, **request.GET.dict()})
    page = RollupPaginator(form.chosen, 100).get_page(request.GET.get("p"))
    query = request.GET.copy()
    query.pop("p", None)
    context = {
        **admin.site.each_context(request),
        "title": "Rollups",
        "opts": Rollup._meta,
        "form": form,
        "columns": _COLUMNS,
        "rows": [_row(rollup) for rollup in page],
        "page": page,
        "pages": page.paginator.get_elided_page_range(page.number),
        "query": query.urlencode(),
        "most_rows": RollupPaginator.most_rows,
        "watermark": Watermark.objects.current(),
    }
    return render(request, "admin/events/rollup/list.html", context)


def _row(rollup: Rollup) -> Sequence[object]:
    times = (timestamps.to_text(each) for each in (rollup.bucket, rollup.first_timestamp, rollup.last_timestamp))
    return (rollup.namespace, rollup.name, *times, rollup.count, rollup.sum, rollup.min, rollup.max)
