"""Question → answer: what the aggregation endpoint gives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from math import isfinite
from operator import itemgetter
from typing import Any, TypedDict

from django.conf import settings
from rest_framework.exceptions import ValidationError

from events.aggregation.reader import Bucket, Reader, in_order
from events.calendar import granularities, timestamps, zones
from events.database.snapshot import snapshot, snapshot_id
from events.models import Event, Pruned, Resolution, Rollup, Watermark
from events.rollups import statements
from events.worker import pacing

AGGREGATION_TYPES = ("avg", "min", "max", "sum", "count")
FILLS = ("none", "null", "zero", "previous")
LABELS = ("first", "bucket")

_LONG_TAIL = 10_000
# In SQL, which the ORM would take longer to write for each answer than the database takes to answer it.
_STANDING = f"""
    SELECT mark.*, pruned.before, whole.count, whole.first_timestamp, whole.last_timestamp,
        (SELECT max(id) FROM {Event._meta.db_table}) AS newest_id
    FROM {Watermark._meta.db_table} AS mark
    LEFT JOIN {Pruned._meta.db_table} AS pruned ON pruned.namespace = %s AND pruned.name = %s
    LEFT JOIN {Rollup._meta.db_table} AS whole
        ON whole.resolution = {Resolution.SERIES.value} AND whole.namespace = %s AND whole.name = %s
"""  # noqa: S608


# A bucket's start, its timestamp and its value.
_Labelled = tuple[datetime, str, float | None]


class UnmetBucket(RuntimeError):
    """The database grouped by other rules than those by which buckets are counted: a fault of ours, or of its own."""

    def __init__(self, question: Question, timestamp: str) -> None:
        super().__init__(f"No {question.granularity} of {question.zone} has the events from {timestamp} on.")


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


@dataclass(frozen=True)
class Standing:
    """How a series stands in one snapshot: the watermark, what the rollups hold of it, how many ids are past them."""

    mark: Watermark
    count: int
    extent: tuple[datetime, datetime] | None
    tail: int


def standing_of(question: Question) -> Standing:
    """How the series that is asked about stands. One query, and another while nothing is rolled up."""
    series = question.namespace, question.name
    mark: Any = next(iter(Watermark.objects.raw(_STANDING, [*series, *series])), None)
    if mark is None:
        newest_id = Event.objects.order_by("-pk").values_list("pk", flat=True).first()
        return Standing(statements.no_watermark(), 0, None, newest_id or 0)
    mark.pruned_before = _aware(mark.before)
    first, last = _aware(mark.first_timestamp), _aware(mark.last_timestamp)
    extent = (first, last) if first and last else None
    return Standing(mark, mark.count or 0, extent, (mark.newest_id or 0) - mark.event_id)


def _aware(instant: datetime | None) -> datetime | None:
    """UTC, as SQLite's driver doesn't say."""
    return instant and instant.replace(tzinfo=UTC)


def aggregate(question: Question, standing: Standing | None = None) -> list[Item]:
    """The buckets of a series within its window, ordered by time; exact, and as fresh as the last commit.

    ``none`` groups nothing but equal timestamps, and is never filled. All queries see one snapshot of the database;
    one of them reads the buckets. Raises ValidationError where there are more than ``MAX_ITEMS`` of them, where a sum
    is beyond what a double holds, or where the answer depends on events that are pruned.
    """
    with snapshot():
        standing = standing or standing_of(question)
        extent = _given_window(question) or _extent(question, standing)
        window = extent and _window(question, *extent)
        if not extent or not window:
            return []
        _check_count(question, *window, standing.mark)
        found = _read(question, max(window[0], extent[0]), min(window[1], extent[1]), standing)
        before = _value_before(question, window[0], extent[0], standing)
    _shorten_tail(standing)
    if len(found) > settings.MAX_ITEMS:
        raise _too_many(question, *window)
    items = list(_items(question, found, *window, before))
    if len(items) > settings.MAX_ITEMS:  # filled, over more changes of the clocks than were counted
        raise _too_many(question, *window)
    return items


def stream(question: Question) -> Iterator[Item]:
    """The same items one after the other, however many there are, from a snapshot that lasts until the last of them.

    A sum that is beyond what a double holds is None. Raises ValidationError as ``aggregate`` otherwise, before the
    first item unless more is pruned or comes just then; also where more than ``MAX_STREAM_ITEMS`` would be filled in.
    """
    with snapshot():
        standing = standing_of(question)
        extent = _extent(question, standing)
        if extent and (window := _window(question, *extent)):
            _check_filled(question, *window)
            _check_pruned(question, max(window[0], extent[0]), min(window[1], extent[1]), standing.mark)
            if standing.mark.pruned_before:
                _value_before(question, window[0], extent[0], standing)  # which may be refused as well
    return _stream(question)


def _stream(question: Question) -> Iterator[Item]:
    with snapshot():
        standing = standing_of(question)
        extent = _extent(question, standing)
        window = extent and _window(question, *extent)
        if not extent or not window:
            return
        _check_filled(question, *window)  # again, as an event may have come that makes the series longer
        mark = standing.mark
        first, last = max(window[0], extent[0]), min(window[1], extent[1])
        found: Iterator[Bucket] = iter(())
        if first <= last:
            _check_pruned(question, first, last, mark)
            found = question.reader(first, last).iterate(mark, tail=standing.tail)
        finite = (bucket if isfinite(bucket[1]) else _finite(question, bucket, first, last, mark) for bucket in found)
        before = _value_before(question, window[0], extent[0], standing)
        yield from _items(question, finite, *window, before)
    _shorten_tail(standing)


def version(question: Question, standing: Standing) -> str:
    """Another text whenever the answer may be another: where events were added to the series or pruned, or any changed.

    With a long tail, which would take long to count, also where anything else was stored on PostgreSQL. One query
    where there is a tail, in the snapshot of the standing; none elsewhere.
    """
    mark, count = standing.mark, standing.count
    seen = snapshot_id() if standing.tail > _LONG_TAIL else None
    if standing.tail and seen is None:
        events = Event.objects.tail_of_series(question.namespace, question.name, mark.event_id, standing.tail)
        count += events.count()
    # of an answer that a version before this one gave, the last digits may differ
    rules = f"exact sums {zones.version()} {settings.MAX_ITEMS}"
    state = f"{question} {rules} {mark.changes} {mark.pruned_before} {count} {seen}"
    return hashlib.sha256(state.encode()).hexdigest()


def _shorten_tail(standing: Standing) -> None:
    if standing.tail > settings.ROLLUP_TAIL_EVENTS:
        pacing.catch_up_aside()


def _given_window(question: Question) -> tuple[datetime, datetime] | None:
    """The window as it was asked for, where that is all there is to know; None where it depends on the series."""
    first, last = question.ts_min, question.ts_max
    if first is None or last is None or question.fill != "none":
        return None
    if question.granularity == "none":
        return first, last
    items = granularities.count(first, last, question.granularity, question.zone)
    return (first, last) if items <= settings.MAX_ITEMS else None


def _extent(question: Question, standing: Standing) -> tuple[datetime, datetime] | None:
    """The first and the last timestamp of the series; None without events. Two queries where there is a tail.

    A window of which both ends are given is filled whether or not there are any: then those are given.
    """
    ends = [*(standing.extent or ())]  # also of events that are gone
    if standing.tail:
        instants = Event.objects.of_series(question.namespace, question.name).values_list("timestamp", flat=True)
        found = instants.order_by("timestamp").first(), instants.order_by("timestamp").last()
        ends += [end for end in found if end is not None]
    if not ends and question.fill != "none" and question.ts_min and question.ts_max:
        return question.ts_min, question.ts_max
    return (min(ends), max(ends)) if ends else None


def _window(question: Question, first: datetime, last: datetime) -> tuple[datetime, datetime] | None:
    """The window, cut to where the series is unless buckets are filled beyond; None where nothing lies within."""
    if question.fill == "none":
        start, end = max(first, question.ts_min or first), min(last, question.ts_max or last)
    else:
        start, end = question.ts_min or first, question.ts_max or last
    return (start, end) if start <= end else None


def _check_count(question: Question, first: datetime, last: datetime, mark: Watermark) -> None:
    """Refuse more items than are allowed before they are read, as far as that is known without reading them."""
    if question.granularity == "none":
        return  # reading them is bounded instead
    if granularities.count(first, last, question.granularity, question.zone) <= settings.MAX_ITEMS:
        return
    most = settings.MAX_ITEMS + 1
    if question.fill != "none" or question.reader(first, last).count_stored(mark, most) == most:
        raise _too_many(question, first, last)


def _check_filled(question: Question, first: datetime, last: datetime) -> None:
    """Refuse to make up more items than a stream may have; of those that are stored it may have any number."""
    if question.fill == "none" or question.granularity == "none":
        return
    most = settings.MAX_STREAM_ITEMS
    if granularities.count(first, last, question.granularity, question.zone) > most:
        raise _too_many(question, first, last, most, " (MAX_STREAM_ITEMS)")


def _too_many(
    question: Question, first: datetime, last: datetime, most: int | None = None, setting: str = ""
) -> ValidationError:
    most = settings.MAX_ITEMS if most is None else most
    finer = granularities.GRANULARITIES.index(question.granularity) if question.granularity != "none" else -1
    coarser = [each for each in granularities.GRANULARITIES[finer + 1 :] if each != "none"]
    counts = {each: granularities.count(first, last, each, question.zone) for each in coarser}
    fits = next((each for each, count in counts.items() if count <= most), None)
    advice = "choose a shorter window" + (f", or a coarser granularity such as {fits}." if fits else ".")
    return ValidationError({"granularity": [f"More than {most} items{setting}; {advice}"]})


def _read(question: Question, first: datetime, last: datetime, standing: Standing) -> list[Bucket]:
    if first > last:
        return []
    mark, tail = standing.mark, standing.tail
    _check_pruned(question, first, last, mark)
    reader = question.reader(first, last)
    if question.granularity == "none":
        found = reader.read_ungrouped(mark, settings.MAX_ITEMS + 1, tail=tail)
    else:
        found = reader.read(mark, tail=tail)
    infinite = [bucket for bucket in found if not isfinite(bucket[1])]
    if infinite:
        exact = dict(_from_events(question, infinite, first, last, mark))
        found = [bucket if isfinite(bucket[1]) else (bucket[0], exact[bucket[0]]) for bucket in found]
        if not all(isfinite(value) for _, value in found):
            raise ValidationError({"aggregationType": ["The sum of a bucket is beyond what a double holds."]})
    return found


def _value_before(question: Question, start: datetime, first: datetime, standing: Standing) -> float | None:
    """The value of the last bucket before the window that holds events; None where none does, or none is asked for.

    Of the bucket that the window begins in it is that of the events before. One query that finds it, where events are
    pruned two, and one that reads it. Raises ValidationError where that depends on events that are pruned.
    """
    if question.fill != "previous" or question.granularity == "none" or first >= start:
        return None
    end = start - granularities.MICROSECOND
    latest = question.reader(first, end).find_last(standing.mark)
    if latest is None:
        return None
    bucket = granularities.start_of(latest, question.granularity, question.zone)
    since = max(first, bucket)
    _check_pruned(question, since, end, standing.mark)
    found = question.reader(since, end).read(standing.mark, tail=standing.tail)
    of_bucket = next(each for each in reversed(found) if _start(question, each[0]) == bucket)
    return (of_bucket if isfinite(of_bucket[1]) else _finite(question, of_bucket, since, end, standing.mark))[1]


def _check_pruned(question: Question, first: datetime, last: datetime, mark: Watermark) -> None:
    """Refuse what depends on events that are pruned, and not only on what the rollups hold of them."""
    if first > last or mark.pruned_before is None:
        return
    torn = question.reader(first, last).find_torn(mark)
    if torn is None:
        return
    finest = statements.resolutions_of(mark)[0].name.lower()
    start, end = granularities.start_of(torn[0], finest, UTC), granularities.end_of(torn[0], finest, UTC)
    kept = f"Events before {timestamps.to_text(mark.pruned_before)} are pruned, and kept by the {finest} of UTC only"
    if torn[0] < first or torn[1] > last:
        parameter, offered = ("tsMin", start) if torn[0] < first else ("tsMax", end)
        raise ValidationError({parameter: [f"{kept}; choose an end of one, such as {timestamps.to_text(offered)}."]})
    raise ValidationError({"granularity": [f"{kept}; choose a later window, or buckets that are made up of those."]})


def _finite(
    question: Question, bucket: Bucket, first: datetime, last: datetime, mark: Watermark
) -> tuple[str, float | None]:
    """The bucket from its events alone, whose rollups don't hold their sum."""
    value = dict(_from_events(question, [bucket], first, last, mark))[bucket[0]]
    return bucket[0], value if isfinite(value) else None


def _from_events(
    question: Question, found: list[Bucket], first: datetime, last: datetime, mark: Watermark
) -> list[Bucket]:
    """These buckets, and those between them, without the sums of their rollups."""
    start, end = _bounds(question, found[0])[0], _bounds(question, found[-1])[1]
    return question.reader(max(first, start), min(last, end)).read_exact(mark)


def _bounds(question: Question, bucket: Bucket) -> tuple[datetime, datetime]:
    """The first and the last instant that lies in the bucket."""
    if question.granularity == "none":
        instant = datetime.fromisoformat(bucket[0])
        return instant, instant
    start = _start(question, bucket[0])
    return start, granularities.end_of(start, question.granularity, question.zone)


def _items(
    question: Question,
    found: Iterable[tuple[str, float | None]],
    first: datetime,
    last: datetime,
    before: float | None,
) -> Iterator[Item]:
    """The buckets as they are answered; where they are to be filled, with every other one between both instants.

    ``before`` is the value of the last bucket before them.
    """
    if question.granularity == "none" or (question.fill == "none" and question.label == "first"):
        for timestamp, value in found:
            yield {"aggregatedTimestamp": timestamp, "value": value}
        return
    labelled: Iterator[_Labelled] = ((_start(question, text), text, value) for text, value in found)
    may_overlap = question.granularity not in granularities.CLOCK_UNITS
    if may_overlap:
        labelled = in_order(labelled, itemgetter(0))
    if question.fill == "none":
        labelled = _apart(question, labelled)
    else:
        labelled = _filled(question, labelled, first, last, before)
    if may_overlap and question.label == "first":
        labelled = in_order(labelled, lambda bucket: datetime.fromisoformat(bucket[1]))
    for start, timestamp, value in labelled:
        text = timestamps.to_text(start) if question.label == "bucket" else timestamp
        yield {"aggregatedTimestamp": text, "value": value}


def _apart(question: Question, found: Iterator[_Labelled]) -> Iterator[_Labelled]:
    """The same. Raises UnmetBucket where two start at once, as then there is one too many."""
    before = None
    for bucket in found:
        if bucket[0] == before:
            raise UnmetBucket(question, bucket[1])
        yield bucket
        before = bucket[0]


def _filled(
    question: Question, found: Iterator[_Labelled], first: datetime, last: datetime, before: float | None
) -> Iterator[_Labelled]:
    """With the buckets that hold no events, whose start is their timestamp.

    Raises UnmetBucket where one that holds some isn't among them: nothing that was stored is left out unsaid.
    """
    empty = before
    if question.fill == "zero":
        empty = 0 if question.aggregation_type == "count" else 0.0
    bucket = next(found, None)
    for start in granularities.starts(first, last, question.granularity, question.zone):
        if bucket is None or bucket[0] > start:
            yield start, timestamps.to_text(start), empty
            continue
        if bucket[0] < start:
            break
        yield bucket
        if question.fill == "previous":
            empty = bucket[2]
        bucket = next(found, None)
    if bucket is not None:
        raise UnmetBucket(question, bucket[1])


def _start(question: Question, timestamp: str) -> datetime:
    return granularities.start_of(datetime.fromisoformat(timestamp), question.granularity, question.zone)
