"""Reads buckets that rollups hold just as they are asked for: the database hands them over as they are answered."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from operator import add
from typing import Any

from django.db import models
from django.db.models import F, FloatField, Func

from events.aggregation.columns import ENDS, InstantText
from events.aggregation.rows import fetch
from events.database.dialect import greatest, least
from events.database.statements import Statement
from events.rollups import sums
from events.rollups.models import Rollup

# The sum is one double. Infinite ones are left out, and tiny ones, as PostgreSQL refuses to make 0 of what is not.
_IS_DOUBLE = '"rest" = 0 AND ("sum" = 0 OR abs("sum") BETWEEN 1e-280 AND 1e300)'
# What a value is made of where the database doesn't make it, and how.
_PARTS = {"avg": ("sum", "rest", "count"), "sum": ("sum", "rest")}
_FINISH: dict[str, Callable[..., float]] = {"avg": sums.average, "sum": add}


def _column(condition: str, value: str) -> Func:
    """Build a column in SQL: Django would take as long to write it as the database takes to read a thousand rows."""
    return Func(template=f'CASE WHEN "is_exact" AND {condition} THEN {value} END', output_field=FloatField())


def _value(aggregation_type: str) -> Any:
    if aggregation_type == "avg":
        # of rollups that older releases made, whose sums are not exact, it might lie beyond the values
        return _column(_IS_DOUBLE, f'{least()}({greatest()}("sum" / "count", "min"), "max")')
    return _column(_IS_DOUBLE, '"sum"') if aggregation_type == "sum" else F(aggregation_type)


def stored_rows(rollups: models.QuerySet[Rollup], aggregation_type: str) -> models.QuerySet[Any]:
    """Make a row of each rollup, in order: its first timestamp, its value, and what that is made of elsewhere."""
    columns = {"first": InstantText("first_timestamp"), "value": _value(aggregation_type)}
    for name in _PARTS.get(aggregation_type, ()):
        columns[f"its_{name}"] = _column(f"NOT ({_IS_DOUBLE})", f'"{name}"')
    rows: models.QuerySet[Any] = rollups.annotate(**columns).order_by("bucket").values_list(*columns)
    return rows


def read_stored(statement: Statement, aggregation_type: str) -> list[tuple[str, float]]:
    """Return the timestamp and the value of each bucket, in order; the statement is that of ``stored_rows``.

    A sum that might not fit a double is infinite.
    """
    finish, rows = _FINISH.get(aggregation_type), fetch([statement])
    # One expression with ``iso_of`` written out, and each row's cells by their numbers, as this is done ten thousand
    # times. What a sum is made of is missing where it is not exact.
    return [
        (
            row[0].replace(" ", "T") + ENDS[len(row[0])],
            row[1] if row[1] is not None or finish is None else inf if row[2] is None else finish(*row[2:]),
        )
        for row in rows
    ]
