"""Owns the log: the table of every event that was sent and not pruned since."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Concat
from typing_extensions import override

from events.calendar import timestamps
from events.database.dialect import is_postgresql
from events.rollups.models import Pruned, Watermark
from events.rollups.rebuild import rebuilding


def validate_path_segment(value: str) -> None:
    """Refuse a text that can't be a path segment of ``/api/events/<namespace>/<name>``, or couldn't be seen there.

    Raises Django's ValidationError.
    """
    if not value.strip():
        raise ValidationError("This field may not be blank.", code="blank")
    if "/" in value or value in {".", ".."}:
        raise ValidationError("This field may not contain “/” nor be “.” or “..”.", code="path_segment")


class EventQuerySet(models.QuerySet["Event"]):
    """Events chosen by series and time; each method chains."""

    def get_by_natural_key(self, namespace: str, name: str, timestamp: datetime, value: float) -> Event:
        """Find the first event with exactly this content, so that loading a fixture again adds nothing.

        Raises DoesNotExist.
        """
        event = self.filter(namespace=namespace, name=name, timestamp=timestamp, value=value).first()
        if event is None:
            raise self.model.DoesNotExist
        return event

    def of_series(self, namespace: str, name: str) -> EventQuerySet:
        """Choose the events of one series."""
        return self.filter(namespace=namespace, name=name)

    def within(self, ts_min: datetime | None, ts_max: datetime | None) -> EventQuerySet:
        """Choose the events of the window [ts_min, ts_max], both ends included; None leaves an end open."""
        events = self
        if ts_min is not None:
            events = events.filter(timestamp__gte=ts_min)
        if ts_max is not None:
            events = events.filter(timestamp__lte=ts_max)
        return events

    def after(self, event_id: int) -> EventQuerySet:
        """Choose the events past a watermark, which are not in the rollups."""
        return self.filter(pk__gt=event_id)

    def tail_of_series(self, namespace: str, name: str, event_id: int, tail: int) -> EventQuerySet:
        """Choose the events of one series past a watermark; ``tail`` is the number of ids past it, of all series."""
        events = self.after(event_id)
        if is_postgresql() or tail > settings.ROLLUP_TAIL_EVENTS:
            return events.of_series(namespace, name)
        # Comparing texts that no index has keeps SQLite from reading the whole series for the sake of a few new events.
        texts = {f"{field}_text": Concat(field, models.Value("")) for field in ("namespace", "name")}
        return events.alias(**texts).filter(**dict(zip(texts, (namespace, name), strict=True)))

    def up_to(self, event_id: int) -> EventQuerySet:
        """Choose the events up to a watermark, which are in the rollups."""
        return self.filter(pk__lte=event_id)

    def namespaces(self) -> Iterator[str]:
        """Yield the distinct namespaces in order. One query for each, which reads a single entry of an index."""
        return self._distinct("namespace")

    def names(self, namespace: str) -> Iterator[str]:
        """Yield the distinct names in a namespace in order. One query for each, as for the namespaces."""
        return self.filter(namespace=namespace)._distinct("name")

    # The methods below change stored events, so they rebuild the rollups as well.

    @override
    def update(self, **values: Any) -> int:
        """Change every event, and rebuild the buckets that it left and those that it came to. One transaction.

        Raises PrunedError where one of the buckets is pruned, TypeError for a change of ids.
        """
        if values.keys() & {"id", "pk"}:
            raise TypeError("An event keeps its id.")
        moved = None if values.keys() & {"namespace", "name", "timestamp"} else ()
        with rebuilding(self, moved):
            return super().update(**values)

    @override
    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete every event, and rebuild the buckets that it left. One transaction, and no event is loaded.

        Raises PrunedError where one of the buckets is pruned.
        """
        if self.query.is_sliced or self.query.distinct or self.query.values_select:
            raise TypeError("Cannot delete a queryset with a limit, distinct() or values().")
        events = self.order_by()
        with rebuilding(events, ()):
            count = events._raw_delete(events.db)
        return count, {self.model._meta.label: count}

    @override
    def bulk_create(self, objs: Iterable[Event], *args: Any, **kwargs: Any) -> list[Event]:
        """Store events; rebuild the buckets of those with an id of the caller's choice, which may be rolled up."""
        events = list(objs)
        ids = _chosen(event.pk for event in events)
        if not ids:
            return super().bulk_create(events, *args, **kwargs)
        with rebuilding(Event.objects.filter(pk__in=ids), ids):
            return super().bulk_create(events, *args, **kwargs)

    def _distinct(self, field: str) -> Iterator[str]:
        # This skips from value to value in the index. For DISTINCT, both databases would read every row.
        values = self.order_by(field).values_list(field, flat=True)
        value = values.first()
        while value is not None:
            yield value
            value = values.filter(**{f"{field}__gt": value}).first()


class Event(models.Model):
    """One event: at this time, this value was seen in this series."""

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
            # PostgreSQL sorts NaN above every number, so the upper bound keeps NaN out too.
            models.CheckConstraint(
                condition=models.Q(value__gte=-sys.float_info.max, value__lte=sys.float_info.max),
                name="event_value_finite",
                violation_error_message="The value must be a finite number.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} = {self.value:g} at {timestamps.to_text(self.timestamp)}"

    @override
    def clean(self) -> None:
        """Refuse to move a stored event to hours that are pruned, which saving would refuse as well."""
        if self.is_pruned():
            message = "Events of this series are pruned up to this hour: what is known of it can't be changed any more."
            raise ValidationError({"timestamp": message}, code="pruned")

    def is_pruned(self) -> bool:
        """Tell whether the event can't be changed or deleted any more, as it is rolled up and its hour is pruned."""
        later = Pruned.objects.filter(namespace=self.namespace, name=self.name, before__gt=self.timestamp)
        return bool(self.pk) and later.exists() and Watermark.objects.filter(event_id__gte=self.pk).exists()

    def natural_key(self) -> tuple[str, str, datetime, float]:
        """Return the content by which a fixture tells an event from others, whatever its id."""
        return self.namespace, self.name, self.timestamp, self.value

    # Fixtures don't call save(), but they call this.
    def _save_table(self, *args: Any, **kwargs: Any) -> bool:
        ids = _chosen([self.pk])  # empty for an event that gets its id now, which lies past the watermark
        with rebuilding(Event.objects.filter(pk__in=ids), ids) if ids else nullcontext():
            return bool(super()._save_table(*args, **kwargs))  # type: ignore[misc]  # not in the stubs

    @override
    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete the event, and rebuild its buckets. Raises PrunedError where they are pruned."""
        with rebuilding(Event.objects.filter(pk=self.pk), ()):
            return super().delete(*args, **kwargs)


def _chosen(ids: Iterable[int | None]) -> list[int]:
    """List the ids that the caller chose. Raises ValueError for an id below 1, as a watermark is never below 0."""
    chosen = [int(each) for each in ids if each is not None]
    if chosen and min(chosen) < 1:
        raise ValueError("The id of an event is 1 or more.")
    return chosen
