"""Merges what a bucket's rows say of its sum, and makes the bucket's sum or average of it.

A row starts with the sum as two doubles, as a rollup holds it, or as units; where it has neither, it is infinite.
"""

from __future__ import annotations

from math import inf, isfinite, isinf
from typing import Any

from events.rollups import sums

_Units = sums.Exact | str | None


def total(total: float | None, missed: float | None, units: _Units) -> float:
    """Return the sum of a bucket, from the columns of its merged row."""
    if total is not None and missed is not None:
        return total + missed
    exact = _exact(None, None, units)
    return inf if exact is None else sums.to_double(exact)


def average(total: float | None, missed: float | None, units: _Units, number: int, least: float, most: float) -> float:
    """Return the average, kept between the least and the most value, as the sum of a rollup may not be exact."""
    if total is not None and missed is not None:
        value = sums.average(total, missed, number)
    else:
        exact = _exact(None, None, units)
        value = inf if exact is None else sums.to_double(exact, number)
    return value if isinf(value) else min(max(value, least), most)


def merged(known: tuple[Any, ...], row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Merge two rows of a bucket: the columns of the sum, and for an average those of the count and both ends."""
    a, b = _exact(*known[:3]), _exact(*row[:3])
    both = (None, None, None if a is None or b is None else a + b)
    if len(row) == len(both):
        return both
    (number, least, most), (others, lower, higher) = known[3:], row[3:]
    return (*both, number + others, min(least, lower), max(most, higher))


def _exact(total: float | None, missed: float | None, units: _Units) -> sums.Exact | None:
    if total is None or missed is None:
        return sums.read_units(units) if isinstance(units, str) else units
    return sums.units_of(total) + sums.units_of(missed) if isfinite(total + missed) else None
