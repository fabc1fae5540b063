"""Question → answer: what the aggregation endpoint gives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from math import isfinite
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


# A bucket's start, its timestamp and its value.
_Labelled = tuple[datetime, str, float | None]


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
    is beyond what a double holds, where the answer depends on events that are pruned, or where the zone's calendar
    leaves the years 1 to 9999.
    """
    with snapshot():
        extent = _given_window(question) or _extent(question)
        window = extent and _window(question, *extent)
        if not extent or not window:
            return []
        mark = rollups.watermark_of(question.namespace, question.name)
        _check_count(question, *window, mark)
        tail = _tail(mark)
        found = _read(question, max(window[0], extent[0]), min(window[1], extent[1]), mark, has_tail=tail > 0)
    if tail > settings.ROLLUP_TAIL_EVENTS:
        rollups.roll_up_aside()
    if len(found) > settings.MAX_ITEMS:
        raise _too_many(question, *window)
    return list(_items(question, found, *window))


def stream(question: Question) -> Iterator[Item]:
    """The same items one after the other, however many there are, from a snapshot that lasts until the last of them.

    A sum that is beyond what a double holds is None. Raises ValidationError as ``aggregate`` otherwise, before the
    first item unless more is pruned just then.
    """
    with snapshot():
        extent = _extent(question)
        if extent and (window := _window(question, *extent)):
            mark = rollups.watermark_of(question.namespace, question.name)
            _check_pruned(question, max(window[0], extent[0]), min(window[1], extent[1]), mark)
    return _stream(question)


def _stream(question: Question) -> Iterator[Item]:
    with snapshot():
        extent = _extent(question)
        window = extent and _window(question, *extent)
        if not extent or not window:
            return
        mark = rollups.watermark_of(question.namespace, question.name)
        first, last = max(window[0], extent[0]), min(window[1], extent[1])
        found: Iterator[Bucket] = iter(())
        if first <= last:
            _check_pruned(question, first, last, mark)
            found = question.reader(first, last).iterate(mark, has_tail=_tail(mark) > 0)
        finite = (bucket if isfinite(bucket[1]) else _finite(question, bucket, first, last, mark) for bucket in found)
        yield from _items(question, finite, *window)


def version(question: Question) -> str:
    """Another text whenever the answer may be another: where events were added to the series or pruned, or any changed.

    Four queries, none of which reads more than the tail of the series.
    """
    with snapshot():
        mark = rollups.watermark_of(question.namespace, question.name)
        tail = Event.objects.of_series(question.namespace, question.name).after(mark.event_id).count()
        rolled_up = Rollup.objects.of_series(question.namespace, question.name).whole_series()
        count = tail + sum(rolled_up.values_list("count", flat=True))
    state = f"{question} {mark.changes} {mark.pruned_before} {count} {settings.MAX_ITEMS}"
    return hashlib.sha256(state.encode()).hexdigest()


def _tail(mark: Watermark) -> int:
    """How many ids there are past the watermark."""
    return (Event.objects.order_by("pk").values_list("pk", flat=True).last() or 0) - mark.event_id


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
    _check_pruned(question, first, last, mark)
    reader = question.reader(first, last)
    if question.granularity == "none":
        found = reader.read_ungrouped(mark, settings.MAX_ITEMS + 1, has_tail=has_tail)
    else:
        found = reader.read(mark, has_tail=has_tail)
    if not _are_finite(found):
        found = reader.read_huge(mark)
        if not _are_finite(found):
            raise ValidationError({"aggregationType": ["The sum of a bucket is beyond what a double holds."]})
    return found


def _check_pruned(question: Question, first: datetime, last: datetime, mark: Watermark) -> None:
    """Refuse what depends on events that are pruned, and not only on what the rollups hold of them."""
    if first > last or mark.pruned_before is None:
        return
    torn = question.reader(first, last).find_torn(mark)
    if torn is None:
        return
    finest = rollups.resolutions_of(mark)[0].name.lower()
    start, end = buckets.start_of(torn[0], finest, UTC), buckets.end_of(torn[0], finest, UTC)
    kept = f"Events before {timestamps.to_text(mark.pruned_before)} are pruned, and kept by the {finest} of UTC only"
    if torn[0] < first or torn[1] > last:
        parameter, offered = ("tsMin", start) if torn[0] < first else ("tsMax", end)
        raise ValidationError({parameter: [f"{kept}; choose an end of one, such as {timestamps.to_text(offered)}."]})
    raise ValidationError({"granularity": [f"{kept}; choose a later window, or buckets that are made up of those."]})


def _finite(
    question: Question, bucket: Bucket, first: datetime, last: datetime, mark: Watermark
) -> tuple[str, float | None]:
    """The bucket from its events alone, whose sum on the way may be beyond a double."""
    start = end = datetime.fromisoformat(bucket[0])
    if question.granularity != "none":
        start = _start(question, bucket[0])
        end = buckets.end_of(start, question.granularity, question.zone)
    [(timestamp, value)] = question.reader(max(first, start), min(last, end)).read_huge(mark)
    return timestamp, value if isfinite(value) else None


def _are_finite(found: list[Bucket]) -> bool:
    return all(isfinite(value) for _, value in found)


def _items(
    question: Question, found: Iterable[tuple[str, float | None]], first: datetime, last: datetime
) -> Iterator[Item]:
    """The buckets as they are answered; where they are to be filled, with every other one between both instants."""
    if question.granularity == "none" or (question.fill == "none" and question.label == "first"):
        for timestamp, value in found:
            yield {"aggregatedTimestamp": timestamp, "value": value}
        return
    labelled: Iterator[_Labelled] = ((_start(question, text), text, value) for text, value in found)
    if question.fill != "none":
        labelled = _filled(question, labelled, first, last)
    for start, timestamp, value in labelled:
        text = timestamps.to_text(start) if question.label == "bucket" else timestamp
        yield {"aggregatedTimestamp": text, "value": value}


def _filled(question: Question, found: Iterator[_Labelled], first: datetime, last: datetime) -> Iterator[_Labelled]:
    """With the buckets that hold no events, whose start is their timestamp."""
    empty: float | None = None
    if question.fill == "zero":
        empty = 0 if question.aggregation_type == "count" else 0.0
    bucket = next(found, None)
    for start in buckets.starts(first, last, question.granularity, question.zone):
        if bucket is None or bucket[0] != start:
            yield start, timestamps.to_text(start), empty
            continue
        yield bucket
        if question.fill == "previous":
            empty = bucket[2]
        bucket = next(found, None)


def _start(question: Question, timestamp: str) -> datetime:
    return buckets.start_of(datetime.fromisoformat(timestamp), question.granularity, question.zone)
