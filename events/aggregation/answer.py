"""Owns the answer to a question: the items that the aggregation endpoint returns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from math import isfinite, isnan

from django.conf import settings
from rest_framework.exceptions import ValidationError

from events.aggregation import event_bounds, histogram_reader
from events.aggregation.histogram_reader import HistogramReader
from events.aggregation.items import Found, Item, items_of, start_of
from events.aggregation.question import Question, beyond_a_double, fraction_of, needs_events
from events.aggregation.reader import Bucket, Reader
from events.aggregation.readers import reader_of
from events.aggregation.series_state import SeriesState, state_of
from events.calendar import timestamps, zones
from events.calendar.granularity import MICROSECOND, Granularity
from events.calendar.spans import Span
from events.database import partitions
from events.database.snapshot import snapshot, snapshot_id
from events.rollups.bins import ACCURACY

_MOST_COUNTED_TAIL = 10_000


def aggregate(question: Question) -> list[Item]:
    """Answer a question from a snapshot of its own, as ``Answer.items`` does."""
    with snapshot():
        return Answer(question).items()


class Answer:
    """The answer to one question in one snapshot of the database.

    It must be made and read within ``snapshot()``. It looks up the state of the series once, unless that snapshot's
    state is given, and is exact and as fresh as the last commit.
    """

    def __init__(self, question: Question, state: SeriesState | None = None) -> None:
        self.question = question
        self.state = state or state_of(question.namespace, question.name)
        # how accurate the values are, as far as they are read; None for types whose values are always exact
        self.accuracy = None if fraction_of(question.aggregation_type) is None else "exact"

    @property
    def has_long_tail(self) -> bool:
        """Tell whether so many events are past the watermark that rolling them up would make answers faster."""
        return self.state.tail > settings.ROLLUP_TAIL_EVENTS

    def version(self) -> str:
        """Return a version that changes whenever the answer may have changed: events added, pruned or changed.

        With a tail that would take long to count, the version also changes on PostgreSQL when anything else is stored.
        One query where there is a tail, none otherwise.
        """
        question, state, count = self.question, self.state, self.state.rolled_up_count
        # each node of a cluster has snapshots of its own
        seen = snapshot_id() if state.tail > _MOST_COUNTED_TAIL and not partitions.are_several() else None
        if state.tail and seen is None:
            count += sum(source.tail(state.marks, state.tail).count() for source in state.sources)
        # “exact sums” tells these answers from the ones of older releases, whose last digits may differ
        rules = f"exact sums {zones.version()} {settings.MAX_ITEMS}"
        if self.accuracy:
            rules += f" {settings.PERCENTILE_EVENTS} {histogram_reader.may_answer(question)}"
        text = f"{question} {rules} {state.watermark.changes} {state.pruned_before} {count} {seen}"
        return hashlib.sha256(text.encode()).hexdigest()

    def items(self) -> list[Item]:
        """Return the buckets in the window, ordered by time; one query reads them.

        The granularity ``none`` groups only equal timestamps, and is never filled. Raises ValidationError where there
        are more than ``MAX_ITEMS`` buckets, where a sum is beyond what a double holds, or where the answer depends on
        events that are pruned.
        """
        given = self._window_to_read
        span = given or self.extent
        window = span and self._window(span)
        if not span or not window:
            return []
        self._check_count(window)
        part = window.within(span)
        found = self._read(part, part if given else widened(part, span)) if part else []
        if len(found) > settings.MAX_ITEMS:
            raise self._too_many(window)
        items = list(items_of(self.question, found, window, self._value_before(window.first, span.first)))
        if len(items) > settings.MAX_ITEMS:  # the count before filling may be too low where the clocks change
            raise self._too_many(window)
        return items

    def check_stream(self) -> None:
        """Raise ValidationError where ``iterate`` would, as far as that can be known before reading."""
        span = self.extent
        if span and (window := self._window(span)):
            self._check_filled(window)
            part = window.within(span)
            if part and self._from_histograms(self._span_of_hours(part, widened(part, span))) is None:
                self._check_events(part)
            if self.state.pruned_before:
                self._value_before(window.first, span.first)  # it raises where that value depends on pruned events

    def iterate(self) -> Iterator[Item]:
        """Return an iterator of the items of ``items``, however many there are; it raises before the first one.

        A sum that is beyond what a double holds is None. Otherwise raises ValidationError as ``items`` does, and also
        where a filled window has more than ``MAX_STREAM_ITEMS`` buckets.
        """
        span = self.extent
        window = span and self._window(span)
        if not span or not window:
            return iter(())
        self._check_filled(window)
        found: Iterator[Found] = iter(())
        if part := window.within(span):
            read = self._span_of_hours(part, widened(part, span))
            buckets: Iterable[Bucket] | None = self._from_histograms(read)
            if buckets is None:
                self._check_events(part)
                buckets = self._reader(part).iterate()
            found = (bucket if isfinite(bucket[1]) else self._finite(bucket, part) for bucket in buckets)
        return items_of(self.question, found, window, self._value_before(window.first, span.first))

    # The window.

    @cached_property
    def extent(self) -> Span | None:
        """Find the span of the series' events; None for a series without events. Two queries where there is a tail.

        Where there are no events but a window with both ends is to be filled, the span is that window.
        """
        question = self.question
        ends = [*(self.state.rolled_up or ())]  # these count pruned events too
        for source in self.state.sources if self.state.tail else ():
            instants = source.events().order_by("timestamp").values_list("timestamp", flat=True)
            ends += [end for end in (instants.first(), instants.last()) if end is not None]
        if not ends and question.fill != "none" and question.ts_min and question.ts_max:
            return Span(question.ts_min, question.ts_max)
        return Span(min(ends), max(ends)) if ends else None

    @cached_property
    def _given_window(self) -> Span | None:
        """The window of the question where both its ends are given and it is no longer than what is read at once."""
        question = self.question
        first, last = question.ts_min, question.ts_max
        if first is None or last is None:
            return None
        if question.granularity != "none" and self._count(Span(first, last)) > settings.MAX_ITEMS:
            return None
        return Span(first, last)

    @property
    def _window_to_read(self) -> Span | None:
        """The given window where it is enough to read by; None where the extent is needed too."""
        if self.question.fill != "none":
            return None
        if self.accuracy and self.state.pruned_before:  # an end amid the series' first or last hour reads it whole
            return None
        return self._given_window

    def _window(self, span: Span) -> Span | None:
        """Return the window of the question; None where it is empty.

        It is cut to the series' span, unless buckets are filled beyond that.
        """
        question = self.question
        if question.fill == "none":
            return span.clip(question.ts_min, question.ts_max)
        start, end = question.ts_min or span.first, question.ts_max or span.last
        return Span(start, end) if start <= end else None

    # Refusals.

    def _count(self, span: Span, granularity: Granularity | None = None) -> int:
        return (granularity or self.question.granularity).count_buckets(*span, self.question.zone)

    def _check_count(self, window: Span) -> None:
        """Refuse more items than are allowed, as far as their number is known before they are read."""
        if self.question.granularity == "none":
            return  # as many as there are timestamps, so the reading is bounded instead
        if self._count(window) <= settings.MAX_ITEMS:
            return
        most = settings.MAX_ITEMS + 1
        if self.question.fill != "none" or self._reader(window).count_stored(most) == most:
            raise self._too_many(window)

    def _check_filled(self, window: Span) -> None:
        """Refuse to fill a window of more buckets than a stream may have; without filling it may have any number."""
        if self.question.fill == "none" or self.question.granularity == "none":
            return
        most = settings.MAX_STREAM_ITEMS
        if self._count(window) > most:
            raise self._too_many(window, most, " (MAX_STREAM_ITEMS)")

    def _too_many(self, window: Span, most: int | None = None, setting: str = "") -> ValidationError:
        most = settings.MAX_ITEMS if most is None else most
        fits = next((each for each in self.question.granularity.coarser if self._count(window, each) <= most), None)
        advice = "choose a shorter window" + (f", or a coarser granularity such as {fits}." if fits else ".")
        return ValidationError({"granularity": [f"More than {most} items{setting}; {advice}"]})

    def _check_events(self, span: Span, *, is_before: bool = False) -> None:
        """Refuse a span whose events are pruned and missed, or too many to be read. Raises ValidationError.

        ``is_before`` is for a span before the window, whose value is to fill the window's first buckets.
        """
        if needs_events(self.question.aggregation_type):
            event_bounds.check(self.question, span, self.state, is_before=is_before)
        else:
            self._check_pruned(span)

    def _check_pruned(self, span: Span) -> None:
        """Refuse a span that can't be answered from the rollups of its pruned events. Raises ValidationError."""
        if self.state.pruned_before is None:
            return
        straddling = self._reader(span).find_straddling()
        if straddling is None:
            return
        finest = self.state.watermark.finest_first[0].granularity
        before = timestamps.to_text(self.state.pruned_before)
        kept = f"Events before {before} are pruned, and kept by the {finest} of UTC only"
        first, last = straddling
        if span.first <= first and last <= span.last:
            advice = "choose a later window, or buckets that are made up of those"
            raise ValidationError({"granularity": [f"{kept}; {advice}."]})
        start = finest.start_of(first, UTC)
        parameter, end = ("tsMin", start) if first < span.first else ("tsMax", finest.end_of(start, UTC))
        raise ValidationError({parameter: [f"{kept}; choose an end of one, such as {timestamps.to_text(end)}."]})

    # Buckets that hold events.

    def _reader(self, span: Span) -> Reader:
        return reader_of(self.question, span, self.state)

    def _span_of_hours(self, part: Span, whole: Span) -> Span:
        """Return the span whose whole hours are read from histograms to answer for a part of the window.

        It is the same in every format, and however buckets are filled, as it tells how accurate the answer is. Where
        events are pruned, it is ``whole``, as for ``_read``: nothing else is known of the hours in which the series
        begins and ends.
        """
        return whole if self.state.pruned_before else self._given_window or part

    def _from_histograms(self, span: Span) -> list[Bucket] | None:
        """Read the buckets of a span from histograms; None where these don't cover all of them."""
        if not self.accuracy or not histogram_reader.may_answer(self.question):
            return None
        found = HistogramReader.of(self.question, span, self.state).read_approximate()
        if found:
            self.accuracy = str(ACCURACY)
        return found

    def _read(self, span: Span, whole: Span) -> Sequence[Found]:
        """Read the buckets of a span; ``whole`` is the span, or a wider one without any other event of the series."""
        if (approximate := self._from_histograms(self._span_of_hours(span, whole))) is not None:
            return approximate
        self._check_events(span)
        reader = self._reader(whole)
        is_ungrouped = self.question.granularity == "none"
        found = reader.read_ungrouped(settings.MAX_ITEMS + 1) if is_ungrouped else reader.read()
        unfinished = [bucket for bucket in found if not isfinite(bucket[1])]
        return self._finished(found, unfinished, span) if unfinished else found

    def _finished(self, found: list[Bucket], unfinished: list[Bucket], span: Span) -> list[Found]:
        """Read infinite values anew, from the events alone. A value that isn't known, which is NaN, is None."""
        infinite = [bucket for bucket in unfinished if not isnan(bucket[1])]
        exact = dict(self._from_events(infinite, span)) if infinite else {}
        if not all(isfinite(exact[timestamp]) for timestamp, _ in infinite):
            raise beyond_a_double(self.question.aggregation_type)
        return [
            (timestamp, None if isnan(value) else value if isfinite(value) else exact[timestamp])
            for timestamp, value in found
        ]  # fmt: skip

    def _value_before(self, start: datetime, first: datetime) -> float | None:
        """Return the value of the last bucket with events before the window; None where there is none or no need.

        Where the window begins within a bucket, the events of that bucket before the window count. One query finds the
        bucket, two where events are pruned, and one reads it. Raises ValidationError where the value depends on pruned
        events.
        """
        question = self.question
        if question.fill != "previous" or question.granularity == "none" or first >= start:
            return None
        end = start - MICROSECOND
        latest = self._reader(Span(first, end)).find_last()
        if latest is None:
            return None
        bucket_start = question.granularity.start_of(latest, question.zone)
        span = Span(max(first, bucket_start), end)
        found = self._from_histograms(widened(span, self.extent or span) if self.state.pruned_before else span)
        if found is None:
            self._check_events(span, is_before=True)
            found = self._reader(span).read()
        bucket = next(each for each in reversed(found) if start_of(self.question, each[0]) == bucket_start)
        return (bucket if isfinite(bucket[1]) else self._finite(bucket, span))[1]

    def _finite(self, bucket: Bucket, span: Span) -> Found:
        """Read a bucket from its events alone, as its rollups don't hold the sum; a sum beyond a double is None.

        A value that isn't known, which is NaN, is None too.
        """
        if isnan(bucket[1]):
            return bucket[0], None
        value = dict(self._from_events([bucket], span))[bucket[0]]
        return bucket[0], value if isfinite(value) else None

    def _from_events(self, found: list[Bucket], span: Span) -> list[Bucket]:
        """Read the buckets, and all others between them, without using the sums of rollups."""
        start, end = self._bounds(found[0]).first, self._bounds(found[-1]).last
        return self._reader(Span(max(span.first, start), min(span.last, end))).read_exact()

    def _bounds(self, bucket: Bucket) -> Span:
        """Return the span of a bucket."""
        if self.question.granularity == "none":
            instant = datetime.fromisoformat(bucket[0])
            return Span(instant, instant)
        start = start_of(self.question, bucket[0])
        return Span(start, self.question.granularity.end_of(start, self.question.zone))


def widened(span: Span, extent: Span) -> Span:
    """Widen a span to whole hours where the series begins and ends, so that no edge of it is read by itself."""
    hour = Granularity.HOUR
    first = hour.start_of(span.first, UTC) if span.first == extent.first else span.first
    last = hour.end_of(hour.start_of(span.last, UTC), UTC) if span.last == extent.last else span.last
    return Span(first, last)
