"""Makes the aggregate of each window of so many minutes of what is known of each, as the worker would read it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from math import floor, isinf, isqrt
from operator import ge, le
from typing import TypeVar

from events.aggregation.event_sql import interpolated
from events.rollups.sums import Exact, to_double

Values = list[float | None]

_Number = TypeVar("_Number", int, Exact)

# Every double is a whole number of these, so that sums of doubles are exact.
_UNIT_BITS = 1_074
_UNIT = 1 << _UNIT_BITS
_BLOCK = 1_000
# A quotient of so many bits has a root that is rounded as a double is.
_BITS = 128


def counts(numbers: Sequence[int], width: int) -> Values:
    """List how many events there are in each window."""
    return [float(each) for each in _sliding(numbers, width)]


def sums(totals: Sequence[Exact], width: int) -> Values:
    """List the sum of each window, of the units of each minute's; None where no double holds it."""
    found = map(to_double, _sliding(totals, width))
    return [None if isinf(total) else total for total in found]


def averages(totals: Sequence[Exact], numbers: Sequence[int], width: int) -> Values:
    """List the average of each window, of the units of each minute's sum; None where it is empty."""
    of_windows = zip(_sliding(totals, width), _sliding(numbers, width), strict=True)
    return [to_double(total, number) if number else None for total, number in of_windows]


def extremes(values: Values, width: int, *, is_least: bool) -> Values:
    """List the least or the most of each window; None where it is empty."""
    is_better: Callable[[float, float], bool] = le if is_least else ge
    found: Values = []
    candidates: deque[tuple[int, float]] = deque()
    for number, value in enumerate(values):
        if value is not None:
            while candidates and is_better(value, candidates[-1][1]):
                candidates.pop()
            candidates.append((number, value))
        if candidates and candidates[0][0] <= number - width:
            candidates.popleft()
        if number >= width - 1:
            found.append(candidates[0][1] if candidates else None)
    return found


def ends(values: Values, width: int, *, is_last: bool) -> Values:
    """List the value of the first or the last minute of each window that has one; None where it is empty."""
    found: Values = []
    known: deque[tuple[int, float]] = deque()
    for number, value in enumerate(values):
        if value is not None:
            known.append((number, value))
        if known and known[0][0] <= number - width:
            known.popleft()
        if number >= width - 1:
            found.append(known[-1 if is_last else 0][1] if known else None)
    return found


def percentiles(minutes: Sequence[Sequence[float]], width: int, fraction: float) -> Values:
    """List the percentile of the values of each window; None where it is empty."""
    found: Values = []
    values = _Sorted()
    for number, of_minute in enumerate(minutes):
        for value in of_minute:
            values.add(value)
        if number >= width:
            for value in minutes[number - width]:
                values.remove(value)
        if number >= width - 1:
            rank = fraction * (values.count - 1)
            below = floor(rank)
            low, high = (values.at(below), values.at(min(below + 1, values.count - 1))) if values.count else (0, 0)
            found.append(interpolated(low, high, rank - below) + 0.0 if values.count else None)
    return found


def deviations(minutes: Sequence[Sequence[float]], width: int) -> Values:
    """List the standard deviation of the values of each window; None where there are fewer than two."""
    units = [[_units(value) for value in of_minute] for of_minute in minutes]
    numbers = _sliding([len(of_minute) for of_minute in units], width)
    totals = _sliding([sum(of_minute) for of_minute in units], width)
    squares = _sliding([sum(each * each for each in of_minute) for of_minute in units], width)
    return [_deviation(*each) for each in zip(numbers, totals, squares, strict=True)]


def _deviation(number: int, total: int, squares: int) -> float | None:
    if number < 2:
        return None
    over, under = number * squares - total * total, number * (number - 1) * _UNIT * _UNIT
    half = max(0, _BITS - over.bit_length() + under.bit_length() + 1) // 2
    try:
        return isqrt((over << 2 * half) // under) / (1 << half)
    except OverflowError:
        return None


def _sliding(numbers: Iterable[_Number], width: int) -> list[_Number]:
    """List the exact sum of each ``width`` numbers in a row."""
    totals = list(accumulate(numbers, initial=0))
    return [after - before for before, after in zip(totals, totals[width:], strict=False)]


def _units(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return numerator * (_UNIT // denominator)


class _Sorted:
    """Values in order, in blocks of some hundreds, so that one comes and goes without moving all others."""

    def __init__(self) -> None:
        self.count = 0
        self._blocks: list[list[float]] = []
        self._highest: list[float] = []

    def add(self, value: float) -> None:
        self.count += 1
        if not self._blocks:
            self._blocks, self._highest = [[value]], [value]
            return
        place = min(bisect_left(self._highest, value), len(self._blocks) - 1)
        block = self._blocks[place]
        insort(block, value)
        if len(block) > 2 * _BLOCK:
            self._blocks[place : place + 1] = [block[:_BLOCK], block[_BLOCK:]]
            self._highest[place : place + 1] = [block[_BLOCK - 1], block[-1]]
        else:
            self._highest[place] = block[-1]

    def remove(self, value: float) -> None:
        self.count -= 1
        place = bisect_left(self._highest, value)
        block = self._blocks[place]
        del block[bisect_left(block, value)]
        if block:
            self._highest[place] = block[-1]
        else:
            del self._blocks[place], self._highest[place]

    def at(self, rank: int) -> float:
        for block in self._blocks:
            if rank < len(block):
                return block[rank]
            rank -= len(block)
        raise IndexError(rank)
