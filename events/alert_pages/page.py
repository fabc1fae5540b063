"""What every page of alerts has: who may see it, and who may do what there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from typing_extensions import override

from events.access.permissions import PermittedPage
from events.access.tokens import VIEW_EVENTS

_ModelT = TypeVar("_ModelT", bound=Model)


class AlertsPage(PermittedPage):
    """A page for users who may view events and alerts, and have ``also`` besides; others learn what they lack."""

    refusal_template = "events/alerts/no_permission.html"
    also: Sequence[str] = ()

    @override
    def get_permission_required(self) -> Sequence[str]:
        return [VIEW_EVENTS, "events.view_alert", *self.also]

    def show(self, template: str, status: int = 200, **context: Any) -> HttpResponse:
        """Answer with a page."""
        return render(self.request, f"events/alerts/{template}.html", context, status=status)

    def found(self, model: type[_ModelT], pk: object) -> _ModelT:
        """Return a row by its key. Raises Http404."""
        row: _ModelT | None = model._default_manager.filter(pk=pk).first()
        if row is None:
            raise Http404("There is no such page.")
        return row


def page_number(request: HttpRequest, pages: int) -> int:
    """Read a page's number from the query: the first page where it is no number, the last one where it is too large."""
    text = request.GET.get("page", "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1
    return max(1, min(number, pages))
