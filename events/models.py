"""Event, the append-only log that everything else is read from; IdempotencyKey, the requests carried out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TypedDict

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from events import timestamps


class Series(TypedDict):
    """One line of the catalogue: all events of one namespace and name."""

    namespace: str
    name: str
    count: int
    first_timestamp: datetime
    last_timestamp: datetime


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

    def catalogue(self) -> list[Series]:
        """Every series with its count, first and last timestamp, ordered by namespace and name. One query."""
        rows = self.order_by().values("namespace", "name").annotate(
            count=models.Count("pk"),
            first_timestamp=models.Min("timestamp"),
            last_timestamp=models.Max("timestamp"),
        )  # fmt: skip
        # sorted here, by code point: a database sorts by its own collation
        return sorted((Series(**row) for row in rows), key=lambda series: (series["namespace"], series["name"]))

    def namespaces(self) -> Iterator[str]:
        """The distinct namespaces. One query each, none of which reads more than one index entry."""
        return self._distinct("namespace")

    def names(self, namespace: str) -> Iterator[str]:
        """The distinct names within a namespace, read as the namespaces are."""
        return self.filter(namespace=namespace)._distinct("name")

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

    def natural_key(self) -> tuple[str, str, datetime, float]:
        """All of it: what tells an event from others in a fixture, whatever its id."""
        return self.namespace, self.name, self.timestamp, self.value


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
