"""Reads buckets: pieces → rows → buckets; rows of rollups, edges and tail are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from itertools import chain
from math import ceil
from operator import add, itemgetter
from typing import Any, Self, TypeVar

from django.db import models
from django.db.models import F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, Greatest, Least

from events.aggregation import bucket_sums, kept_statements
from events.aggregation.bucket_rows import BucketRows
from events.aggregation.columns import iso_of
from events.aggregation.plan import Piece, plan
from events.aggregation.question import ROLLED_UP_TYPES, Question
from events.aggregation.rows import fetch, in_order, iterate
from events.aggregation.series_state import SeriesState
from events.aggregation.sources import Source, events_of
from events.aggregation.stored_buckets import read_stored
from events.calendar.granularity import CLOCK_UNITS, MICROSECOND, Granularity
from events.calendar.spans import Span
from events.database.statements import Statement
from events.database.trunc_clock import Rules
from events.log.models import EventQuerySet
from events.rollups import sums_sql
from events.rollups.models import Resolution, Rollup

# How many characters of a timestamp's text tell its minute or hour in UTC.
_CLOCK_CHARACTERS = {"minute": 16, "hour": 13}
# Merging so many rows at once takes half as long as merging each bucket's by themselves.
_MERGED_AT_A_TIME = 1_000
_BOTH: dict[str, Callable[..., Any]] = {"min": min, "max": max, "count": add}

_ResolutionT = TypeVar("_ResolutionT", bound=models.IntegerChoices)

_MAY_NOT_OVERLAP = {*CLOCK_UNITS, Granularity.NONE}


# A bucket that holds events: their lowest timestamp as the API writes it, and the aggregate of their values.
Bucket = tuple[str, float]


@dataclass(frozen=True)
class Reader:
    """Reads the buckets of one series between two instants, both included.

    The state and the rows must come from one snapshot. In hours that are pruned the finest rollups stand for their
    events: a rollup counts in the bucket of its first event, which is right unless ``find_straddling`` finds one that
    straddles an edge.
    """

    first: datetime
    last: datetime
    granularity: Granularity
    aggregation_type: str
    zone: tzinfo
    state: SeriesState
    bounds: bool = False
    """Whether averages are kept between the least and the most value, as sums may not be exact."""

    @classmethod
    def of(cls, question: Question, span: Span, state: SeriesState) -> Self:
        """Make the reader of the buckets that a question asks for in a span."""
        return cls(*span, question.granularity, question.aggregation_type, question.zone, state)

    @cached_property
    def aligned(self) -> bool:
        """Tell whether the buckets are minutes or hours of UTC, so that a timestamp's text is enough to group by."""
        seconds = {Granularity.MINUTE: 60, Granularity.HOUR: 3600}.get(self.granularity)
        return seconds is not None and self.granularity.composes(seconds, self.first, self.last, self.zone)

    def read(self) -> list[Bucket]:
        """Read the buckets in order; a sum that might not fit a double is infinite.

        One statement reads them. Where rollups hold some as they are asked for, it reads what may have to be merged
        with those, and a second one reads them; a third one does from where there is something to merge.
        """
        stored = self._stored_as_asked()
        if stored is None:
            return self._merged(fetch(self._parts()))
        [source] = self.state.sources
        rows = fetch(self._parts([each for each in self._pieces if not stored.first <= each.first <= stored.last]))
        start = self._first_of_both(rows, stored)
        if start is not None:
            rows += fetch([self._piece(source, stored._replace(first=start))])
            if start == stored.first:  # there may be no instant before it
                return self._merged(rows)
            stored = stored._replace(last=start - MICROSECOND)
        found = read_stored(kept_statements.of_buckets(self.aggregation_type, source, stored), self.aggregation_type)
        return sorted([*found, *self._merged(rows)], key=itemgetter(0)) if rows else found

    def iterate(self) -> Iterator[Bucket]:
        """Yield the buckets of ``read``, however many there are: the database sorts, and few are in memory at a time.

        To be used within a transaction on PostgreSQL.
        """
        if self.granularity != "none":
            rows = iterate(*self._parts(), order_by=1 if self.aligned else 2)
        elif self.state.is_pruned(self.first):
            rows = iterate(*self._parts(), order_by="key")
        elif len(self.state.sources) > 1:
            rows = iterate(*self._parts_of_events(), order_by="key")
        else:
            [events] = self._all_events()
            rows = iterate(Statement.of(self._rows.of_events(events).order_by("start")))
        buckets = chain.from_iterable(map(self._merged, _whole_buckets(rows, self._key())))
        yield from buckets if self.granularity in _MAY_NOT_OVERLAP else in_order(buckets, _first_timestamp)

    def read_ungrouped(self, most: int) -> list[Bucket]:
        """Read one bucket for each distinct timestamp, ``most`` at most, from the events where they are not pruned."""
        if not self.state.is_pruned(self.first) and len(self.state.sources) == 1:
            [events] = self._all_events()
            return self._merged(fetch([Statement.of(self._rows.of_events(events).order_by("start")[:most])]))
        parts = self._parts()  # each part may have a row for the same timestamp, so that many more rows are needed
        return self._merged(fetch(parts, order_by="key", most=most * len(parts)))[:most]

    def read_exact(self) -> list[Bucket]:
        """Read the buckets' averages or sums from the events alone, however large the values are.

        This is for buckets whose rollups don't hold their sum. A sum is infinite where it is beyond a double, or where
        it may be and its events are pruned. Other pruned events count by the sums of their rollups.
        """
        return replace(self, bounds=self.aggregation_type == "avg")._read_exact()

    def _read_exact(self) -> list[Bucket]:
        parts = []
        is_pruned = self.state.is_pruned(self.first)
        for source, events in zip(self.state.sources, self._all_events(), strict=True):
            if is_pruned:
                late = Q(timestamp__gte=self.state.pruned_before) | self.state.marks.after()
                events = events.filter(late)
                for piece in self._pieces:
                    if self.state.is_pruned(piece.first):
                        parts.append(self._of_pruned(source, piece, only_exact=False))
            parts.append(Statement.of(self._rows.of_events(events, sums_sql.Units("value"))))
        return self._merged(fetch(parts))

    def find_straddling(self) -> tuple[datetime, datetime] | None:
        """Find a rollup of pruned events that don't all belong to the same bucket; return its first and last timestamp.

        None where there is no such rollup. Two queries at most for each source; none where nothing is pruned, or where
        stored minutes and hours make up the window.
        """
        for piece in self._pieces:
            if piece.resolution is None and self.state.is_pruned(piece.first):
                found = [ends for source in self.state.sources if (ends := self._find_straddling(source, piece))]
                if found:
                    return min(found)
        return None

    def reaches_pruned(self) -> bool:
        """Tell whether events were pruned between both instants. One query for each source where some were pruned."""
        before = self.state.pruned_before
        if before is None or not self.first < before:
            return False
        piece = Piece(None, self.first, min(self.last, before - MICROSECOND))
        return any(self._stored(source, piece).exists() for source in self.state.sources)

    def _find_straddling(self, source: Source, piece: Piece) -> tuple[datetime, datetime] | None:
        first, last = self._ends
        stored = self._stored(source, piece).annotate(start=self._rows.start(first), end=self._rows.start(last))
        within = {f"{first}__gte": piece.first, f"{last}__lte": piece.last}
        straddling = stored.exclude(**within, start=F("end"))
        return straddling.order_by("bucket").values_list(first, last).first()

    @property
    def _ends(self) -> tuple[str, str]:
        """The columns of a rollup's first and last event; those of two sources count as the one they will be."""
        is_one = len(self.state.sources) == 1
        return ("first_timestamp", "last_timestamp") if is_one else ("first_of_all", "last_of_all")

    def find_last(self) -> datetime | None:
        """Find the timestamp of the last event between both instants; None where there is none.

        Neither instant may cut a rollup of pruned events in two. One query for each source, and two where events are
        pruned.
        """
        found = [
            events.order_by("-timestamp").values_list("timestamp", flat=True).first() for events in self._all_events()
        ]
        for source in self.state.sources if self.state.is_pruned(self.first) else ():
            finest = source.rollups().filter(resolution=self.state.watermark.finest_first[0])
            kept = finest.filter(bucket__lte=self.last, last_timestamp__range=(self.first, self.last))
            found.append(kept.order_by("-bucket").values_list("last_timestamp", flat=True).first())
        return max((each for each in found if each is not None), default=None)

    def count_stored(self, most: int) -> int:
        """Count how many minutes or hours there are at least, by the stored ones, no further than ``most``.

        One that the window may cut off is not counted, as its events may all be past the window. Where stored ones lie
        across those that are asked for, two may be parts of the same. One query, and another one for the events of
        hours without minutes.
        """
        resolution = next((each for each in Resolution if each.granularity is self.granularity), None)
        if resolution not in self.state.watermark.finest_first:
            return 0
        share = 1 if self.aligned else 2
        whole = self.state.rolled_up
        is_cut = len(self.state.sources) > 1 or (whole is not None and self.last < whole.last)
        last = self.granularity.start_of(self.last, UTC) if is_cut else self.last
        within = {"resolution": resolution, "bucket__gte": self.first, "bucket__lt" if is_cut else "bucket__lte": last}
        buckets = [
            source.rollups().filter(**within).order_by().values("bucket")
            for source in self.state.sources
            if source.is_rolled_up
        ]
        if len(buckets) > 1:
            count = buckets[0].union(*buckets[1:])[: most * share].count()
        else:
            count = sum(each[: most * share].count() for each in buckets)
        count = ceil(count / share)
        thinned = self.state.thinned if resolution == Resolution.MINUTE and self.aligned else None
        if thinned and count < most and (part := thinned.within(Span(self.first, self.last))):
            starts = events_of(self.state.sources).within(*part).annotate(start=self._rows.start("timestamp"))
            count += starts.order_by().values("start").distinct()[: most - count].count()
        return count

    def _stored_as_asked(self) -> Piece | None:
        """Find the last stretch whose buckets the rollups hold; None where there is none, or two sources have parts."""
        is_alone = len(self.state.sources) == 1 and self.state.sources[0].is_rolled_up
        if not is_alone or self.aggregation_type not in ROLLED_UP_TYPES:
            return None
        found: Piece | None = None
        for piece in reversed(self._pieces):
            if found is None:
                found = piece if self._is_as_asked(piece) else None
            elif self._is_as_asked(piece):
                found = found._replace(first=piece.first)
            else:  # an edge, or hours without minutes
                break
        return found

    def _is_as_asked(self, piece: Piece) -> bool:
        return self.aligned and piece.resolution is not None and piece.resolution.granularity is self.granularity

    def _first_of_both(self, rows: Iterable[tuple[Any, ...]], stored: Piece) -> datetime | None:
        """Find the start of the first bucket of a stretch that other rows have a part of; None where there is none."""
        characters = _CLOCK_CHARACTERS[self.granularity]
        first, last = str(stored.first)[:characters], str(stored.last)[:characters]
        found = [key for row in rows if first <= (key := row[0][:characters]) <= last]
        return datetime.fromisoformat(min(found)).replace(tzinfo=UTC) if found else None

    def _parts(self, pieces: Sequence[Piece] | None = None) -> list[Statement]:
        """Choose the rows of some pieces, or of all where none are given, and those of the tail."""
        span = Span(self.first, self.last)
        parts = []
        for source in self.state.sources:
            if source.is_rolled_up:
                parts += [self._piece(source, piece) for piece in (self._pieces if pieces is None else pieces)]
            if tail := self.state.tail:
                parts.append(kept_statements.of_tail(self._rows, source, span, self.state.marks, tail))
        return parts

    def _parts_of_events(self) -> list[Statement]:
        """Choose the rows of all events, whose buckets are merged from those of each source."""
        return [Statement.of(self._rows.of_events(events)) for events in self._all_events()]

    @cached_property
    def _pieces(self) -> list[Piece]:
        usable = self._usable(reversed(self.state.watermark.finest_first))
        thinned = self.state.thinned if Resolution.MINUTE in usable else None
        ends = [self.state.pruned_before, *((thinned.first, thinned.last + MICROSECOND) if thinned else ())]
        pieces: list[Piece] = []
        for first, last in self._stretches(*ends, *usable.values()):
            has_minutes = self.state.has_minutes(first)
            kept = (each for each, since in usable.items() if since <= first)
            pieces += plan(first, last, [each for each in kept if has_minutes or each != Resolution.MINUTE])
        return pieces

    def _usable(self, resolutions: Iterable[_ResolutionT]) -> dict[_ResolutionT, datetime]:
        """Choose the resolutions that make up buckets up to the last instant, and find since when each of them does."""
        since = {
            each: self.granularity.composed_since(each.value, self.first, self.last, self.zone) for each in resolutions
        }
        return {each: start for each, start in since.items() if start is not None}

    def _stretches(self, *cuts: datetime | None) -> list[Span]:
        """Cut the time between both instants into stretches, of which each but the first starts at one of the cuts."""
        starts = sorted({each for each in cuts if each is not None and self.first < each <= self.last})
        lasts = [*(start - MICROSECOND for start in starts), self.last]
        return [Span(*each) for each in zip([self.first, *starts], lasts, strict=True)]

    def _all_events(self) -> list[EventQuerySet]:
        """List the events of each source."""
        return [source.events().within(self.first, self.last) for source in self.state.sources]

    def _events_of_all_sources(self) -> EventQuerySet:
        """Choose the events of all sources together, for what can't be merged from the rows of each."""
        return events_of(self.state.sources).within(self.first, self.last)

    def _piece(self, source: Source, piece: Piece) -> Statement:
        if piece.resolution is None:
            if self.state.is_pruned(piece.first):
                return self._of_pruned(source, piece)
            return kept_statements.of_events(self._rows, source, Span(piece.first, piece.last), self.state.marks)
        write = kept_statements.of_stored if self._is_as_asked(piece) else kept_statements.of_rollups
        return write(self._rows, source, piece)

    def _stored(self, source: Source, piece: Piece) -> models.QuerySet[Rollup]:
        """Choose the rollups of a piece; for a piece of events that are pruned, the finest ones that reach into it."""
        rollups: models.QuerySet[Rollup] = source.rollups()
        if piece.resolution is not None:
            return rollups.filter(resolution=piece.resolution, bucket__range=(piece.first, piece.last))
        finest = self.state.watermark.finest_first[0]
        start = finest.granularity.start_of(piece.first, UTC)
        first, last = self._ends
        for other in self.state.sources:
            if other is not source:
                same = other.rollups().filter(resolution=finest, bucket=OuterRef("bucket"))
                rollups = rollups.annotate(
                    first_of_all=Least("first_timestamp", _or_own(same, "first_timestamp")),
                    last_of_all=Greatest("last_timestamp", _or_own(same, "last_timestamp")),
                )
        return rollups.filter(
            resolution=finest, bucket__range=(start, piece.last),
            **{f"{first}__lte": piece.last, f"{last}__gte": piece.first},
        )  # fmt: skip

    def _of_pruned(self, source: Source, piece: Piece, *, only_exact: bool = True) -> Statement:
        time = "first_timestamp" if piece.resolution is None else "bucket"
        return Statement.of(self._rows.of_rollups(self._stored(source, piece), time, only_exact=only_exact))

    @cached_property
    def _rows(self) -> BucketRows:
        return BucketRows(*self._grouping, bounds=self.bounds)

    @property
    def _grouping(self) -> tuple[Granularity, str, Rules, bool]:
        """What the rows of every reader depend on."""
        needs_no_rules = self.aligned or self.granularity == "none"
        rules = Rules(self.granularity, UTC if needs_no_rules else self.zone, self.first, self.last)
        return self.granularity, self.aggregation_type, rules, self.aligned

    def _key(self) -> Callable[[tuple[Any, ...]], str | int]:
        if not self.aligned:
            return itemgetter(1)
        characters = _CLOCK_CHARACTERS[self.granularity]
        return lambda row: str(row[0][:characters])

    def _merged(self, rows: Iterable[tuple[Any, ...]]) -> list[Bucket]:
        """Merge the rows of each bucket, and its columns to one value; in order."""
        in_order = self._one_of_each(rows)
        if self.aggregation_type in _BOTH:
            return [(iso_of(first), value) for first, value in in_order]
        average = bucket_sums.bounded_average if self.bounds else bucket_sums.average
        value_of: Callable[..., float] = average if self.aggregation_type == "avg" else bucket_sums.total
        return [(iso_of(first), value_of(*columns)) for first, *columns in in_order]

    def _one_of_each(self, rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Merge the rows of each bucket to one: its first instant, then its columns; in order, as the texts sort."""
        both = _BOTH.get(self.aggregation_type)
        columns_start = 1 if self.aligned else 2
        key_of = self._key()
        merged: dict[str | int, tuple[Any, ...]] = {}
        for row in rows:
            key = key_of(row)
            known = merged.get(key)
            if known is None:
                merged[key] = row if self.aligned else (row[0], *row[columns_start:])
            elif both:
                merged[key] = (min(known[0], row[0]), both(known[1], row[columns_start]))
            else:
                merged[key] = (min(known[0], row[0]), *bucket_sums.merged(known[1:], row[columns_start:]))
        return sorted(merged.values(), key=itemgetter(0))


def _or_own(same: models.QuerySet[Rollup], field: str) -> Coalesce:
    return Coalesce(Subquery(same.values(field)), F(field))


def _first_timestamp(bucket: Bucket) -> datetime:
    return datetime.fromisoformat(bucket[0])


def _whole_buckets(
    rows: Iterable[tuple[Any, ...]], key_of: Callable[[tuple[Any, ...]], str | int]
) -> Iterator[list[tuple[Any, ...]]]:
    """Divide rows into lists of _MERGED_AT_A_TIME or a few more. Those of a bucket are neighbours and stay together."""
    batch: list[tuple[Any, ...]] = []
    for row in rows:
        if len(batch) >= _MERGED_AT_A_TIME and key_of(row) != key_of(batch[-1]):
            yield batch
            batch = []
        batch.append(row)
    yield batch
