"""Question → answer: what the aggregation endpoint gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from math import isfinite
from operator import itemgetter
from typing import TypedDict

from django.conf import settings
from rest_framework.exceptions import ValidationError

from events import buckets, rollups, timestamps
from events.models import Event, Rollup, Watermark
from events.reading import Bucket, Reader
from events.snapshot import snapshot

AGGREGATION_TYPES = ("avg", "min", "max", "sum", "count")
FILLS = ("none", "null", "zero", "previous")
LABELS = ("first", "bucket")


class Item(TypedDict):
    """One bucket: the lowest timestamp of its events or its start, and their values made one."""

    aggregatedTimestamp: str
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of one series; the window [ts_min, ts_max] includes both ends, and None leaves one open."""

    namespace: str
    name: str
    ts_min: datetime | None = None
    ts_max: datetime | None = None
    granularity: str = "none"
    aggregation_type: str = "avg"
    zone: tzinfo = UTC
    fill: str = "none"
    label: str = "first"

    def reader(self, first: datetime, last: datetime) -> Reader:
        """What reads the buckets between two instants, both included."""
        return Reader(self.namespace, self.name, first, last, self.granularity, self.aggregation_type, self.zone)


def aggregate(question: Question) -> list[Item]:
    """The buckets of a series within its window, ordered by time; exact, and as fresh as the last commit.

    ``none`` groups nothing but equal timestamps, and is never filled. All queries see one snapshot of the database;
    one of them reads the buckets. Raises ValidationError where there are more than ``MAX_ITEMS`` of them, where a sum
    is beyond what a double holds, or where the zone's calendar leaves the years 1 to 9999.
    """
    with snapshot():
        extent = _given_window(question) or _extent(question)
        window = extent and _window(question, *extent)
        if not extent or not window:
            return []
        mark = rollups.watermark()
        _check_count(question, *window, mark)
        tail = (Event.objects.order_by("pk").values_list("pk", flat=True).last() or 0) - mark.event_id
        found = _read(question, max(window[0], extent[0]), min(window[1], extent[1]), mark, has_tail=tail > 0)
    if tail > settings.ROLLUP_TAIL_EVENTS:
        rollups.roll_up_aside()
    if len(found) > settings.MAX_ITEMS:
        raise _too_many(question, *window)
    if question.fill == "none" or question.granularity == "none":
        return [{"aggregatedTimestamp": timestamp, "value": value} for timestamp, value in _labelled(question, found)]
    return list(_filled(question, found, *window))


def _given_window(question: Question) -> tuple[datetime, datetime] | None:
    """The window as it was asked for, where that is all there is to know; None where it depends on the series."""
    first, last = question.ts_min, question.ts_max
    if first is None or last is None or question.fill != "none":
        return None
    if question.granularity != "none":
        try:
            if buckets.count(first, last, question.granularity, question.zone) > settings.MAX_ITEMS:
                return None
        except OverflowError:
            return None
    return first, last


def _extent(question: Question) -> tuple[datetime, datetime] | None:
    """The first and the last timestamp of the series; None without events."""
    instants = Event.objects.of_series(question.namespace, question.name).order_by("timestamp")
    ends = [instants.values_list("timestamp", flat=True).first(), instants.values_list("timestamp", flat=True).last()]
    rolled_up = Rollup.objects.of_series(question.namespace, question.name).whole_series()
    for both in rolled_up.values_list("first_timestamp", "last_timestamp"):
        ends += both  # whose events may be gone
    known = [end for end in ends if end is not None]
    return (min(known), max(known)) if known else None


def _window(question: Question, first: datetime, last: datetime) -> tuple[datetime, datetime] | None:
    """The window, cut to where the series is unless buckets are filled beyond; None where nothing lies within."""
    if question.fill == "none":
        start, end = max(first, question.ts_min or first), min(last, question.ts_max or last)
    else:
        start, end = question.ts_min or first, question.ts_max or last
    try:
        for instant in (start, end):
            instant.astimezone(question.zone)
    except OverflowError:
        raise ValidationError({"timezone": ["Its calendar leaves the years 1 to 9999 in this window."]}) from None
    return (start, end) if start <= end else None


def _check_count(question: Question, first: datetime, last: datetime, mark: Watermark) -> None:
    """Refuse more items than are allowed before they are read, as far as that is known without reading them."""
    if question.granularity == "none":
        return  # reading them is bounded instead
    if buckets.count(first, last, question.granularity, question.zone) <= settings.MAX_ITEMS:
        return
    most = settings.MAX_ITEMS + 1
    if question.fill != "none" or question.reader(first, last).count_stored(mark, most) == most:
        raise _too_many(question, first, last)


def _too_many(question: Question, first: datetime, last: datetime) -> ValidationError:
    finer = buckets.GRANULARITIES.index(question.granularity) if question.granularity != "none" else -1
    coarser = [each for each in buckets.GRANULARITIES[finer + 1 :] if each != "none"]
    counts = {each: buckets.count(first, last, each, question.zone) for each in coarser}
    fits = next((each for each, count in counts.items() if count <= settings.MAX_ITEMS), None)
    advice = "choose a shorter window" + (f", or a coarser granularity such as {fits}." if fits else ".")
    return ValidationError({"granularity": [f"More than {settings.MAX_ITEMS} items; {advice}"]})


def _read(question: Question, first: datetime, last: datetime, mark: Watermark, *, has_tail: bool) -> list[Bucket]:
    if first > last:
        return []
    reader = question.reader(first, last)
    if question.granularity == "none":
        found = reader.read_ungrouped(settings.MAX_ITEMS + 1)
    else:
        found = reader.read(mark, has_tail=has_tail)
    if not _are_finite(found):
        found = reader.read_huge()
        if not _are_finite(found):
            raise ValidationError({"aggregationType": ["The sum of a bucket is beyond what a double holds."]})
    return found


def _are_finite(found: list[Bucket]) -> bool:
    return all(map(isfinite, map(itemgetter(1), found)))


def _labelled(question: Question, found: list[Bucket]) -> list[Bucket]:
    if question.label == "first" or question.granularity == "none":
        return found
    return [(timestamps.to_text(_start(question, timestamp)), value) for timestamp, value in found]


def _filled(question: Question, found: list[Bucket], first: datetime, last: datetime) -> Iterator[Item]:
    """Every bucket between both instants in order; those without events have their start for a timestamp."""
    starts = [_start(question, timestamp) for timestamp, _ in found]
    by_start = dict(zip(starts, _labelled(question, found), strict=True))
    value: float | None = None
    if question.fill == "zero":
        value = 0 if question.aggregation_type == "count" else 0.0
    for start in buckets.starts(first, last, question.granularity, question.zone):
        timestamp, known = by_start.get(start) or (timestamps.to_text(start), value)
        yield {"aggregatedTimestamp": timestamp, "value": known}
        if question.fill == "previous":
            value = known


def _start(question: Question, timestamp: str) -> datetime:
    return buckets.start_of(datetime.fromisoformat(timestamp), question.granularity, question.zone)
