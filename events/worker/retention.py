"""Deletes old events, and their rollups where that is asked for, in steps that don't hold writers up."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone

from events.archive import archiving, faults
from events.archive.archiving import BusyError
from events.archive.models import ArchivedFile, month_of
from events.archive.store import ArchiveAwayError, ArchiveError
from events.calendar.timestamps import EARLIEST, LATEST
from events.database import partitions
from events.database.dialect import choose, is_postgresql
from events.log.models import Event, EventQuerySet
from events.log.namespace_patterns import fits
from events.log.series import SeriesKey
from events.rollups import histograms, rebuild
from events.rollups.models import Pruned, Resolution, Rollup, Watermark
from events.worker import thinning
from events.worker.turns import with_breaks

# On SQLite a step holds the lock that every writer waits for; on PostgreSQL commits wait while it writes to the disk.
_STEP_EVENTS = {"postgresql": 2_000, "sqlite": 500}
_STEP_BUCKETS = {"postgresql": 5_000, "sqlite": 2_000}
# So many months of a series the worker archives, and merges the files of, before other series have their turn.
_MONTHS_A_SHARE = 3
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)

logger = logging.getLogger(__name__)


class Series(NamedTuple):
    """A series with a past to prune: all that is before the start of an hour in UTC."""

    namespace: str
    name: str
    before: datetime

    @property
    def partition(self) -> int | None:
        """The partition that the series is in."""
        return partitions.partition_of(self.namespace, self.name)


class WouldDeleteMostError(Exception):
    """Pruning would delete more than half of all events, which may not be meant; none was deleted."""


def hour_before(age: timedelta, now: datetime | None = None) -> datetime:
    """Return the start of the hour in UTC that lies an age before now; the year 1 where the age goes back further."""
    try:
        return ((now or timezone.now()) - age).replace(minute=0, second=0, microsecond=0)
    except OverflowError:
        return EARLIEST


def start_of_kept(age: timedelta, now: datetime | None = None) -> datetime:
    """Return what pruning goes up to: ``hour_before``, or the start of that day where events are archived.

    Each pruning makes a file for each month of a series, so by the hour there would be too many.
    """
    before = hour_before(age, now)
    return before.replace(hour=0) if settings.ARCHIVE else before


def older_than(age: timedelta, pattern: str = "*") -> Iterator[Series]:
    """Yield the series with events older than an age whose namespace fits a pattern, in order."""
    return _series([(pattern, age)])


def carry_out() -> Iterator[int]:
    """Prune as RETENTION says, a step at a time; yield how many events each step deleted, which may be none.

    Where the clock is more than a day past the newest event, ages count from a day after that event: a wrong clock
    would otherwise have everything deleted at once. Raises WouldDeleteMostError before any is deleted, unless
    RETENTION_MAY_DELETE_MOST is set. What can't be archived is said in the log and left for the next time. Archived
    files that were to be removed while the archive was away are removed first.
    """
    if settings.ARCHIVE:
        with suppress(ArchiveError):  # it still is
            yield from archiving.removing_replaced()
    newest = Rollup.objects.whole_series().aggregate(newest=Max("last_timestamp"))["newest"]
    if newest is None:
        return
    past = list(_series(settings.RETENTION, min(timezone.now(), _a_day_after(newest))))
    if not settings.RETENTION_MAY_DELETE_MOST:
        yield from _check_share(past)
    if settings.ARCHIVE:
        faults.clear_all()
    with suppress(ArchiveAwayError):  # nothing more can be archived
        yield from _take_rounds(past)


def _take_rounds(past: Sequence[Series]) -> Iterator[int]:
    """Prune a share of each series in turn, until all is done; or until the hour is over, but for the first round.

    One series may have so much to archive that it would hold up all others for days.
    """
    hour = hour_before(timedelta())
    is_first, left = True, list(past)
    while left:
        waiting, left = left, []
        for series in with_breaks(waiting):
            if not is_first and hour != hour_before(timedelta()):
                return
            if series is None:
                yield 0
            elif (yield from _prune_share(series)):
                left.append(series)
        is_first = False


def _prune_share(series: Series) -> Generator[int, None, bool]:
    try:
        return (yield from prune(series, in_turns=True))
    except BusyError:  # prune_events is at it
        return False
    except ArchiveError as error:
        logger.error("Nothing more of %s/%s is pruned: %s", series.namespace, series.name, error)
        if isinstance(error, ArchiveAwayError):
            raise
        return False


def _a_day_after(instant: datetime) -> datetime:
    try:
        return instant + _DAY
    except OverflowError:
        return LATEST


def _check_share(past: Sequence[Series]) -> Iterator[int]:
    """Refuse to delete more than half of all events; the cost grows with the events to delete, not with all events.

    Yields 0 now and then, as there may be many series.
    """
    count = 0
    for series in with_breaks(past):
        if series is None:
            yield 0
        else:
            count += prunable(series).count()
    total = Event.objects.order_by().values("pk")[: 2 * count].count()
    if total < 2 * count:
        raise WouldDeleteMostError(
            f"RETENTION would delete {count} of {total} events, more than half. If that is meant, set "
            "RETENTION_MAY_DELETE_MOST=true or run manage.py prune_events; if not, look at the clock."
        )


def _series(policy: Sequence[tuple[str, timedelta | None]], now: datetime | None = None) -> Iterator[Series]:
    whole = Rollup.objects.whole_series().order_by("namespace", "name")
    moving = Watermark.objects.moving_series()
    for namespace, name, first in list(whole.values_list("namespace", "name", "first_timestamp")):
        if (namespace, name) in moving:  # its turn comes when it has its name
            continue
        age = next((age for pattern, age in policy if fits(namespace, pattern)), None)
        if age is not None and first < (before := start_of_kept(age, now)):
            yield Series(namespace, name, before)


def prunable(series: Series) -> EventQuerySet:
    """Choose the events that pruning deletes: the rolled up ones of the series' past."""
    events = Event.objects.of_series(series.namespace, series.name)
    return events.filter(timestamp__lt=series.before).up_to(Watermark.objects.current(series.partition).marks)


def prune(series: Series, *, in_turns: bool = False) -> Generator[int, None, bool]:
    """Delete the events of a series' past, in steps that are a transaction each; yield how many each step deleted.

    From the first step on the rollups answer for the whole past, so pruning may stop after any step and be run again.
    Where there is an archive, events are deleted once a file of it holds them. With ``in_turns``, it then ends after
    some months, and returns whether there are more; and a month of which a file was made today is left for tomorrow.
    Raises ArchiveError.
    """
    if settings.ARCHIVE:
        return (yield from _archive_and_delete(series, in_turns=in_turns))
    if prunable(series).exists() and (yield from _begin(series)):
        yield from _delete(prunable(series), series.partition)
    return False


def _begin(series: Series) -> Generator[int, None, bool]:
    """Have the rollups answer for the series' past; return whether it has events that may be deleted now.

    While it is being renamed, none may. Minutes that the rollups have none of are made first, in steps.
    """
    key = SeriesKey(series.namespace, series.name)
    while True:
        for _ in thinning.restore(key, series.before):
            yield 0
        with transaction.atomic():
            # until Pruned is stored, nobody may empty the rollups or move an event
            if Watermark.objects.locked(series.partition).move_of(series.namespace, series.name):
                return False
            if not prunable(series).exists():
                return False
            if thinning.lacks_minutes(key, series.before):  # they were left out again just now
                continue
            _rely_on_rollups(series)
            return True


def _delete(events: EventQuerySet, partition: int | None, file: ArchivedFile | None = None) -> Iterator[int]:
    """Delete events in steps; those of a file as long as it is listed, which ends where its series is renamed."""
    found = _first(events)
    while found:
        step = Event.objects.of_partition(partition).filter(pk__in=[pk for pk, _ in found])
        with transaction.atomic():
            if file and not ArchivedFile.objects.is_listed(file.pk):
                return
            count = step._raw_delete(connection.alias)
        yield count
        # starting at the last timestamp skips the part of the index that still holds the events deleted before
        found = _first(events.filter(timestamp__gte=found[-1][1]))


def _archive_and_delete(series: Series, *, in_turns: bool = False) -> Generator[int, None, bool]:
    namespace, name, before = series
    are_left = False
    try:
        yield from _delete_archived(series)  # what a process was killed over
        if prunable(series).exists():
            archiving.check()  # before the rollups have to answer for the past
            if (yield from _begin(series)):
                are_left = yield from _archive_months(series, in_turns=in_turns)
        most = _MONTHS_A_SHARE if in_turns else None
        try:
            are_left |= yield from archiving.merge_months(namespace, name, before, most)
        except ArchiveError as error:
            if isinstance(error, ArchiveAwayError | BusyError) or not are_left:
                raise
            # a file is damaged: that is told once there is nothing left to archive
        yield from archiving.removing_replaced()
    except BusyError:
        raise
    except ArchiveError as error:
        faults.note(namespace, name, before, error)
        raise
    faults.clear(namespace, name)
    return are_left


def _archive_months(series: Series, *, in_turns: bool) -> Generator[int, None, bool]:
    # nothing changes these events from here on but a move, after which no file is begun; and none comes to them
    events = prunable(series)
    marks = Watermark.objects.current(series.partition).marks
    made = 0
    for month in with_breaks(_months(events, series.before)):
        if month is None:
            yield 0
        elif not (in_turns and _has_file_of_today(series, month[0])):
            if in_turns and made == _MONTHS_A_SHARE:
                return True
            made += 1
            yield from archiving.archive(series.namespace, series.name, *month, marks)
            yield from _delete_archived(series)
    return False


def _months(events: EventQuerySet, before: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the start and the end of each month that has some of the events, which are before an instant."""
    start: datetime | None = EARLIEST
    while start and (first := events.filter(timestamp__gte=start).order_by("timestamp").first()):
        start, end = month_of(first.timestamp)
        yield start, before if end is None else min(end, before)
        start = end


def _has_file_of_today(series: Series, month: datetime) -> bool:
    today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    files = ArchivedFile.objects.of_series(series.namespace, series.name).kept()
    return files.filter(month=month.date(), changed__gte=today).exists()


def _delete_archived(series: Series) -> Iterator[int]:
    """Delete from the log what the archive holds of the series."""
    for file in ArchivedFile.objects.of_series(series.namespace, series.name).listed():
        archiving.check_there(file)
        yield from _delete(file.in_log(), series.partition, file)
        ArchivedFile.objects.listed().filter(pk=file.pk).update(state=ArchivedFile.State.KEPT)


def _first(events: EventQuerySet) -> list[tuple[int, datetime]]:
    rows = events.order_by("timestamp").values_list("pk", "timestamp")
    return list(rows[: choose(**_STEP_EVENTS)])


def _rely_on_rollups(series: Series) -> None:
    before = Pruned.objects.start_of(series.namespace, series.name)
    if before is None:
        Pruned.objects.create(**series._asdict(), partition=series.partition)
    elif before < series.before:
        Pruned.objects.of_series(series.namespace, series.name).update(before=series.before)


def prune_rollups(series: Series) -> Iterator[int]:
    """Delete the rollups of a past whose events are pruned, in steps of some hours; yield how many each step deleted.

    Where no rollups are left the series is gone, and events that come later under its name start a new one. Raises
    ArchiveError.
    """
    of_series = Rollup.objects.of_series(series.namespace, series.name)
    stored = of_series.filter(bucket__lt=series.before).exclude(resolution=Resolution.SERIES)
    limit = choose(**_STEP_BUCKETS)
    while True:
        if settings.ARCHIVE:  # late events go too
            for _ in _archive_and_delete(series):
                pass
        with transaction.atomic():
            watermark = Watermark.objects.locked(series.partition)
            if watermark.move_of(series.namespace, series.name):
                return
            finest = stored.filter(resolution=watermark.finest_first[0])
            last = finest.order_by("bucket").values_list("bucket", flat=True)[limit - 1 : limit].first()
            end = series.before if last is None else min(last.replace(minute=0) + _HOUR, series.before)
            late = prunable(series).filter(timestamp__lt=end)
            if settings.ARCHIVE and late.exists():
                continue  # these have been rolled up just now
            count = stored.filter(bucket__lt=end)._raw_delete(connection.alias)
            if not count:
                return
            late._raw_delete(connection.alias)
            histograms.prune(series.namespace, series.name, end, series.partition)
            rebuild.rebuild_whole_series(watermark, series.namespace, series.name)
            if not of_series.exists():
                Pruned.objects.of_series(series.namespace, series.name)._raw_delete(connection.alias)
            Watermark.objects.bump_changes(series.partition)
        yield count


def pause_seconds(took_seconds: float) -> float:
    """Return how many seconds to wait after a step, from how many it took, so that writers get their turn."""
    # on SQLite longer than the looks of a writer that waits for its one lock are apart, as in pacing.py
    return took_seconds / 2 if is_postgresql() else max(0.03, 2 * took_seconds)
