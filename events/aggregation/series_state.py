"""Owns the state of a series: what a snapshot of the database says of it before any bucket is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from math import ceil
from typing import Any

from django.db.models import CharField

from events.aggregation.sources import Source, sources_of
from events.calendar.granularity import MICROSECOND
from events.calendar.spans import Span
from events.database import partitions, prepared
from events.database.statements import Given, Statement
from events.log.models import Event
from events.rollups.marks import Marks, ends, mark_sql
from events.rollups.models import Pruned, Resolution, Rollup, Thinned, Watermark

# Written in SQL, as the ORM would take longer to build the statement than the database takes to answer it.
_STATE = f"""
    SELECT {{columns}}, pruned.before, whole.count, whole.first_timestamp, whole.last_timestamp,
        thinned.since AS thinned_since, thinned.before AS thinned_before, {{past}} AS past
    FROM {Watermark._meta.db_table} AS watermark
    LEFT JOIN {Pruned._meta.db_table} AS pruned ON pruned.namespace = %s AND pruned.name = %s{{of_pruned}}
    LEFT JOIN {Thinned._meta.db_table} AS thinned ON thinned.namespace = %s AND thinned.name = %s{{of_thinned}}
    LEFT JOIN {Rollup._meta.db_table} AS whole
        ON whole.resolution = {Resolution.SERIES.value} AND whole.namespace = %s AND whole.name = %s{{of_whole}}
    WHERE watermark.id = {{id}}
"""  # noqa: S608


_LOG = Event._meta.db_table
# One by one, as what is prepared must go on when a later release adds a column.
_FIELDS = tuple(field.attname for field in Watermark._meta.concrete_fields)
_COLUMNS = ", ".join(f"watermark.{name}" for name in _FIELDS)
_SERIES: Any = (Given("namespace", CharField()), Given("name", CharField()))


@dataclass(frozen=True)
class SeriesState:
    """How far a series is rolled up and pruned, and what its rollups hold, in one snapshot.

    It has one source, its own name. While another series is being moved to it, that one's name is a second.
    """

    sources: tuple[Source, ...]
    watermark: Watermark
    marks: Marks  # the last ids that its rollups hold
    pruned_before: datetime | None  # the start of the first hour that is not pruned
    rolled_up_count: int
    rolled_up: Span | None
    tail: int  # how many ids are past the marks; about so many, where there are several partitions
    thinned: Span | None = None  # the hours of which there are no rollups of minutes

    def is_pruned(self, instant: datetime) -> bool:
        """Tell whether an instant lies in hours that are pruned."""
        return self.pruned_before is not None and instant < self.pruned_before

    def has_minutes(self, instant: datetime) -> bool:
        """Tell whether an instant lies in hours of which minutes are stored, where there are any at all."""
        return self.thinned is None or not self.thinned.contains(instant)


def state_of(namespace: str, name: str) -> SeriesState:
    """Look up the state of a series. One query, and a second one while nothing is rolled up yet."""
    partition = partitions.partition_of(namespace, name)
    kept = Statement(_state_sql(partition, partitions.origins()), _SERIES * 3)
    rows = prepared.fetch(kept.given({"namespace": namespace, "name": name}, may_be_prepared=True))
    if not rows:
        newest = Event.objects.of_partition(partition).order_by("-pk").values_list("pk", flat=True)
        at_start = Watermark.objects.at_start(partition)
        return SeriesState((Source(namespace, name),), at_start, at_start.marks, None, 0, None, newest.first() or 0)
    before, count, first, last, since, thinned_before, past = rows[0][len(_FIELDS) :]
    watermark = _watermark_of(rows[0])
    marks, past, move = watermark.marks, max(0, past or 0), watermark.move
    partitions.learn_origins(marks.by_origin)
    if move and move.old == (namespace, name):  # what begins anew under the old name has marks of its own
        past += move.marks.count_to(marks)
        marks = move.marks
    first, last = _aware(first), _aware(last)
    rolled_up = Span(first, last) if first and last else None
    tail = ceil(past / len(partitions.every()))  # the other partitions have as many of these ids
    sources = sources_of(watermark, namespace, name)
    since, thinned_before = _aware(since), _aware(thinned_before)
    thinned = Span(since, thinned_before - MICROSECOND) if since and thinned_before else None
    return SeriesState(sources, watermark, marks, _aware(before), count or 0, rolled_up, tail, thinned)


def _watermark_of(row: Sequence[Any]) -> Watermark:
    """Make the watermark of a row's first columns."""
    values: dict[str, Any] = dict(zip(_FIELDS, row, strict=False))
    values["complete_at"] = _aware(values["complete_at"])
    for name in ("of_nodes", "moving"):
        values[name] = values[name] and json.loads(values[name])
    return Watermark(**values)


@cache
def _state_sql(partition: int | None, origins: tuple[int, ...]) -> str:
    if partition is None:
        past = f"(SELECT max(id) FROM {_LOG}) - watermark.event_id"  # noqa: S608
        return _STATE.format(columns=_COLUMNS, id=partitions.ONLY, past=past, of_pruned="", of_thinned="", of_whole="")
    past = " + ".join(
        f"coalesce((SELECT max(id) FROM {_LOG} WHERE partition = {partition}"  # noqa: S608
        f" AND id > {mark_sql('watermark', origin)} AND id <= {end}) - {mark_sql('watermark', origin)}, 0)"
        for origin, end in ends(origins)
    )
    return _STATE.format(
        columns=_COLUMNS,
        id=partition,
        past=past,
        of_pruned=" AND pruned.partition = watermark.id",
        of_thinned=" AND thinned.partition = watermark.id",
        of_whole=" AND whole.partition = watermark.id",
    )


def _aware(instant: datetime | None) -> datetime | None:
    """Return the instant with its zone, UTC, which SQLite's driver leaves out."""
    return instant and instant.replace(tzinfo=UTC)
