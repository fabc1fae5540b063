"""How many series a client may start: which of those that it sends are there is known, or looked up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from django.db import connection
from rest_framework.request import Request

from events.access.rate_limits import NEW_SERIES
from events.log.append import Row
from events.log.models import Event
from events.log.series import SeriesKey, from_series
from events.rollups.models import Resolution, Rollup

if TYPE_CHECKING:  # its module loads this one
    from rest_framework.views import APIView

MOST_KNOWN = 100_000
# Hashes of series that are there: of two with the same, which nobody can choose, one might not be counted. A series
# that is deleted stays known, and is not counted when it starts again.
_known: set[int] = set()

_IS_THERE = f"""
    coalesce(
        (SELECT 1 FROM {Rollup._meta.db_table} AS rollup WHERE rollup.resolution = {Resolution.SERIES.value}
            AND rollup.namespace = series.namespace AND rollup.name = series.name LIMIT 1),
        (SELECT 1 FROM {Event._meta.db_table} AS event
            WHERE event.namespace = series.namespace AND event.name = series.name LIMIT 1)
    ) IS NOT NULL
"""  # noqa: S608


def take_new_series(request: Request, view: APIView, rows: Sequence[Row]) -> None:
    """Count the series that the rows would start, where the client has a limit to them; raises as a rate limit does.

    No query where all series are known, and one elsewhere. What is counted and then not stored, or started by two
    requests at once, counts all the same: a client may start fewer than its limit, and not more.
    """
    if not NEW_SERIES.quota(request):
        return
    unknown = [key for key in {SeriesKey(row.namespace, row.name) for row in rows} if hash(key) not in _known]
    new = len(unknown) - _learn(unknown) if unknown else 0
    if new:
        NEW_SERIES.take(request, view, new)


def forget() -> None:
    """Know none."""
    _known.clear()


def _learn(keys: Collection[SeriesKey]) -> int:
    """Know those of the series that are there from now on; how many they are."""
    clause, parameters = from_series(list(keys))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT series.namespace, series.name {clause} WHERE {_IS_THERE}", parameters)
        there = {hash(SeriesKey(*row)) for row in cursor.fetchall()}
    if len(_known) + len(there) > MOST_KNOWN:
        forget()
    _known.update(there)
    return len(there)
