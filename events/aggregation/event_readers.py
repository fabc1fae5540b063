"""Reads the values of buckets that only the events tell: percentiles, standard deviations, first and last values.

A value that isn't known, such as the deviation of a single value, is NaN.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from math import nan
from operator import itemgetter
from typing import Any, cast

from django.db import models
from django.db.models import Max
from typing_extensions import override

from events.aggregation.bucket_rows import BucketRows
from events.aggregation.columns import InstantText, iso_of
from events.aggregation.event_sql import Deviation, Percentile, deviation
from events.aggregation.plan import Piece
from events.aggregation.question import fraction_of
from events.aggregation.reader import Bucket, Reader
from events.aggregation.sources import of_sources
from events.database import partitions, reading
from events.database.dialect import choose
from events.database.statements import Statement
from events.log.models import Event, EventQuerySet
from events.rollups import sums_sql
from events.rollups.models import Rollup

_LOOKED_UP_AT_A_TIME = 2_000


@dataclass(frozen=True)
class EventReader(Reader):
    """Reads buckets from their events alone, each from a single row."""

    scale: float = 1.0

    @override
    def _parts(self, pieces: Sequence[Piece] | None = None) -> list[Statement]:
        return self._parts_of_events()

    @override
    def _parts_of_events(self) -> list[Statement]:
        return [Statement.of(self._rows.of_events(self._events_of_all_sources()))]

    @override
    def _merged(self, rows: Iterable[tuple[Any, ...]]) -> list[Bucket]:
        columns_start = 1 if self.aligned else 2
        return [
            (iso_of(row[0]), self._value_of(*row[columns_start:])) for row in sorted(rows, key=itemgetter(0))
        ]  # fmt: skip

    def _value_of(self, *columns: Any) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class PercentileRows(BucketRows):
    """Groups events to buckets with their percentile, multiplied by ``scale``."""

    scale: float = 1.0

    @property
    @override
    def _value_names(self) -> Sequence[str]:
        return ("percentile",)

    @override
    def of_events(self, events: EventQuerySet, units: sums_sql.Units | None = None) -> models.QuerySet[Any]:
        fraction = cast(float, fraction_of(self.aggregation_type))
        return self._grouped(events, "timestamp", percentile=Percentile("value", fraction, self.scale))


class PercentileReader(EventReader):
    """Reads percentiles; a value is infinite where the difference of its two neighbours is beyond a double."""

    @override
    def read_exact(self) -> list[Bucket]:
        return replace(self, scale=0.25).read()

    @cached_property
    @override
    def _rows(self) -> BucketRows:
        return PercentileRows(*self._grouping, scale=self.scale)

    @override
    def _value_of(self, *columns: float) -> float:
        return columns[0] / self.scale + 0.0  # no -0.0


class DeviationRows(BucketRows):
    """Groups events to what their standard deviation is made of."""

    @property
    @override
    def _value_names(self) -> Sequence[str]:
        return ("number", "least", "most", "huge", "plain", "tiny")

    @override
    def of_events(self, events: EventQuerySet, units: sums_sql.Units | None = None) -> models.QuerySet[Any]:
        return self._grouped(
            events, "timestamp",
            huge=Deviation("value", Deviation.HUGE),
            plain=Deviation("value", Deviation.PLAIN),
            tiny=Deviation("value", Deviation.TINY),
        )  # fmt: skip


class DeviationReader(EventReader):
    """Reads the standard deviations of samples; infinite where they are beyond a double."""

    @override
    def read_exact(self) -> list[Bucket]:
        return self.read()

    @cached_property
    @override
    def _rows(self) -> BucketRows:
        return DeviationRows(*self._grouping)

    @override
    def _value_of(self, *columns: Any) -> float:
        value = deviation(*columns)
        return nan if value is None else value


class EndRows(BucketRows):
    """Groups rows to the first and the last timestamp of each bucket."""

    @property
    @override
    def _value_names(self) -> Sequence[str]:
        return ("latest",)

    @override
    def stored(self, rollups: models.QuerySet[Rollup]) -> models.QuerySet[Any]:
        columns = {"latest": InstantText("last_timestamp"), "first": InstantText("first_timestamp")}
        return rollups.annotate(**columns).values_list(*self.names)

    @override
    def _grouped(self, rows: models.QuerySet[Any], time: str, **aggregates: Any) -> models.QuerySet[Any]:
        latest = InstantText(Max("timestamp" if time == "timestamp" else "last_timestamp"))
        return super()._grouped(rows, time, **aggregates, latest=latest)


class EndReader(Reader):
    """Reads the value of the first or the last event of each bucket, of several at one instant by their ids.

    The rollups tell when that event was, so that one entry of the index is read for each bucket.
    """

    @override
    def read(self) -> list[Bucket]:
        return list(self._valued(super().read()))

    @override
    def iterate(self) -> Iterator[Bucket]:
        return self._valued(super().iterate())

    @override
    def read_ungrouped(self, most: int) -> list[Bucket]:
        return list(self._valued(super().read_ungrouped(most)))

    @property
    def _is_last(self) -> bool:
        return self.aggregation_type == "last"

    @cached_property
    @override
    def _rows(self) -> BucketRows:
        return EndRows(*self._grouping)

    @override
    def _merged(self, rows: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Merge the rows of each bucket to its first instant and the one whose value is asked for, as texts."""
        key_of = self._key()
        ends: dict[str | int, tuple[str, str]] = {}
        for row in rows:
            key, first, latest = key_of(row), row[0], row[-1]
            if known := ends.get(key):
                first, latest = min(known[0], first), max(known[1], latest)
            ends[key] = first, latest
        in_order = sorted(ends.values(), key=itemgetter(0))
        return [(iso_of(first), latest if self._is_last else first) for first, latest in in_order]

    def _valued(self, found: Iterable[Any]) -> Iterator[Bucket]:
        found = iter(found)
        while some := list(islice(found, _LOOKED_UP_AT_A_TIME)):
            values = self._values_at([instant for _, instant in some])
            for first, instant in some:
                value = values.get(instant)
                yield first, nan if value is None else value + 0.0

    def _values_at(self, instants: list[str]) -> dict[str, float | None]:
        """Look up the value at each instant. One query, which reads an entry of the index for each."""
        direction = "DESC" if self._is_last else "ASC"
        sources = self.state.sources
        within = partitions.and_within(partitions.partition_of(*sources[0].key), "event")
        bounds, names = of_sources(sources, "event")
        source, instant = choose(
            postgresql=("unnest(%s::text[]) AS wanted (value)", "wanted.value::timestamptz"),
            sqlite=("json_each(%s) AS wanted", "wanted.value"),
        )
        sql = f"""
            SELECT wanted.value, (
                SELECT event.value FROM {Event._meta.db_table} AS event
                WHERE ({bounds}) AND event.timestamp = {instant}{within}
                ORDER BY event.timestamp, event.id {direction} LIMIT 1
            ) FROM {source}
        """  # noqa: S608
        wanted: Any = choose(postgresql=instants, sqlite=json.dumps(instants))
        with reading.connection().cursor() as cursor:
            cursor.execute(sql, [*names, wanted])
            return dict(cursor.fetchall())
