"""Owns the tables beside the log: rollups, the watermark that says how far they go, and how far series are pruned."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Subquery, Sum

from events.calendar import timestamps
from events.calendar.granularity import Granularity


class Resolution(models.IntegerChoices):
    """The stretch of time whose events one rollup holds; the value is its length in seconds, 0 for a whole series."""

    MINUTE = 60
    HOUR = 3600
    SERIES = 0, "whole series"

    @property
    def granularity(self) -> Granularity:
        """The granularity of its buckets; all of a whole series is in none."""
        return Granularity.NONE if self is Resolution.SERIES else Granularity[self.name]


class RollupQuerySet(models.QuerySet["Rollup"]):
    """Rollups chosen by series and resolution; each method chains."""

    def of_series(self, namespace: str, name: str) -> RollupQuerySet:
        """Choose the rollups of one series, of every resolution."""
        return self.filter(namespace=namespace, name=name)

    def whole_series(self) -> RollupQuerySet:
        """Choose the one rollup of each series that holds all of its events up to the watermark."""
        return self.filter(resolution=Resolution.SERIES)

    def event_count(self) -> int:
        """Count the events that the rollups hold. One query."""
        return self.whole_series().aggregate(count=Sum("count"))["count"] or 0


class Rollup(models.Model):
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

    objects = RollupQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}, {self.get_resolution_display()} {timestamps.to_text(self.bucket)}"

    # A fixture's rollups are not stored: the roller makes them anew from the fixture's events.
    def _save_table(self, raw: bool = False, *args: Any, **kwargs: Any) -> bool:
        return not raw and super()._save_table(raw, *args, **kwargs)  # type: ignore[misc]  # not in the stubs


class WatermarkManager(models.Manager["Watermark"]):
    """Reads, locks and stores the one watermark."""

    def current(self) -> Watermark:
        """Return the watermark; before the first event is rolled up, an unstored one with no event."""
        return self.first() or self.at_start()

    def at_start(self) -> Watermark:
        """Make the watermark that no event is up to yet, without storing it."""
        return Watermark(pk=1, event_id=0, resolutions=",".join(settings.ROLLUP_RESOLUTIONS))

    def of(self, namespace: str, name: str) -> tuple[Watermark, datetime | None]:
        """Return the watermark, and the start of the first hour of a series that is not pruned. One query.

        The second is None where nothing of the series is pruned.
        """
        pruned = Pruned.objects.filter(namespace=namespace, name=name)
        found = self.annotate(before=Subquery(pruned.values("before"))).first()
        return (self.at_start(), None) if found is None else (found, found.before)

    def locked(self) -> Watermark:
        """Lock the watermark's row until the transaction ends, and return it; where it is missing, store it first."""
        self.ensure_stored()
        return self.select_for_update().get()

    def ensure_stored(self) -> None:
        """Store the watermark that no event is up to yet, where none is stored."""
        if not self.exists():
            self.bulk_create([self.at_start()], ignore_conflicts=True)

    def bump_changes(self) -> None:
        """Count a change of stored events, so that the versions of answers change though no event was added."""
        self.update(changes=F("changes") + 1)


class Watermark(models.Model):
    """The one row that says how far the rollups go: they hold all events up to an id, and none past it."""

    event_id = models.BigIntegerField(default=0)
    changes = models.BigIntegerField(default=0, help_text="How often stored events were changed or deleted.")
    resolutions = models.CharField(max_length=50, help_text="The resolutions of the rollups, finest first.")
    complete_at = models.DateTimeField(
        null=True, help_text="When the roller last saw that the rollups hold every event, to within some seconds."
    )

    objects = WatermarkManager()

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="watermark_one_row")]
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.event_id} by {self.resolutions}"

    # A fixture's watermark is not stored, as its rollups are not.
    def _save_table(self, raw: bool = False, *args: Any, **kwargs: Any) -> bool:
        return not raw and super()._save_table(raw, *args, **kwargs)  # type: ignore[misc]  # not in the stubs

    @property
    def finest_first(self) -> list[Resolution]:
        """List the resolutions that the rollups have besides that of the whole series, finest first."""
        return [Resolution[name.upper()] for name in self.resolutions.split(",")]


class PrunedQuerySet(models.QuerySet["Pruned"]):
    """Rows that say how far series are pruned."""

    def start_of(self, namespace: str, name: str) -> datetime | None:
        """Return the start of the first hour of a series that is not pruned; None where no hour is pruned."""
        return self.filter(namespace=namespace, name=name).values_list("before", flat=True).first()


class Pruned(models.Model):
    """How far a series is pruned: of the hours before, only its rollups are known for certain.

    Events of these hours that are still in the log, or that came late, are in the rollups like all others.
    """

    pk = models.CompositePrimaryKey("namespace", "name")
    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    before = models.DateTimeField(help_text="The start of an hour in UTC.")

    objects = PrunedQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} before {timestamps.to_text(self.before)}"

    # Of a fixture this is not stored either, as its rollups are not.
    def _save_table(self, raw: bool = False, *args: Any, **kwargs: Any) -> bool:
        return not raw and super()._save_table(raw, *args, **kwargs)  # type: ignore[misc]  # not in the stubs
