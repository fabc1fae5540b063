"""Keeps the statements that answers repeat, as Django takes longer to write one than the database to answer it.

What writes them knows of no series and no window: these are given whenever a statement is run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, TypeVar

from cachetools import LRUCache, cached
from django.db.models import BigIntegerField, CharField, DateTimeField, QuerySet, SmallIntegerField

from events.aggregation.bucket_rows import BucketRows
from events.aggregation.plan import Piece
from events.aggregation.sources import Source
from events.aggregation.stored_buckets import stored_rows
from events.calendar.spans import Span
from events.database import partitions
from events.database.partitioned import PartitionedQuerySet
from events.database.statements import Given, Statement
from events.log.models import Event, is_tail_found_by_text
from events.rollups.marks import Marks
from events.rollups.models import Rollup

# There are some hundred statements, of a thousand characters each. One has many more where a zone's clocks changed
# often, which is why their number alone would be no bound.
_MOST_CHARACTERS = 2_000_000

_RowsT = TypeVar("_RowsT", bound=PartitionedQuerySet[Any])

# They stand for values of these types, which is what querysets are filtered by.
_NAMES: dict[str, Any] = {"namespace": Given("namespace", CharField()), "name": Given("name", CharField())}
_PARTITION: Any = Given("partition", SmallIntegerField())
_RESOLUTION: Any = Given("resolution", SmallIntegerField())
_FIRST: Any = Given("first", DateTimeField())
_LAST: Any = Given("last", DateTimeField())


def of_rollups(rows: BucketRows, source: Source, piece: Piece) -> Statement:
    """Write the statement that groups the rollups of a piece, which has a resolution."""
    return _of_piece(_grouped, rows, source=source, piece=piece)


def of_stored(rows: BucketRows, source: Source, piece: Piece) -> Statement:
    """Write the statement that makes a row of each rollup of a piece, to be merged with others."""
    return _of_piece(_single, rows, source=source, piece=piece)


def of_buckets(aggregation_type: str, source: Source, piece: Piece) -> Statement:
    """Write the statement of ``stored_rows`` for the rollups of a piece."""
    return _of_piece(_buckets, aggregation_type, source=source, piece=piece)


def of_events(rows: BucketRows, source: Source, span: Span, marks: Marks) -> Statement:
    """Write the statement that groups the events of a span that are up to the marks of the series' state."""
    if source.is_part:
        return Statement.of(rows.of_events(source.events().within(*span).up_to(marks)))
    return _written(_events, rows, _origins(marks), source=source, values={**span._asdict(), **_last_ids(marks)})


def of_tail(rows: BucketRows, source: Source, span: Span, marks: Marks, tail: int) -> Statement:
    """Write the statement that groups the events of a span that are past the marks, as ``Source.tail`` has them."""
    if source.is_part:
        return Statement.of(rows.of_events(source.tail(marks, tail).within(*span)))
    shape = rows, _origins(marks), is_tail_found_by_text(tail)
    return _written(_tail, *shape, source=source, values={**span._asdict(), **_last_ids(marks)})


def _of_piece(build: Callable[..., QuerySet[Any]], *shape: Any, source: Source, piece: Piece) -> Statement:
    # rollups are always found by their key, so one plan does for all values
    return _written(build, *shape, source=source, values=piece._asdict(), may_be_prepared=True)


def _written(
    build: Callable[..., QuerySet[Any]],
    *shape: Any,
    source: Source,
    values: Mapping[str, Any],
    may_be_prepared: bool = False,
) -> Statement:
    """Write a statement with the values, by the one that is kept of this shape."""
    partition = partitions.partition_of(*source.key)
    statement = _kept(build, *shape, partition is not None)
    of_series = {"namespace": source.namespace, "name": source.name, "partition": partition}
    return statement.given({**values, **of_series}, may_be_prepared=may_be_prepared)


@cached(LRUCache(_MOST_CHARACTERS, getsizeof=lambda statement: len(statement.sql)), lock=Lock())
def _kept(build: Callable[..., QuerySet[Any]], *shape: Any) -> Statement:
    return Statement.of(build(*shape))


# These build the statements. Their text depends on nothing but the arguments, by which it is kept.


def _grouped(rows: BucketRows, has_partition: bool) -> QuerySet[Any]:
    return rows.of_rollups(_rollups(has_partition))


def _single(rows: BucketRows, has_partition: bool) -> QuerySet[Any]:
    return rows.stored(_rollups(has_partition))


def _buckets(aggregation_type: str, has_partition: bool) -> QuerySet[Any]:
    return stored_rows(_rollups(has_partition), aggregation_type)


def _rollups(has_partition: bool) -> QuerySet[Rollup]:
    rollups = _of_series(Rollup.objects.all(), has_partition)
    return rollups.filter(resolution=_RESOLUTION, bucket__range=(_FIRST, _LAST))


def _events(rows: BucketRows, origins: tuple[int, ...], has_partition: bool) -> QuerySet[Any]:
    events = _of_series(Event.objects.all(), has_partition)
    return rows.of_events(events.within(_FIRST, _LAST).up_to(_marks(origins)))


def _tail(rows: BucketRows, origins: tuple[int, ...], by_text: bool, has_partition: bool) -> QuerySet[Any]:
    tail = Event.objects.after(_marks(origins))
    series = _NAMES["namespace"], _NAMES["name"]
    events = tail.under(series) if by_text else _of_series(tail, has_partition)
    return rows.of_events(events.within(_FIRST, _LAST))


def _of_series(rows: _RowsT, has_partition: bool) -> _RowsT:
    return rows.of_partition(_PARTITION if has_partition else None).filter(**_NAMES)


def _origins(marks: Marks) -> tuple[int, ...]:
    return tuple(sorted(marks.by_origin))


def _marks(origins: tuple[int, ...]) -> Marks:
    last_ids: dict[int, Any] = {origin: Given(f"last_of_{origin}", BigIntegerField()) for origin in origins}
    return Marks(last_ids)


def _last_ids(marks: Marks) -> dict[str, int]:
    return {f"last_of_{origin}": last for origin, last in marks.by_origin.items()}
