"""Chooses the reader of a question by its aggregation type."""

from __future__ import annotations

from events.aggregation.event_readers import DeviationReader, EndReader, PercentileReader
from events.aggregation.question import ROLLED_UP_TYPES, Question
from events.aggregation.rate_reader import RateReader
from events.aggregation.reader import Reader
from events.aggregation.series_state import SeriesState
from events.calendar.spans import Span

_READERS: dict[str, type[Reader]] = {
    **dict.fromkeys(ROLLED_UP_TYPES, Reader),
    "rate": RateReader, "first": EndReader, "last": EndReader, "stddev": DeviationReader,
}  # fmt: skip


def reader_of(question: Question, span: Span, state: SeriesState) -> Reader:
    """Make the reader of the buckets that a question asks for in a span."""
    return _READERS.get(question.aggregation_type, PercentileReader).of(question, span, state)
