"""Owns the bins of histograms: which values one holds, the value that stands for these, and how SQL finds it.

A bin holds the values up to a limit that are more than the next lower limit; limits are e^(1/50) apart, and negative
values have bins of their own. Bins sort as their values do. The value that stands for a bin differs from each of its
values by less than 1 %.
"""

from __future__ import annotations

import sys
from functools import cache
from math import ceil, cosh, exp, log
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver
from typing_extensions import override

ACCURACY = 0.01
# So many bins for each e-fold: their middle, as a ratio, is off by tanh(1 / 100), which is a little less than 1 %.
_BINS_AN_E_FOLD = 50
# Makes the numbers of all bins of positive values positive: those of the smallest ones begin at -37,222.
_FIRST = 40_000
_LARGEST_EXPONENT = log(sys.float_info.max)


class Bin(models.Func):
    """The bin of a value: 0 for 0, a positive number for positive values, a negative one for negative values."""

    output_field = models.IntegerField()
    function = "EVENTS_BIN"

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Use the logarithm, to whose arguments PostgreSQL has no error here."""
        value = compiler.compile(self.get_source_expressions()[0])[0]
        of_absolute = f"ceil({_BINS_AN_E_FOLD} * ln({{}}))::integer + {_FIRST}"
        return (
            f"CASE WHEN {value} > 0 THEN {of_absolute.format(value)}"
            f" WHEN {value} < 0 THEN -({of_absolute.format(f'-{value}')}) ELSE 0 END"
        ), ()

    @override
    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Call ``bin_of``, as not every SQLite has logarithms."""
        return self.as_sql(compiler, connection, **context)


def bin_of(value: float) -> int:
    """Return the bin of a value."""
    if value == 0:
        return 0
    number = ceil(_BINS_AN_E_FOLD * log(abs(value))) + _FIRST
    return number if value > 0 else -number


@cache
def value_of(number: int) -> float:
    """Return the value that stands for a bin: relative to its limits, the middle."""
    if number <= 0:
        return -value_of(-number) if number else 0.0
    exponent = (number - _FIRST - 0.5) / _BINS_AN_E_FOLD
    return exp(min(exponent, _LARGEST_EXPONENT)) / cosh(0.5 / _BINS_AN_E_FOLD)


@receiver(connection_created)
def add_functions(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Add the function that finds a bin to SQLite."""
    if connection.vendor == "sqlite":
        connection.connection.create_function("EVENTS_BIN", 1, bin_of, deterministic=True)
