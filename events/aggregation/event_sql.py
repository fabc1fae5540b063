"""Writes percentiles and standard deviations of events in SQL, and adds aggregates for them to SQLite."""

from __future__ import annotations

from math import floor, frexp, fsum, inf, isinf, ldexp, sqrt
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver
from typing_extensions import override

# Squares of values up to this, as many as there may be, add up to less than the largest double; those of values down
# to its reciprocal are not lost.
_LARGE = 1e140
# Brings values beyond these into that range, without rounding any that counts.
_FACTOR = 2.0**600
# Smaller values don't count beside the ones that a product with a factor is for.
_SMALLEST = 1e-100


class Percentile(models.Aggregate):
    """The value that a fraction of the values lies below, interpolated linearly between the two closest ranks.

    On PostgreSQL the values are multiplied by ``scale`` first; on SQLite they need not be, as nothing overflows there.
    """

    output_field = models.FloatField()

    def __init__(self, field: str, fraction: float, scale: float, **extra: Any) -> None:
        self.fraction, self.scale = fraction, scale
        super().__init__(field, **extra)

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Use the ordered-set aggregate of the SQL standard."""
        value = _times(self._value(compiler), self.scale)
        return f"percentile_cont({_double(self.fraction)}) WITHIN GROUP (ORDER BY {value})", ()

    @override
    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Call the aggregate ``_Percentile``."""
        return f"EVENTS_PERCENTILE({self._value(compiler)}, {self.fraction!r}) * {self.scale!r}", ()

    def _value(self, compiler: Any) -> str:
        return str(compiler.compile(self.get_source_expressions()[0])[0])


class Deviation(models.Aggregate):
    """The standard deviation of a sample, of the values times a factor; NULL for a single value.

    On PostgreSQL only values whose squares neither overflow nor vanish count, and on SQLite all.
    """

    output_field = models.FloatField()
    HUGE, PLAIN, TINY = 1 / _FACTOR, 1.0, _FACTOR

    def __init__(self, field: str, factor: float, **extra: Any) -> None:
        self.factor = factor
        super().__init__(field, **extra)

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Use PostgreSQL's aggregate, which adds up by Youngs and Cramer, and raises an error where it overflows."""
        value = compiler.compile(self.get_source_expressions()[0])[0]
        most = {self.HUGE: inf, self.PLAIN: _LARGE, self.TINY: 1 / _LARGE}[self.factor]
        chosen = "" if isinf(most) else f" FILTER (WHERE abs({value}) <= {_double(most)})"
        return f"stddev_samp({_times(value, self.factor)}){chosen}", ()

    @override
    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Call the aggregate ``_Deviation``, once for the values of any size."""
        value = compiler.compile(self.get_source_expressions()[0])[0]
        return f"EVENTS_DEVIATION({value})" if self.factor == self.PLAIN else "NULL", ()


def deviation(number: int, least: float, most: float, huge: float, plain: float | None, tiny: float) -> float | None:
    """Choose the deviation of a bucket from the three of its row; None for one value, infinity past all doubles."""
    if number < 2:
        return None
    if least == most:
        return 0.0
    peak = max(abs(least), abs(most))
    if huge is None and tiny is None and plain is not None:  # on SQLite
        return plain
    if peak > _LARGE:
        return huge * _FACTOR
    return tiny / _FACTOR if peak < 1 / _LARGE else plain


def interpolated(low: float, high: float, share: float) -> float:
    """Return the value at a share of the way from one value to a larger one, as PostgreSQL computes it."""
    value = low + share * (high - low)
    return 4 * interpolated(low / 4, high / 4, share) if isinf(value) else value


def _times(value: str, factor: float) -> str:
    """Write a product for PostgreSQL, to which one that vanishes would be an error."""
    if factor == 1:
        return value
    product = f"{value} * {_double(factor)}"
    return product if factor > 1 else f"CASE WHEN abs({value}) >= {_double(_SMALLEST)} THEN {product} ELSE 0 END"


def _double(value: float) -> str:
    return f"'{value!r}'::float8"


class _Percentile:
    def __init__(self) -> None:
        self._values: list[float] = []
        self._fraction = 0.0

    def step(self, value: float, fraction: float) -> None:
        self._values.append(value)
        self._fraction = fraction

    def finalize(self) -> float:
        values = self._values
        values.sort()
        rank = self._fraction * (len(values) - 1)
        below = floor(rank)
        if below == rank:
            return values[below]
        return interpolated(values[below], values[below + 1], rank - below)


class _Deviation:
    def __init__(self) -> None:
        self._values: list[float] = []

    def step(self, value: float) -> None:
        self._values.append(value)

    def finalize(self) -> float | None:
        values = self._values
        if len(values) < 2:
            return None
        exponent = frexp(max(abs(max(values)), abs(min(values))))[1]
        # each is below 1 then, so that no square overflows
        values = [ldexp(value, -exponent) for value in values]
        mean = fsum(values) / len(values)
        scaled = sqrt(fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        try:
            return ldexp(scaled, exponent)
        except OverflowError:
            return inf


@receiver(connection_created)
def add_functions(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Add aggregates to SQLite, which has none for percentiles and deviations."""
    if connection.vendor == "sqlite":
        connection.connection.create_aggregate("EVENTS_PERCENTILE", 2, _Percentile)
        connection.connection.create_aggregate("EVENTS_DEVIATION", 1, _Deviation)
