"""Paces the roller, in the worker or in the background of a request: its steps are short enough for others to wait."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from django.conf import settings
from django.db import DatabaseError, connection

from events.database.dialect import choose
from events.database.errors import is_cancelled
from events.worker import moving, roll_up
from events.worker.roll_up import Step

logger = logging.getLogger(__name__)


class _Pace(NamedTuple):
    least_events: int
    most_events: int
    most_seconds: float  # how long a step is meant to hold its lock
    pause_seconds: float


# The more events a step has, the fewer rollups are written twice, by it and by the next one. But changes of stored
# events wait for its lock, and fail after DATABASE_TIMEOUT_SECONDS: a step is meant to take half of that at most, as
# some last longer than meant. One whose events make many more rollups than those before would last many times as long,
# so it is cancelled in time. The smallest step, which never is, takes less than the shortest such time: each of its
# events may take a tenth of a millisecond. On SQLite every writer waits for it, and looks again after 1, 3, 8, 18, 33
# and 53 ms, and then every 25: the pause is longer than that, so that one of these looks falls into it.
_PACES = {
    "postgresql": _Pace(4_000, 2_000_000, 4.0, 0),
    "sqlite": _Pace(150, 5_000, 0.008, 0.03),
}
# A part of how long others wait, and of how long a worker that is to stop has before it is killed.
_CANCELLED_AFTER = 0.9
_BACKGROUND_SECONDS = 1
_MOST_WAIT_SECONDS = 2
_background_lock = threading.Lock()


class Roller:
    """Takes steps that are as large as others can wait for, by how long the last ones took."""

    def __init__(self) -> None:
        self._pace = choose(**_PACES)
        self._seconds = min(self._pace.most_seconds, settings.DATABASE_TIMEOUT_SECONDS / 2)
        self._cancelled_after = _CANCELLED_AFTER * min(settings.DATABASE_TIMEOUT_SECONDS, settings.STOP_SECONDS)
        self.most_events = roll_up.step_events()

    def catch_up(self, is_wanted: Callable[[], bool], pause: Callable[[float], object]) -> Iterator[Step]:
        """Take steps until one has taken all there is, and yield each; events that came meanwhile are left for later.

        Stops as soon as ``is_wanted`` says no. Raises DatabaseError, after which the next step is a small one.
        """
        while is_wanted():
            try:
                step = self._take_step(is_wanted)
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

    def _take_step(self, is_wanted: Callable[[], bool]) -> Step | None:
        """Take a step, or a small one where that is cancelled, as it would last longer than others can wait."""
        least = self._pace.least_events
        if self.most_events > least:
            try:
                return roll_up.take_step(is_wanted, self.most_events, self._cancelled_after)
            except DatabaseError as error:
                if not is_cancelled(error):
                    raise
                self.most_events = least
        return roll_up.take_step(is_wanted, self.most_events)  # never cancelled, or nothing would ever be done

    def _learn(self, step: Step) -> None:
        pace, most = self._pace, self.most_events
        if step.is_full or step.seconds > self._seconds:  # how long a few events took says nothing about many
            # a full step has fewer events than it may take where ids are missing, as those of series that are deleted
            events = most if step.is_full else step.events
            fitting = int(events * self._seconds / max(step.seconds, 0.001))
            self.most_events = min(max(fitting, pace.least_events), 2 * most, pace.most_events)


def catch_up_in_background() -> None:
    """Roll up in the background for up to a second, unless a thread already does; for a service without a worker.

    Then go on with moving series, where that was asked for.
    """
    if _background_lock.acquire(blocking=False):
        threading.Thread(target=_catch_up_in_background, daemon=True).start()


def wait_for_catching_up() -> None:
    """Roll up in the background and wait until that is done, two seconds at most.

    Where a thread is already at it, wait for that one.
    """
    catch_up_in_background()
    if _background_lock.acquire(timeout=_MOST_WAIT_SECONDS):
        _background_lock.release()


def _catch_up_in_background() -> None:
    give_up = time.monotonic() + _BACKGROUND_SECONDS
    try:
        for _ in Roller().catch_up(lambda: time.monotonic() < give_up, time.sleep):
            pass
        moving.go_on(give_up, lambda: True, time.sleep)
    except DatabaseError as error:
        logger.warning("No step of the roller: %s", error)
    finally:
        connection.close()
        _background_lock.release()
