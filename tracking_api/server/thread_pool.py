"""Runs jobs of the event loop on threads, in fair turns between the jobs' owners."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from typing_extensions import override

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Job = tuple[Callable[[], object], Callable[[object], None], Hashable]


class FairThreadPool:
    """A fixed number of threads, and the jobs that wait for one.

    Each job has an owner, for whom it is done. An owner's jobs are started in the order in which they came, and owners
    take turns. One thread is always left to other owners. So an owner of many jobs keeps no other waiting for long. Of
    idle threads the one that worked last is taken, as its memory, and its database connection's, is the warmest.
    """

    def __init__(self, size: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._most_of_an_owner = max(1, size - 1)
        self._running: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[_Job]] = {}  # by owner; the next one to have a turn comes first
        self._idle = [_PoolThread(f"{name}-{number}", self) for number in range(size)]
        for thread in self._idle:
            thread.start()

    def submit(self, job: Callable[[], _T], done: Callable[[_T], None], owner: Hashable) -> None:
        """Call ``job`` in a thread, then ``done`` with its result in the loop. To be called in the loop's thread."""
        item: _Job = (job, done, owner)  # type: ignore[assignment]  # done takes what job returns
        if self._idle and self._running[owner] < self._most_of_an_owner:
            self._start(item)
        else:
            self._waiting.setdefault(owner, deque()).append(item)

    def count_idle(self) -> int:
        """Return how many threads have nothing to do."""
        return len(self._idle)

    def finish(self, thread: _PoolThread, item: _Job, result: object) -> None:
        """Pass a job's result to its ``done``, and give the idle threads the next job. Called in the loop's thread."""
        _, done, owner = item
        self._idle.append(thread)
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]
        self._start_next()
        done(result)

    def _start_next(self) -> None:
        for owner in self._waiting:
            if self._running[owner] < self._most_of_an_owner:
                jobs = self._waiting.pop(owner)
                self._start(jobs.popleft())
                if jobs:
                    self._waiting[owner] = jobs  # behind all others
                return

    def _start(self, item: _Job) -> None:
        self._running[item[2]] += 1
        self._idle.pop().jobs.put(item)

    def report(self, thread: _PoolThread, item: _Job, result: object) -> None:
        """Make the loop call ``finish``. Called in a thread of the pool."""
        self._loop.call_soon_threadsafe(self.finish, thread, item, result)


class _PoolThread(Thread):
    def __init__(self, name: str, pool: FairThreadPool) -> None:
        super().__init__(name=name, daemon=True)
        self.jobs: SimpleQueue[_Job] = SimpleQueue()
        self._pool = pool

    @override
    def run(self) -> None:
        while True:
            item = self.jobs.get()
            try:
                result = item[0]()
            except BaseException:  # a thread that ended would be missing from the pool for good
                logger.exception("A job failed.")
                result = None
            self._pool.report(self, item, result)
            del item, result  # otherwise they would stay in memory until the next job
