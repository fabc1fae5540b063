"""The forms of alerts and their targets, on the pages and in the admin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from typing_extensions import override

from events.aggregation.question import NAMED_TYPES
from events.alerts import emails, sealing, webhooks
from events.alerts.models import Alert, AlertTarget
from events.keys import KeysField
from events.text_inputs import LineBreaksMixin

_MOST_SECRET_CHARACTERS = 200
# Nothing is kept by the browser, and what was entered once is not shown again.
_ONCE = {"autocomplete": "off", "spellcheck": "false"}
_STAYS = "Left empty, it stays as it is."


class WordsInput(forms.TextInput):
    """A field to write in that offers some words."""

    template_name = "events/alerts/words.html"

    def __init__(self, words: Sequence[str], attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs)
        self.words = words

    @override
    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        listed = {**(attrs or {}), "list": f"{name}_words"}
        return {**super().get_context(name, value, listed), "words": self.words}


class AlertForm(LineBreaksMixin, forms.ModelForm):
    """An alert: what is watched, when that fires, and who is told."""

    class Meta:
        model = Alert
        fields = (
            "name", "severity", "description", "is_enabled", "namespace", "series_name", "kind", "aggregation_type",
            "window_minutes", "comparison", "threshold", "clear_threshold", "compare_minutes", "for_minutes",
            "resolve_minutes", "delay_minutes", "quiet_start", "quiet_end", "quiet_zone", "targets",
        )  # fmt: skip
        field_classes = {"targets": KeysField}
        widgets = {
            "description": forms.Textarea(attrs={"rows": 2}),
            "namespace": forms.TextInput(attrs=_ONCE),
            "series_name": forms.TextInput(attrs=_ONCE),
            "aggregation_type": WordsInput(NAMED_TYPES, _ONCE),
            "quiet_start": forms.TimeInput(format="%H:%M", attrs={"type": "time"}),
            "quiet_end": forms.TimeInput(format="%H:%M", attrs={"type": "time"}),
            "quiet_zone": forms.TextInput(attrs=_ONCE),
            "targets": forms.CheckboxSelectMultiple,
        }
        labels = {
            "is_enabled": "It is evaluated", "aggregation_type": "Aggregate", "window_minutes": "Window, minutes",
            "compare_minutes": "Against, minutes before", "clear_threshold": "Resolves beyond",
            "for_minutes": "Fires after, minutes", "resolve_minutes": "Resolves after, minutes",
            "delay_minutes": "Delay, minutes", "quiet_start": "Quiet from", "quiet_end": "Quiet until",
            "quiet_zone": "Time zone of the quiet hours", "targets": "It is sent to",
        }  # fmt: skip
        help_texts = {"is_enabled": ""}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("namespace", "series_name"):
            self.fields[name].strip = False  # type: ignore[attr-defined]  # blanks count


class TargetForm(forms.ModelForm):
    """A target. Its URL and its secret are entered, and never shown again."""

    url = forms.CharField(
        label="URL of the webhook", required=False, max_length=2_000, widget=forms.URLInput(attrs=_ONCE),
        help_text="For a webhook: where messages are posted. It isn’t shown again.",
    )  # fmt: skip
    secret = forms.CharField(
        label="Secret that signs", required=False, max_length=_MOST_SECRET_CHARACTERS,
        widget=forms.PasswordInput(attrs={**_ONCE, "autocomplete": "new-password"}),
        help_text="For a webhook: left empty, one is made and shown once.",
    )  # fmt: skip
    made_secret = ""

    class Meta:
        model = AlertTarget
        fields = ("name", "kind", "body_format", "url", "secret", "addresses")
        widgets = {"addresses": forms.Textarea(attrs={"rows": 3, "spellcheck": "false"})}
        labels = {"body_format": "Body", "addresses": "E-mail addresses"}
        help_texts = {"addresses": "One a line."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.sealed_url:
            self.fields["url"].help_text = _STAYS
        if self.instance.sealed_secret:
            self.fields["secret"].help_text = _STAYS

    @override
    def clean(self) -> dict[str, Any]:
        """Hold the kind to what it needs, and the URL and the addresses to their shapes."""
        found = super().clean() or {}
        is_webhook = found.get("kind") == AlertTarget.WEBHOOK
        url, addresses = found.get("url"), found.get("addresses")
        if is_webhook and not url and not self.instance.sealed_url:
            self.add_error("url", "A webhook has a URL.")
        elif not is_webhook and not addresses:
            self.add_error("addresses", "Enter one address or more.")
        for name, value, validate in (
            ("url", url, webhooks.validate_url), ("addresses", addresses, emails.validate_addresses),
        ):  # fmt: skip
            if value:
                try:
                    validate(value)
                except forms.ValidationError as error:
                    self.add_error(name, error)
        return found

    @override
    def save(self, commit: bool = True) -> AlertTarget:
        """Seal what was entered; ``made_secret`` is the secret where one was made."""
        target: AlertTarget = self.instance
        if self.cleaned_data["url"]:
            target.set_url(self.cleaned_data["url"])
        secret = self.cleaned_data["secret"]
        if not secret and target.kind == AlertTarget.WEBHOOK and not target.sealed_secret:
            secret = self.made_secret = webhooks.new_secret()
        if secret:
            target.set_secret(secret)
        return super().save(commit)  # type: ignore[no-any-return]


def sealed_anew(target: AlertTarget) -> str:
    """Give a target another secret, and return it; the one before is good no more."""
    secret = webhooks.new_secret()
    AlertTarget.objects.filter(pk=target.pk).update(sealed_secret=sealing.sealed(secret))
    return secret
