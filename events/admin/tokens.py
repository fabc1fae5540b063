"""The admin's pages of access tokens, which show what is known of a token without its text, and their forms."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from oauth2_provider.admin import AccessTokenAdmin
from oauth2_provider.models import AccessToken, Application
from typing_extensions import override

from events.access import long_lived_tokens
from events.admin.lists import StrictListMixin
from events.calendar import timestamps

_DIGEST_CHARACTERS = 12  # enough to tell tokens apart in a list


class ScopesField(forms.MultipleChoiceField):
    """A box to tick for each scope."""

    widget = forms.CheckboxSelectMultiple

    def __init__(self, **options: Any) -> None:
        super().__init__(choices=_choices, **options)


def _choices() -> list[tuple[str, str]]:
    return [(scope, f"{scope}: {meaning}") for scope, meaning in long_lived_tokens.known_scopes().items()]


class EditTokenForm(forms.ModelForm):
    """Changes a token's scopes and its expiry."""

    scopes = ScopesField()

    class Meta:
        model = AccessToken
        fields = ("expires",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        stored, known = self.instance.scope.split(), long_lived_tokens.known_scopes()
        if "scopes" in self.fields:  # it is missing for a user who may only view
            self.initial["scopes"] = [scope for scope in stored if scope in known]
            if unknown := [scope for scope in stored if scope not in known]:
                self.fields["scopes"].help_text = f"Stored too, without effect until saved: {' '.join(unknown)}."

    def clean_scopes(self) -> list[str]:
        """Return the scopes. Raises ValidationError for one that the client isn't granted."""
        return long_lived_tokens.validate_scopes(self.cleaned_data["scopes"], self.instance.application)

    @override
    def save(self, commit: bool = True) -> AccessToken:
        self.instance.scope = " ".join(self.cleaned_data["scopes"])
        return super().save(commit)


class MakeTokenForm(forms.Form):
    """Asks for the name, the scopes and the lifetime of a new token."""

    name = forms.CharField(max_length=100, help_text="What it is for, such as the machine that sends with it.")
    scopes = ScopesField(initial=["write"])
    expires = forms.CharField(
        initial="365d",
        label="Expires in",
        help_text=f"Days or hours, such as 90d or 36h; {long_lived_tokens.LONGEST.days}d at most.",
    )

    def __init__(self, application: Application, *args: Any, **options: Any) -> None:
        self.application = application
        super().__init__(*args, **options)

    def clean_scopes(self) -> list[str]:
        """Return the scopes. Raises ValidationError for one that the client isn't granted."""
        return long_lived_tokens.validate_scopes(self.cleaned_data["scopes"], self.application)

    def clean_expires(self) -> timedelta:
        """Return the lifetime. Raises ValidationError for a text that isn't one, or one that is too long."""
        return long_lived_tokens.validate_lifetime(self.cleaned_data["expires"])


class _Columns:
    """The columns that show a token."""

    @admin.display(description="digest")
    def short_digest(self, token: AccessToken) -> str:
        """Return the beginning of the token's digest, enough to tell it from others."""
        return f"{token.token_checksum[:_DIGEST_CHARACTERS]}…"

    @admin.display(description="digest (SHA-256)")
    def digest(self, token: AccessToken) -> str:
        """Return the digest by which the token is looked up."""
        return str(token.token_checksum)

    @admin.display(description="client", ordering="application__name")
    def client(self, token: AccessToken) -> str:
        """Return the name of the client that the token belongs to; “user” and a name where it belongs to a user."""
        if token.application is None:
            return f"user {token.user}"
        return str(token.application.name or token.application.client_id)

    @admin.display(description="client id")
    def client_id(self, token: AccessToken) -> str:
        """Return the client's id; “-” where the token belongs to no client."""
        return str(token.application.client_id) if token.application else "-"

    @admin.display(description="scopes", ordering="scope")
    def stored_scopes(self, token: AccessToken) -> str:
        """Return the token's scopes as they are stored, also those that don't exist any more."""
        return str(token.scope) or "-"

    @admin.display(description="created", ordering="created")
    def created_at(self, token: AccessToken) -> str:
        """Return when the token was made, in UTC."""
        return _text(token.created)

    @admin.display(description="expires", ordering="expires")
    def expires_at(self, token: AccessToken) -> str:
        """Return when the token expires, in UTC, and whether it has."""
        return f"{_text(token.expires)}{' (expired)' if token.is_expired() else ''}"

    @admin.display(description="name", ordering="long_lived__name")
    def long_lived_name(self, token: AccessToken) -> str:
        """Return what a long-lived token is for; “-” for other tokens."""
        return token.long_lived.name if hasattr(token, "long_lived") else "-"

    @admin.display(description="last used", ordering="long_lived__last_used")
    def last_used(self, token: AccessToken) -> str:
        """Return when a long-lived token was last used, to some seconds; “-” for others, of which that isn't kept."""
        if not hasattr(token, "long_lived"):
            return "-"
        return _text(token.long_lived.last_used) if token.long_lived.last_used else "never"


def _text(moment: datetime) -> str:
    return timestamps.to_text(moment.replace(microsecond=0))


class TokenAdmin(_Columns, StrictListMixin, AccessTokenAdmin):
    """The toolkit's pages of tokens, which revoke them, without their texts; scopes and expiry can be changed."""

    form = EditTokenForm
    list_display = (
        "short_digest",
        "client",
        "long_lived_name",
        "stored_scopes",
        "expires_at",
        "last_used",
        "created_at",
    )
    list_select_related = ("application", "user", "long_lived")
    list_per_page = 100
    show_full_result_count = False
    search_fields = (*AccessTokenAdmin.search_fields, "token_checksum__exact")
    search_help_text = "Part of a client's id or name, or a token's whole digest: printf %s TOKEN | sha256sum"

    @override
    def get_fields(self, request: HttpRequest, obj: AccessToken | None = None) -> tuple[str, ...]:
        resource = ("resource",) if obj is not None and obj.resource else ()
        fixed = ("client", "client_id", "long_lived_name", "digest")
        return *fixed, "scopes", "expires", *resource, "created_at", "last_used"

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: AccessToken | None = None) -> tuple[str, ...]:
        return "client", "client_id", "long_lived_name", "digest", "resource", "created_at", "last_used"

    @admin.action(description="Revoke selected access tokens", permissions=["change"])
    @override
    def revoke_tokens(self, request: HttpRequest, queryset: QuerySet[AccessToken]) -> None:
        super().revoke_tokens(request, queryset)  # by the ORM, so it takes effect in this process at once


class TokenInline(_Columns, admin.TabularInline):
    """The long-lived tokens of a client, on the client's page; deleting one revokes it."""

    model = AccessToken
    verbose_name_plural = "Long-lived tokens; deleting one revokes it"
    fields = readonly_fields = ("long_lived_name", "stored_scopes", "created_at", "expires_at", "last_used")
    extra = 0
    show_change_link = True
    ordering = ("pk",)

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[AccessToken]:
        long_lived: QuerySet[AccessToken] = super().get_queryset(request).filter(long_lived__isnull=False)
        return long_lived.select_related("long_lived")

    @override
    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # `ClientAdmin.make_token` makes tokens, and shows each once
