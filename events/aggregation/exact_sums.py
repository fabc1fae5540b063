"""Reads the exact sum of each bucket, for whoever adds buckets up: doubles would be rounded before they are added."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any, NamedTuple, Self, cast

from typing_extensions import override

from events.aggregation import bucket_sums
from events.aggregation.answer import Answer
from events.aggregation.columns import iso_of
from events.aggregation.plan import Piece
from events.aggregation.question import Question
from events.aggregation.reader import Bucket, Reader
from events.calendar.spans import Span
from events.rollups.sums import Exact, to_double


class BucketSum(NamedTuple):
    """The timestamp of a bucket as the question labels it, the units of its sum, and the number of its events."""

    timestamp: str
    units: Exact
    number: int


def read(question: Question) -> list[BucketSum]:
    """Read the buckets that a question for averages has, as ``Answer.items`` does, but also sums beyond a double."""
    averages = ((item["aggregatedTimestamp"], cast(_Average, item["value"])) for item in _Answer(question).items())
    return [BucketSum(timestamp, average.units, average.number) for timestamp, average in averages]


class _Average(float):
    """The average of a bucket, with what it is made of; infinite where rollups don't hold the sum."""

    units: Exact
    number: int

    @classmethod
    def of(cls, units: Exact | None, number: int) -> Self:
        average = cls(inf if units is None else to_double(units, number))
        average.units, average.number = units or 0, number
        return average


class _Reader(Reader):
    @override
    def _stored_as_asked(self) -> Piece | None:
        return None  # of such a stretch the database hands over nothing but the averages

    @override
    def _merged(self, rows: Iterable[tuple[Any, ...]]) -> list[Bucket]:
        # the columns of the sum, the count, and with bounds the least and the most value
        return [
            (iso_of(first), _Average.of(bucket_sums.exact(*of_sum), number))
            for first, *of_sum, number in (row[:5] for row in self._one_of_each(rows))
        ]


class _Answer(Answer):
    @override
    def _reader(self, span: Span) -> Reader:
        return _Reader.of(self.question, span, self.state)
