"""The admin's pages of access tokens, which show what is known of a token without its text, and the forms for them."""

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
from events.calendar import timestamps

_DIGEST_CHARACTERS = 12  # that tell one from another in a list


class ScopesField(forms.MultipleChoiceField):
    """Boxes to tick, one for each scope that there is."""

    widget = forms.CheckboxSelectMultiple

    def __init__(self, **options: Any) -> None:
        super().__init__(choices=_choices, **options)


def _choices() -> list[tuple[str, str]]:
    return [(scope, f"{scope}: {meaning}") for scope, meaning in long_lived_tokens.known_scopes().items()]


class EditTokenForm(forms.ModelForm):
    """What of a token may be changed: what it opens, and until when."""

    scopes = ScopesField()

    class Meta:
        model = AccessToken
        fields = ("expires",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        stored, known = self.instance.scope.split(), long_lived_tokens.known_scopes()
        if "scopes" in self.fields:  # not for who may only look
            self.initial["scopes"] = [scope for scope in stored if scope in known]
            if unknown := [scope for scope in stored if scope not in known]:
                self.fields["scopes"].help_text = f"Stored too, without effect until saved: {' '.join(unknown)}."

    def clean_scopes(self) -> list[str]:
        """Refuses those that the client isn't granted."""
        return long_lived_tokens.validate_scopes(self.cleaned_data["scopes"], self.instance.application)

    @override
    def save(self, commit: bool = True) -> AccessToken:
        self.instance.scope = " ".join(self.cleaned_data["scopes"])
        return super().save(commit)


class MakeTokenForm(forms.Form):
    """What a new token of a client is to be."""

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
        """Refuses those that the client isn't granted."""
        return long_lived_tokens.validate_scopes(self.cleaned_data["scopes"], self.application)

    def clean_expires(self) -> timedelta:
        """Refuses what is no age."""
        return long_lived_tokens.validate_lifetime(self.cleaned_data["expires"])


class _Columns:
    """What is shown of a token."""

    @admin.display(description="digest")
    def short_digest(self, token: AccessToken) -> str:
        """As much of its digest as tells it from others."""
        return f"{token.token_checksum[:_DIGEST_CHARACTERS]}…"

    @admin.display(description="digest (SHA-256)")
    def digest(self, token: AccessToken) -> str:
        """The digest it is known by."""
        return str(token.token_checksum)

    @admin.display(description="client", ordering="application__name")
    def client(self, token: AccessToken) -> str:
        """Whose it is."""
        if token.application is None:
            return f"user {token.user}"
        return str(token.application.name or token.application.client_id)

    @admin.display(description="client id")
    def client_id(self, token: AccessToken) -> str:
        """What the client calls itself."""
        return str(token.application.client_id) if token.application else "-"

    @admin.display(description="scopes", ordering="scope")
    def stored_scopes(self, token: AccessToken) -> str:
        """What it opens, as it is stored."""
        return str(token.scope) or "-"

    @admin.display(description="created", ordering="created")
    def created_at(self, token: AccessToken) -> str:
        """When it was made."""
        return _text(token.created)

    @admin.display(description="expires", ordering="expires")
    def expires_at(self, token: AccessToken) -> str:
        """Until when it counts."""
        return f"{_text(token.expires)}{' (expired)' if token.is_expired() else ''}"

    @admin.display(description="name", ordering="long_lived__name")
    def long_lived_name(self, token: AccessToken) -> str:
        """What a long-lived one is for."""
        return token.long_lived.name if hasattr(token, "long_lived") else "-"

    @admin.display(description="last used", ordering="long_lived__last_used")
    def last_used(self, token: AccessToken) -> str:
        """When a long-lived one was last used, to some seconds; it isn't kept of others."""
        if not hasattr(token, "long_lived"):
            return "-"
        return _text(token.long_lived.last_used) if token.long_lived.last_used else "never"


def _text(moment: datetime) -> str:
    return timestamps.to_text(moment.replace(microsecond=0))


class TokenAdmin(_Columns, AccessTokenAdmin):
    """The toolkit's own, which revokes tokens, without their empty texts; scopes and expiry can be changed."""

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
    def revoke_tokens(self, request: HttpRequest, queryset: QuerySet[AccessToken]) -> None:
        """As the toolkit does, for who may change tokens; it takes effect here at once."""
        super().revoke_tokens(request, queryset)


class TokenInline(_Columns, admin.TabularInline):
    """The long-lived tokens of a client, to be revoked there."""

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
        return False  # a page of its own makes one, and shows it
