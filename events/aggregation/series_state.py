"""Owns the state of a series: what a snapshot of the database says of it before any bucket is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from events.calendar.spans import Span
from events.log.models import Event
from events.rollups.models import Pruned, Resolution, Rollup, Watermark

# Written in SQL, as the ORM would take longer to build the statement than the database takes to answer it.
_STATE = f"""
    SELECT watermark.*, pruned.before, whole.count, whole.first_timestamp, whole.last_timestamp,
        (SELECT max(id) FROM {Event._meta.db_table}) AS newest_id
    FROM {Watermark._meta.db_table} AS watermark
    LEFT JOIN {Pruned._meta.db_table} AS pruned ON pruned.namespace = %s AND pruned.name = %s
    LEFT JOIN {Rollup._meta.db_table} AS whole
        ON whole.resolution = {Resolution.SERIES.value} AND whole.namespace = %s AND whole.name = %s
"""  # noqa: S608


@dataclass(frozen=True)
class SeriesState:
    """How far a series is rolled up and pruned, and what its rollups hold, in one snapshot."""

    watermark: Watermark
    pruned_before: datetime | None  # the start of the first hour that is not pruned
    rolled_up_count: int
    rolled_up: Span | None
    tail: int  # how many ids are past the watermark

    def is_pruned(self, instant: datetime) -> bool:
        """Tell whether an instant lies in hours that are pruned."""
        return self.pruned_before is not None and instant < self.pruned_before


def state_of(namespace: str, name: str) -> SeriesState:
    """Look up the state of a series. One query, and a second one while nothing is rolled up yet."""
    series = namespace, name
    found: Any = next(iter(Watermark.objects.raw(_STATE, [*series, *series])), None)
    if found is None:
        newest_id = Event.objects.order_by("-pk").values_list("pk", flat=True).first()
        return SeriesState(Watermark.objects.at_start(), None, 0, None, newest_id or 0)
    first, last = _aware(found.first_timestamp), _aware(found.last_timestamp)
    rolled_up = Span(first, last) if first and last else None
    tail = (found.newest_id or 0) - found.event_id
    return SeriesState(found, _aware(found.before), found.count or 0, rolled_up, tail)


def _aware(instant: datetime | None) -> datetime | None:
    """Return the instant with its zone, UTC, which SQLite's driver leaves out."""
    return instant and instant.replace(tzinfo=UTC)
