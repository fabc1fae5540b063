"""Threads that work for the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Job = tuple[Callable[[], object], Callable[[object], None]]


class Crew:
    """So many threads, and the jobs that wait for one: the first that came is the next.

    Of idle threads the one is taken that worked last, as it and what serves its connection are the warmest.
    """

    def __init__(self, size: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Job] = deque()
        self._idle = [_Member(f"{name}-{number}", self) for number in range(size)]
        for member in self._idle:
            member.start()

    def submit(self, job: Callable[[], _T], done: Callable[[_T], None]) -> None:
        """Have a thread call ``job``, and call ``done`` with what it returns, in the loop. From the loop's thread."""
        pair: _Job = (job, done)  # type: ignore[assignment]  # what one gives the other takes
        if self._idle:
            self._idle.pop().jobs.put(pair)
        else:
            self._waiting.append(pair)

    def count_idle(self) -> int:
        """Return how many threads have nothing to do."""
        return len(self._idle)

    def finish(self, member: _Member, done: Callable[[object], None], result: object) -> None:
        """Give the thread its next job, and take the result of the last."""
        if self._waiting:
            member.jobs.put(self._waiting.popleft())
        else:
            self._idle.append(member)
        done(result)

    def report(self, member: _Member, done: Callable[[object], None], result: object) -> None:
        """Have the loop call ``finish``; from a member's thread."""
        self._loop.call_soon_threadsafe(self.finish, member, done, result)


class _Member(Thread):
    def __init__(self, name: str, crew: Crew) -> None:
        super().__init__(name=name, daemon=True)
        self.jobs: SimpleQueue[_Job] = SimpleQueue()
        self._crew = crew

    def run(self) -> None:
        while True:
            job, done = self.jobs.get()
            try:
                result = job()
            except BaseException:  # a thread that ended would be one less for good
                logger.exception("A job failed.")
                result = None
            self._crew.report(self, done, result)
            del job, done, result  # or they stay until the next comes
