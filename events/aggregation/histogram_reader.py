"""Reads percentiles from histograms: whole days and hours of UTC from these, edges and tail from the events."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import accumulate, product
from math import ceil, floor
from operator import itemgetter
from typing import Any, cast

from django.conf import settings
from django.db import models
from django.db.models import Count, F
from typing_extensions import override

from events.aggregation.columns import iso_of
from events.aggregation.event_sql import interpolated
from events.aggregation.plan import Piece, plan
from events.aggregation.question import Question, fraction_of
from events.aggregation.reader import Bucket, Reader
from events.aggregation.sources import Source
from events.database import reading
from events.database.dialect import choose, is_postgresql
from events.database.statement_timeout import restart_clock
from events.log.models import EventQuerySet
from events.rollups.bins import Bin, value_of
from events.rollups.models import Histogram

_Hist = Histogram.Resolution
_ROWS_AT_A_TIME = 500


def may_answer(question: Question) -> bool:
    """Tell whether histograms may be there for a question."""
    return fraction_of(question.aggregation_type) is not None and question.namespace in settings.ROLLUP_HISTOGRAMS


class HistogramReader(Reader):
    """Reads percentiles of which each is interpolated between two values that are off by less than 1 %."""

    @cached_property
    @override
    def aligned(self) -> bool:
        return False  # so that every row has the key of its bucket

    def read_approximate(self) -> list[Bucket] | None:
        """Read the buckets; None where events or histograms would miss of some, or where no whole hour is read.

        Two queries: how many events each bucket has, and in which bins the percentiles are.
        """
        pieces = self._histogram_pieces()
        if pieces is None:
            return None
        counted = replace(self, aggregation_type="count")._counts()
        found = self._between(self._binned_parts(pieces))
        if {key: number for key, (_, number) in counted.items()} != {key: total for key, (total, _) in found.items()}:
            return None
        buckets = [(first, found[key]) for key, (first, _) in counted.items()]
        return [(iso_of(first), value) for first, (_, value) in sorted(buckets, key=itemgetter(0))]

    def read_whole(self) -> float | None:
        """Read the percentile of all events between both instants; None as for ``read_approximate``, or without any."""
        pieces = self._histogram_pieces()
        if pieces is None:
            return None
        counted = replace(self, aggregation_type="count")._counts()
        bins: Counter[int] = Counter()
        for _, of_bucket in self._rows_of_bins(self._binned_parts(pieces)):
            bins.update(of_bucket)
        if not bins or bins.total() != sum(number for _, number in counted.values()):
            return None
        return percentile_of(bins, self._fraction)

    @property
    def _fraction(self) -> float:
        return cast(float, fraction_of(self.aggregation_type))

    def _counts(self) -> dict[Any, tuple[str, int]]:
        """Read the first timestamp, as text, and the number of events of each bucket, by its key."""
        return dict(cast(Any, self.read()))

    @override
    def _merged(self, rows: Iterable[tuple[Any, ...]]) -> list[Any]:
        merged: dict[Any, tuple[str, int]] = {}
        for first, key, number in rows:
            known = merged.get(key)
            merged[key] = (min(known[0], first), known[1] + number) if known else (first, number)
        return list(merged.items())

    def _histogram_pieces(self) -> list[Piece] | None:
        """Plan the read; None where histograms are of no use, or where pruned events would be needed."""
        usable = self._usable((_Hist.DAY, _Hist.HOUR))
        pieces: list[Piece] = []
        for span in self._stretches(self.state.pruned_before, *usable.values()):
            pieces += plan(*span, cast(Any, [each for each, since in usable.items() if since <= span.first]))
        if not any(piece.resolution for piece in pieces):
            return None
        edges = (piece for piece in pieces if piece.resolution is None and self.state.is_pruned(piece.first))
        sources = self.state.sources
        return None if any(self._stored(*each).exists() for each in product(sources, edges)) else pieces

    def _binned_parts(self, pieces: list[Piece]) -> list[models.QuerySet[Any]]:
        parts: list[models.QuerySet[Any]] = []
        for source in self.state.sources:
            if source.is_rolled_up:
                parts += [self._binned_piece(source, piece) for piece in pieces]
            if tail := self.state.tail:
                events = source.tail(self.state.marks, tail)
                parts.append(self._binned_events(events.within(self.first, self.last)))
        return parts

    def _binned_piece(self, source: Source, piece: Piece) -> models.QuerySet[Any]:
        if piece.resolution is None:
            return self._binned_events(source.events().within(piece.first, piece.last).up_to(self.state.marks))
        within = {"resolution": piece.resolution, "bucket__range": (piece.first, piece.last)}
        rows: models.QuerySet[Any] = source.histograms().filter(**within).order_by()
        binned: models.QuerySet[Any] = rows.annotate(
            start=self._rows.start("bucket"), in_bin=F("bin"), events=F("count")
        )
        return binned.values_list("start", "in_bin", "events")

    def _binned_events(self, events: EventQuerySet) -> models.QuerySet[Any]:
        """Count the events of each bin of a bucket."""
        binned: models.QuerySet[Any] = (
            events.order_by()
            .annotate(start=self._rows.start("timestamp"), in_bin=Bin(F("value")))
            .values("start", "in_bin")
            .annotate(events=Count("pk"))
            .values_list("start", "in_bin", "events")
        )
        return binned

    def _between(self, parts: list[models.QuerySet[Any]]) -> dict[Any, tuple[int, float]]:
        """Read how many events each bucket has by its bins, and its percentile, by the bucket's key."""
        return {
            key: (bins.total(), percentile_of(bins, self._fraction)) for key, bins in self._rows_of_bins(parts)
        }  # fmt: skip

    def _rows_of_bins(self, parts: list[models.QuerySet[Any]]) -> Iterator[tuple[Any, Counter[int]]]:
        """Read how many events each bin of a bucket has, with the bucket's key.

        The bins of a bucket come as a row, which PostgreSQL makes several times as fast as it finds ranks among them.
        A bin may be in the row several times.
        """
        if not parts:
            return
        statements = [part.query.sql_with_params() for part in parts]
        union = " UNION ALL ".join(sql for sql, _ in statements)
        parameters = [each for _, some in statements for each in some]
        key = choose(postgresql="EXTRACT(EPOCH FROM start)::bigint", sqlite="start")  # as the reader has it
        arrays = choose(postgresql="array_agg", sqlite="json_group_array")
        read: Callable[[Any], list[int]] = list if is_postgresql() else json.loads
        sql = f"SELECT {key}, {arrays}(in_bin), {arrays}(events) FROM ({union}) AS part GROUP BY start"  # noqa: S608
        connection = reading.connection()
        with connection.chunked_cursor() as cursor:
            cursor.execute(sql, parameters)
            while rows := cursor.fetchmany(_ROWS_AT_A_TIME):
                for key, numbers, counts in rows:
                    bins: Counter[int] = Counter()
                    for number, count in zip(read(numbers), read(counts), strict=True):
                        bins[number] += count
                    yield key, bins
                restart_clock(connection)


def percentile_of(bins: Mapping[int, int], fraction: float) -> float:
    """Return the percentile of events that are counted by bin, interpolated between the values that bins stand for."""
    numbers = sorted(bins)
    up_to = list(accumulate(bins[number] for number in numbers))
    rank = fraction * (up_to[-1] - 1)
    low, high = (value_of(numbers[bisect_right(up_to, place)]) for place in (floor(rank), ceil(rank)))
    return low if low == high else interpolated(low, high, rank - floor(rank))
