"""Owns the tables beside the log: rollups, the watermark that says how far they go, and what is missing of series."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Max, Subquery, Sum
from typing_extensions import override

from events.calendar import timestamps
from events.calendar.granularity import MICROSECOND, Granularity
from events.calendar.spans import Span
from events.database import partitions
from events.database.fixtures import NotFromFixtures
from events.database.partitioned import PartitionedQuerySet
from events.rollups.marks import FIRST, Marks
from events.rollups.moves import Move


class Resolution(models.IntegerChoices):
    """The stretch of time whose events one rollup holds; the value is its length in seconds, 0 for a whole series."""

    MINUTE = 60
    HOUR = 3600
    SERIES = 0, "whole series"

    @property
    def granularity(self) -> Granularity:
        """The granularity of its buckets; all of a whole series is in none."""
        return Granularity.NONE if self is Resolution.SERIES else Granularity[self.name]


class RollupQuerySet(PartitionedQuerySet["Rollup"]):
    """Rollups chosen by series and resolution; each method chains."""

    def whole_series(self) -> RollupQuerySet:
        """Choose the one rollup of each series that holds all of its events up to the watermark."""
        return self.filter(resolution=Resolution.SERIES)

    def event_count(self) -> int:
        """Count the events that the rollups hold. One query."""
        return self.whole_series().aggregate(count=Sum("count"))["count"] or 0


class Rollup(NotFromFixtures):
    """The aggregates of one series' events up to the watermark, in one minute, in one hour or altogether."""

    pk = models.CompositePrimaryKey("resolution", "namespace", "name", "bucket")
    resolution = models.SmallIntegerField(choices=Resolution.choices)
    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    bucket = models.DateTimeField(help_text="The start of the minute or hour in UTC; for a whole series, 1970.")
    first_timestamp = models.DateTimeField()
    last_timestamp = models.DateTimeField()
    count = models.BigIntegerField()
    sum = models.FloatField(help_text="Infinity where a value is so large that the sum might not fit a double.")
    rest = models.FloatField(
        db_default=0.0,
        help_text="How much the exact sum is more than the sum.",
    )
    is_exact = models.BooleanField(
        db_default=True,
        help_text="Whether sum and rest together are the exact sum; where not, sums are read from the events.",
    )
    min = models.FloatField()
    max = models.FloatField()
    # with its default it fits into what was left free at the end of a row, so it costs no byte
    partition = models.SmallIntegerField(db_default=partitions.ONLY, editable=False)

    objects = RollupQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)

    @override
    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}, {self.get_resolution_display()} {timestamps.to_text(self.bucket)}"


class Histogram(NotFromFixtures):
    """How many events of a series, up to the watermark, have a value of one bin, in an hour or a day of UTC.

    There are some for the namespaces that ROLLUP_HISTOGRAMS names; those of days are the sums of those of their hours.
    """

    class Resolution(models.IntegerChoices):
        """The length of the stretch of time, in seconds."""

        HOUR = 3600
        DAY = 86400

    pk = models.CompositePrimaryKey("resolution", "namespace", "name", "bucket", "bin")
    bucket = models.DateTimeField(help_text="The start of the hour or day in UTC.")
    count = models.BigIntegerField()
    resolution = models.IntegerField(choices=Resolution.choices)
    bin = models.IntegerField(help_text="Which values are counted; bins sort as their values do.")
    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    partition = models.SmallIntegerField(null=True, editable=False)

    objects = PartitionedQuerySet["Histogram"].as_manager()

    class Meta:
        default_permissions = ()

    @override
    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}, {self.get_resolution_display()} {timestamps.to_text(self.bucket)}"


class WatermarkManager(models.Manager["Watermark"]):
    """Reads, locks and stores the watermarks, one for each partition; the only partition is None."""

    def of_partition(self, partition: int | None) -> models.QuerySet[Watermark]:
        """Choose the watermark of a partition."""
        return self.filter(pk=partition or partitions.ONLY)

    def current(self, partition: int | None) -> Watermark:
        """Return the watermark of a partition; before the first event is rolled up, an unstored one with no event."""
        return self.of_partition(partition).first() or self.at_start(partition)

    def at_start(self, partition: int | None) -> Watermark:
        """Make the watermark that no event is up to yet, without storing it."""
        resolutions = ",".join(settings.ROLLUP_RESOLUTIONS)
        return Watermark(pk=partition or partitions.ONLY, event_id=0, resolutions=resolutions)

    def move(self, partition: int | None, marks: Marks, **values: Any) -> None:
        """Move the watermark of a partition to the marks, and set other fields of it as well."""
        of_nodes = {partitions.NODE.format(origin): last for origin, last in marks.by_origin.items() if origin != FIRST}
        self.of_partition(partition).update(event_id=marks.by_origin.get(FIRST, 0), of_nodes=of_nodes or None, **values)

    def of_series(self, namespace: str, name: str) -> tuple[Watermark, datetime | None]:
        """Return the watermark of a series, and the start of its first hour that is not pruned. One query.

        The second is None where nothing of the series is pruned.
        """
        partition = partitions.partition_of(namespace, name)
        pruned = Pruned.objects.of_series(namespace, name)
        found = self.of_partition(partition).annotate(before=Subquery(pruned.values("before"))).first()
        return (self.at_start(partition), None) if found is None else (found, found.before)

    def highest(self) -> int:
        """Return the highest event that any watermark has reached; 0 where there is none."""
        return self.aggregate(highest=Max("event_id"))["highest"] or 0

    def locked(self, partition: int | None) -> Watermark:
        """Lock a watermark's row until the transaction ends, and return it; where it is missing, store it first."""
        self.ensure_stored()
        return self.of_partition(partition).select_for_update().get()

    def ensure_stored(self) -> None:
        """Store the only watermark that no event is up to yet, where none is stored."""
        if not partitions.are_several() and not self.exists():
            self.bulk_create([self.at_start(None)], ignore_conflicts=True)

    def moves(self) -> list[Move]:
        """List what is under way with series, of every partition. One query."""
        return [move for watermark in self.filter(moving__isnull=False) if (move := watermark.move)]

    def moving_series(self) -> set[tuple[str, str]]:
        """Return the series that are moved, and those that others are moved to. One query."""
        return {series for move in self.moves() for series in (move.old, move.into) if series is not None}

    def set_move(self, partition: int | None, move: Move | None) -> None:
        """Store what is under way with a series of a partition, whose watermark is locked."""
        self.of_partition(partition).update(moving=move and move.stored())

    def bump_changes(self, partition: int | None) -> None:
        """Count a change of stored events, so that the versions of answers change though no event was added."""
        self.of_partition(partition).update(changes=F("changes") + 1)


class Watermark(NotFromFixtures):
    """How far the rollups of a partition go: they hold all its events up to an id, and none past it."""

    id = models.SmallIntegerField(
        primary_key=True, default=partitions.ONLY, editable=False, help_text="The key of the partition."
    )
    event_id = models.BigIntegerField(default=0)
    of_nodes = models.JSONField(
        null=True,
        help_text="The same for ids that other nodes of a cluster than the coordinator hand out, by “node” and number.",
    )
    changes = models.BigIntegerField(default=0, help_text="How often stored events were changed or deleted.")
    resolutions = models.CharField(max_length=50, help_text="The resolutions of the rollups, finest first.")
    complete_at = models.DateTimeField(
        null=True, help_text="When the roller last saw that the rollups hold every event, to within some seconds."
    )
    # here and not in a table of its own, so that each reader has it with the watermark, from the same snapshot
    moving = models.JSONField(null=True, editable=False, help_text="The series that is renamed, merged or deleted.")

    objects = WatermarkManager()

    class Meta:
        default_permissions = ()

    @override
    def __str__(self) -> str:
        nodes = "".join(f", {last} of {node}" for node, last in sorted((self.of_nodes or {}).items()))
        return f"{self.event_id}{nodes} by {self.resolutions}"

    @property
    def marks(self) -> Marks:
        """The last id of each origin that the rollups hold."""
        return Marks({FIRST: self.event_id, **_by_origin(self.of_nodes)})

    @property
    def move(self) -> Move | None:
        """What is under way with a series of the partition."""
        return Move.read(self.moving)

    def move_of(self, namespace: str, name: str) -> Move | None:
        """Return the move that a series has a part in: it is moved itself, or another one is moved to it."""
        move = self.move
        return move if move is not None and move.concerns(namespace, name) else None

    @property
    def finest_first(self) -> list[Resolution]:
        """List the resolutions that the rollups have besides that of the whole series, finest first."""
        return [Resolution[name.upper()] for name in self.resolutions.split(",")]


def _by_origin(of_nodes: Mapping[str, int] | None) -> dict[int, int]:
    return {int(node.removeprefix(partitions.NODE.format(""))): last for node, last in (of_nodes or {}).items()}


class PrunedQuerySet(PartitionedQuerySet["Pruned"]):
    """Rows that say how far series are pruned."""

    def start_of(self, namespace: str, name: str) -> datetime | None:
        """Return the start of the first hour of a series that is not pruned; None where no hour is pruned."""
        return self.of_series(namespace, name).values_list("before", flat=True).first()


class Pruned(NotFromFixtures):
    """How far a series is pruned: of the hours before, only its rollups are known for certain.

    Events of these hours that are still in the log, or that came late, are in the rollups like all others.
    """

    pk = models.CompositePrimaryKey("namespace", "name")
    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    before = models.DateTimeField(help_text="The start of an hour in UTC.")
    partition = models.SmallIntegerField(null=True, editable=False)

    objects = PrunedQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    @override
    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} before {timestamps.to_text(self.before)}"


class ThinnedQuerySet(PartitionedQuerySet["Thinned"]):
    """Rows that say of which hours series have no rollups of minutes."""

    def span_of(self, namespace: str, name: str) -> Span | None:
        """Return the span of a series that has no rollups of minutes; None where it has them all. One query."""
        row = self.of_series(namespace, name).first()
        return None if row is None else row.span


class Thinned(NotFromFixtures):
    """From which hour to which a series has no rollups of minutes, as its events there are few enough to be read.

    It has minutes of all other events up to the watermark. Minutes of these hours are made before their events are
    deleted for their age.
    """

    pk = models.CompositePrimaryKey("namespace", "name")
    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    since = models.DateTimeField(help_text="The start of the first of these hours in UTC.")
    before = models.DateTimeField(help_text="The start of the first hour past them.")
    has_new = models.BooleanField(
        default=False, help_text="Whether events came or changed since it was looked whether they are few."
    )
    partition = models.SmallIntegerField(null=True, editable=False)

    objects = ThinnedQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    @override
    def __str__(self) -> str:
        since, before = timestamps.to_text(self.since), timestamps.to_text(self.before)
        return f"{self.namespace}/{self.name} from {since} to {before}"

    @property
    def span(self) -> Span:
        """The hours, up to the last microsecond."""
        return Span(self.since, self.before - MICROSECOND)
