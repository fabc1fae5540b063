"""Window → buckets: what the aggregation endpoint answers."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite
from typing import Any, TypedDict

from django.conf import settings
from django.db import DataError, models
from django.db.models import Avg, Count, F, Max, Min, Sum
from django.db.models.functions import TruncDay, TruncHour, TruncMinute, TruncMonth, TruncWeek, TruncYear
from rest_framework.exceptions import ValidationError

from events import timestamps
from events.models import Event, EventQuerySet

GRANULARITIES: dict[str, type[models.Func] | None] = {
    "minute": TruncMinute,
    "hour": TruncHour,
    "day": TruncDay,
    "week": TruncWeek,
    "month": TruncMonth,
    "year": TruncYear,
    "none": None,
}
AGGREGATION_TYPES: dict[str, type[models.Aggregate]] = {
    "avg": Avg,
    "min": Min,
    "max": Max,
    "sum": Sum,
    "count": Count,
}
# Adding up to 2**64 doubles of any size can't overflow once each is divided by this; a power of two keeps every digit.
_HEADROOM = 2.0**64


class Item(TypedDict):
    """One bucket: the lowest timestamp of its events, and their values made one."""

    aggregatedTimestamp: str
    value: float | int


def aggregate(
    namespace: str,
    name: str,
    *,
    ts_min: datetime | None,
    ts_max: datetime | None,
    granularity: str,
    aggregation_type: str,
) -> list[Item]:
    """The buckets of a series within [ts_min, ts_max], both ends included, ordered by time.

    Buckets without events are left out. ``none`` groups nothing but equal timestamps. Weeks start on Monday; all
    units are those of UTC. One query, two where values are so large that their sum overflows. Raises ValidationError
    where a sum is beyond what a double holds, or there are more than ``MAX_ITEMS`` buckets.
    """
    events = Event.objects.of_series(namespace, name).within(ts_min, ts_max)
    try:
        buckets = _buckets(events, granularity, AGGREGATION_TYPES[aggregation_type]("value"))
        overflow = any(value is None or not isfinite(value) for _, value in buckets)
    except DataError:  # how PostgreSQL reports it; SQLite answers infinity, or null for infinity less infinity
        overflow = True
    if overflow:
        buckets = _buckets_of_huge_values(events, granularity, aggregation_type)
    return [Item(aggregatedTimestamp=timestamps.to_text(timestamp), value=value) for timestamp, value in buckets]


def _buckets(
    events: EventQuerySet, granularity: str, aggregate: models.expressions.Combinable
) -> list[tuple[datetime, Any]]:
    trunc = GRANULARITIES[granularity]
    bucket = F("timestamp") if trunc is None else trunc("timestamp", tzinfo=UTC)
    buckets = (
        events.annotate(bucket=bucket)
        .values("bucket")
        .annotate(first_timestamp=Min("timestamp"), aggregate=aggregate)
        .order_by("bucket")
        .values_list("first_timestamp", "aggregate")
    )
    found = list(buckets[: settings.MAX_ITEMS + 1])
    if len(found) > settings.MAX_ITEMS:
        coarser = {"none": "minute", "minute": "hour", "hour": "day"}.get(granularity, "year")
        most = f"More than {settings.MAX_ITEMS} items"
        advice = f"{most}; choose a shorter window or a coarser granularity, such as {coarser}."
        raise ValidationError({"granularity": [advice]})
    return found


def _buckets_of_huge_values(
    events: EventQuerySet, granularity: str, aggregation_type: str
) -> list[tuple[datetime, float]]:
    # Not Avg: PostgreSQL's also adds up squares, which overflow long before the values do.
    scaled: models.expressions.Combinable = Sum(F("value") / _HEADROOM)
    if aggregation_type == "avg":
        scaled = scaled / Count("pk")
    buckets = [(timestamp, value * _HEADROOM) for timestamp, value in _buckets(events, granularity, scaled)]
    if not all(isfinite(value) for _, value in buckets):
        raise ValidationError({"aggregationType": ["The sum of a bucket is beyond what a double holds."]})
    return buckets
