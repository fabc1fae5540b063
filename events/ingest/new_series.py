"""Owns the limit to how many series a client may start: it knows, or looks up, which series are there already."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from django.db import connection
from rest_framework.request import Request

from events.access.rate_limits import NEW_SERIES
from events.access.tokens import known_token
from events.database import partitions
from events.log.append import Row
from events.log.models import Event
from events.log.series import SeriesKey, from_series
from events.rollups.models import Resolution, Rollup

if TYPE_CHECKING:  # loading it would load the throttles that the settings name, and run in a circle
    from rest_framework.views import APIView

MOST_KNOWN = 100_000
# The hashes of series that are there. Of two series with the same hash one might not be counted, but nobody can choose
# names with the same hash. A deleted series stays known, and is not counted when it starts again.
_known: set[int] = set()

_IS_THERE = f"""
    coalesce(
        (SELECT 1 FROM {Rollup._meta.db_table} AS stored WHERE stored.resolution = {Resolution.SERIES.value}
            AND stored.namespace = series.namespace AND stored.name = series.name{{of_partition}} LIMIT 1),
        (SELECT 1 FROM {Event._meta.db_table} AS stored
            WHERE stored.namespace = series.namespace AND stored.name = series.name{{of_partition}} LIMIT 1)
    ) IS NOT NULL
"""  # noqa: S608


def take_new_series(request: Request, view: APIView, rows: Sequence[Row]) -> None:
    """Count the series that the rows would start, where the client has a limit; raise as a rate limit does past it.

    One query for each partition, and none where all series are known. A series counts also where it is not stored in
    the end, and twice where two requests start it at once: a client may start fewer series than its limit, never more.
    """
    if not NEW_SERIES.quota(known_token(request)):
        return
    unknown = [key for key in {SeriesKey(row.namespace, row.name) for row in rows} if hash(key) not in _known]
    new = len(unknown) - _learn(unknown) if unknown else 0
    if new:
        NEW_SERIES.take(request, view, new)


def forget() -> None:
    """Forget all known series."""
    _known.clear()


def _learn(keys: Collection[SeriesKey]) -> int:
    """Look up which of the series are there, remember them, and return how many. One query for each partition."""
    there: set[int] = set()
    for partition, of_partition in partitions.by_partition(keys).items():
        clause, parameters = from_series(of_partition)
        is_there = _IS_THERE.format(of_partition=partitions.and_within(partition, "stored"))
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT series.namespace, series.name {clause} WHERE {is_there}", parameters)
            there |= {hash(SeriesKey(*row)) for row in cursor.fetchall()}
    if len(_known) + len(there) > MOST_KNOWN:
        forget()
    _known.update(there)
    return len(there)
