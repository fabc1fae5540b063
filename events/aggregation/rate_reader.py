"""Reads the rates of buckets: their sum by the second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Self

from typing_extensions import override

from events.aggregation.question import Question
from events.aggregation.reader import Bucket, Reader
from events.aggregation.series_state import SeriesState
from events.calendar.spans import Span

_SECOND = 1.0


@dataclass(frozen=True)
class RateReader(Reader):
    """Reads sums, and divides each by the seconds of its bucket that lie in the window, one second at least.

    The seconds are those that pass, so that a day on which the clocks change has an hour more or less. An instant,
    which is what equal timestamps are grouped by, counts as one second.
    """

    within: tuple[datetime | None, datetime | None] = (None, None)
    """The ends of the window that were asked for; None where a bucket is not cut."""

    @classmethod
    @override
    def of(cls, question: Question, span: Span, state: SeriesState) -> Self:
        within = question.ts_min, question.ts_max
        if question.ts_min is not None and span.last < question.ts_min:
            within = None, span.last  # the bucket before the window, of which the window may cut off the end
        return cls(*span, question.granularity, "sum", question.zone, state, within=within)

    @override
    def read(self) -> list[Bucket]:
        return list(self._by_the_second(super().read()))

    @override
    def iterate(self) -> Iterator[Bucket]:
        return self._by_the_second(super().iterate())

    @override
    def read_exact(self) -> list[Bucket]:
        return list(self._by_the_second(super().read_exact()))

    def _by_the_second(self, found: Iterable[Bucket]) -> Iterator[Bucket]:
        if self.granularity == "none":
            yield from found
            return
        first, last = self.within
        for timestamp, total in found:
            start = self.granularity.start_of(datetime.fromisoformat(timestamp), self.zone)
            end = self.granularity.end_of(start, self.zone)
            seconds = self.granularity.time_between(max(start, first or start), min(end, last or end), start, self.zone)
            yield timestamp, total / max(seconds, _SECOND) if isfinite(total) else total
