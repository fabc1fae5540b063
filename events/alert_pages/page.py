"""What every page of alerts has: who may see it, and who may do what there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from django.contrib.auth.mixins import PermissionRequiredMixin
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.generic import View
from typing_extensions import override

from events.access.oauth2.client_pages import administrators
from events.access.tokens import VIEW_EVENTS

_ModelT = TypeVar("_ModelT", bound=Model)


class AlertsPage(PermissionRequiredMixin, View):
    """A page for users who may view events and alerts, and have ``also`` besides; others learn what they lack."""

    also: Sequence[str] = ()

    @override
    def get_permission_required(self) -> Sequence[str]:
        return [VIEW_EVENTS, "events.view_alert", *self.also]

    @override
    def handle_no_permission(self) -> HttpResponseBase:  # type: ignore[override]  # wider than a redirect
        """Redirect to the log-in page, which leads back here; answer a user who is logged in with 403."""
        if not self.request.user.is_authenticated:
            return super().handle_no_permission()
        lacking = [name for name in self.get_permission_required() if not self.request.user.has_perm(name)]
        context = {"lacking": lacking, "administrators": administrators}
        return render(self.request, "events/alerts/no_permission.html", context, status=403)

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
