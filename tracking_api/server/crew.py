"""Threads that work for the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Job = tuple[Callable[[], object], Callable[[object], None], Hashable]


class Crew:
    """So many threads, and the jobs that wait for one.

    Each job has a holder, for whom it is done. Those of one holder are done in the order in which they came, those of
    several in turn, and one thread is left to others: so whoever asks for much keeps nobody else waiting for long. Of
    idle threads the one is taken that worked last, as it and what serves its connection are the warmest.
    """

    def __init__(self, size: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._most_of_a_holder = max(1, size - 1)
        self._running: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[_Job]] = {}  # the holder whose turn it is comes first
        self._idle = [_Member(f"{name}-{number}", self) for number in range(size)]
        for member in self._idle:
            member.start()

    def submit(self, job: Callable[[], _T], done: Callable[[_T], None], holder: Hashable) -> None:
        """Have a thread call ``job``, and call ``done`` with what it returns, in the loop. From the loop's thread."""
        item: _Job = (job, done, holder)  # type: ignore[assignment]  # what one gives the other takes
        if self._idle and self._running[holder] < self._most_of_a_holder:
            self._start(item)
        else:
            self._waiting.setdefault(holder, deque()).append(item)

    def count_idle(self) -> int:
        """Return how many threads have nothing to do."""
        return len(self._idle)

    def finish(self, member: _Member, item: _Job, result: object) -> None:
        """Take the result of a thread's job, and give it the next."""
        _, done, holder = item
        self._idle.append(member)
        self._running[holder] -= 1
        if not self._running[holder]:
            del self._running[holder]
        self._start_next()
        done(result)

    def _start_next(self) -> None:
        for holder in self._waiting:
            if self._running[holder] < self._most_of_a_holder:
                jobs = self._waiting.pop(holder)
                self._start(jobs.popleft())
                if jobs:
                    self._waiting[holder] = jobs  # behind all others
                return

    def _start(self, item: _Job) -> None:
        self._running[item[2]] += 1
        self._idle.pop().jobs.put(item)

    def report(self, member: _Member, item: _Job, result: object) -> None:
        """Have the loop call ``finish``; from a member's thread."""
        self._loop.call_soon_threadsafe(self.finish, member, item, result)


class _Member(Thread):
    def __init__(self, name: str, crew: Crew) -> None:
        super().__init__(name=name, daemon=True)
        self.jobs: SimpleQueue[_Job] = SimpleQueue()
        self._crew = crew

    def run(self) -> None:
        while True:
            item = self.jobs.get()
            try:
                result = item[0]()
            except BaseException:  # a thread that ended would be one less for good
                logger.exception("A job failed.")
                result = None
            self._crew.report(self, item, result)
            del item, result  # or they stay until the next comes
