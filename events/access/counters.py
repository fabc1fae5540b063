"""Counts what happened lately under a key; all processes share the counts where CACHE_URL names a cache."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from math import floor
from threading import Lock
from types import SimpleNamespace
from typing import TypeVar, cast

from django.conf import settings
from limits.errors import StorageError
from limits.storage import MemcachedStorage, MemoryStorage, memory, storage_from_string
from limits.storage.base import SlidingWindowCounterSupport
from pymemcache import MemcacheError

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
GiveBack = Callable[[], object]
TIMEOUT_SECONDS = 1.0  # short, as a request waits while the cache is asked
_TIMEOUTS = {
    "memcached": ("timeout", "connect_timeout"),
    "redis": ("socket_timeout", "socket_connect_timeout"),
    "rediss": ("socket_timeout", "socket_connect_timeout"),
}
_AWAY_SECONDS = 5
_PRECISION_SECONDS = 0.001  # Redis counts in milliseconds; the counts in memory are as precise as a double

# Counts in memory need a clock that nobody sets: a step of the wall clock forward would forget them, and a step back
# would keep them for longer. The library has no parameter for the clock, but it asks its module's `time` for the wall
# clock and for nothing else. The clock must be far from 0: in the first window after 0, the library takes the current
# window for the previous one too.
_BEGAN = time.time() - time.monotonic()
memory.time = SimpleNamespace(time=lambda: _BEGAN + time.monotonic())  # type: ignore[attr-defined, assignment]


@dataclass(frozen=True)
class Window:
    """The counts of the current stretch of ``seconds`` and of the previous one, which fades while this one passes.

    So the sum of both is about what happened in the last ``seconds``, at each moment.
    """

    seconds: int
    previous: int
    previous_left_seconds: float
    current: int
    current_left_seconds: float

    def remaining(self, quota: int) -> int:
        """Return how many more fit into a quota, 0 or more."""
        faded = self.previous * self.previous_left_seconds / self.seconds
        return max(0, quota - floor(faded + self.current))

    def wait_seconds(self, quota: int, cost: int) -> int:
        """Return in how many whole seconds ``cost`` more fit into a quota of at least that; 0 where they fit now."""
        if cost <= self.remaining(quota):
            return 0
        room = quota - cost + 1  # the count must have fallen below this
        if self.current < room:
            wait = self.previous_left_seconds - (room - self.current) * self.seconds / self.previous
        else:
            wait = self.current_left_seconds + self.seconds * (1 - room / self.current)
        return floor(wait + _PRECISION_SECONDS) + 1


class Counters:
    """Counts by key. While the cache can't be reached, each process counts by itself: more is let through, not less."""

    def __init__(self, url: str) -> None:
        self._own = MemoryStorage()
        self._own_lock = Lock()  # the counts in memory are right only where one thread at a time uses them
        self._shared: SlidingWindowCounterSupport = self._own
        self._errors: tuple[type[Exception], ...] = (StorageError, OSError)
        timeouts = _TIMEOUTS.get(url.split(":")[0])
        if timeouts is not None:
            storage = storage_from_string(url, wrap_exceptions=True, **dict.fromkeys(timeouts, TIMEOUT_SECONDS))
            self._shared = cast(SlidingWindowCounterSupport, storage)
            if isinstance(storage, MemcachedStorage):
                self._errors += (MemcacheError,)  # the calls of its client below are not wrapped by the library
        self._away_until = 0.0

    def take(self, key: str, quota: int, seconds: int, cost: int = 1) -> bool:
        """Count ``cost`` more under a key and return True; where the quota has no room, count nothing, return False."""
        return self.lend(key, quota, seconds, cost) is not None

    def lend(self, key: str, quota: int, seconds: int, cost: int = 1) -> GiveBack | None:
        """Count as ``take`` does, and return a function that takes the count back; None where it doesn't fit.

        However many threads and processes ask at once, no more is lent than the quota.
        """
        hashed = _hashed(key)
        lent = self._ask(lambda storage: (storage, _acquire(storage, hashed, quota, seconds, cost)))
        storage, release = lent
        return None if release is None else partial(self._give_back, storage, release)

    def look(self, key: str, seconds: int) -> Window:
        """Return what is counted under a key, without counting."""
        previous, previous_left, current, current_left = self._ask(
            lambda storage: storage.get_sliding_window(_hashed(key), seconds)
        )
        return Window(seconds, previous, previous_left, current, current_left - seconds)

    def _give_back(self, storage: SlidingWindowCounterSupport, release: GiveBack) -> None:
        # Give back to the storage that counted it. Where that is away by now, it stays counted until its time is over.
        if storage is self._own:
            with self._own_lock:
                release()
        elif not self._is_away():
            try:
                release()
            except self._errors as error:
                self._leave_alone(error)

    def _ask(self, question: Callable[[SlidingWindowCounterSupport], _T]) -> _T:
        if self._shared is not self._own and not self._is_away():
            try:
                return question(self._shared)
            except self._errors as error:
                self._leave_alone(error)
        with self._own_lock:
            return question(self._own)

    def _is_away(self) -> bool:
        return time.monotonic() < self._away_until

    def _leave_alone(self, error: Exception) -> None:
        self._away_until = time.monotonic() + _AWAY_SECONDS
        reason = error.__cause__ or error
        logger.error("The cache can't be reached: %s: %s", type(reason).__name__, reason)


def _acquire(storage: SlidingWindowCounterSupport, key: str, quota: int, seconds: int, cost: int) -> GiveBack | None:
    """Count in a storage, and return a function that takes the count back; None where it doesn't fit."""
    if isinstance(storage, MemcachedStorage):
        return _acquire_in_memcached(storage, key, quota, seconds, cost)
    if not storage.acquire_sliding_window_entry(key, quota, seconds, cost):
        return None
    # Where a new window has begun meanwhile, the count is taken from the new one, which so lets a bit more through.
    return partial(storage.acquire_sliding_window_entry, key, quota, seconds, -cost)


def _acquire_in_memcached(storage: MemcachedStorage, key: str, quota: int, seconds: int, cost: int) -> GiveBack | None:
    """Count first and compare then, as memcached can't do both in one step. Returns what ``_acquire`` does.

    The library compares first. So it lets a whole quota of calls at once through, whatever the previous window had.
    """
    _, current_key = storage.sliding_window_keys(key, seconds, time.time())
    current = storage.incr(current_key, 2 * seconds, cost, set_expiration_key=False)
    previous, previous_left_seconds, _, _ = storage.get_sliding_window(key, seconds)
    release = partial(storage.storage.decr, current_key, cost)
    if floor(previous * previous_left_seconds / seconds + current) <= quota:
        return release
    release()
    return None


@cache
def counters() -> Counters:
    """Return this process's counters."""
    return Counters(settings.CACHE_URL)


def _hashed(key: str) -> str:
    # memcached takes neither blanks nor long keys
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
