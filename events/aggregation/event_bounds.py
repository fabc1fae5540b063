"""Refuses questions that only events answer where those are pruned, or too many to be read."""

from __future__ import annotations

from datetime import UTC, datetime

from django.conf import settings
from rest_framework.exceptions import ValidationError

from events.aggregation.question import Question, reads_all_events
from events.aggregation.reader import Reader
from events.aggregation.series_state import SeriesState
from events.calendar import timestamps
from events.calendar.granularity import MICROSECOND, Granularity
from events.calendar.spans import Span
from events.database import partitions


def check(question: Question, span: Span, state: SeriesState, *, is_before: bool = False) -> None:
    """Refuse a span whose events are pruned or too many. Raises ValidationError.

    ``is_before`` is for a span before the window, whose value is to fill the window's first buckets. No query for a
    series with few events of which none are pruned, and one or two for others.
    """
    before = state.pruned_before
    if before is not None and _reader(question, span, state, Granularity.YEAR).reaches_pruned():
        raise _pruned(question, before, is_before)
    most = settings.PERCENTILE_EVENTS
    most_in_tail = state.tail * len(partitions.every())
    if not reads_all_events(question.aggregation_type) or state.rolled_up_count + most_in_tail <= most:
        return
    count = sum(int(number) for _, number in _reader(question, span, state, Granularity.YEAR).read())
    if count > most:
        raise _too_many(question, span, state, count, is_before)


def _reader(question: Question, span: Span, state: SeriesState, granularity: Granularity) -> Reader:
    return Reader(*span, granularity, "count", UTC, state)


def _pruned(question: Question, before: datetime, is_before: bool) -> ValidationError:
    kept = f"Events are kept from {timestamps.to_text(before)} on, and {question.aggregation_type} needs all of them"
    if is_before:
        return ValidationError({"fill": [f"{kept}, also for the value before the window; choose another fill."]})
    return ValidationError({"tsMin": [f"{kept}; choose a window that starts then or later."]})


def _too_many(question: Question, span: Span, state: SeriesState, count: int, is_before: bool) -> ValidationError:
    most = settings.PERCENTILE_EVENTS
    reason = f"{count} events; {question.aggregation_type} may read {most} (PERCENTILE_EVENTS)"
    if is_before:
        return ValidationError({"fill": [f"The bucket before the window has {reason}. Choose another fill."]})
    start = _start_that_fits(question, span, state, most)
    advice = "Its last minute alone has too many."
    if start is not None:
        advice = f"The longest window up to the same end that fits starts at {timestamps.to_text(start)}."
    return ValidationError({"tsMin": [f"The window has {reason}. {advice}"]})


def _start_that_fits(question: Question, span: Span, state: SeriesState, most: int) -> datetime | None:
    """Find the earliest start of a minute from which on a span has at most so many events; None where there is none.

    Three queries: the span's months, the hours of the one that is too many, and the minutes of the hour that is.
    """
    end, left = span.last, most
    for unit in (Granularity.MONTH, Granularity.HOUR, Granularity.MINUTE):
        for timestamp, number in reversed(_reader(question, span, state, unit).read()):
            if number > left:
                start = unit.start_of(datetime.fromisoformat(timestamp), UTC)
                span = Span(max(span.first, start), min(span.last, unit.end_of(start, UTC)))
                break
            left -= int(number)
    return span.last + MICROSECOND if span.last < end else None
