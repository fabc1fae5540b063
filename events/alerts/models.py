"""The tables of alerts: what is watched, how it stands, when it fired, and what was sent to whom.

They have few rows and are not divided into partitions; on a cluster they stay where the users and clients are.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, ProhibitNullCharactersValidator
from django.db import models
from typing_extensions import override

from events.aggregation.question import NAMED_TYPES, is_aggregation_type
from events.alerts import condition as conditions
from events.alerts import sealing, states
from events.alerts.condition import Condition
from events.alerts.quiet_hours import is_quiet
from events.calendar import zones
from events.log.namespace_patterns import Namespaces, fits, validate_patterns
from events.log.series import SeriesKey

MOST_WINDOW_MINUTES = 10_080
MOST_COMPARE_MINUTES = 400 * 1_440
SEVERITIES = ("info", "warning", "critical")
_MOST_PATTERN_CHARACTERS = 256  # a namespace and an asterisk


def validate_zone(name: str) -> None:
    """Refuse a name that is no time zone's. Raises Django's ValidationError."""
    if name != "UTC" and name not in zones.names():
        raise ValidationError("Choose an IANA name such as Europe/Berlin.", code="zone")


def validate_aggregation_type(text: str) -> None:
    """Refuse a word that is no aggregation type of the API. Raises Django's ValidationError."""
    if not is_aggregation_type(text):
        raise ValidationError(
            f"Choose one of: {', '.join(NAMED_TYPES)}. Another percentile is a “p” and a number from 0 to 100.",
            code="aggregation_type",
        )


def _pattern(of: str) -> models.CharField[str, str]:
    return models.CharField(
        max_length=_MOST_PATTERN_CHARACTERS,
        validators=[validate_patterns, ProhibitNullCharactersValidator()],
        help_text=f"A {of}, or the beginning of some and an asterisk. * is all.",
    )


def _minutes(text: str, default: int, least: int, most: int) -> models.PositiveIntegerField[int, int]:
    limits = [MinValueValidator(least), MaxValueValidator(most)]
    return models.PositiveIntegerField(default=default, validators=limits, help_text=text)


class AlertTarget(models.Model):
    """Where alerts are sent: a webhook or e-mail addresses. URL and secret are stored sealed, and never shown again."""

    WEBHOOK, EMAIL = "webhook", "email"
    KINDS = [(WEBHOOK, "Webhook"), (EMAIL, "E-mail")]
    moved_by = ("name",)
    BODIES = [
        ("json", "JSON"), ("slack", "Slack"), ("mattermost", "Mattermost"), ("alertmanager", "Alertmanager"),
    ]  # fmt: skip

    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=10, choices=KINDS, default=WEBHOOK)
    body_format = models.CharField(
        "body", max_length=20, choices=BODIES, default="json", help_text="What the receiver of a webhook understands."
    )
    sealed_url = models.TextField(blank=True, editable=False)
    shown_url = models.CharField("webhook", max_length=300, blank=True, editable=False)
    sealed_secret = models.TextField(blank=True, editable=False)
    addresses = models.TextField(blank=True, max_length=2_000, help_text="E-mail addresses, one a line.")

    class Meta:
        ordering = ("name",)

    @override
    def __str__(self) -> str:
        return self.name

    @property
    def url(self) -> str:
        """The webhook's URL. Raises sealing.Unreadable where it was sealed by another SECRET_KEY."""
        return sealing.opened(self.sealed_url)

    @property
    def secret(self) -> str:
        """The secret that signs. Raises sealing.Unreadable where it was sealed by another SECRET_KEY."""
        return sealing.opened(self.sealed_secret)

    def set_url(self, url: str) -> None:
        """Seal a URL, of which scheme and host alone can be shown from then on, as its path may be a secret."""
        self.sealed_url, self.shown_url = sealing.sealed(url), sealing.shown(url)

    def set_secret(self, secret: str) -> None:
        """Seal a secret."""
        self.sealed_secret = sealing.sealed(secret)


class Alert(models.Model):
    """A condition on one series, or on each series that the patterns match, and who is told of it."""

    KINDS = [
        (conditions.THRESHOLD, "An aggregate is above or below a value"),
        (conditions.SILENCE, "No event comes"),
        (conditions.CHANGE, "An aggregate changes against an earlier time"),
    ]
    COMPARISONS = [
        (conditions.ABOVE, "above, or rises"), (conditions.BELOW, "below, or falls"),
        (conditions.EITHER, "changes either way"),
    ]  # fmt: skip

    name = models.CharField(max_length=100, unique=True, validators=[ProhibitNullCharactersValidator()])
    severity = models.CharField(max_length=10, choices=[(each, each) for each in SEVERITIES], default="warning")
    description = models.TextField(
        blank=True, max_length=2_000, validators=[ProhibitNullCharactersValidator()], help_text="Sent with the alert."
    )
    is_enabled = models.BooleanField("enabled", default=True, help_text="Whether it is evaluated.")
    namespace = _pattern("namespace")
    series_name = models.CharField(
        "name of the series",
        max_length=_MOST_PATTERN_CHARACTERS,
        validators=[validate_patterns, ProhibitNullCharactersValidator()],
        help_text="A name, or the beginning of some and an asterisk. * is all.",
    )

    kind = models.CharField("condition", max_length=10, choices=KINDS, default=conditions.THRESHOLD)
    aggregation_type = models.CharField(
        max_length=20, default="avg", validators=[validate_aggregation_type],
        help_text=f"{', '.join(NAMED_TYPES[:-1])} or {NAMED_TYPES[-1]}, or another percentile.",
    )  # fmt: skip
    window_minutes = _minutes("Over so many minutes, a week at most.", 5, 1, MOST_WINDOW_MINUTES)
    comparison = models.CharField(max_length=10, choices=COMPARISONS, default=conditions.ABOVE)
    threshold = models.FloatField(default=0.0, help_text="A value; for a change, a number of percent.")
    clear_threshold = models.FloatField(
        null=True, blank=True, help_text="It resolves only beyond this value. Empty: the threshold."
    )
    compare_minutes = _minutes(
        "A change is against the same window so many minutes before; a week is 10080.", 10_080, 1, MOST_COMPARE_MINUTES
    )
    for_minutes = _minutes("It fires once the condition has held for so many minutes.", 0, 0, MOST_WINDOW_MINUTES)
    resolve_minutes = _minutes("It resolves once it has been clear for so many minutes.", 5, 0, MOST_WINDOW_MINUTES)
    delay_minutes = _minutes("Windows end so many minutes ago, so that events which come late count.", 1, 0, 1_440)

    quiet_start = models.TimeField(null=True, blank=True, help_text="From here on nothing is sent …")
    quiet_end = models.TimeField(null=True, blank=True, help_text="… until here. What still fires then is sent.")
    quiet_zone = models.CharField(max_length=64, default="UTC", validators=[validate_zone])
    muted_until = models.DateTimeField(null=True, blank=True, help_text="Nothing is sent until then.")
    targets = models.ManyToManyField(AlertTarget, blank=True, related_name="alerts")

    problem = models.CharField(max_length=300, blank=True, editable=False)
    changed_at = models.DateTimeField(auto_now=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )

    class Meta:
        ordering = ("name",)

    @override
    def __str__(self) -> str:
        return self.name

    @override
    def clean(self) -> None:
        """Refuse a condition whose parts contradict each other."""
        errors = {}
        if self.comparison == conditions.EITHER and self.kind == conditions.THRESHOLD:
            errors["comparison"] = "Only a change can go either way."
        if self.kind == conditions.CHANGE and (self.threshold or 0) < 0:
            errors["threshold"] = "A number of percent, 0 or more; the comparison says the direction."
        if self.kind != conditions.SILENCE and self.clear_threshold is not None:
            is_below = self.comparison == conditions.BELOW and self.kind == conditions.THRESHOLD
            distance = self.clear_threshold - (self.threshold or 0)
            if distance < 0 if is_below else distance > 0:
                errors["clear_threshold"] = f"It must not be {'below' if is_below else 'above'} the threshold."
        if (self.quiet_start is None) != (self.quiet_end is None):
            errors["quiet_end"] = "Quiet hours have a start and an end."
        if errors:
            raise ValidationError(errors)

    @property
    def condition(self) -> Condition:
        """The condition by itself."""
        return Condition(
            kind=self.kind, aggregation_type=self.aggregation_type, window_minutes=self.window_minutes,
            comparison=self.comparison, threshold=self.threshold, compare_minutes=self.compare_minutes,
            clear_threshold=self.clear_threshold,
        )  # fmt: skip

    def sentence(self) -> str:
        """Write what the alert watches in words."""
        held = f" for {conditions.minutes_text(self.for_minutes)}" if self.for_minutes else ""
        return f"{self.namespace}/{self.series_name}: {self.condition.sentence()}{held}"

    @property
    def series(self) -> SeriesKey | None:
        """The only series that is watched; None where there are patterns."""
        is_pattern = self.namespace.endswith("*") or self.series_name.endswith("*")
        return None if is_pattern else SeriesKey(self.namespace, self.series_name)

    @property
    def namespaces(self) -> Namespaces:
        """The namespaces whose series are watched."""
        return Namespaces.of_patterns([self.namespace])

    def matches(self, series: SeriesKey) -> bool:
        """Tell whether a series is watched."""
        return fits(series.namespace, self.namespace) and fits(series.name, self.series_name)

    def is_muted(self, now: datetime) -> bool:
        """Tell whether nothing is sent because somebody muted the alert."""
        return self.muted_until is not None and now < self.muted_until

    def is_silent(self, now: datetime) -> bool:
        """Tell whether nothing is sent at an instant: the alert is muted, or these are its quiet hours."""
        zone = zones.zone_of(self.quiet_zone)
        return self.is_muted(now) or is_quiet(now, self.quiet_start, self.quiet_end, zone)


class AlertEvaluator(models.Model):
    """The one row that says which worker evaluates the alerts, until when it is sure to, and how far it is."""

    holder = models.CharField(max_length=64, blank=True)
    held_until = models.DateTimeField(null=True)
    evaluated_at = models.DateTimeField(null=True)  # the minute of the last pass that was finished
    alerts = models.PositiveIntegerField(default=0)
    seconds = models.FloatField(default=0.0)

    class Meta:
        default_permissions = ()

    @override
    def __str__(self) -> str:
        return f"evaluated at {self.evaluated_at}"


class Firing(models.Model):
    """One time that an alert fired for a series, with the values and the times that belong to it."""

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="firings")
    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    pending_since = models.DateTimeField()
    fired_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)
    value = models.FloatField(null=True)
    resolved_value = models.FloatField(null=True)
    # what it fired on: the events of the windows from its first breach on, and whether late ones changed that
    event_count = models.BigIntegerField(null=True)
    revised_at = models.DateTimeField(null=True)
    revised_value = models.FloatField(null=True)
    would_have_fired = models.BooleanField(default=True)
    checked_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        indexes = [
            # Serves the bands of a chart: what fired in a window.
            models.Index(fields=["namespace", "name", "fired_at"], name="firing_series_fired_at"),
            # Serves the page of an alert.
            models.Index(fields=["alert", "-fired_at"], name="firing_alert_fired_at"),
            # Serves the marks of the overview, and the look for late events.
            models.Index(fields=["resolved_at"], name="firing_resolved_at"),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} at {self.fired_at}"

    @property
    def revision(self) -> str:
        """What late events did to the data that it fired on, in a sentence; nothing where none came."""
        if self.revised_at is None:
            return ""
        changed = f"Events that came late changed the data it fired on: {_shown(self.value)} is now "
        outcome = "" if self.would_have_fired else ", on which it would not have fired"
        return f"{changed}{_shown(self.revised_value)}{outcome}."


def _shown(value: float | None) -> str:
    return "no value" if value is None else f"{value:g}"


class AlertState(models.Model):
    """How an alert stands for one series."""

    STATES = [(each, each) for each in (states.OK, states.PENDING, states.FIRING, states.RESOLVED)]

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="states")
    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    state = models.CharField(max_length=10, choices=STATES, default=states.OK)
    since = models.DateTimeField()
    clear_since = models.DateTimeField(null=True)
    value = models.FloatField(null=True)
    evaluated_at = models.DateTimeField()
    firing = models.ForeignKey(Firing, models.SET_NULL, null=True, related_name="+")
    is_announced = models.BooleanField(default=False)  # whether it was told of ``firing``, and not yet that it resolved
    # An earlier firing of which that is so. The release before, which doesn't know of it, may delete the firing.
    told_before = models.ForeignKey(Firing, models.SET_NULL, null=True, related_name="+", db_constraint=False)

    class Meta:
        default_permissions = ()
        # Serves the evaluator, and the page of an alert.
        constraints = [models.UniqueConstraint(fields=["alert", "namespace", "name"], name="alert_state_once_a_series")]

    @override
    def __str__(self) -> str:
        return f"{self.alert_id} {self.namespace}/{self.name}: {self.state}"

    @property
    def series(self) -> SeriesKey:
        """The series."""
        return SeriesKey(self.namespace, self.name)

    @property
    def told(self) -> Firing | None:
        """The firing of which it was told that it fires, and not yet that it resolved."""
        return self.told_before or (self.firing if self.is_announced else None)


class Delivery(models.Model):
    """One message to one target. It is sent at least once, each time with the same id and the same body."""

    WAITING, DELIVERED, FAILED = "waiting", "delivered", "failed"
    STATUSES = [(each, each) for each in (WAITING, DELIVERED, FAILED)]
    EVENTS = [(each, each) for each in ("firing", "resolved", "test")]

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    target = models.ForeignKey(AlertTarget, models.CASCADE, related_name="deliveries")
    alert = models.ForeignKey(Alert, models.SET_NULL, null=True, related_name="deliveries")
    alert_name = models.CharField(max_length=100, blank=True)
    event = models.CharField(max_length=10, choices=EVENTS)
    subject = models.CharField(max_length=300)
    body = models.TextField()
    status = models.CharField(max_length=10, choices=STATUSES, default=WAITING)
    created_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=300, blank=True)  # of the last attempt, in our own words

    class Meta:
        default_permissions = ("view",)
        verbose_name_plural = "deliveries"
        indexes = [
            # Serves the worker: what is to be sent next.
            models.Index(fields=["status", "next_attempt_at"], name="delivery_next_attempt"),
            # Serves the log.
            models.Index(fields=["-created_at"], name="delivery_created_at"),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.event} to {self.target_id}: {self.status}"
