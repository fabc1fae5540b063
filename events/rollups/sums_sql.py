"""Writes exact sums in SQL, and adds the functions for them to SQLite, whose own numbers have 64 bits at most."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver
from typing_extensions import override

from events.database.dialect import is_postgresql
from events.rollups import sums

_UNIT = 2.0**-sums.BITS
# PostgreSQL splits a value into two whole numbers: the first has this many bits after the point, the second the rest.
_HIGH, _LOW = 20, sums.BITS - 20
_MOST = 2.0**42  # up to this, both whole numbers fit 64 bits
_LEAST = 2.0**-30  # from this on, no value is finer than a unit
_FOLDED = 10_000


class Units(models.Aggregate):
    """The units of the exact sum of doubles, as numeric on PostgreSQL and as text on SQLite.

    Where a value of the first field is at least ``peak`` or at most ``-peak``, the result is NaN, or NULL on SQLite.
    """

    def __init__(self, *fields: str, peak: float | None = None, **extra: Any) -> None:
        self.peak = peak
        super().__init__(*fields, output_field=models.TextField(), **extra)

    @override
    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Call the aggregate ``_Units``."""
        fields = self._fields(compiler)
        return self._or_none(fields, f"EVENTS_UNITS({', '.join(fields)})", "NULL", "9e999"), ()

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Add up the two whole numbers that each value is split into."""
        fields = self._fields(compiler)
        total = " + ".join(_units_sql(field, is_often_zero=number > 0) for number, field in enumerate(fields))
        return self._or_none(fields, total, "'NaN'::numeric", "'Infinity'::float8"), ()

    def _fields(self, compiler: Any) -> list[str]:
        return [compiler.compile(each)[0] for each in self.get_source_expressions() if each is not None]

    def _or_none(self, fields: list[str], total: str, none: str, infinity: str) -> str:
        if self.peak is None:
            return total
        peak = infinity if isinf(self.peak) else repr(self.peak)
        return f"CASE WHEN MAX({fields[0]}) >= {peak} OR MIN({fields[0]}) <= -{peak} THEN {none} ELSE {total} END"


class UnitsTotal(models.Aggregate):
    """The sum of several results of ``Units``."""

    function = "SUM"
    output_field = models.TextField()

    @override
    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Call the aggregate ``_UnitsTotal``."""
        return self.as_sql(compiler, connection, function="EVENTS_UNITS_TOTAL", **context)


def _double(value: float) -> str:
    return f"'{value!r}'::float8"


def _units_sql(x: str, *, is_often_zero: bool) -> str:
    """Write the units of the sum of a column, for PostgreSQL.

    Values that are not too large are split into two whole numbers of 64 bits, which PostgreSQL adds up fast and
    exactly. What that leaves out of very small values is added as numeric, as very large values are.
    """
    scaled, rest = f"{x} * {_double(2.0**_HIGH)}", _double(2.0**_LOW)
    fits = f"abs({x}) <= {_double(_MOST)}"
    counts = f"{x} <> 0 AND {fits}" if is_often_zero else fits
    counted = f"CASE WHEN {fits} THEN ({x} * {_double(1 / _UNIT)})::bigint ELSE 0 END"
    return (
        f"(coalesce(sum(({scaled})::bigint) FILTER (WHERE {counts}), 0) * {2**_LOW}::numeric"
        f" + coalesce(sum((({scaled} - round({scaled})) * {rest})::bigint) FILTER (WHERE {counts}), 0)"
        f" + coalesce(sum({_numeric_sql(x, sums.BITS)} - {counted})"
        f" FILTER (WHERE abs({x}) > {_double(_MOST)} AND abs({x}) < 'Infinity'::float8"
        f" OR abs({x}) < {_double(_LEAST)} AND {x} <> 0), 0))"
    )


def _numeric_sql(x: str, bits: int) -> str:
    """Write a double times 2**bits as numeric, made of its binary digits: a cast would round it to 15 decimals."""
    binary = f"('x' || encode(float8send({x}), 'hex'))::bit(64)::bigint"
    exponent = f"({binary} >> 52 & 2047)::int"
    scale = f"(greatest({exponent}, 1) - {1075 - bits})"
    digits = f"(({binary} & {2**52 - 1}) + CASE WHEN {exponent} > 0 THEN {2**52} ELSE 0 END)"
    power = (
        f"CASE WHEN {scale} >= 0 THEN trunc(power(2::numeric, {scale}))"
        f" ELSE trunc(power(5::numeric, -{scale})) * ('1e' || {scale})::numeric END"
    )
    return f"(sign({x})::numeric * {digits} * {power})"


def _whole_numeric_sql(x: str) -> str:
    """Write a double as numeric; fast where it is a whole number of up to 124 bits."""
    high = f"round({x} * {_double(2.0**-62)})"
    return (
        f"CASE WHEN abs({x}) <= {_double(2.0**124)} AND {x} = trunc({x})"
        f" THEN {high}::bigint * {2**62}::numeric + ({x} - {high} * {_double(2.0**62)})::bigint"
        f" ELSE {_numeric_sql(x, 0)} END"
    )


def rollups(rows: str, columns: Sequence[str]) -> str:
    """Write the SELECT of rollups around a SELECT that has ``units`` in place of sum, rest and exactness.

    ``columns`` names the columns of ``rows``. The rollups are in the order of their key.
    """
    names, units = ", ".join(columns), columns.index("units")
    before, after = ", ".join(columns[:units]), ", ".join(columns[units + 1 :])
    if not is_postgresql():
        parts, last = f"found ({names}) AS ({rows})", "found"
        is_one = "count = 1 AND units IS NOT NULL"
        total = f"CASE WHEN {is_one} THEN min + 0.0 ELSE EVENTS_SUM(units) END"
        rest, is_exact = (
            f"CASE WHEN {is_one} THEN {of_one} ELSE EVENTS_{name}(units) END"
            for of_one, name in (("0.0", "REST"), ("true", "IS_EXACT"))
        )
    else:
        # OFFSET 0 keeps PostgreSQL from computing a column again wherever a later step names it. For a single value
        # nothing is computed.
        parts = (
            f"found ({names}) AS ({rows}),"  # noqa: S608
            " summed AS (SELECT *, CASE WHEN count > 1 AND units <> 'NaN' THEN units::float8 END AS total"
            " FROM found OFFSET 0),"
            " missed AS (SELECT *, CASE WHEN total IS NOT NULL"
            f" THEN units - ({_whole_numeric_sql('total')}) END AS missing FROM summed OFFSET 0),"
            " told AS (SELECT *, CASE WHEN missing <> 0 THEN missing::float8 END AS rest FROM missed OFFSET 0)"
        )
        last = "told"
        total = (
            f"CASE WHEN total IS NOT NULL THEN total * {_double(_UNIT)}"
            " WHEN units = 'NaN' THEN 'Infinity' ELSE min + 0.0 END"
        )
        rest = f"CASE WHEN rest IS NULL THEN 0 ELSE rest * {_double(_UNIT)} END"
        is_exact = (
            f"CASE WHEN rest IS NULL THEN true WHEN abs(missing) < {2**53} AND missing = trunc(missing) THEN true"
            f" ELSE {_whole_numeric_sql('rest')} = missing END"
        )
    columns_sql = f"{before}, {total}, {rest}, {is_exact}, {after}"
    return f"WITH {parts} SELECT {columns_sql} FROM {last} WHERE true ORDER BY namespace, name, bucket"  # noqa: S608


def added(a: str, b: str) -> dict[str, str]:
    """Write the sum, rest and exactness of two tables' rows added up, by column, as ``sums.added`` computes them."""
    are_exact = f"{a}.is_exact AND {b}.is_exact"
    if not is_postgresql():
        both = f"{a}.sum, {a}.rest, {b}.sum, {b}.rest"
        return {
            "sum": f"EVENTS_ADDED({both})",
            "rest": f"EVENTS_ADDED_REST({both})",
            "is_exact": f"{are_exact} AND EVENTS_ADDED_IS_EXACT({both})",
        }
    total, missed = _two_sum(f"{a}.sum", f"{b}.sum")
    rests, rests_missed = _two_sum(f"{a}.rest", f"{b}.rest")
    rest, rest_missed = _two_sum(rests, missed)
    both, left = _two_sum(total, rest)
    is_infinite = f"{total} = 'Infinity'"
    is_plain = f"{a}.rest = 0 AND {b}.rest = 0"
    return {
        "sum": f"CASE WHEN {is_infinite} OR {is_plain} THEN {total} ELSE {both} END",
        "rest": f"CASE WHEN {is_infinite} THEN 0 WHEN {is_plain} THEN {missed} ELSE {left} END",
        "is_exact": f"CASE WHEN {is_infinite} THEN true WHEN {is_plain} THEN {are_exact}"
        f" ELSE {are_exact} AND {rests_missed} = 0 AND {rest_missed} = 0 END",
    }


def _two_sum(a: str, b: str) -> tuple[str, str]:
    """Write the sum of two doubles, and the part that rounding leaves out of it, by Knuth's TwoSum."""
    total = f"({a} + {b})"
    of_b = f"({total} - {a})"
    return total, f"(({a} - ({total} - {of_b})) + ({b} - {of_b}))"


class _Units:
    def __init__(self) -> None:
        self._total: sums.Exact = 0
        self._values: list[float] = []

    def step(self, *values: float) -> None:
        self._values += values
        if len(self._values) > _FOLDED:
            self._fold()

    def finalize(self) -> str:
        self._fold()
        return str(self._total)

    def _fold(self) -> None:
        self._total += sums.exact_total(self._values)
        self._values.clear()


class _UnitsTotal:
    def __init__(self) -> None:
        self._total: sums.Exact | None = 0

    def step(self, text: str | None) -> None:
        units = None if text is None else sums.read_units(text)
        self._total = None if self._total is None or units is None else self._total + units

    def finalize(self) -> str | None:
        return None if self._total is None else str(self._total)


def _split_text(text: str | None) -> tuple[float, float, bool]:
    return sums.split(None if text is None else sums.read_units(text))


@receiver(connection_created)
def add_functions(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Add functions for exact sums to SQLite, whose own numbers have 64 bits at most."""
    if connection.vendor == "sqlite":
        create = connection.connection.create_function
        connection.connection.create_aggregate("EVENTS_UNITS", -1, _Units)
        connection.connection.create_aggregate("EVENTS_UNITS_TOTAL", 1, _UnitsTotal)
        create("EVENTS_SUM", 1, lambda text: _split_text(text)[0], deterministic=True)
        create("EVENTS_REST", 1, lambda text: _split_text(text)[1], deterministic=True)
        create("EVENTS_IS_EXACT", 1, lambda text: _split_text(text)[2], deterministic=True)
        create("EVENTS_ADDED", 4, lambda *parts: sums.added(*parts)[0], deterministic=True)
        create("EVENTS_ADDED_REST", 4, lambda *parts: sums.added(*parts)[1], deterministic=True)
        create("EVENTS_ADDED_IS_EXACT", 4, lambda *parts: sums.added(*parts)[2], deterministic=True)
