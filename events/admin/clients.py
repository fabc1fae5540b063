"""The admin's pages of clients: their grants, what they have sent, and their long-lived tokens."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.widgets import AdminTextareaWidget
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery, TextField
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import URLPattern, path
from oauth2_provider.admin import ApplicationAdmin
from oauth2_provider.models import Application
from typing_extensions import override

from events.access import long_lived_tokens
from events.access.models import ClientUsage, Grant
from events.admin.lists import StrictListMixin
from events.admin.tokens import MakeTokenForm, TokenInline
from events.calendar import timestamps

_FIGURES = ("last_used", "requests", "events")


class GrantInline(admin.StackedInline):
    """One grant at most. Where the form is saved untouched, no grant is made, so the client may do everything."""

    model = Grant
    max_num = extra = 1
    verbose_name_plural = "Grant"
    # blanks count in a namespace, at its ends too
    formfield_overrides = {TextField: {"strip": False, "widget": AdminTextareaWidget(attrs={"rows": 4})}}


class UnlistedAdmin(StrictListMixin):
    """Pages that no menu leads to, of the toolkit's tables that stay empty here."""

    @override
    def has_module_permission(self, request: HttpRequest) -> bool:
        return False


class ClientAdmin(StrictListMixin, ApplicationAdmin):
    """The toolkit's pages of clients, with the grant, the long-lived tokens, and figures of what the client has sent.

    The figures are some seconds old, and can't be changed.
    """

    inlines = [GrantInline, TokenInline]
    list_display = ("name", "client_id", "client_type", "authorization_grant_type", *_FIGURES)
    list_display_links = ("name", "client_id")
    list_filter = ("client_type", "authorization_grant_type")
    readonly_fields = _FIGURES
    # of ways to register that are not served here
    exclude = ("registration_source", "cimd_expires_at")

    @override
    def get_urls(self) -> list[URLPattern]:
        make_token = self.admin_site.admin_view(self.make_token)
        return [path("<int:pk>/token/", make_token, name="oauth2_provider_application_token"), *super().get_urls()]

    def make_token(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask for a token's name, scopes and lifetime, make it, and show it once; for users who may add tokens."""
        application = get_object_or_404(Application, pk=pk)
        if not request.user.has_perm("oauth2_provider.add_accesstoken"):
            raise PermissionDenied
        form = MakeTokenForm(application, request.POST or None)
        token = None
        if form.is_valid():
            name, scopes, lifetime = (form.cleaned_data[field] for field in ("name", "scopes", "expires"))
            token = long_lived_tokens.make(application, name, scopes, lifetime)
            self.log_change(request, application, f"Made the token “{name}” for {' '.join(scopes)}.")
        context = {
            **self.admin_site.each_context(request),
            "title": "The token" if token else "Make a token",
            "opts": self.opts,
            "application": application,
            "form": form,
            "token": token,
        }
        return render(request, "admin/oauth2_provider/application/token.html", context)

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[Application]:
        # the figures of all applications come by the same query
        usage = ClientUsage.objects.filter(client=OuterRef("client_id"))
        figures = {f"used_{figure}": Subquery(usage.values(figure)) for figure in _FIGURES}
        applications: QuerySet[Application] = super().get_queryset(request).annotate(**figures)
        return applications

    @admin.display(description="last used", ordering="used_last_used")
    def last_used(self, application: Any) -> str:
        """Return when the client last sent a request with a token, in UTC; “never” where it didn't."""
        last_used = getattr(application, "used_last_used", None)
        return timestamps.to_text(last_used.replace(microsecond=0)) if last_used else "never"

    @admin.display(description="requests", ordering="used_requests")
    def requests(self, application: Any) -> int:
        """Return how many requests the client has sent with a token."""
        return getattr(application, "used_requests", None) or 0

    @admin.display(description="events sent", ordering="used_events")
    def events(self, application: Any) -> int:
        """Return how many events were stored for the client."""
        return getattr(application, "used_events", None) or 0
