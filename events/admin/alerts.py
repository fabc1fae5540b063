"""The admin's pages of alerts, targets and deliveries."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from typing_extensions import override

from events.admin.lists import StrictListMixin
from events.alerts import watched
from events.alerts.forms import AlertForm, TargetForm
from events.alerts.models import Alert, AlertTarget, Delivery


@admin.register(Alert)
class AlertAdmin(StrictListMixin):
    """The pages of alerts, with the same form as elsewhere, and the end of muting besides."""

    form = AlertForm
    fields = (*AlertForm.Meta.fields, "muted_until", "problem", "created_by")
    readonly_fields = ("problem", "created_by")
    list_display = ("name", "severity", "is_enabled", "sentence", "problem")
    list_filter = ("severity", "is_enabled")
    search_fields = ("name", "namespace", "series_name")

    @override
    def save_model(self, request: HttpRequest, obj: Alert, form: Any, change: bool) -> None:
        watched.store(obj)


@admin.register(AlertTarget)
class TargetAdmin(StrictListMixin):
    """The pages of targets. URL and secret are entered, and never shown, but for a secret that was just made."""

    form = TargetForm
    fields = (*TargetForm.Meta.fields, "shown_url")
    readonly_fields = ("shown_url",)
    list_display = ("name", "kind", "body_format", "shown_url")

    @override
    def save_model(self, request: HttpRequest, obj: AlertTarget, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if form.made_secret:
            text = f"The secret that signs is {form.made_secret}. It isn’t shown again."
            self.message_user(request, text, messages.WARNING)


@admin.register(Delivery)
class DeliveryAdmin(StrictListMixin):
    """The log of deliveries, to be read."""

    list_display = ("created_at", "event", "subject", "target", "status", "attempts", "outcome")
    list_filter = ("status", "event", "target")
    ordering = ("-created_at",)
    fields = (
        "id", "subject", "target", "alert", "event", "status", "created_at", "attempts", "next_attempt_at",
        "delivered_at", "outcome", "body",
    )  # fmt: skip

    @override
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @override
    def has_change_permission(self, request: HttpRequest, obj: Delivery | None = None) -> bool:
        return False

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Delivery | None = None) -> bool:
        return False
