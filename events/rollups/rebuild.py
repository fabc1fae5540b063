"""Computes rollups anew from the log where stored events change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.db import connection, models, transaction
from django.db.models import Q

from events.calendar import timestamps
from events.database import partitions
from events.rollups import histograms
from events.rollups.models import Pruned, Resolution, Rollup, Watermark
from events.rollups.moves import Move
from events.rollups.statements import add_step, fill_step, insert_rollups, merged, start_of

_HOUR = timedelta(hours=1)
_RANGES_A_STATEMENT = 50


class PrunedError(ValueError):
    """What was asked for needs events that are pruned; nothing was changed."""


class MovingError(ValueError):
    """What was asked for would change events of a series that is being renamed or deleted; nothing was changed."""

    def __init__(self, move: Move) -> None:
        super().__init__(f"{move}: what is stored of it can't be changed until that is done.")


@contextmanager
def rebuilding(events: models.QuerySet[Any], ids: Sequence[int] | None = None) -> Iterator[None]:
    """Rebuild the buckets that the events lie in before and after the block changes them, in one transaction.

    ``ids`` names the events that are there after the block; None means the same ones as before it. Only events up to
    their watermark count, as the others are in no bucket yet. The watermarks stay locked until the transaction ends, so
    that no roller and no other change works meanwhile. Raises PrunedError where an event lies, before or after, in an
    hour that is pruned, and MovingError where its series is being moved.
    """
    log: models.QuerySet[Any] = events.model._default_manager.all()
    with transaction.atomic():
        watermarks: dict[int | None, Watermark] = {}
        touched: defaultdict[tuple[str, str], set[datetime]] = defaultdict(set)
        found: list[int] = []
        for part in _by_watermark(events, watermarks):
            touched |= _hours(part)  # no two partitions have the same series
            if ids is None:
                found += part.order_by().values_list("pk", flat=True)
        ids = found if ids is None else ids
        yield
        for start in range(0, len(ids), 1_000):
            for part in _by_watermark(log.filter(pk__in=ids[start : start + 1_000]), watermarks):
                for series, hours in _hours(part).items():
                    touched[series] |= hours
        for (namespace, name), hours in touched.items():
            rebuild(log, watermarks[partitions.partition_of(namespace, name)], namespace, name, ranges_of(hours))
        for partition in watermarks:
            Watermark.objects.bump_changes(partition)


def _by_watermark(
    events: models.QuerySet[Any], watermarks: dict[int | None, Watermark]
) -> Iterator[models.QuerySet[Any]]:
    """Yield the events of each partition up to its watermark, which is locked first and kept in ``watermarks``."""
    keys: Sequence[int | None] = [None]
    if partitions.are_several():
        keys = sorted(events.order_by().values_list("partition", flat=True).distinct())
    for key in keys:
        if key not in watermarks:
            watermarks[key] = Watermark.objects.locked(key)
        part = events if key is None else events.filter(partition=key)
        _refuse_moving(part, watermarks[key])
        yield part.filter(watermarks[key].marks.up_to())


def _refuse_moving(events: models.QuerySet[Any], watermark: Watermark) -> None:
    move = watermark.move
    if move is None:
        return
    for namespace, name in filter(None, (move.old, move.into)):
        if watermark.move_of(namespace, name) and events.filter(namespace=namespace, name=name).exists():
            raise MovingError(move)


def rebuild(
    log: Any,
    watermark: Watermark,
    namespace: str,
    name: str,
    ranges: Sequence[tuple[datetime, datetime]],
) -> None:
    """Compute a series' rollups anew from its events in the log, in ranges of whole hours, both ends included.

    To be called in a transaction that has locked the watermark. Raises PrunedError where one of the hours is pruned,
    MovingError where the series is being moved.
    """
    if move := watermark.move_of(namespace, name):
        raise MovingError(move)
    before = Pruned.objects.start_of(namespace, name)
    if before is not None and any(start < before for start, _ in ranges):
        raise PrunedError(
            f"Events of {namespace}/{name} before {timestamps.to_text(before)} are pruned: what is known of those "
            "hours can't be changed any more."
        )
    resolutions = watermark.finest_first
    rollups = Rollup.objects.of_series(namespace, name)
    partition = partitions.partition_of(namespace, name)
    events = log.of_series(namespace, name).filter(watermark.marks.up_to())
    for start in range(0, len(ranges), _RANGES_A_STATEMENT):
        part = ranges[start : start + _RANGES_A_STATEMENT]
        within = reduce(or_, (Q(bucket__range=each) for each in part))
        rollups.filter(within, resolution__in=resolutions)._raw_delete(connection.alias)
        within = reduce(or_, (Q(timestamp__range=each) for each in part))
        fill_step(events.filter(within), resolutions[0], partition)
        add_step(resolutions, finest=resolutions[0], partition=partition)
        histograms.rebuild(events, namespace, name, part, partition)
    rebuild_whole_series(watermark, namespace, name)


def rebuild_whole_series(watermark: Watermark, namespace: str, name: str) -> None:
    """Compute the rollup of a whole series anew from its others.

    To be called in a transaction that has locked the watermark.
    """
    rollups = Rollup.objects.of_series(namespace, name)
    rollups.whole_series()._raw_delete(connection.alias)
    partition = partitions.partition_of(namespace, name)
    whole = merged(rollups.filter(resolution=watermark.finest_first[-1]), Resolution.SERIES, partition)
    insert_rollups(whole.query.sql_with_params(), partition=partition)


def _hours(events: models.QuerySet[Any]) -> defaultdict[tuple[str, str], set[datetime]]:
    hours_of: defaultdict[tuple[str, str], set[datetime]] = defaultdict(set)
    hours = events.order_by().annotate(hour=start_of("timestamp", Resolution.HOUR))
    for namespace, name, hour in hours.values_list("namespace", "name", "hour").distinct().iterator():
        hours_of[namespace, name].add(hour)
    return hours_of


def ranges_of(hours: set[datetime]) -> list[tuple[datetime, datetime]]:
    """Join hours that follow each other to ranges, in order; the end of a range is its last microsecond."""
    ranges: list[tuple[datetime, datetime]] = []
    for hour in sorted(hours):
        end = hour + timedelta(minutes=59, seconds=59, microseconds=999_999)
        if ranges and hour - ranges[-1][1] < _HOUR:
            ranges[-1] = ranges[-1][0], end
        else:
            ranges.append((hour, end))
    return ranges
