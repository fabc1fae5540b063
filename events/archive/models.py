"""Owns the list of the archive's files: which events each one holds, and how far its making has come."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone
from typing_extensions import override

from events.database.fixtures import NotFromFixtures
from events.log.models import Event, EventQuerySet
from events.processes import may_run, this_process
from events.rollups.marks import Marks

# A process that makes a file says so this often; one that has said nothing for the second time is taken to be gone.
_SAID_EVERY = timedelta(minutes=1)
_GONE_AFTER = timedelta(minutes=10)


class ArchivedFileQuerySet(models.QuerySet["ArchivedFile"]):
    """Files chosen by series and state; each method chains."""

    def of_series(self, namespace: str, name: str) -> ArchivedFileQuerySet:
        """Choose the files of one series."""
        return self.filter(namespace=namespace, name=name)

    def holding(self) -> ArchivedFileQuerySet:
        """Choose the files that hold events for good, in the order of their series and months."""
        State = ArchivedFile.State
        return self.filter(state__in=[State.LISTED, State.KEPT]).order_by("namespace", "name", "month", "pk")

    def listed(self) -> ArchivedFileQuerySet:
        """Choose the files whose events may still be in the log too."""
        return self.filter(state=ArchivedFile.State.LISTED)

    def is_listed(self, pk: int) -> bool:
        """Tell whether a file is listed, and have it stay so until the transaction ends."""
        return self.listed().select_for_update().filter(pk=pk).exists()

    def kept(self) -> ArchivedFileQuerySet:
        """Choose the files that alone hold their events, oldest first."""
        return self.filter(state=ArchivedFile.State.KEPT).order_by("pk")

    def in_the_making(self) -> ArchivedFileQuerySet:
        """Choose the files that a process makes, or has failed to make."""
        return self.filter(state__in=[ArchivedFile.State.WRITING, ArchivedFile.State.FAILED])


class ArchivedFile(NotFromFixtures):
    """A file of the archive: events of one series in one month of UTC, up to a watermark.

    The file holds exactly the events of the series from ``start`` up to, but not including, ``end`` whose ids are up to
    ``marks`` and that no other file holds. Nothing can change these events, as their hours are pruned.
    """

    class State(models.TextChoices):
        """How far it is. Only a step from one to the next decides, whatever files lie in the archive."""

        WRITING = "writing", "being written, so that it counts for nothing yet"
        FAILED = "failed", "not written, for a reason"
        LISTED = "listed", "whole, and its events are being deleted from the log"
        KEPT = "kept", "all that holds its events"
        REPLACED = "replaced", "to be removed, as another file holds its events"

    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    month = models.DateField(help_text="The first day of the month.")
    state = models.CharField(max_length=8, choices=State.choices, default=State.WRITING)
    path = models.CharField(max_length=600, blank=True, help_text="Where it lies within ARCHIVE.")
    start = models.DateTimeField()
    end = models.DateTimeField(help_text="The first instant that is past it.")
    marks = models.JSONField(help_text="The highest id of each origin that it may hold.")
    events = models.BigIntegerField(default=0)
    sum = models.FloatField(null=True, help_text="Of the values; empty where no double holds it.")
    bytes = models.BigIntegerField(default=0)
    fault = models.CharField(max_length=500, blank=True, help_text="Why it was not written.")
    maker = models.CharField(max_length=300, blank=True, help_text="The host and process that makes it.")
    changed = models.DateTimeField(default=timezone.now, help_text="When its maker last said that it is at it.")

    objects = ArchivedFileQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        # Serves the pruning of a series, and an export of some.
        indexes = [models.Index(fields=["namespace", "name", "month"], name="archived_file_series")]
        constraints = [
            models.UniqueConstraint(
                fields=["namespace", "name"], condition=Q(state="writing"), name="archived_file_one_maker"
            )
        ]

    @override
    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} {self.month:%Y-%m} ({self.state})"

    def in_log(self) -> EventQuerySet:
        """Choose those of its events that are still in the log."""
        return Event.objects.of_series(self.namespace, self.name).filter(self.is_held())

    def is_held(self) -> Q:
        """Build the condition that an event of its series is in it."""
        marks = Marks({int(origin): last for origin, last in self.marks.items()})
        return Q(timestamp__gte=self.start, timestamp__lt=self.end) & marks.up_to()

    def is_being_made(self) -> bool:
        """Tell whether another process than this one is still at it."""
        if self.state != self.State.WRITING or self.changed < timezone.now() - _GONE_AFTER:
            return False
        return self.maker != this_process() and may_run(self.maker)

    def say_at_it(self) -> bool:
        """Say that this process is at it, now and then; tell whether it may go on."""
        now = timezone.now()
        if now - self.changed < _SAID_EVERY:
            return True
        self.changed = now
        return self.move_on(self.State.WRITING, changed=now)

    def move_on(self, state: str, **values: Any) -> bool:
        """Store values for a file that is being made; tell whether it still is, by this process."""
        mine = ArchivedFile.objects.filter(pk=self.pk, state=self.State.WRITING, maker=self.maker)
        return mine.update(state=state, **values) == 1


def held_by(files: Iterable[ArchivedFile]) -> Q:
    """Build the condition that an event is in one of the files."""
    each = (Q(namespace=file.namespace, name=file.name) & file.is_held() for file in files)
    return reduce(or_, each, Q(pk__in=[]))


def month_of(instant: datetime) -> tuple[datetime, datetime | None]:
    """Return the start of an instant's month in UTC, and that of the next one; None after the last of all."""
    start = instant.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    try:
        return start, (start + timedelta(days=31)).replace(day=1)
    except OverflowError:
        return start, None
