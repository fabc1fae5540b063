"""Owns exact sums: they don't depend on the order of the values, nor on how far events are rolled up.

A sum is counted in units, and every ordinary double is a whole number of units. It is stored as two doubles: the sum,
and the rest that is missing from it. Where two doubles can't hold it, the stored sum is not exact, and only the events
tell the exact one.
"""

from __future__ import annotations

from fractions import Fraction
from math import fsum, inf, isfinite, isinf

# A number of units; it has a fraction where a value is finer than a unit.
Exact = int | Fraction

BITS = 82  # a unit is 2**-82, the last binary digit of a double just above 2**-30
# A value of this size or more may make a sum overflow; adding up 2**63 smaller doubles can't.
OVERFLOWING = 2.0**900


def units_of(value: float) -> Exact:
    """Count the units of a double."""
    numerator, denominator = value.as_integer_ratio()
    shift = BITS + 1 - denominator.bit_length()
    return numerator << shift if shift >= 0 else Fraction(numerator, 1 << -shift)


def read_units(text: str) -> Exact | None:
    """Read the text that a database returns for ``Units``; None where it is not a number."""
    try:
        return int(text)
    except ValueError:
        return None if text == "NaN" else Fraction(text)


def to_double(units: Exact, count: int = 1) -> float:
    """Return the double nearest to units divided by a count; infinity where it is beyond what a double holds."""
    try:
        return float(units / (count << BITS))
    except OverflowError:
        return inf


def average(total: float, rest: float, count: int) -> float:
    """Return the double nearest to the average of ``count`` values with this sum; infinity for an infinite sum."""
    if not rest or isinf(total):
        return total / count
    (a, b), (c, d) = total.as_integer_ratio(), rest.as_integer_ratio()
    return (a * d + c * b) / (b * d * count)


def split(units: Exact | None) -> tuple[float, float, bool]:
    """Turn units into the sum, the rest and whether the two are exact; None gives an infinite sum."""
    total = inf if units is None else to_double(units)
    if units is None or isinf(total):
        return inf, 0.0, True
    left = units - units_of(total)
    rest = to_double(left)
    return total, rest, units_of(rest) == left


def added(total: float, rest: float, other: float, other_rest: float) -> tuple[float, float, bool]:
    """Add two sums with their rests; return the sum, the rest and whether the two are exact."""
    if isinf(total + other):
        return inf, 0.0, True
    parts = [total, rest, other, other_rest]
    both = fsum(parts)
    left = fsum([*parts, -both])
    return both, left, fsum([*parts, -both, -left]) == 0


def exact_total(values: list[float]) -> Exact:
    """Count the units of the sum of doubles; infinite ones are left out."""
    total: Exact = 0
    left = values.copy()
    while True:
        try:
            part = fsum(left)
        except OverflowError:  # a partial sum is beyond a double, though the whole sum may not be
            return sum(map(units_of, filter(isfinite, values)), start=0)
        if isinf(part):
            return exact_total([*filter(isfinite, values)])
        if part == 0:
            return total
        total += units_of(part)
        left.append(-part)
