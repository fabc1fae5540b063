"""The admin's pages of OAuth2 applications: what each is granted, and what it has sent."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from oauth2_provider.admin import ApplicationAdmin
from oauth2_provider.models import Application

from events import timestamps
from events.grant_admin import GrantInline
from events.models import ClientUsage

_FIGURES = ("last_used", "requests", "events")


class ClientAdmin(ApplicationAdmin):
    """The toolkit's own, with the client's grant, and figures that nobody can change: they are some seconds old."""

    inlines = [GrantInline]
    list_display = ("name", "client_id", "client_type", "authorization_grant_type", *_FIGURES)
    list_display_links = ("name", "client_id")
    readonly_fields = (*ApplicationAdmin.readonly_fields, *_FIGURES)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Application]:
        """The applications with their figures. One query."""
        usage = ClientUsage.objects.filter(client=OuterRef("client_id"))
        figures = {f"used_{figure}": Subquery(usage.values(figure)) for figure in _FIGURES}
        applications: QuerySet[Application] = super().get_queryset(request).annotate(**figures)
        return applications

    @admin.display(description="last used", ordering="used_last_used")
    def last_used(self, application: Any) -> str:
        """When it last came with a token."""
        last_used = getattr(application, "used_last_used", None)
        return timestamps.to_text(last_used.replace(microsecond=0)) if last_used else "never"

    @admin.display(description="requests", ordering="used_requests")
    def requests(self, application: Any) -> int:
        """How often it came with a token."""
        return getattr(application, "used_requests", None) or 0

    @admin.display(description="events sent", ordering="used_events")
    def events(self, application: Any) -> int:
        """How many events of its were stored."""
        return getattr(application, "used_events", None) or 0
