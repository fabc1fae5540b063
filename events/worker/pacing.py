"""The roller at work, as the worker's command or beside a request: steps that others can wait for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from django.db import DatabaseError, connection

from events.worker import roll_up
from events.worker.roll_up import Step

logger = logging.getLogger(__name__)


class _Pace(NamedTuple):
    least_events: int
    most_events: int
    seconds: float  # for which a step is to hold its lock
    pause_seconds: float


# The more events a step has, the fewer rollups it and the next one both write. But changes of stored events wait for
# its lock. On SQLite every writer does, and looks again after 1, 3, 8, 18, 33 and 53 ms: the pause meets one of those.
_PACES = {
    "postgresql": _Pace(20_000, 500_000, 2.0, 0),
    "sqlite": _Pace(150, 5_000, 0.008, 0.02),
}
_ASIDE_SECONDS = 1
_MOST_WAIT_SECONDS = 2
_at_work_aside = threading.Lock()


class Roller:
    """Takes steps as large as others can wait for, judging by how long the last ones took."""

    def __init__(self) -> None:
        self._pace = _PACES[connection.vendor]
        self.most_events = roll_up.step_events()

    def catch_up(self, is_wanted: Callable[[], bool], pause: Callable[[float], object]) -> Iterator[Step]:
        """Steps up to the first that takes all there is; what came meanwhile is worth a step at the next look.

        Raises DatabaseError, after which the next step is a small one.
        """
        while is_wanted():
            try:
                step = roll_up.take_step(is_wanted, self.most_events)
            except DatabaseError:
                self.most_events = min(self.most_events, self._pace.least_events)
                raise
            if step is None:
                return
            self._learn(step)
            yield step
            if not step.is_full:
                return
            if self._pace.pause_seconds:
                pause(self._pace.pause_seconds)

    def _learn(self, step: Step) -> None:
        pace, most = self._pace, self.most_events
        if step.is_full or step.seconds > pace.seconds:  # a few events say nothing about many
            fitting = int(step.events * pace.seconds / max(step.seconds, 0.001))
            self.most_events = min(max(fitting, pace.least_events), 2 * most, pace.most_events)


def catch_up_aside() -> None:
    """Have a thread of its own take steps for a moment, unless one is at it already; for a service without a worker."""
    if _at_work_aside.acquire(blocking=False):
        threading.Thread(target=_catch_up_aside, daemon=True).start()


def wait_for_catching_up() -> None:
    """The same, and wait until that thread has done what it can; whoever comes meanwhile waits for the same one."""
    catch_up_aside()
    if _at_work_aside.acquire(timeout=_MOST_WAIT_SECONDS):
        _at_work_aside.release()


def _catch_up_aside() -> None:
    give_up = time.monotonic() + _ASIDE_SECONDS
    try:
        for _ in Roller().catch_up(lambda: time.monotonic() < give_up, time.sleep):
            pass
    except DatabaseError as error:
        logger.warning("No step of the roller: %s", error)
    finally:
        connection.close()
        _at_work_aside.release()
