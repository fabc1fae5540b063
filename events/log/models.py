"""Owns the log: the table of every event that was sent and not pruned since."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, models
from django.db.models import Case, F, Q, Value, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import Concat
from typing_extensions import override

from events.calendar import timestamps
from events.database import partitions
from events.database.dialect import is_postgresql
from events.database.partitioned import PartitionedQuerySet
from events.rollups.marks import Marks, past_watermark
from events.rollups.models import Watermark
from events.rollups.moves import Move
from events.rollups.rebuild import rebuilding

# The names as texts that no index has.
_TEXTS = {f"{field}_text": Concat(field, Value("")) for field in ("namespace", "name")}


def validate_path_segment(value: str) -> None:
    """Refuse a text that can't be a path segment of ``/api/events/<namespace>/<name>``, or couldn't be seen there.

    Raises Django's ValidationError.
    """
    if not value.strip():
        raise ValidationError("This field may not be blank.", code="blank")
    if "/" in value or value in {".", ".."}:
        raise ValidationError("This field may not contain “/” nor be “.” or “..”.", code="path_segment")


def belonging(field: str, moves: Sequence[Move]) -> F | Case:
    """Return the expression for the namespace or the name of the series that an event belongs to."""
    moved = [
        When(
            Q(namespace=move.namespace, name=move.name) & move.marks.up_to(),
            then=Value(move.into[0 if field == "namespace" else 1]),
        )
        for move in moves
        if move.into is not None and not move.is_emptied
    ]
    return Case(*moved, default=F(field), output_field=models.CharField()) if moved else F(field)


def is_tail_found_by_text(tail: int) -> bool:
    """Tell whether a series' events in so long a tail are found by texts, not by the index of series.

    Comparing texts that no index has keeps SQLite from reading the whole series for the sake of a few new events.
    """
    return not is_postgresql() and tail <= settings.ROLLUP_TAIL_EVENTS


class EventQuerySet(PartitionedQuerySet["Event"]):
    """Events chosen by series and time; each method chains."""

    def get_by_natural_key(self, namespace: str, name: str, timestamp: datetime, value: float) -> Event:
        """Find the first event with exactly this content, so that loading a fixture again adds nothing.

        Raises DoesNotExist.
        """
        event = self.filter(namespace=namespace, name=name, timestamp=timestamp, value=value).first()
        if event is None:
            raise self.model.DoesNotExist
        return event

    def within(self, ts_min: datetime | None, ts_max: datetime | None) -> EventQuerySet:
        """Choose the events of the window [ts_min, ts_max], both ends included; None leaves an end open."""
        events = self
        if ts_min is not None:
            events = events.filter(timestamp__gte=ts_min)
        if ts_max is not None:
            events = events.filter(timestamp__lte=ts_max)
        return events

    def after(self, marks: Marks) -> EventQuerySet:
        """Choose the events past a watermark, which are not in the rollups."""
        return self.filter(marks.after())

    def past_watermarks(self) -> EventQuerySet:
        """Choose the events past the watermark of their partition, where there are several partitions."""
        return self.filter(past_watermark(partitions.origins()))

    def tail(self) -> EventQuerySet:
        """Choose the events of every series that are past the watermark. One query looks it up where there is one."""
        if partitions.are_several():
            return self.past_watermarks()
        return self.after(Watermark.objects.current(None).marks)

    def not_rolled_up(self, marks: Marks | None, moves: Sequence[Move]) -> EventQuerySet:
        """Choose the events of every series that no rollup of their series holds yet.

        They are past the watermark, which is None where there are several partitions. What begins anew under the name
        of a series that is moved is in no rollup before that is done. ``belonging`` tells their series.
        """
        tail = past_watermark(partitions.origins()) if marks is None else marks.after()
        for move in moves:
            stored = Q(**dict(zip(_TEXTS, move.old, strict=True)))
            if move.into is None or move.is_emptied:
                tail &= ~(stored & move.marks.up_to())
            tail |= stored & move.marks.after()
        return (self.alias(**_TEXTS) if moves else self).filter(tail)

    def tail_of_series(self, namespace: str, name: str, marks: Marks, tail: int) -> EventQuerySet:
        """Choose the events of one series past a watermark; ``tail`` is the number of ids past it, of all series."""
        events = self.after(marks)
        return events.under((namespace, name)) if is_tail_found_by_text(tail) else events.of_series(namespace, name)

    def under(self, series: tuple[str, str]) -> EventQuerySet:
        """Choose the events stored under the name of a series, where no index of it is to be used."""
        return self.alias(**_TEXTS).filter(**dict(zip(_TEXTS, series, strict=True)))

    def up_to(self, marks: Marks) -> EventQuerySet:
        """Choose the events up to a watermark, which are in the rollups."""
        return self.filter(marks.up_to())

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
            if partitions.are_several() and values.keys() & {"namespace", "name"}:
                return self._move(values)
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
        for event in events:
            event.partition_id = partitions.partition_of(event.namespace, event.name)
        ids = _chosen(event.pk for event in events)
        if not ids:
            return super().bulk_create(events, *args, **kwargs)
        with rebuilding(Event.objects.filter(pk__in=ids), ids):
            if partitions.are_several():
                return self._bulk_create_apart(events, ids, *args, **kwargs)
            return super().bulk_create(events, *args, **kwargs)

    def _bulk_create_apart(
        self, events: list[Event], ids: Sequence[int], batch_size: int | None = None, ignore_conflicts: bool = False,
        update_conflicts: bool = False, update_fields: Collection[str] = (), unique_fields: Collection[str] = (),
    ) -> list[Event]:  # fmt: skip
        """Store events with ids of the caller's choice, of which only this makes sure that no partition has them."""
        taken = set(self.model._default_manager.filter(pk__in=ids).values_list("pk", flat=True))
        if taken and not (ignore_conflicts or update_conflicts):
            raise IntegrityError(f"There are events with the ids {', '.join(map(str, sorted(taken)))}.")
        super().bulk_create([event for event in events if event.pk not in taken], batch_size)
        for event in events:
            if event.pk in taken and update_conflicts:
                event.save(update_fields=update_fields)
        return events

    def _move(self, values: dict[str, Any]) -> int:
        """Change the names of events, which may lead to other partitions: they are deleted, and stored again.

        No row can go to another node by itself.
        """
        to = {
            f"to_{field}": value if hasattr(value, "resolve_expression") else Value(value)
            for field, value in values.items()
        }  # fmt: skip
        events = list(self.order_by("pk").annotate(**to))
        self.model._default_manager.filter(pk__in=[event.pk for event in events])._raw_delete(self.db)
        for event in events:
            for field in values:
                setattr(event, field, getattr(event, f"to_{field}"))
            event.partition_id = partitions.partition_of(event.namespace, event.name)
        super().bulk_create(events)
        return len(events)

    def among(self, ids: Iterable[int]) -> EventQuerySet:
        """Choose the events with these ids, of which there may be thousands: none is a parameter of the statement."""
        chosen = f"id IN ({', '.join(str(int(each)) for each in ids) or 'NULL'})"
        return self.filter(RawSQL(chosen, (), output_field=models.BooleanField()))  # noqa: S611  # numbers alone

    def rename(self, series: tuple[str, str]) -> int:
        """Give the events to another series of their partition; its rollups are the caller's to move."""
        return super().update(namespace=series[0], name=series[1])

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
    # empty where there is a single partition, as that costs no byte
    partition = models.ForeignKey(
        Watermark, models.DO_NOTHING, db_column="partition", null=True, editable=False,
        db_constraint=False, db_index=False, related_name="+",
    )  # fmt: skip

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

    @override
    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} = {self.value:g} at {timestamps.to_text(self.timestamp)}"

    @override
    def clean(self) -> None:
        """Refuse to move a stored event to hours that are pruned, which saving would refuse as well."""
        if self.is_pruned():
            message = "Events of this series are pruned up to this hour: what is known of it can't be changed any more."
            raise ValidationError({"timestamp": message}, code="pruned")
        if self.is_moving():
            raise ValidationError("This series is being renamed or deleted: wait until that is done.", code="moving")

    def is_pruned(self) -> bool:
        """Tell whether the event can't be changed or deleted any more, as it is rolled up and its hour is pruned."""
        if not self.pk:
            return False
        watermark, before = Watermark.objects.of_series(self.namespace, self.name)
        return before is not None and self.timestamp < before and watermark.marks.hold(self.pk)

    def is_moving(self) -> bool:
        """Tell whether the event can't be changed or deleted now, as its series is being renamed or deleted."""
        watermark, _ = Watermark.objects.of_series(self.namespace, self.name)
        return bool(self.pk and watermark.move_of(self.namespace, self.name))

    def natural_key(self) -> tuple[str, str, datetime, float]:
        """Return the content by which a fixture tells an event from others, whatever its id."""
        return self.namespace, self.name, self.timestamp, self.value

    # Fixtures don't call save(), but they call this.
    @override
    def _save_table(self, *args: Any, **kwargs: Any) -> bool:  # type: ignore[misc]  # not in the stubs
        ids = _chosen([self.pk])  # empty for an event that gets its id now, which lies past the watermark
        self.partition_id = partitions.partition_of(self.namespace, self.name)
        with rebuilding(Event.objects.filter(pk__in=ids), ids) if ids else nullcontext():
            return bool(super()._save_table(*args, **kwargs))  # type: ignore[misc]  # not in the stubs

    # In the middle of _save_table(), for an event that may be stored already.
    @override
    def _do_update(  # type: ignore[override]  # the stubs have that of a later Django
        self, base_qs: Any, using: Any, pk_val: Any, values: Any, *args: Any
    ) -> bool:
        if partitions.are_several():
            stored = Event.objects.filter(pk=pk_val)
            names = stored.values("namespace", "name").first()
            if names is None:
                return False
            changed = {field.name: value for field, _, value in values if field.name in names}
            partition = partitions.partition_of(**{**names, **changed})
            if partition != partitions.partition_of(**names):
                stored._move(changed)
            # no database lets a row go to another node, so the column may not even be set to what it is
            values = [each for each in values if each[0].name != "partition"]
            base_qs = base_qs.filter(partition=partition)
        return bool(super()._do_update(base_qs, using, pk_val, values, *args))

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
