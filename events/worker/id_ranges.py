"""Cuts ranges of ids down to the next events of a partition, as many as a step takes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import ceil

from django.db import connection

from events.log.models import EventQuerySet
from events.rollups.marks import Range


def next_ids(events: EventQuerySet, ranges: Sequence[Range], limit: int) -> tuple[list[Range], bool]:
    """Cut ranges to the ids of the next events, and tell whether there may be more; ranges without any are left out.

    Each range has the same share of the limit, so that no origin waits until another has nothing more to roll up. One
    query, and none where there are no ranges.
    """
    if not ranges:
        return [], False
    share = ceil(limit / len(ranges))
    parts = [events.filter(each.holds()).order_by("id").values_list("id")[:share] for each in ranges]
    statements = [part.query.sql_with_params() for part in parts]
    sql = " UNION ALL ".join(
        f"SELECT {number}, max(id), count(*) FROM ({text}) AS ids"  # noqa: S608
        for number, (text, _) in enumerate(statements)
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, list(chain.from_iterable(parameters for _, parameters in statements)))
        found = [(ranges[number]._replace(up_to=last), count) for number, last, count in cursor.fetchall() if count]
    return [each for each, _ in found], any(count == share for _, count in found)


def next_dense_ids(events: EventQuerySet, ranges: Sequence[Range], limit: int) -> tuple[list[Range], bool]:
    """Do the same where few ids are missing, as in a whole log: the limit is of ids, so that no event is counted.

    Two queries for each range.
    """
    share, found, are_full = ceil(limit / max(len(ranges), 1)), [], False
    for each in ranges:
        ids = events.filter(each.holds()).order_by("id").values_list("id", flat=True)
        first, last = ids.first(), ids.last()
        if first is not None and last is not None:
            reached = min(first + share - 1, last)
            found.append(each._replace(up_to=reached))
            are_full = are_full or reached < last
    return found, are_full
