"""Plans a read: window → pieces, the stored minutes and hours and the events that together make up a window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from events.calendar import timestamps
from events.rollups.models import Resolution


class Piece(NamedTuple):
    """A stretch of time, both ends included, and the resolution to read it in; None for the events themselves."""

    resolution: Resolution | None
    first: datetime
    last: datetime


def plan(first: datetime, last: datetime, resolutions: Sequence[Resolution]) -> list[Piece]:
    """List the pieces that make up [first, last], in order and without overlap, each as coarse as possible.

    ``resolutions`` are the ones that may be used, coarsest first. A stored bucket is used only where all of it lies
    in the window; the edges are left to finer buckets, and in the end to the events.
    """
    start, end = timestamps.microseconds_of(first), timestamps.microseconds_of(last) + 1
    return [
        Piece(resolution, timestamps.from_microseconds(a), timestamps.from_microseconds(b - 1))
        for resolution, a, b in _cover(start, end, resolutions)
    ]


def _cover(start: int, end: int, resolutions: Sequence[Resolution]) -> Iterator[tuple[Resolution | None, int, int]]:
    if start >= end:
        return
    if not resolutions:
        yield None, start, end
        return
    coarsest, *finer = resolutions
    length = coarsest.value * 1_000_000
    inner_start, inner_end = -(-start // length) * length, end // length * length
    if inner_start >= inner_end:
        yield from _cover(start, end, finer)
        return
    yield from _cover(start, inner_start, finer)
    yield coarsest, inner_start, inner_end
    yield from _cover(inner_end, end, finer)
