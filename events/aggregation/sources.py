"""Says where the events and the rollups of a series are stored: under its own name, and one that it had before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from django.db.models import Q, QuerySet

from events.database import partitions
from events.log.models import Event, EventQuerySet
from events.rollups.marks import Marks
from events.rollups.models import Histogram, Rollup, RollupQuerySet, Watermark


@dataclass(frozen=True)
class Source:
    """What is stored under a name, by events past the marks ``after`` and up to ``up_to``; None for all of them.

    ``is_rolled_up`` where rollups under the name hold those events of them that are up to the watermark.
    """

    namespace: str
    name: str
    after: Marks | None = None
    up_to: Marks | None = None
    is_rolled_up: bool = True

    @property
    def key(self) -> tuple[str, str]:
        """The name."""
        return self.namespace, self.name

    @property
    def is_part(self) -> bool:
        """Whether it is only some of the events under the name."""
        return self.after is not None or self.up_to is not None

    def holds(self) -> Q:
        """Build the condition that an event of the partition is of the source."""
        condition = Q(namespace=self.namespace, name=self.name)
        if self.after is not None:
            condition &= self.after.after()
        return condition if self.up_to is None else condition & self.up_to.up_to()

    def events(self) -> EventQuerySet:
        """Choose all events of the source."""
        events = Event.objects.of_series(self.namespace, self.name)
        if self.after is not None:
            events = events.after(self.after)
        return events if self.up_to is None else events.up_to(self.up_to)

    def tail(self, marks: Marks, tail: int) -> EventQuerySet:
        """Choose the events past the marks of a series' state; ``tail`` is the number of ids past these."""
        events = Event.objects.tail_of_series(self.namespace, self.name, marks, tail)
        return events if self.up_to is None else events.up_to(self.up_to)

    def rollups(self) -> RollupQuerySet:
        """Choose the rollups under the name, of every resolution."""
        return Rollup.objects.of_series(self.namespace, self.name)

    def histograms(self) -> QuerySet[Histogram]:
        """Choose the histograms under the name."""
        return Histogram.objects.of_series(self.namespace, self.name)


def events_of(sources: Sequence[Source]) -> EventQuerySet:
    """Choose the events of all sources of a series together."""
    if len(sources) == 1:
        return sources[0].events()
    of_partition = Event.objects.of_partition(partitions.partition_of(*sources[0].key))
    return of_partition.filter(reduce(or_, (source.holds() for source in sources)))


def of_sources(sources: Sequence[Source], table: str) -> tuple[str, list[str]]:
    """Write the condition that an event is of one of the sources, and its parameters."""
    conditions: list[str] = []
    names: list[str] = []
    for source in sources:
        bounds = f"{table}.namespace = %s AND {table}.name = %s"
        if source.after is not None:
            bounds += f" AND NOT ({source.after.up_to_sql(table)})"
        if source.up_to is not None:
            bounds += f" AND ({source.up_to.up_to_sql(table)})"
        conditions.append(bounds)
        names += source.key
    return " OR ".join(conditions), names


def sources_of(watermark: Watermark, namespace: str, name: str) -> tuple[Source, ...]:
    """List where the events of a series are stored, by the watermark of its partition."""
    move = watermark.move_of(namespace, name)
    if move is None:
        return (Source(namespace, name),)
    if move.old != (namespace, name):
        return Source(namespace, name), Source(*move.old, up_to=move.marks)
    if move.is_emptied:
        return (Source(namespace, name),)
    return (Source(namespace, name, after=move.marks, is_rolled_up=False),)
