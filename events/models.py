"""Event, the log; Rollup, Watermark, Pruned, what is read of it; what requests and imports did; what clients may do."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, models
from django.db.models.functions import Concat
from django.utils import timezone

from events.calendar import timestamps
from events.log.namespace_patterns import ALL, Namespaces, validate_patterns


def validate_path_segment(value: str) -> None:
    """Refuse what could not be one path segment of ``/api/events/<namespace>/<name>``, or could not be seen there."""
    if not value.strip():
        raise ValidationError("This field may not be blank.", code="blank")
    if "/" in value or value in {".", ".."}:
        raise ValidationError("This field may not contain “/” nor be “.” or “..”.", code="path_segment")


class EventQuerySet(models.QuerySet["Event"]):
    """Events chosen by series and time; each method chains."""

    def get_by_natural_key(self, namespace: str, name: str, timestamp: datetime, value: float) -> Event:
        """The first event with just this content, so that loading a fixture again adds nothing."""
        event = self.filter(namespace=namespace, name=name, timestamp=timestamp, value=value).first()
        if event is None:
            raise self.model.DoesNotExist
        return event

    def of_series(self, namespace: str, name: str) -> EventQuerySet:
        """Events of one series."""
        return self.filter(namespace=namespace, name=name)

    def within(self, ts_min: datetime | None, ts_max: datetime | None) -> EventQuerySet:
        """Events of the window [ts_min, ts_max], both ends included; None leaves an end open."""
        events = self
        if ts_min is not None:
            events = events.filter(timestamp__gte=ts_min)
        if ts_max is not None:
            events = events.filter(timestamp__lte=ts_max)
        return events

    def after(self, event_id: int) -> EventQuerySet:
        """Events past a watermark."""
        return self.filter(pk__gt=event_id)

    def tail_of_series(self, namespace: str, name: str, event_id: int, tail: int) -> EventQuerySet:
        """Events of one series past a watermark, which ``tail`` ids are past."""
        events = self.after(event_id)
        if connection.vendor == "postgresql" or tail > settings.ROLLUP_TAIL_EVENTS:
            return events.of_series(namespace, name)
        # By texts that no index has, or SQLite would go through all of the series for a few new events.
        texts = {f"{field}_text": Concat(field, models.Value("")) for field in ("namespace", "name")}
        return events.alias(**texts).filter(**dict(zip(texts, (namespace, name), strict=True)))

    def up_to(self, event_id: int) -> EventQuerySet:
        """Events up to a watermark, which are in the rollups."""
        return self.filter(pk__lte=event_id)

    def namespaces(self) -> Iterator[str]:
        """The distinct namespaces. One query each, none of which reads more than one index entry."""
        return self._distinct("namespace")

    def names(self, namespace: str) -> Iterator[str]:
        """The distinct names within a namespace, read as the namespaces are."""
        return self.filter(namespace=namespace)._distinct("name")

    # What changes events that are stored keeps the rollups true: `events.rollups.statements` wraps it.

    def update(self, **values: Any) -> int:
        """Change every event, and rebuild the buckets that it left and those that it came to. One transaction."""
        if values.keys() & {"id", "pk"}:
            raise TypeError("An event keeps its id.")
        moved = None if values.keys() & {"namespace", "name", "timestamp"} else ()
        with _rebuilding(self, moved):
            return super().update(**values)

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete every event, and rebuild the buckets that it left. One transaction, and no event is loaded."""
        if self.query.is_sliced or self.query.distinct or self.query.values_select:
            raise TypeError("Cannot delete a queryset with a limit, distinct() or values().")
        events = self.order_by()
        with _rebuilding(events, ()):
            count = events._raw_delete(events.db)
        return count, {self.model._meta.label: count}

    def bulk_create(self, objs: Iterable[Event], *args: Any, **kwargs: Any) -> list[Event]:
        """As Django's; events with an id of the caller's choice may belong to buckets that are rolled up."""
        events = list(objs)
        ids = _chosen(event.pk for event in events)
        if not ids:
            return super().bulk_create(events, *args, **kwargs)
        with _rebuilding(Event.objects.filter(pk__in=ids), ids):
            return super().bulk_create(events, *args, **kwargs)

    def _distinct(self, field: str) -> Iterator[str]:
        # A loose index scan, which neither database does for DISTINCT: that one reads every row.
        values = self.order_by(field).values_list(field, flat=True)
        value = values.first()
        while value is not None:
            yield value
            value = values.filter(**{f"{field}__gt": value}).first()


class Event(models.Model):
    """One fact: at this time, this value was seen in this series."""

    namespace = models.CharField(max_length=255, validators=[validate_path_segment])
    name = models.CharField(max_length=255, validators=[validate_path_segment])
    timestamp = models.DateTimeField()
    value = models.FloatField()

    objects = EventQuerySet.as_manager()

    class Meta:
        # Serves every read: a series' window, the catalogue, and the admin's filters.
        indexes = [models.Index(fields=["namespace", "name", "timestamp"], name="event_series_timestamp")]
        constraints = [
            models.CheckConstraint(condition=~models.Q(namespace="") & ~models.Q(name=""), name="event_series_named"),
            # PostgreSQL sorts NaN above every number, so the upper bound keeps it out too.
            models.CheckConstraint(
                condition=models.Q(value__gte=-sys.float_info.max, value__lte=sys.float_info.max),
                name="event_value_finite",
                violation_error_message="The value must be a finite number.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} = {self.value:g} at {timestamps.to_text(self.timestamp)}"

    def clean(self) -> None:
        """Refuses what saving would: a stored event can't be moved to hours that are pruned."""
        if self.is_pruned():
            message = "Events of this series are pruned up to this hour: what is known of it can't be changed any more."
            raise ValidationError({"timestamp": message}, code="pruned")

    def is_pruned(self) -> bool:
        """Whether the event can't be changed or deleted any more, as its hour is pruned and it is rolled up."""
        later = Pruned.objects.filter(namespace=self.namespace, name=self.name, before__gt=self.timestamp)
        return bool(self.pk) and later.exists() and Watermark.objects.filter(event_id__gte=self.pk).exists()

    def natural_key(self) -> tuple[str, str, datetime, float]:
        """All of it: what tells an event from others in a fixture, whatever its id."""
        return self.namespace, self.name, self.timestamp, self.value

    # This and not save(), which fixtures pass by.
    def _save_table(self, *args: Any, **kwargs: Any) -> bool:
        ids = _chosen([self.pk])  # none for an event that gets its id now, past the watermark
        with _rebuilding(Event.objects.filter(pk__in=ids), ids) if ids else nullcontext():
            return bool(super()._save_table(*args, **kwargs))  # type: ignore[misc]  # not in the stubs

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """As Django's; the event's buckets are rebuilt."""
        with _rebuilding(Event.objects.filter(pk=self.pk), ()):
            return super().delete(*args, **kwargs)


def _chosen(ids: Iterable[int | None]) -> list[int]:
    """The ids that the caller chose. Raises ValueError for one below 1, which no watermark is below."""
    chosen = [int(each) for each in ids if each is not None]
    if chosen and min(chosen) < 1:
        raise ValueError("The id of an event is 1 or more.")
    return chosen


def _rebuilding(events: EventQuerySet, ids: Sequence[int] | None) -> AbstractContextManager[None]:
    from events.rollups import (
        statements,  # it stands above the models, and only a change of what is stored calls up to it
    )

    return statements.rebuilding(events, ids)


class Resolution(models.IntegerChoices):
    """What a rollup holds the events of; the value is its length in seconds."""

    MINUTE = 60
    HOUR = 3600
    SERIES = 0, "whole series"


class RollupQuerySet(models.QuerySet["Rollup"]):
    """Rollups chosen by series and resolution; each method chains."""

    def of_series(self, namespace: str, name: str) -> RollupQuerySet:
        """Rollups of one series, of every resolution."""
        return self.filter(namespace=namespace, name=name)

    def whole_series(self) -> RollupQuerySet:
        """The one rollup of each series that holds all of its events up to the watermark."""
        return self.filter(resolution=Resolution.SERIES)


class Rollup(models.Model):
    """What is kept of one series' events up to the watermark in one minute, in one hour, or altogether."""

    pk = models.CompositePrimaryKey("resolution", "namespace", "name", "bucket")
    resolution = models.SmallIntegerField(choices=Resolution.choices)
    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    bucket = models.DateTimeField(help_text="The start of the minute or hour in UTC; of a whole series, 1970.")
    first_timestamp = models.DateTimeField()
    last_timestamp = models.DateTimeField()
    count = models.BigIntegerField()
    sum = models.FloatField(help_text="Infinity where a value is so large that the sum might not fit a double.")
    rest = models.FloatField(
        db_default=0.0,
        help_text="What the exact sum is more than that one.",
    )
    is_exact = models.BooleanField(
        db_default=True,
        help_text="Whether both together are the exact sum; where not, sums are made of the events.",
    )
    min = models.FloatField()
    max = models.FloatField()

    objects = RollupQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}, {self.get_resolution_display()} {timestamps.to_text(self.bucket)}"

    # Not from a fixture: its events are rolled up here, whatever they were elsewhere.
    def _save_table(self, raw: bool = False, *args: Any, **kwargs: Any) -> bool:
        return not raw and super()._save_table(raw, *args, **kwargs)  # type: ignore[misc]  # not in the stubs


class Watermark(models.Model):
    """The one row that says how far the rollups go: all events up to an id, and none past it."""

    event_id = models.BigIntegerField(default=0)
    changes = models.BigIntegerField(default=0, help_text="How often stored events were changed or deleted.")
    resolutions = models.CharField(max_length=50, help_text="Which resolutions hold them, finest first.")
    complete_at = models.DateTimeField(
        null=True, help_text="When the roller last saw that they hold every event there was, to some seconds."
    )

    pruned_before: datetime | None = None  # of the one series that is asked about, where one is

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="watermark_one_row")]
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.event_id} by {self.resolutions}"

    # Nor this from a fixture.
    def _save_table(self, raw: bool = False, *args: Any, **kwargs: Any) -> bool:
        return not raw and super()._save_table(raw, *args, **kwargs)  # type: ignore[misc]  # not in the stubs


class Pruned(models.Model):
    """How far a series is pruned: in the hours before, its rollups are all that is known for certain.

    Events of these hours that are still in the log, or late ones that came to it since, are in the rollups as others
    are.
    """

    pk = models.CompositePrimaryKey("namespace", "name")
    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    before = models.DateTimeField(help_text="The start of an hour in UTC.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} before {timestamps.to_text(self.before)}"

    # Nor this from a fixture.
    def _save_table(self, raw: bool = False, *args: Any, **kwargs: Any) -> bool:
        return not raw and super()._save_table(raw, *args, **kwargs)  # type: ignore[misc]  # not in the stubs


class Bookmark(models.Model):
    """How far an import has come in its source, kept in the transactions that store the events."""

    source = models.CharField(max_length=1000, unique=True, help_text="The path of a file, or a name of its own.")
    lines = models.BigIntegerField(default=0, help_text="How many lines are done, whether stored or rejected.")
    digest = models.CharField(max_length=64, blank=True, help_text="BLAKE2 of these lines.")
    head = models.CharField(max_length=64, blank=True, help_text="BLAKE2 of the first of them, by which it is known.")
    events = models.BigIntegerField(default=0)
    rejected = models.BigIntegerField(default=0)
    rejects = models.CharField(max_length=1000, blank=True, help_text="The path of the file of the rejects.")
    rejects_bytes = models.BigIntegerField(default=0, help_text="How long that file was by then.")
    is_done = models.BooleanField(default=False)
    changed = models.DateTimeField(auto_now=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.source}, line {self.lines}"


class IdempotencyKeyQuerySet(models.QuerySet["IdempotencyKey"]):
    """Keys chosen by age."""

    def older_than(self, age: timedelta) -> IdempotencyKeyQuerySet:
        """Keys whose requests came longer ago than that."""
        return self.filter(created__lt=timezone.now() - age)


class IdempotencyKey(models.Model):
    """A request that was carried out: sent again by the same client under the same key, it does nothing."""

    client = models.CharField(max_length=255)
    key = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, help_text="SHA-256 of the events.")
    created = models.DateTimeField(auto_now_add=True)

    objects = IdempotencyKeyQuerySet.as_manager()

    class Meta:
        # Serves pruning by age.
        indexes = [models.Index(fields=["created"], name="idempotency_key_created")]
        constraints = [models.UniqueConstraint(fields=["client", "key"], name="idempotency_key_once_a_client")]

    def __str__(self) -> str:
        return f"{self.key} of {self.client}"


def _patterns() -> models.TextField[str, str]:
    return models.TextField(
        default=ALL,
        blank=True,
        validators=[validate_patterns],
        help_text="One pattern a line, case and blanks count: “Shop” is that namespace, “Shop-*” is all that begin "
        "with “Shop-”, “*” is all. Empty: the client may not ask for this scope.",
    )


def _limit(setting: str) -> models.PositiveIntegerField[int | None, int | None]:
    return models.PositiveIntegerField(null=True, blank=True, help_text=f"Empty: {setting} holds. 0: no limit.")


class Grant(models.Model):
    """What an OAuth2 application may do; one without a grant may do everything."""

    application = models.OneToOneField(
        "oauth2_provider.Application",
        on_delete=models.CASCADE,
        related_name="client_grant",  # the toolkit has a grant too, of another kind
    )
    write_namespaces = _patterns()
    read_namespaces = _patterns()
    aggregation_namespaces = _patterns()
    requests_a_minute = _limit("RATE_LIMIT_REQUESTS")
    events_a_minute = _limit("RATE_LIMIT_EVENTS")
    new_series_a_day = _limit("RATE_LIMIT_NEW_SERIES")

    def __str__(self) -> str:
        return f"{self.application}: {' '.join(sorted(self.scopes)) or 'nothing'}"

    @property
    def scopes(self) -> set[str]:
        """The scopes that the client may ask for: those it has any namespace for."""
        return {scope for scope, namespaces in self._namespaces.items() if namespaces}

    def namespaces(self, scope: str) -> Namespaces:
        """Where the client may use a scope."""
        return self._namespaces[scope]

    @cached_property
    def _namespaces(self) -> dict[str, Namespaces]:
        return {
            "write": Namespaces.of(self.write_namespaces),
            "read": Namespaces.of(self.read_namespaces),
            "aggregation": Namespaces.of(self.aggregation_namespaces),
        }


class ClientUsage(models.Model):
    """What a client has sent so far; `events.access.usage` counts it."""

    client = models.CharField(max_length=255)
    last_used = models.DateTimeField()
    requests = models.BigIntegerField()
    events = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["client"], name="client_usage_once_a_client")]
        default_permissions = ()
        verbose_name_plural = "client usage"

    def __str__(self) -> str:
        return f"{self.client}: {self.events} events"


class LongLivedToken(models.Model):
    """What the toolkit's table doesn't know of a token that `events.access.long_lived_tokens` made."""

    token = models.OneToOneField(
        "oauth2_provider.AccessToken",
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="long_lived",
        db_constraint=False,  # or who deletes a token in SQL would have to know of this row
    )
    name = models.CharField(max_length=100)
    last_used = models.DateTimeField(null=True, help_text="To some seconds; `events.access.usage` writes it.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
