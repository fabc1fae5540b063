"""Merges what a bucket's rows say of its sum, and makes the bucket's sum or average of it.

A row starts with the sum as a rollup holds it, or else as units; where it has neither, the sum is infinite. A rollup
holds it as two doubles, of which the second is None where it is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isfinite, isinf
from operator import add
from typing import Any

from events.rollups import sums

_Units = sums.Exact | str | None
_SUM_AND_COUNT = 4
_MERGES: tuple[Callable[..., Any], ...] = (add, min, max)


def total(total: float | None, missed: float | None, units: _Units) -> float:
    """Return the sum of a bucket, from the columns of its merged row."""
    if total is not None:
        return total + (missed or 0.0)
    whole = exact(None, None, units)
    return inf if whole is None else sums.to_double(whole)


def average(total: float | None, missed: float | None, units: _Units, number: int) -> float:
    """Return the average of a bucket, from the columns of its merged row."""
    if total is not None:
        return sums.average(total, missed, number) if missed else total / number
    whole = exact(None, None, units)
    return inf if whole is None else sums.to_double(whole, number)


def bounded_average(
    total: float | None, missed: float | None, units: _Units, number: int, least: float, most: float
) -> float:
    """Return an average between the least and the most value, where the sum may not be exact."""
    value = average(total, missed, units, number)
    return value if isinf(value) else min(max(value, least), most)


def merged(known: tuple[Any, ...], row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Merge two rows of a bucket: the sum, and then the count, the least and the most value as far as there are any."""
    a, b = exact(known[0], known[1], known[2]), exact(row[0], row[1], row[2])
    both = None, None, None if a is None or b is None else a + b
    if len(row) == _SUM_AND_COUNT:  # the usual case, ten thousand times in some answers
        return (*both, known[3] + row[3])
    return (*both, *(merge(*pair) for merge, *pair in zip(_MERGES, known[3:], row[3:], strict=False)))


def exact(total: float | None, missed: float | None, units: _Units) -> sums.Exact | None:
    """Return the units of a bucket's sum, from the columns of its row; None where it is infinite."""
    if total is None:
        return sums.read_units(units) if isinstance(units, str) else units
    if not isfinite(total):
        return None
    return sums.units_of(total) + sums.units_of(missed) if missed else sums.units_of(total)
