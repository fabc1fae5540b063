"""Fetches the rows that buckets are merged from: those of all parts of a read by one statement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from heapq import heappop, heappush
from itertools import chain
from typing import Any, TypeVar

from events.database import prepared, reading
from events.database.dialect import binary_collation
from events.database.statement_timeout import restart_clock
from events.database.statements import Statement

_ROWS_AT_A_TIME = 2_000
_NEIGHBOURS = 2
_Row = TypeVar("_Row")


def fetch(
    parts: Sequence[Statement], *, order_by: int | str | None = None, most: int | None = None
) -> list[tuple[Any, ...]]:
    """Fetch the rows of all parts by one statement, as the driver returns them; none where there is no part."""
    if not parts:
        return []
    if len(parts) == 1 and not order_by and not most:
        return prepared.fetch(parts[0])
    sql, parameters = _union(parts, order_by)
    with reading.connection().cursor() as cursor:
        cursor.execute(f"{sql} LIMIT {most}" if most else sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def iterate(*parts: Statement, order_by: int | str | None = None) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of all parts, in order where one is given; few are in memory at a time."""
    if not parts:
        return
    connection = reading.connection()
    with connection.chunked_cursor() as cursor:
        cursor.execute(*_union(parts, order_by))
        while rows := cursor.fetchmany(_ROWS_AT_A_TIME):
            yield from rows
            restart_clock(connection)


def _union(parts: Sequence[Statement], order_by: int | str | None = None) -> tuple[str, list[Any]]:
    """Write one statement of all parts, with its parameters; ordered by a column's number or, as bytes, by its name."""
    sql, parameters = " UNION ALL ".join(part.sql for part in parts), list(chain(*(part.parameters for part in parts)))
    if isinstance(order_by, str):
        collation = binary_collation()
        sql = f'SELECT * FROM ({sql}) AS part ORDER BY "{order_by}" COLLATE "{collation}"'  # noqa: S608
    elif order_by:
        sql += f" ORDER BY {order_by}"
    return sql, parameters


def in_order(found: Iterable[_Row], key: Callable[[_Row], datetime]) -> Iterator[_Row]:
    """Put rows in order that are in order except for neighbours; a few are in memory at a time.

    Where clocks go back over midnight, a part of the day before lies between two parts of the next day.
    """
    held: list[tuple[datetime, int, _Row]] = []
    for number, row in enumerate(found):
        heappush(held, (key(row), number, row))
        if len(held) > _NEIGHBOURS:
            yield heappop(held)[-1]
    yield from (row for *_, row in sorted(held))
