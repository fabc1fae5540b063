"""Owns the step of the roller: it adds the next events to the rollups, and moves the watermark past them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import NamedTuple

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from events.database import partitions
from events.database.dialect import choose, is_postgresql
from events.database.statement_timeout import limit_together
from events.log.models import Event
from events.rollups import histograms
from events.rollups.marks import Marks
from events.rollups.models import Histogram, Pruned, Resolution, Rollup, Thinned, Watermark
from events.rollups.rebuild import MovingError, PrunedError
from events.rollups.statements import add_step, fill_step
from events.worker.id_ranges import next_dense_ids, next_ids
from events.worker.moving import taken_over
from events.worker.settled import settle

# How many events a step takes before it is known how long a step lasts.
_STEP_EVENTS = {"postgresql": 100_000, "sqlite": 150}
# How often a roller that has nothing to do says so; more often would be more writes.
_IDLE = timedelta(seconds=10)


class Step(NamedTuple):
    """What a step of the roller did; ``is_full`` where it took as many events as it may take."""

    events: int
    event_id: int
    is_full: bool
    seconds: float  # how long the step held its lock


def take_step(
    patience: Callable[[], bool] = lambda: False, most_events: int | None = None, most_seconds: float | None = None
) -> Step | None:
    """Add the next events to the rollups and move the watermark past them, in one transaction for each partition.

    Returns None where there is nothing to do: every event is rolled up, another roller is at work, or transactions
    that may hold ids on both sides of the new watermark are still open. The step waits for open transactions as long
    as ``patience`` says yes. On PostgreSQL one that would hold its lock for more than ``most_seconds`` is cancelled:
    raises OperationalError.
    """
    looked = timezone.now()
    settled = settle(patience)
    if settled is None:
        return None
    Watermark.objects.ensure_stored()  # outside of the transaction, or others who store it would wait for its end
    behind = _behind(settled.partitions, looked)
    taken = [_take_step(partition, looked, settled.marks, most_events, most_seconds) for partition in behind]
    steps = [step for step in taken if step is not None]
    if not steps:
        return None
    return Step(
        sum(step.events for step in steps),
        max(step.event_id for step in steps),
        any(step.is_full for step in steps),
        max(step.seconds for step in steps),
    )


def _behind(of: Sequence[int | None], looked: datetime) -> Sequence[int | None]:
    """List those of the partitions that have events past their watermark, and note when the others were looked at.

    Two statements where there are several partitions. The only partition is always listed, as its step looks for
    itself.
    """
    if not partitions.are_several():
        return of
    past = Event.objects.past_watermarks().filter(partition__in=of)
    behind = sorted(past.order_by().values_list("partition", flat=True).distinct())
    is_due = Q(complete_at=None) | Q(complete_at__lt=looked - _IDLE) | Q(complete_at__gt=looked + _IDLE)
    others = Watermark.objects.filter(is_due, pk__in=[key for key in of if key not in behind])
    others.update(complete_at=looked)
    return behind


def _take_step(
    partition: int | None, looked: datetime, settled: Marks, most_events: int | None, most_seconds: float | None
) -> Step | None:
    with transaction.atomic(), limit_together(most_seconds):
        of_partition = Watermark.objects.of_partition(partition)
        watermark = of_partition.select_for_update(skip_locked=True).first()
        if watermark is None:
            return None
        locked = time.monotonic()
        partitions.learn_origins(watermark.marks.by_origin)
        events = Event.objects.of_partition(partition)
        ranges, limit = watermark.marks.ranges_to(settled), most_events or step_events()
        # on SQLite, where a step has few events, counting them costs little
        cut = next_dense_ids if partition is None and is_postgresql() else next_ids
        reached, is_full = cut(events, ranges, limit)
        if not reached:
            # the stored time is in the future where the clock was set back, and the lag would be counted from it
            if watermark.complete_at is None or abs(looked - watermark.complete_at) > _IDLE:
                of_partition.update(complete_at=looked)
            return None
        _give_room()
        resolutions = watermark.finest_first
        new = events.filter(reduce(or_, (each.holds() for each in reached)))
        if watermark.move:
            new = taken_over(new, watermark.move)
        count = fill_step(new, resolutions[0], partition)
        histograms.add(new, partition)  # it looks at what the rollups hold so far
        add_step([*resolutions, Resolution.SERIES], finest=resolutions[0], partition=partition)
        marks = watermark.marks.moved({each.origin: each.up_to for each in reached})
        Watermark.objects.move(partition, marks, complete_at=watermark.complete_at if is_full else looked)
    return Step(count, max(each.up_to for each in reached), is_full, time.monotonic() - locked)


def are_left(marks: Marks) -> bool:
    """Tell whether there are events up to some marks that are not rolled up. Two queries for each partition at most."""
    return any(
        Event.objects.of_partition(partition).after(Watermark.objects.current(partition).marks).up_to(marks).exists()
        for partition in partitions.every()
    )


def step_events() -> int:
    """Return how many events a step takes at most where its caller doesn't say."""
    return choose(**_STEP_EVENTS)


def _give_room() -> None:
    """Let PostgreSQL group a step's events in memory, by hashes, for the rest of the transaction.

    With its default of 4 MB, and little known of a table that grows fast, it would sort the events on the disk instead.
    """
    if is_postgresql():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL work_mem = '64MB'; SET LOCAL enable_sort = off; SET LOCAL jit = off")


def start_over(*, accept_loss: bool = False) -> None:
    """Empty the rollups, to be filled anew in the resolutions that ROLLUP_RESOLUTIONS says.

    Until they are full again, answers are read from the events. Raises PrunedError where some events that the rollups
    were made from are gone from the log; with ``accept_loss`` only where series are marked as pruned. Raises
    MovingError where a series is being renamed or deleted.
    """
    with transaction.atomic():
        watermarks = {partition: Watermark.objects.locked(partition) for partition in partitions.every()}
        for watermark in watermarks.values():
            if watermark.move:
                raise MovingError(watermark.move)
        if count := Pruned.objects.count():
            raise PrunedError(f"Events of {count} series are pruned; their rollups can't be made anew.")
        held = Rollup.objects.event_count()
        there = sum(
            Event.objects.of_partition(partition).up_to(watermark.marks).count()
            for partition, watermark in watermarks.items()
        )
        if there < held and not accept_loss:
            raise PrunedError(
                f"The rollups hold {held} events, of which {there} are in the log: the others would be lost for good. "
                "--accept-loss does it all the same."
            )
        for partition in watermarks:
            Rollup.objects.of_partition(partition)._raw_delete(connection.alias)
            Histogram.objects.of_partition(partition)._raw_delete(connection.alias)
            Thinned.objects.of_partition(partition)._raw_delete(connection.alias)
            at_start = Watermark.objects.at_start(partition)
            Watermark.objects.move(partition, at_start.marks, resolutions=at_start.resolutions)
            Watermark.objects.bump_changes(partition)
