"""The newest events of many series: the ends of their parts of the one index, merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction

from events.log.models import Event
from events.log.series import SeriesKey, from_series

_TABLE = Event._meta.db_table
_OF_SERIES = "event.namespace = series.namespace AND event.name = series.name AND event.timestamp BETWEEN %s AND %s"
_NEWEST_FIRST = "ORDER BY event.timestamp DESC, event.id DESC"
# Both begin with the series: the one has no choice, the other reads a CROSS JOIN from left to right.
_JOIN_EVENTS = {
    "postgresql": (
        f"CROSS JOIN LATERAL (SELECT event.id, event.timestamp FROM {_TABLE} AS event"  # noqa: S608
        f" WHERE {_OF_SERIES} {{order}} LIMIT {{most}}) AS event"
    ),
    "sqlite": f"CROSS JOIN {_TABLE} AS event WHERE {_OF_SERIES}",
}


# A datetime on PostgreSQL, its text on SQLite; they sort alike.
_Moment = Any


def first_namespaces(most: int) -> list[str]:
    """The first namespaces that events have, by the database's collation. One query, of an index entry for each."""
    following = f"SELECT namespace FROM {_TABLE} WHERE namespace > %s ORDER BY namespace LIMIT 1"  # noqa: S608
    sql = (
        f"WITH RECURSIVE found (namespace, place) AS (SELECT ({following}), 1 UNION ALL"  # noqa: S608
        f" SELECT ({following % 'found.namespace'}), place + 1 FROM found"
        f" WHERE namespace IS NOT NULL AND place < {most})"
        " SELECT namespace FROM found WHERE namespace IS NOT NULL"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [""])
        return [namespace for (namespace,) in cursor.fetchall()]


class Newest:
    """Events of these series within the window [first, last], the newest timestamp first; None leaves an end open.

    No index has several series in the order of time, so each series' part of the index is walked down from its end,
    and none much further than the page that is asked for.
    """

    def __init__(self, series: Sequence[SeriesKey], first: datetime | None, last: datetime | None) -> None:
        self.series = series
        adapt = connection.ops.adapt_datetimefield_value
        self.first: _Moment = adapt(first or datetime.min.replace(tzinfo=UTC))
        self.last: _Moment = adapt(last or datetime.max.replace(tzinfo=UTC))

    def count(self, most: int) -> int:
        """How many there are, counted no further than ``most``. One query."""
        events = _JOIN_EVENTS[connection.vendor].format(order="", most=most)
        sql = f"SELECT count(*) FROM (SELECT 1 {{series}} {events} LIMIT {most}) AS counted"  # noqa: S608
        return int(_fetch(sql, self.series, self.first, self.last)[0][0])

    def page(self, start: int, stop: int) -> list[Event]:
        """Those from the place ``start`` up to ``stop``, which is counted from 0 and not included.

        The cost grows with ``stop`` and the number of series, not with how many events these have. Some log2(stop)
        queries.
        """
        since, series = self._reach(stop)
        events = _JOIN_EVENTS[connection.vendor].format(order=_NEWEST_FIRST, most=stop)
        sql = f"SELECT event.id {{series}} {events} {_NEWEST_FIRST} LIMIT {stop - start} OFFSET {start}"
        ids = [event_id for (event_id,) in _fetch(sql, series, since, self.last)]
        found = Event.objects.in_bulk(ids)
        return [found[event_id] for event_id in ids if event_id in found]

    def _reach(self, number: int) -> tuple[_Moment, list[SeriesKey]]:
        """A timestamp since which there are ``number`` events or all, but not many more, and the series they are of.

        Looks at the newest event of each series, then at the second, the fourth, the eighth of those that reach so
        far. What is past by then, twice as much at most, is later than the last place that was looked at.
        """
        since, series, place = self.first, list(self.series), 1
        newest: dict[SeriesKey, _Moment] = {}
        known: list[tuple[_Moment, int]] = []
        while series:
            found = self._at_place(place, series)
            newest = newest or found
            known += [(moment, (place + 1) // 2) for moment in found.values()]
            known.sort(reverse=True)
            past = 0
            for moment, events in known:
                past += events
                if past >= number:
                    since = moment
                    break
            series = [each for each, moment in found.items() if moment > since]
            place *= 2
        return since, [each for each, moment in newest.items() if moment >= since]

    def _at_place(self, place: int, series: Sequence[SeriesKey]) -> dict[SeriesKey, _Moment]:
        """The timestamp of each series' event at that place, counted from 1, where it has one."""
        sql = (
            "SELECT * FROM (SELECT series.namespace, series.name,"  # noqa: S608
            f" (SELECT event.timestamp FROM {_TABLE} AS event WHERE {_OF_SERIES}"
            f" ORDER BY event.timestamp DESC LIMIT 1 OFFSET {place - 1}) AS moment"
            " {series}) AS places WHERE moment IS NOT NULL"
        )
        rows = _fetch(sql, series, self.first, self.last, window_first=True)
        adapt = connection.ops.adapt_datetimefield_value  # the driver has made a datetime of it
        return {SeriesKey(namespace, name): adapt(moment) for namespace, name, moment in rows}


def _fetch(
    sql: str, series: Sequence[SeriesKey], *window: _Moment, window_first: bool = False
) -> list[tuple[Any, ...]]:
    clause, keys = from_series(series)
    parameters = [*window, *keys] if window_first else [*keys, *window]
    with _in_the_order_of_the_index(), connection.cursor() as cursor:
        cursor.execute(sql.format(series=clause), parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


@contextmanager
def _in_the_order_of_the_index() -> Iterator[None]:
    """Keeps PostgreSQL from gathering all rows of a series first, as it does where it takes series for short."""
    if connection.vendor != "postgresql":
        yield
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_bitmapscan TO off; SET LOCAL enable_seqscan TO off")
        yield
