"""Takes turns at work that is due now and then, in steps, so that the worker can look after other things in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

# For how long a turn looks for what is to be done before that counts as a step, after which it may be stopped.
_LOOK_SECONDS = 0.05

_T = TypeVar("_T")


class Turns:
    """Turns at something that is due once in each hour or day: one that is begun is ended, before another begins."""

    def __init__(self, begin: Callable[[], Iterator[int]]) -> None:
        self._begin = begin
        self._steps: Iterator[int] = iter(())
        self._last: object = None

    def step(self, period: object) -> int | None:
        """Take a step and return what came of it; None where the turn of this hour or day is over."""
        done = next(self._steps, None)
        if done is None and period != self._last:
            self._steps, self._last = self._begin(), period
            done = next(self._steps, None)
        return done

    def forget(self) -> None:
        """Have another turn begin as soon as this one is over, whichever hour or day it is by then."""
        self._last = None


def with_breaks(items: Iterable[_T]) -> Iterator[_T | None]:
    """Yield the items, and None after one where a step is to end, as what was done with those before took so long."""
    start = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - start >= _LOOK_SECONDS:
            yield None
            start = time.monotonic()
