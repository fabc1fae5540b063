"""Reads buckets: pieces → rows → buckets, by one statement for rollups, edges and tail whose rows are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from functools import cached_property, reduce
from heapq import heappop, heappush
from itertools import chain, groupby
from math import inf
from operator import add, itemgetter, or_
from typing import Any, Self, TypeVar

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BigIntegerField, Case, Count, F, Max, Min, OuterRef, Q, Subquery, Sum, Value, When
from django.db.models.functions import Cast, Coalesce, Greatest, Least, NullIf
from typing_extensions import override

from events.aggregation import bucket_sums
from events.aggregation.plan import Piece, plan
from events.aggregation.question import Question
from events.aggregation.series_state import SeriesState
from events.aggregation.sources import Source
from events.calendar.granularity import CLOCK_UNITS, MICROSECOND, Granularity
from events.calendar.spans import Span
from events.database import partitions, reading
from events.database.dialect import binary_collation
from events.database.statement_timeout import restart_clock
from events.database.trunc_clock import Rules, bucket_start
from events.log.models import Event, EventQuerySet
from events.rollups import sums_sql
from events.rollups.models import Resolution, Rollup

# How many characters of a timestamp's text tell its minute or hour in UTC.
_CLOCK_CHARACTERS = {"minute": 16, "hour": 13}
_SECOND_CHARACTERS, _MICROSECOND_CHARACTERS = 19, 26
_COLUMNS = {
    "avg": ("total", "missed", "units", "number"),
    "sum": ("total", "missed", "units"),
    "count": ("number",),
    "min": ("least",),
    "max": ("most",),
}
_BOTH: dict[str, Callable[..., Any]] = {"min": min, "max": max, "count": add}
_ROWS_AT_A_TIME = 2_000


class _Nothing(Cast):
    """NULL of a type, by which rows are not grouped: that would keep the database from grouping them by an index."""

    def __init__(self, output_field: models.Field[Any, Any]) -> None:
        super().__init__(Value(None), output_field)

    @override
    def get_group_by_cols(self) -> list[Any]:
        return []


_NO_DOUBLE = _Nothing(models.FloatField())
_INEXACT = Max(Case(When(is_exact=False, then=1), default=0))
_NO_TEXT = _Nothing(models.TextField())
_MAY_NOT_OVERLAP = {*CLOCK_UNITS, Granularity.NONE}
_NEIGHBOURS = 2


# A bucket that holds events: their lowest timestamp as the API writes it, and the aggregate of their values.
Bucket = tuple[str, float]
_Row = TypeVar("_Row")


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
        return seconds is not None and self._composes(seconds)

    def read(self) -> list[Bucket]:
        """Read the buckets in order, by one statement; a sum that might not fit a double is infinite."""
        return self._merged(_fetch(self._parts()))

    def iterate(self) -> Iterator[Bucket]:
        """Yield the buckets of ``read``, however many there are: the database sorts, and few are in memory at a time.

        To be used within a transaction on PostgreSQL.
        """
        if self.granularity != "none":
            rows = _iterate(*self._parts(), order_by=1 if self.aligned else 2)
        elif self.state.is_pruned(self.first):
            rows = _iterate(*self._parts(), order_by="key")
        elif len(self.state.sources) > 1:
            rows = _iterate(*map(self._events, self._all_events()), order_by="key")
        else:
            [events] = self._all_events()
            rows = _iterate(self._events(events).order_by("start"))
        merged = (self._merged(of_bucket) for _, of_bucket in groupby(rows, key=self._key()))
        buckets = chain.from_iterable(merged)
        yield from buckets if self.granularity in _MAY_NOT_OVERLAP else in_order(buckets, _first_timestamp)

    def read_ungrouped(self, most: int) -> list[Bucket]:
        """Read one bucket for each distinct timestamp, ``most`` at most, from the events where they are not pruned."""
        if not self.state.is_pruned(self.first) and len(self.state.sources) == 1:
            [events] = self._all_events()
            return self._merged(_fetch([self._events(events).order_by("start")[:most]]))
        parts = self._parts()  # each part may have a row for the same timestamp, so that many more rows are needed
        return self._merged(_fetch(parts, order_by="key", most=most * len(parts)))[:most]

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
                for piece in self._pieces():
                    if self.state.is_pruned(piece.first):
                        parts.append(self._of_rollups(source, piece, only_exact=False))
            parts.append(self._events(events, sums_sql.Units("value")))
        return self._merged(_fetch(parts))

    def find_straddling(self) -> tuple[datetime, datetime] | None:
        """Find a rollup of pruned events that don't all belong to the same bucket; return its first and last timestamp.

        None where there is no such rollup. Two queries at most for each source; none where nothing is pruned, or where
        stored minutes and hours make up the window.
        """
        for piece in self._pieces():
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
        stored = self._stored(source, piece).annotate(start=self._start(first), end=self._start(last))
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
        """Count the buckets that are stored just as they are asked for, no further than ``most``. One query."""
        resolution = next((each for each in Resolution if each.granularity is self.granularity), None)
        if not self.aligned or resolution not in self.state.watermark.finest_first:
            return 0
        within = {"resolution": resolution, "bucket__range": (self.first, self.last)}
        buckets = [
            source.rollups().filter(**within).order_by().values("bucket")
            for source in self.state.sources
            if source.is_rolled_up
        ]
        if len(buckets) > 1:
            return buckets[0].union(*buckets[1:])[:most].count()
        return sum(each[:most].count() for each in buckets)

    def _parts(self) -> list[models.QuerySet[Any]]:
        parts = []
        for source in self.state.sources:
            if source.is_rolled_up:
                parts += [self._piece(source, piece) for piece in self._pieces()]
            if tail := self.state.tail:
                events = source.tail(self.state.marks, tail)
                parts.append(self._events(events.within(self.first, self.last)))
        return parts

    def _pieces(self) -> list[Piece]:
        usable = [each for each in reversed(self.state.watermark.finest_first) if self._composes(each.value)]
        before = self.state.pruned_before
        if before is None or not self.first < before <= self.last:
            return plan(self.first, self.last, usable)
        return [*plan(self.first, before - MICROSECOND, usable), *plan(before, self.last, usable)]

    def _composes(self, seconds: int) -> bool:
        return self.granularity.composes(seconds, self.first, self.last, self.zone)

    def _all_events(self) -> list[EventQuerySet]:
        """List the events of each source."""
        return [source.events().within(self.first, self.last) for source in self.state.sources]

    def _events_of_all_sources(self) -> EventQuerySet:
        """Choose the events of all sources together, for what can't be merged from the rows of each."""
        sources = self.state.sources
        if len(sources) == 1:
            return self._all_events()[0]
        of_partition = Event.objects.of_partition(partitions.partition_of(*sources[0].key))
        events = of_partition.filter(reduce(or_, (source.holds() for source in sources)))
        return events.within(self.first, self.last)

    def _piece(self, source: Source, piece: Piece) -> models.QuerySet[Any]:
        if piece.resolution is None and not self.state.is_pruned(piece.first):
            events = source.events().within(piece.first, piece.last)
            return self._events(events.up_to(self.state.marks))
        if self.aligned and piece.resolution is not None and piece.resolution.granularity is self.granularity:
            stored = self._stored(source, piece).annotate(**self._stored_columns(), first=text_of("first_timestamp"))
            return stored.values_list(*self._row())
        return self._of_rollups(source, piece)

    def _stored_columns(self) -> dict[str, Any]:
        return {
            "total": Case(When(is_exact=True, then=F("sum")), default=Value(inf)),
            "missed": NullIf("rest", Value(0.0)), "units": _NO_TEXT,
            "number": F("count"), "least": F("min"), "most": F("max"),
        }  # fmt: skip

    def _of_rollups(self, source: Source, piece: Piece, *, only_exact: bool = True) -> models.QuerySet[Any]:
        units: models.expressions.Combinable = text_of(sums_sql.Units("sum", "rest", peak=inf))
        if only_exact:
            units = Case(When(inexact=1, then=_NO_TEXT), default=units)
        return self._grouped(
            self._stored(source, piece), "first_timestamp" if piece.resolution is None else "bucket",
            inexact=_INEXACT, total=_NO_DOUBLE, missed=_NO_DOUBLE, units=units,
            first=text_of(Min("first_timestamp")), number=Cast(Sum("count"), BigIntegerField()),
            least=Min("min"), most=Max("max"),
        )  # fmt: skip

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

    def _events(self, events: EventQuerySet, units: sums_sql.Units | None = None) -> models.QuerySet[Any]:
        """Group events to rows; the value of an event that is alone in its bucket is the sum, without adding up."""
        return self._grouped(
            events, "timestamp",
            total=Case(When(number=1, then=F("least")), default=_NO_DOUBLE),
            missed=_NO_DOUBLE,
            units=Case(When(number=1, then=_NO_TEXT), default=text_of(units or sums_sql.Units("value"))),
        )  # fmt: skip

    def _grouped(self, rows: models.QuerySet[Any], time: str, **aggregates: Any) -> models.QuerySet[Any]:
        of_events = {
            "first": text_of(Min("timestamp")), "number": Count("pk"), "least": Min("value"), "most": Max("value")
        }  # fmt: skip
        grouped: models.QuerySet[Any] = (
            rows.order_by()
            .annotate(start=self._start(time))
            .values("start")
            .annotate(key=self._key_column(), **(of_events if time == "timestamp" else {}))
            .annotate(**aggregates)
            .values_list(*self._row())
        )
        return grouped

    def _key_column(self) -> _KeyText:
        return _KeyText() if self.granularity == "none" else _KeyNumber()

    def _row(self) -> Iterable[str]:
        bounds = ["least", "most"] if self.bounds else []
        return ("first", *([] if self.aligned else ["key"]), *_COLUMNS[self.aggregation_type], *bounds)

    def _start(self, time: str) -> models.F | models.Func:
        if self.granularity == "none":
            return F(time)
        return bucket_start(time, self._rules)

    @cached_property
    def _rules(self) -> Rules:
        return Rules(self.granularity, UTC if self.aligned else self.zone, self.first, self.last)

    def _key(self) -> Callable[[tuple[Any, ...]], str | int]:
        if not self.aligned:
            return itemgetter(1)
        characters = _CLOCK_CHARACTERS[self.granularity]
        return lambda row: str(row[0][:characters])

    def _merged(self, rows: Iterable[tuple[Any, ...]]) -> list[Bucket]:
        """Merge the rows of each bucket, and its columns to one value; in order, as the texts sort by time."""
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
        in_order = sorted(merged.values(), key=itemgetter(0))
        if both:
            return [(iso_of(first), value) for first, value in in_order]
        average = bucket_sums.bounded_average if self.bounds else bucket_sums.average
        value_of: Callable[..., float] = average if self.aggregation_type == "avg" else bucket_sums.total
        return [(iso_of(first), value_of(*columns)) for first, *columns in in_order]


def in_order(found: Iterable[_Row], key: Callable[[_Row], datetime]) -> Iterator[_Row]:
    """Put rows in order that are in order except for neighbours; a few are in memory at a time.

    Where clocks go back over midnight, a part of the day before lies between two parts of the next day.
    """
    held: list[tuple[datetime, int, _Row]] = []
    for number, row in enumerate(found):
        heappush(held, (key(row), number, row))
        if len(held) > _NEIGHBOURS:
            yield heappop(held)[-1]
    yield from (row for *_, row in sorted(held))


def _or_own(same: models.QuerySet[Rollup], field: str) -> Coalesce:
    return Coalesce(Subquery(same.values(field)), F(field))


def _first_timestamp(bucket: Bucket) -> datetime:
    return datetime.fromisoformat(bucket[0])


def iso_of(text: str) -> str:
    """Turn a timestamp's text from either database into the text of the API."""
    text = text.removesuffix("+00")
    if len(text) > _SECOND_CHARACTERS:
        text = text.ljust(_MICROSECOND_CHARACTERS, "0")
    return f"{text[:10]}T{text[11:]}Z"


class _KeyText(Cast):
    """The text of ``start``, by which rows are grouped; it stays out of GROUP BY, so as to be made once for a group."""

    def __init__(self) -> None:
        super().__init__("start", models.TextField())

    @override
    def get_group_by_cols(self) -> list[Any]:
        return []


class _KeyNumber(_KeyText):
    """``start`` in whole seconds, as the clocks may show the year 0 or 10000; on SQLite, the text of ``start``."""

    @override
    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        sql, parameters = compiler.compile(self.source_expressions[0])
        return f"EXTRACT(EPOCH FROM {sql})::bigint", parameters


def text_of(instant: Any) -> Cast:
    """Build the text of an instant as the database writes it: reading a text costs a tenth of reading a datetime."""
    return Cast(instant, models.TextField())


def _fetch(
    parts: Sequence[models.QuerySet[Any]], *, order_by: int | str | None = None, most: int | None = None
) -> list[tuple[Any, ...]]:
    """Fetch the rows of all parts by one statement, as the driver returns them; none where there is no part."""
    if not parts:
        return []
    sql, parameters = _union(parts, order_by)
    with reading.connection().cursor() as cursor:
        cursor.execute(f"{sql} LIMIT {most}" if most else sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def _iterate(*parts: models.QuerySet[Any], order_by: int | str | None = None) -> Iterator[tuple[Any, ...]]:
    if not parts:
        return
    connection = reading.connection()
    with connection.chunked_cursor() as cursor:
        cursor.execute(*_union(parts, order_by))
        while rows := cursor.fetchmany(_ROWS_AT_A_TIME):
            yield from rows
            restart_clock(connection)


def _union(parts: Sequence[models.QuerySet[Any]], order_by: int | str | None = None) -> tuple[str, list[Any]]:
    """Write one statement of all parts, with its parameters; ordered by a column's number or, as bytes, by its name."""
    statements = [part.query.sql_with_params() for part in parts]
    sql, parameters = " UNION ALL ".join(sql for sql, _ in statements), list(chain(*(each for _, each in statements)))
    if isinstance(order_by, str):
        collation = binary_collation()
        sql = f'SELECT * FROM ({sql}) AS part ORDER BY "{order_by}" COLLATE "{collation}"'  # noqa: S608
    elif order_by:
        sql += f" ORDER BY {order_by}"
    return sql, parameters
