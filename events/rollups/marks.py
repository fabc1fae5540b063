"""Says how far rollups go in the ids of each origin, a server that hands out ids of events.

A single server is the only origin. On a cluster each node is one: an event gets its id from the node that it enters by,
whose number in the cluster is in the id's highest bits. The ids of an origin grow, those of two say nothing about each
other. So “up to” is one id for each origin, and ids of an origin without any are all past it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from django.db.models import BigIntegerField, Case, F, Func, Q, TextField, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast, Coalesce, Concat

from events.database.partitions import NODE

ORIGIN_BITS = 48
FIRST = 0  # the only server, or the coordinator
_MOST = 1 << 63 - ORIGIN_BITS  # more than any origin's number
_LAST = (1 << 63) - 1


class Range(NamedTuple):
    """The ids of an origin past one of them, up to another."""

    origin: int
    after: int
    up_to: int

    def holds(self) -> Q:
        """Build the condition that an id is one of these."""
        return Q(pk__gt=self.after, pk__lte=self.up_to)


@dataclass(frozen=True)
class Marks:
    """The last id of each origin that is in the rollups, or that is settled."""

    by_origin: Mapping[int, int]

    @classmethod
    def of_the_only_origin(cls, event_id: int) -> Marks:
        """Make the marks of a database that a single server hands out the ids of."""
        return cls({FIRST: event_id})

    def hold(self, event_id: int) -> bool:
        """Tell whether an id is up to them."""
        return any(start <= event_id <= last for start, last in self._stretches())

    def up_to(self) -> Q:
        """Build the condition that an event is up to them."""
        condition = Q()
        for start, last in self._stretches():
            condition |= Q(pk__gte=start, pk__lte=last) if start else Q(pk__lte=last)
        return condition

    def up_to_sql(self, table: str) -> str:
        """Write the condition that an event is up to them."""
        return " OR ".join(f"{table}.id BETWEEN {start} AND {last}" for start, last in self._stretches())

    def after(self) -> Q:
        """Build the condition that an event is past them; one of an unknown origin is."""
        condition = Q()
        for origin, end in ends(self.by_origin):
            within = Q(pk__gt=self.by_origin[origin])
            condition |= within if end == _LAST else within & Q(pk__lte=end)
        return condition

    def ranges_to(self, others: Marks) -> list[Range]:
        """List the ranges of ids past these marks and up to others; none of an origin that the others don't have."""
        starts = {origin: self.by_origin.get(origin, origin << ORIGIN_BITS) for origin in others.by_origin}
        return [
            Range(origin, starts[origin], last)
            for origin, last in sorted(others.by_origin.items())
            if last > starts[origin]
        ]

    def count_to(self, others: Marks) -> int:
        """Count the ids past these marks and up to others."""
        return sum(each.up_to - each.after for each in self.ranges_to(others))

    def cover(self, others: Marks) -> bool:
        """Tell whether other marks are up to these, each of its origin."""
        return not self.ranges_to(others)

    def moved(self, reached: Mapping[int, int]) -> Marks:
        """Return the marks with those of some origins moved."""
        return Marks({**self.by_origin, **reached})

    def _stretches(self) -> Iterator[tuple[int, int]]:
        return ((origin << ORIGIN_BITS, last) for origin, last in sorted(self.by_origin.items()))


def ends(origins: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield each of the origins with the last id before the next one's: ids of all others lie between.

    The last one has an end too, as PostgreSQL expects a third of a table past an id that it doesn't know.
    """
    return ((origin, (following << ORIGIN_BITS) - 1) for origin, following in pairwise([*sorted(origins), _MOST]))


def past_watermark(origins: tuple[int, ...]) -> Q:
    """Build the condition that an event is past the watermark of its partition, whatever marks that has.

    ``origins`` only let the database find the events by their ids: those of others are looked at one by one.
    """
    within = Q()
    for origin, end in ends(origins):
        within |= Q(pk__gt=_mark_of(origin), pk__lte=end)
    by_node = _of_node(Concat(Value(NODE.format("")), Cast(F("pk").bitrightshift(ORIGIN_BITS), TextField())), Value(0))
    its_own = Case(When(pk__lt=1 << ORIGIN_BITS, then=F("partition__event_id")), default=by_node)
    return within & Q(pk__gt=its_own)


def mark_sql(watermark: str, origin: int) -> str:
    """Write the mark of an origin in a table of watermarks; the id before its first one where there is no mark."""
    if origin == FIRST:
        return f"{watermark}.event_id"
    return f"coalesce(CAST({watermark}.of_nodes ->> '{NODE.format(origin)}' AS bigint), {origin << ORIGIN_BITS})"


def _mark_of(origin: int) -> Combinable:
    if origin == FIRST:
        return F("partition__event_id")
    return _of_node(Value(NODE.format(origin)), Value(origin << ORIGIN_BITS))


def _of_node(key: Combinable, otherwise: Combinable) -> Combinable:
    """Build the mark of a node in the watermark of an event's partition."""
    return Coalesce(Cast(_Value(F("partition__of_nodes"), key), BigIntegerField()), otherwise)


class _Value(Func):
    """The value of a key in JSON, as a text or, on SQLite, as the number that it is."""

    template = "(%(expressions)s)"
    arg_joiner = " ->> "
    output_field = TextField()
