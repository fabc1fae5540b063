"""Leaves minutes out of the rollups where a series has few events in each, and makes them again where they are needed.

A question by the minute is answered from the events of these hours, which are about as few as the minutes would be. The
hours of a series follow each other, and are two days old or older; a row of ``Thinned`` says which they are. Each step
changes that row and the rollups in one transaction, and changes no answer.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, OuterRef, Subquery
from django.utils import timezone

from events.database import partitions
from events.database.dialect import choose
from events.log.models import Event
from events.log.series import SeriesKey
from events.rollups import statements
from events.rollups.models import Pruned, Resolution, Rollup, RollupQuerySet, Thinned, Watermark
from events.worker.turns import with_breaks

# So many events for each minute that holds any, on average over the hours without minutes.
_MOST_EVENTS_A_MINUTE = 2
# No hour without minutes has more, so that none of them is slow to read. Where late events make more, it gets them.
_MOST_EVENTS_AN_HOUR = 600
# A series of fewer events has too few minutes to be worth a row that says where they are missing.
_LEAST_EVENTS = 200
_AGE = timedelta(days=2)
_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)
_HOURS_AT_A_TIME = 31 * 24
# On SQLite a step holds the lock that every writer waits for.
_STEP_EVENTS = {"postgresql": 10_000, "sqlite": 500}


def carry_out() -> Iterator[int]:
    """Leave out the minutes that aren't worth their room, a step at a time; yield how many rollups each step changed.

    Steps that only look yield 0. With ROLLUP_SPARSE_MINUTES all that are missing are made again.
    """
    if settings.ROLLUP_SPARSE_MINUTES:
        for partition in partitions.every():
            for key in list(Thinned.objects.of_partition(partition).values_list("namespace", "name")):
                yield from restore(SeriesKey(*key))
        return
    end = (timezone.now() - _AGE).replace(minute=0, second=0, microsecond=0)
    for candidate in with_breaks(_candidates(end)):
        if candidate is None:
            yield 0
        else:
            yield from _mend(candidate)
            yield from _thin(candidate, end)


def restore(key: SeriesKey, before: datetime | None = None) -> Iterator[int]:
    """Make the missing minutes of a series again, in steps that yield how many; with ``before`` those of earlier hours.

    Ends before it is done where the series is being renamed or deleted.
    """
    while True:
        with transaction.atomic():
            watermark = Watermark.objects.locked(partitions.partition_of(*key))
            row = Thinned.objects.of_series(*key).first()
            if row is None or (before and before <= row.since) or watermark.move_of(*key):
                return
            end = min(before or row.before, row.before)
            hours = _hours(key).filter(bucket__gte=row.since, bucket__lt=end).order_by("bucket")
            last = _last_of_step(hours)
            reached = end if last is None else last + _HOUR
            _change(row, reached, row.before)
            made = _make(watermark, key, row.since, reached)
        yield made


def lacks_minutes(key: SeriesKey, before: datetime) -> bool:
    """Tell whether a series has no minutes of some hour before another one."""
    return Thinned.objects.of_series(*key).filter(since__lt=before).exists()


def rename(old: tuple[str, str], into: tuple[str, str] | None) -> None:
    """Say under the new name of a series which minutes it lacks; where it is deleted, say nothing of them any more.

    To be called in a transaction that has locked the watermark.
    """
    row = Thinned.objects.of_series(*old).first()
    for series in (old, into):
        if series is not None:  # a row of the other one is left from a series whose events were all deleted
            Thinned.objects.of_series(*series)._raw_delete(connection.alias)
    if row is not None and into is not None:
        row.namespace, row.name = into
        row.save(force_insert=True)


def _candidates(end: datetime) -> Iterator[SeriesKey]:
    """Yield the series that may have minutes to leave out before an hour, or that have new events where they have none.

    One query for each partition.
    """
    for partition in partitions.every():
        if not _are_both_stored(Watermark.objects.current(partition)):
            continue
        whole = Rollup.objects.of_partition(partition).whole_series()
        thinned = Thinned.objects.of_partition(partition)
        thinned = thinned.filter(namespace=OuterRef("namespace"), name=OuterRef("name"))
        rows = (
            whole.filter(count__gte=_LEAST_EVENTS, first_timestamp__lt=end)
            .annotate(before=Subquery(thinned.values("before")), has_new=Subquery(thinned.values("has_new")))
            .order_by("namespace", "name")
            .values_list("namespace", "name", "count", "first_timestamp", "last_timestamp", "before", "has_new")
        )
        for namespace, name, count, first, last, before, has_new in list(rows):
            is_sparse = count <= _MOST_EVENTS_A_MINUTE * ((last - first) / _MINUTE + 1)
            has_more = before is None or before < min(end, last)
            if has_new or (is_sparse and has_more):
                yield SeriesKey(namespace, name)


def _are_both_stored(watermark: Watermark) -> bool:
    return watermark.finest_first == [Resolution.MINUTE, Resolution.HOUR]


def _thin(key: SeriesKey, end: datetime) -> Iterator[int]:
    """Leave out the minutes of a series before an hour, as far as they are worth little."""
    while (sparse := _end_of_sparse(key, end)) is not None:
        done = yield from _leave_out(key, sparse)
        if not done:
            return


def _next_hours(key: SeriesKey, row: Thinned | None, end: datetime) -> RollupQuerySet:
    """Return the hours before another one whose minutes may be left out next, the first of them first."""
    hours = _hours(key).filter(bucket__lt=end).order_by("bucket")
    since = row.before if row else Pruned.objects.start_of(*key)
    return hours if since is None else hours.filter(bucket__gte=since)


def _end_of_sparse(key: SeriesKey, end: datetime) -> datetime | None:
    """Find how far the next hours go whose minutes are worth little; None where they are worth their room."""
    row = Thinned.objects.of_series(*key).first()
    found = list(_next_hours(key, row, end).values_list("bucket", "count")[:_HOURS_AT_A_TIME])
    if not found:
        return None
    minutes = _minutes(key, found[0][0], found[-1][0] + _HOUR)
    by_hour = minutes.order_by().annotate(hour=statements.start_of("bucket", Resolution.HOUR)).values("hour")
    number = dict(by_hour.annotate(number=Count("bucket")).values_list("hour", "number"))
    events = stored = 0
    sparse = None
    for hour, count in found:
        if count > _MOST_EVENTS_AN_HOUR:
            break
        events += count
        stored += number.get(hour, 0)
        if events <= _MOST_EVENTS_A_MINUTE * stored:
            sparse = hour + _HOUR
    return sparse


def _leave_out(key: SeriesKey, end: datetime) -> Generator[int, None, bool]:
    """Leave out the next minutes of a series before an hour, in steps; return whether all of them were."""
    while True:
        with transaction.atomic():
            watermark = Watermark.objects.locked(partitions.partition_of(*key))
            row = Thinned.objects.of_series(*key).first()
            if watermark.move_of(*key) or not _are_both_stored(watermark):
                return False
            hours = _next_hours(key, row, end)
            if dense := hours.filter(count__gt=_MOST_EVENTS_AN_HOUR).values_list("bucket", flat=True).first():
                hours = hours.filter(bucket__lt=dense)  # it has got late events just now
            first, last = hours.values_list("bucket", flat=True).first(), _last_of_step(hours)
            if first is None or last is None:
                return True
            reached = last + _HOUR
            count = _minutes(key, first, reached)._raw_delete(connection.alias)
            if row is None:
                partition = partitions.partition_of(*key)
                Thinned.objects.create(**key._asdict(), since=first, before=reached, partition=partition)
            else:
                _change(row, row.since, reached)
        yield count


def _mend(key: SeriesKey) -> Iterator[int]:
    """Make minutes again, in steps, from the first hour on that has got too many events."""
    while True:
        with transaction.atomic():
            watermark = Watermark.objects.locked(partitions.partition_of(*key))
            row = Thinned.objects.of_series(*key).filter(has_new=True).first()
            if row is None or watermark.move_of(*key):
                return
            hours = _hours(key).filter(bucket__gte=row.since, bucket__lt=row.before).order_by("-bucket")
            dense = hours.filter(count__gt=_MOST_EVENTS_AN_HOUR).values_list("bucket", flat=True).last()
            if dense is None:
                Thinned.objects.of_series(*key).update(has_new=False)
                return
            # from the end, so that what is left of the hours without minutes stays one stretch
            reached = _last_of_step(hours.filter(bucket__gte=dense)) or dense
            _change(row, row.since, reached)
            made = _make(watermark, key, reached, row.before)
        yield made


def _hours(key: SeriesKey) -> RollupQuerySet:
    return Rollup.objects.of_series(*key).filter(resolution=Resolution.HOUR)


def _minutes(key: SeriesKey, start: datetime, end: datetime) -> RollupQuerySet:
    of_series = Rollup.objects.of_series(*key)
    return of_series.filter(resolution=Resolution.MINUTE, bucket__gte=start, bucket__lt=end)


def _last_of_step(hours: RollupQuerySet) -> datetime | None:
    """Return the last of the first hours that together have as many events as a step may take; None without any."""
    most, events, last = choose(**_STEP_EVENTS), 0, None
    for hour, count in hours.values_list("bucket", "count")[:_HOURS_AT_A_TIME]:
        events += count
        if last is not None and events > most:
            break
        last = hour
    return last


def _make(watermark: Watermark, key: SeriesKey, start: datetime, end: datetime) -> int:
    """Make the minutes of some hours from their events, and return how many."""
    partition = partitions.partition_of(*key)
    _minutes(key, start, end)._raw_delete(connection.alias)
    events = Event.objects.of_series(*key).filter(timestamp__gte=start, timestamp__lt=end)
    statements.fill_step(events.up_to(watermark.marks), Resolution.MINUTE, partition)
    statements.add_step([Resolution.MINUTE], finest=Resolution.MINUTE, partition=partition)
    return _minutes(key, start, end).count()


def _change(row: Thinned, since: datetime, before: datetime) -> None:
    """Have a row say that minutes are missing between other hours, if between any."""
    of_series = Thinned.objects.of_series(row.namespace, row.name)
    if since < before:
        of_series.update(since=since, before=before)
    else:
        of_series._raw_delete(connection.alias)
