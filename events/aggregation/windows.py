"""Reads one value for each of many series and windows: the aggregate of all events of a window, by few statements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from math import inf, isfinite
from operator import add
from typing import Any

from django.db import models
from django.db.models import BigIntegerField, Case, Count, Max, Min, Sum, Value, When
from django.db.models.functions import Cast
from rest_framework.exceptions import ValidationError

from events.aggregation import bucket_sums, exact_sums
from events.aggregation.answer import Answer
from events.aggregation.event_windows import EventWindow, Found
from events.aggregation.plan import Piece, plan
from events.aggregation.question import Question, Window, beyond_a_double, needs_events
from events.calendar.granularity import MICROSECOND, Granularity
from events.calendar.spans import Span
from events.database import partitions
from events.log.models import Event
from events.log.series import SeriesKey, among
from events.rollups import sums_sql
from events.rollups.models import Pruned, Resolution, Rollup, Thinned, Watermark
from events.rollups.sums import to_double
from events.worker import moving

# Each of these would be a parameter of a statement, of which SQLite takes some thousands.
_SERIES_A_STATEMENT = 5_000
_MERGES: dict[str, Callable[..., Any]] = {"count": add, "min": min, "max": max}
_SUMMED = ("avg", "sum")
# a sum comes as units, and never as the doubles of a single rollup
_NOT_HELD = {"total": Cast(Value(None), models.FloatField()), "missed": Cast(Value(None), models.FloatField())}


class TooManyEvents(Exception):
    """More events would be read than whoever asks allows."""


def read(windows: Iterable[Window], most_events: int | None = None) -> dict[Window, Found]:
    """Read the values of many windows, each as an answer to a question about that window alone would have it.

    To be called in a snapshot. Series with the same window and aggregation type are read together: a statement for each
    piece of the window and one for the tail. Where events are pruned, a sum is not held by rollups, or the series is
    being renamed, the question is asked by itself. Raises TooManyEvents where values that rollups don't hold need more
    events than ``most_events``, before any of these is read.
    """
    found: dict[Window, Found] = {}
    together: defaultdict[tuple[int | None, str, datetime, datetime], list[SeriesKey]] = defaultdict(list)
    for window in dict.fromkeys(windows):
        together[partitions.partition_of(*window.series), *window[1:]].append(window.series)
    watermarks: dict[int | None, Watermark] = {}
    of_events: list[EventWindow] = []
    for (partition, aggregation_type, *ends), keys in together.items():
        if partition not in watermarks:
            watermarks[partition] = Watermark.objects.current(partition)
        for start in range(0, len(keys), _SERIES_A_STATEMENT):
            given = keys[start : start + _SERIES_A_STATEMENT], aggregation_type, Span(*ends)
            if needs_events(aggregation_type):
                of_events.append(_looked_at(*given, partition, watermarks[partition]))
            else:
                values = _read(*given, partition, watermarks[partition])
                found |= {Window(key, aggregation_type, *ends): value for key, value in values.items()}
    if most_events is not None and sum(sum(each.left.values()) for each in of_events) > most_events:
        raise TooManyEvents
    for each in of_events:
        found |= {Window(key, each.aggregation_type, *each.span): value for key, value in each.read().items()}
    return found


def stored_series(keys: Sequence[SeriesKey]) -> set[SeriesKey]:
    """Return those of the series that have, or had, any event.

    Two queries for each partition, one for what is being renamed, and some for each of those.
    """
    renamed = {key for move in Watermark.objects.moves() for key in keys if move.concerns(*key)}
    found = {key for key in renamed if moving.is_there(key)}
    keys = [key for key in keys if key not in renamed]
    for partition, of_partition in partitions.by_partition(keys).items():
        rollups = Rollup.objects.of_partition(partition).whole_series().filter(among(of_partition))
        found |= {SeriesKey(*key) for key in rollups.values_list("namespace", "name")}
        missing = [key for key in of_partition if key not in found]
        if missing:
            events = Event.objects.of_partition(partition).filter(among(missing)).order_by()
            found |= {SeriesKey(*key) for key in events.values_list("namespace", "name").distinct()}
    return found


def _read(
    keys: list[SeriesKey], aggregation_type: str, span: Span, partition: int | None, watermark: Watermark
) -> dict[SeriesKey, Found]:
    if aggregation_type == "rate":
        seconds = max((span.last - span.first + MICROSECOND).total_seconds(), 1.0)
        sums = _read(keys, "sum", span, partition, watermark)
        return {key: value / seconds if isinstance(value, float) else value for key, value in sums.items()}
    pruned = _pruned(keys, span, partition)
    merged = _merged(keys, aggregation_type, span, partition, watermark)
    found: dict[SeriesKey, Found] = {}
    for key in keys:
        value: Found = merged.get(key, 0.0 if aggregation_type in {"count", "sum"} else None)
        if key in pruned or watermark.move_of(*key) or (isinstance(value, float) and not isfinite(value)):
            value = _asked(key, aggregation_type, span)
        found[key] = value
    return found


def _looked_at(
    keys: list[SeriesKey], aggregation_type: str, span: Span, partition: int | None, watermark: Watermark
) -> EventWindow:
    window = EventWindow(aggregation_type, span, partition, watermark)
    counts = {key: int(count) for key, count in _merged(keys, "count", span, partition, watermark).items()}
    pruned = _pruned(keys, span, partition)
    # of a pruned hour that the window cuts, no event may be left to be counted
    window.look(keys, dict.fromkeys(pruned, 1) | counts, pruned)
    return window


def _pruned(keys: list[SeriesKey], span: Span, partition: int | None) -> set[SeriesKey]:
    """Return the series of which events from before some time past the window's start were deleted."""
    rows = Pruned.objects.of_partition(partition).filter(among(keys), before__gt=span.first)
    return {SeriesKey(*key) for key in rows.values_list("namespace", "name")}


def _thinned(keys: list[SeriesKey], piece: Piece, partition: int | None) -> set[SeriesKey]:
    """Return the series that have no rollups of minutes in a part of a piece."""
    rows = Thinned.objects.of_partition(partition).filter(among(keys), since__lte=piece.last, before__gt=piece.first)
    return {SeriesKey(*key) for key in rows.values_list("namespace", "name")}


def _merged(
    keys: list[SeriesKey], aggregation_type: str, span: Span, partition: int | None, watermark: Watermark
) -> dict[SeriesKey, float]:
    """Merge what the pieces of the window and the tail say of each series that has events there."""
    parts: list[models.QuerySet[Any]] = []
    events = Event.objects.of_partition(partition)
    for piece in plan(*span, list(reversed(watermark.finest_first))):
        if piece.resolution is None:
            of_piece = events.within(piece.first, piece.last).up_to(watermark.marks).filter(among(keys))
            parts.append(_of_events(of_piece, aggregation_type))
        else:
            rolled_up = keys
            if piece.resolution == Resolution.MINUTE and (thinned := _thinned(keys, piece, partition)):
                rolled_up = [key for key in keys if key not in thinned]
                of_piece = events.within(piece.first, piece.last).up_to(watermark.marks).filter(among([*thinned]))
                parts.append(_of_events(of_piece, aggregation_type))
            rollups = Rollup.objects.of_partition(partition).filter(
                among(rolled_up), resolution=piece.resolution, bucket__range=(piece.first, piece.last)
            )
            parts.append(_of_rollups(rollups, aggregation_type))
    # events past the watermark are few, and those of all series are read, which no index of series is needed for
    parts.append(_of_events(events.after(watermark.marks).within(*span), aggregation_type))
    rows: dict[SeriesKey, tuple[Any, ...]] = {}
    merge = _MERGES.get(aggregation_type)
    for namespace, name, *columns in (row for part in parts for row in part):
        key, row = SeriesKey(namespace, name), tuple(columns)
        if key not in rows:
            rows[key] = row
        elif merge:
            rows[key] = (merge(rows[key][0], row[0]),)
        else:
            rows[key] = bucket_sums.merged(rows[key], row)
    if merge:
        return {key: float(row[0]) for key, row in rows.items()}
    value_of: Callable[..., float] = bucket_sums.average if aggregation_type == "avg" else _total
    return {key: value_of(*row) for key, row in rows.items()}


def _total(total: float | None, missed: float | None, units: Any, number: int) -> float:
    return bucket_sums.total(total, missed, units)


def _of_rollups(rows: models.QuerySet[Any], aggregation_type: str) -> models.QuerySet[Any]:
    grouped = rows.order_by().values("namespace", "name")
    if aggregation_type not in _SUMMED:
        found = {"count": Cast(Sum("count"), BigIntegerField()), "min": Min("min"), "max": Max("max")}
        return _rows(grouped, found=found[aggregation_type])
    units = Case(
        When(inexact=1, then=Value(None)),
        default=Cast(sums_sql.Units("sum", "rest", peak=inf), models.TextField()),
        output_field=models.TextField(),
    )
    inexact = grouped.annotate(inexact=Max(Case(When(is_exact=False, then=1), default=0)))
    return _rows(inexact, **_NOT_HELD, units=units, number=Cast(Sum("count"), BigIntegerField()))


def _of_events(rows: models.QuerySet[Any], aggregation_type: str) -> models.QuerySet[Any]:
    grouped = rows.order_by().values("namespace", "name")
    if aggregation_type not in _SUMMED:
        found = {"count": Count("pk"), "min": Min("value"), "max": Max("value")}
        return _rows(grouped, found=found[aggregation_type])
    units = Cast(sums_sql.Units("value"), models.TextField())
    return _rows(grouped, **_NOT_HELD, units=units, number=Count("pk"))


def _rows(grouped: models.QuerySet[Any], **columns: Any) -> models.QuerySet[Any]:
    rows: models.QuerySet[Any] = grouped.annotate(**columns).values_list("namespace", "name", *columns)
    return rows


def _asked(key: SeriesKey, aggregation_type: str, span: Span) -> Found:
    """Ask for the value by itself. A window that reaches over the turn of a year is merged from the parts of both."""
    by_year = Question(
        namespace=key.namespace, name=key.name, ts_min=span.first, ts_max=span.last,
        granularity=Granularity.YEAR, aggregation_type="avg" if aggregation_type == "sum" else aggregation_type,
    )  # fmt: skip
    try:
        if aggregation_type in _SUMMED:
            parts = exact_sums.read(by_year)
            units, number = sum(part.units for part in parts), sum(part.number for part in parts)
            if aggregation_type == "avg":
                return to_double(units, number) if number else None
            total = to_double(units)
            return total if isfinite(total) else beyond_a_double("sum")
        values = [item["value"] for item in Answer(by_year).items() if item["value"] is not None]
    except ValidationError as error:
        return error
    if aggregation_type == "count":
        return float(sum(values))
    return _MERGES[aggregation_type](values) if values else None
