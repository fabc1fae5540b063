"""Makes the items of an answer from the buckets that hold events: labels them, and fills in the empty ones between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from operator import itemgetter
from typing import TypedDict

from events.aggregation.question import Question
from events.aggregation.rows import in_order
from events.calendar import timestamps
from events.calendar.spans import Span

# A bucket that holds events, as it is answered: what ``Bucket`` has, but None for a value that isn't known.
Found = tuple[str, float | None]
# A bucket's start, its timestamp and its value.
_Labelled = tuple[datetime, str, float | None]


class UnmetBucket(RuntimeError):
    """The database grouped events by other rules than buckets are counted by: a fault of ours, or of the database."""

    def __init__(self, question: Question, timestamp: str) -> None:
        super().__init__(f"No {question.granularity} of {question.zone} has the events from {timestamp} on.")


class Item(TypedDict):
    """One bucket: the lowest timestamp of its events or the bucket's start, and the aggregate of the events' values."""

    aggregatedTimestamp: str
    value: float | None


def items_of(question: Question, found: Iterable[Found], window: Span, before: float | None) -> Iterator[Item]:
    """Yield the buckets as items; where they are to be filled, with every empty one in the window.

    ``before`` is the value of the last bucket before the window. Raises UnmetBucket.
    """
    if question.granularity == "none" or (question.fill == "none" and question.label == "first"):
        for timestamp, value in found:
            yield {"aggregatedTimestamp": timestamp, "value": value}
        return
    labelled: Iterator[_Labelled] = ((start_of(question, text), text, value) for text, value in found)
    may_overlap = not question.granularity.is_clock_unit
    if may_overlap:
        labelled = in_order(labelled, itemgetter(0))
    labelled = _apart(question, labelled) if question.fill == "none" else _filled(question, labelled, window, before)
    if may_overlap and question.label == "first":
        labelled = in_order(labelled, lambda bucket: datetime.fromisoformat(bucket[1]))
    for start, timestamp, value in labelled:
        text = timestamps.to_text(start) if question.label == "bucket" else timestamp
        yield {"aggregatedTimestamp": text, "value": value}


def start_of(question: Question, timestamp: str) -> datetime:
    """Return the start of the question's bucket that a timestamp lies in."""
    return question.granularity.start_of(datetime.fromisoformat(timestamp), question.zone)


def _apart(question: Question, found: Iterator[_Labelled]) -> Iterator[_Labelled]:
    """Yield the buckets. Raises UnmetBucket where two have the same start, as one of them is too many."""
    before = None
    for bucket in found:
        if bucket[0] == before:
            raise UnmetBucket(question, bucket[1])
        yield bucket
        before = bucket[0]


def _filled(question: Question, found: Iterator[_Labelled], window: Span, before: float | None) -> Iterator[_Labelled]:
    """Yield the buckets, and between them the empty ones, whose timestamp is their start.

    Raises UnmetBucket where a bucket with events isn't among the window's, so that no event is silently left out.
    """
    empty = before
    if question.fill == "zero":
        empty = 0 if question.aggregation_type == "count" else 0.0
    bucket = next(found, None)
    for start in question.granularity.starts(*window, question.zone):
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
