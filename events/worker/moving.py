"""Owns the moving of a series: how it gets another name, is merged into another one or is deleted, in short steps.

One transaction says so in the row of the watermark, with the last ids that were given out. From its commit on the
series is moved, as every reader takes what is stored under the old name by events up to these for the other series'.
The steps then change what is stored, which changes no answer, and the last one clears the row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from django.db import connection, models, transaction
from django.db.models import Q

from events.calendar.timestamps import EARLIEST
from events.database import partitions
from events.database.dialect import choose, is_postgresql
from events.log.models import Event, EventQuerySet
from events.log.series import SeriesKey
from events.processes import may_run, this_process
from events.rollups import histograms, statements
from events.rollups.models import Histogram, Pruned, Resolution, Rollup, Thinned, Watermark
from events.rollups.moves import Move
from events.worker import thinning
from events.worker.id_ranges import next_ids
from events.worker.retention import pause_seconds
from events.worker.settled import handed_out, settle


class _Pace(NamedTuple):
    least_rows: int
    most_rows: int
    seconds: float  # how long a step is meant to hold its lock


# On SQLite a step holds the lock that every writer waits for; on PostgreSQL commits wait while it writes to the disk.
_PACES = {"postgresql": _Pace(500, 5_000, 0.02), "sqlite": _Pace(100, 5_000, 0.015)}
# A process that takes steps says so once in a while, and others leave them to it: two at a time, each with pauses of
# its own, would leave none to writers.
_CLAIM_SECONDS, _SAY_SECONDS, _POLL_SECONDS = 3.0, 1.0, 0.2

_Series = tuple[str, str]


class CannotMoveError(Exception):
    """A series can't be moved; the message says why, and nothing was changed."""


def is_there(series: _Series) -> bool:
    """Tell whether a series has any events, in the log or in the rollups. To be called with its watermark locked."""
    move = Watermark.objects.current(partitions.partition_of(*series)).move
    if move is not None and move.into == series:
        return True
    events = Event.objects.of_series(*series)
    if move is not None and move.old == series:
        events = events.after(move.marks)
    return Rollup.objects.of_series(*series).whole_series().exists() or events.exists()


def begin(old: _Series, into: _Series | None, *, is_merged: bool) -> Move:
    """Move all that is known of a series to another one of its partition, or to none, from this transaction's end on.

    The caller's transaction has locked the watermark. Raises CannotMoveError where another series of the partition is
    being moved, or where one of two that are merged has hours without minutes.
    """
    partition = partitions.partition_of(*old)
    watermark = Watermark.objects.current(partition)
    if watermark.move:
        raise CannotMoveError(f"{watermark.move}. One series is moved at a time: wait until that is done.")
    if is_merged and into is not None and not _has_minutes(old, into):
        raise CannotMoveError("The minutes of old hours are being made, without which it can't be merged. Try again.")
    marks = handed_out()
    if marks is None:
        raise CannotMoveError("A node of the cluster is away, and what came by it is not known. Try again later.")
    whole = Rollup.objects.of_series(*old).whole_series()
    if into is None:
        whole._raw_delete(connection.alias)
    else:
        if not statements.move_rollups(whole, into, partition):
            # so that the other series is there for all who look for it by its name
            of_old = Event.objects.of_series(*old)
            of_old.among([pk for pk, _ in _first(of_old, 1)]).rename(into)
        _prune_alike(old, into)
    thinning.rename(old, into)
    Pruned.objects.of_series(*old)._raw_delete(connection.alias)
    Watermark.objects.bump_changes(partition)
    move = Move(*old, into, marks, is_merged, by=this_process(), at=time.time())
    Watermark.objects.set_move(partition, move)
    return move


def _prune_alike(old: _Series, into: _Series) -> None:
    """Count both series as pruned up to where either of them is, as they become one."""
    ends = [end for each in (old, into) if (end := Pruned.objects.start_of(*each)) is not None]
    if ends:
        Pruned.objects.of_series(*into)._raw_delete(connection.alias)
        Pruned.objects.create(
            namespace=into[0], name=into[1], before=max(ends), partition=partitions.partition_of(*into)
        )


def _has_minutes(*series: _Series) -> bool:
    return all(Thinned.objects.span_of(*each) is None for each in series)


def make_minutes(series: Sequence[_Series], is_wanted: Callable[[], bool]) -> None:
    """Make the minutes that the series lack, which must be there before a merge, as long as ``is_wanted`` says."""
    for key in series:
        start = time.monotonic()
        for _ in thinning.restore(SeriesKey(*key)):
            if not is_wanted():
                return
            time.sleep(pause_seconds(time.monotonic() - start))
            start = time.monotonic()


def count_left(move: Move) -> int:
    """Count the rows, of events and rollups, that are still to be moved."""
    if move.is_emptied:
        return 0
    events = Event.objects.of_series(*move.old).up_to(move.marks)
    stored = (model.objects.of_series(*move.old) for model in (Rollup, Histogram))
    return events.count() + sum(rows.count() for rows in stored)


def go_on(until: float, is_wanted: Callable[[], bool], pause: Callable[[float], object]) -> None:
    """Take steps of what is under way, up to a time of the monotonic clock."""
    for move in Watermark.objects.moves():
        mover = Mover(move)
        for _ in mover.steps(lambda: is_wanted() and time.monotonic() < until):
            if not is_wanted() or time.monotonic() >= until:
                return
            pause(mover.pause_seconds)


class _Chosen(NamedTuple):
    """Some rows of a table that are stored under the old name."""

    model: type[models.Model]
    rows: Any


class _TakenError(Exception):
    """Another process takes the steps of the move."""


class Mover:
    """Takes the steps of a move, whoever began it, unless another process does. Each step locks the watermark.

    ``pause_seconds`` says how long to wait after the last one, so that writers get their turn.
    """

    def __init__(self, move: Move) -> None:
        self._held_seconds = 0.0
        self._process = this_process()
        self._series = move.old
        self._marks = move.marks
        self._partition = partitions.partition_of(*move.old)
        self._pace = choose(**_PACES)
        self._limits = dict.fromkeys((Rollup, Histogram, Event), self._pace.least_rows)
        # Behind these nothing is left but entries of indexes that lead to what was moved, which would be read again.
        self._bucket: dict[int, datetime] = {}
        self._timestamp: datetime | None = None

    @property
    def pause_seconds(self) -> float:
        """How many seconds to wait after the last step."""
        return pause_seconds(self._held_seconds)

    def steps(self, patience: Callable[[], bool]) -> Iterator[int]:
        """Take steps, each in a transaction, until the move is done; yield how many rows each one moved.

        Ends before it is done where ``patience`` runs out while another process takes them, or while transactions that
        began before the move are still open.
        """
        is_settled = False
        while True:
            try:
                moved = self._step(is_settled)
            except _TakenError:
                if not patience():
                    return
                time.sleep(_POLL_SECONDS)
                continue
            if moved is None:
                return
            if moved:
                yield moved
                continue
            is_settled = self._settle(patience)
            if not is_settled:
                return
            self._bucket, self._timestamp = {}, None  # what was committed meanwhile may lie behind

    def _settle(self, patience: Callable[[], bool]) -> bool:
        """Wait until every event up to the move's marks is visible, or never will be."""
        settled = settle(patience)
        if not is_postgresql():
            return True
        return settled is not None and self._partition in settled.partitions and settled.marks.cover(self._marks)

    def _step(self, is_settled: bool) -> int | None:
        """Take a step; None where the move is done, 0 where all is moved that is visible.

        Its rows are chosen before others have to wait for it. Nobody else but the roller changes them, and what that
        has moved meanwhile is not under the old name any more.
        """
        before = Watermark.objects.current(self._partition)
        if before.move is None or before.move.old != self._series:
            return None
        chosen = None if before.move.is_emptied else self._choose(before, before.move)
        if chosen is None and not before.move.is_emptied and not is_settled:
            return 0
        taken = chosen.model if chosen else Event
        with transaction.atomic():
            watermark = Watermark.objects.locked(self._partition)
            locked = time.monotonic()
            move = watermark.move
            if move is None or move.old != self._series:
                return None
            self._claim(move)
            if move.is_emptied:
                count = self._roll_up(watermark, move)
            elif chosen:
                count = self._move(chosen, move)
            elif self._choose(watermark, move):
                count = 0
            else:
                self._finish(watermark, move)
                count = 1
        self._held_seconds = time.monotonic() - locked
        if count:
            self._learn(taken, count)
        return count

    def _claim(self, move: Move) -> None:
        """Say that this process takes the steps. Raises _TakenError where another one does."""
        now = time.time()
        is_ours, since = move.by == self._process, abs(now - move.at)
        if not is_ours and since < _CLAIM_SECONDS and may_run(move.by):
            raise _TakenError
        if not is_ours or since > _SAY_SECONDS:
            Watermark.objects.set_move(self._partition, move._replace(by=self._process, at=now))

    def _learn(self, taken: type[models.Model], count: int) -> None:
        """Make the next step as large as others can wait for."""
        limit, pace = self._limits[taken], self._pace
        fitting = int(count * pace.seconds / max(self._held_seconds, 0.001))
        self._limits[taken] = max(pace.least_rows, min(fitting, 2 * limit, pace.most_rows))

    def _choose(self, watermark: Watermark, move: Move) -> _Chosen | None:
        """Choose the next rows of one table; None where there are none left that are visible."""
        for resolution in watermark.finest_first:
            if chosen := self._choose_rollups(resolution, move):
                return chosen
        for length in Histogram.Resolution:
            if chosen := self._choose_histograms(length, move):
                return chosen
        return self._choose_events(move)

    def _choose_rollups(self, resolution: Resolution, move: Move) -> _Chosen | None:
        of_resolution = Rollup.objects.of_series(*move.old).filter(resolution=resolution)
        rows = of_resolution.filter(bucket__gte=self._bucket.get(resolution, EARLIEST)).order_by("bucket")
        buckets = list(rows.values_list("bucket", flat=True)[: self._limits[Rollup]])
        if not buckets:
            return None
        self._bucket[resolution] = buckets[-1]
        return _Chosen(Rollup, of_resolution.filter(bucket__range=(buckets[0], buckets[-1])))

    def _choose_histograms(self, length: Histogram.Resolution, move: Move) -> _Chosen | None:
        of_length = Histogram.objects.of_series(*move.old).filter(resolution=length)
        rows = of_length.filter(bucket__gte=self._bucket.get(-length, EARLIEST)).order_by("bucket", "bin")
        keys = list(rows.values_list("bucket", "bin")[: self._limits[Histogram]])
        if not keys:
            return None
        (first, least), (last, most) = keys[0], keys[-1]
        self._bucket[-length] = last
        past = Q(bucket__gt=first) | Q(bucket=first, bin__gte=least)
        up_to = Q(bucket__lt=last) | Q(bucket=last, bin__lte=most)
        return _Chosen(Histogram, of_length.filter(past, up_to, bucket__range=(first, last)))

    def _choose_events(self, move: Move) -> _Chosen | None:
        of_series = Event.objects.of_series(*move.old)
        rows = _first(of_series.up_to(move.marks).within(self._timestamp, None), self._limits[Event])
        if not rows:
            return None
        self._timestamp = rows[-1][1]
        # SQLite would read the whole series for the sake of some of its ids
        found = Event.objects.of_partition(self._partition).among([pk for pk, _ in rows]).under(move.old)
        return _Chosen(Event, found)

    def _move(self, chosen: _Chosen, move: Move) -> int:
        """Move the rows, and return how many there were, 1 at least."""
        rows = chosen.rows
        if chosen.model is Histogram:
            count = histograms.move(rows, move.into, self._partition)
        elif move.into is None:
            count = rows._raw_delete(connection.alias)
        elif chosen.model is Rollup:
            count = statements.move_rollups(rows, move.into, self._partition)
        else:
            count = rows.rename(move.into)
        return max(count, 1)

    def _finish(self, watermark: Watermark, move: Move) -> None:
        later = Event.objects.of_series(*move.old).up_to(watermark.marks)
        Watermark.objects.set_move(self._partition, move._replace(is_emptied=True) if later.exists() else None)
        Watermark.objects.bump_changes(self._partition)

    def _roll_up(self, watermark: Watermark, move: Move) -> int | None:
        """Add the next events of the new series under the old name to the rollups, as the roller left them out."""
        events = Event.objects.of_partition(self._partition).under(move.old)
        reached, is_full = next_ids(events, move.marks.ranges_to(watermark.marks), self._limits[Event])
        count = 0
        if reached:
            later = events.filter(reduce(or_, (each.holds() for each in reached)))
            finest = watermark.finest_first[0]
            count = statements.fill_step(later, finest, self._partition)
            histograms.add(later, self._partition)  # it looks at what the rollups hold so far
            resolutions = [*watermark.finest_first, Resolution.SERIES]
            statements.add_step(resolutions, finest=finest, partition=self._partition)
        marks = move.marks.moved({each.origin: each.up_to for each in reached})
        Watermark.objects.set_move(self._partition, move._replace(marks=marks) if is_full else None)
        return count or None


def _first(events: EventQuerySet, limit: int) -> list[tuple[int, datetime]]:
    return list(events.order_by("timestamp").values_list("pk", "timestamp")[:limit])


def taken_over(events: EventQuerySet, move: Move) -> EventQuerySet:
    """Give events that are rolled up to the series that they belong to, and return those that are to be rolled up.

    Those of the new series under the old name are left out: the last steps of the move add them to the rollups.
    To be called in a transaction that has locked the watermark.
    """
    if not move.is_emptied:
        moved = events.up_to(move.marks).under(move.old)
        if move.into is None:
            moved._raw_delete(connection.alias)
        else:
            moved.rename(move.into)
    return events.exclude(namespace=move.namespace, name=move.name)
