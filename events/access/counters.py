"""Counts of what happened lately, shared by all processes where CACHE_URL says so."""

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
TIMEOUT_SECONDS = 1.0  # who waits for the cache is a request
_TIMEOUTS = {
    "memcached": ("timeout", "connect_timeout"),
    "redis": ("socket_timeout", "socket_connect_timeout"),
    "rediss": ("socket_timeout", "socket_connect_timeout"),
}
_AWAY_SECONDS = 5
_PRECISION_SECONDS = 0.001  # of Redis; in memory it is that of a double

# What this process counts has to go by a clock that nobody sets: a step of the wall clock forgets it, or keeps it for
# as long. The library asks its module's `time` for the wall clock and nothing else, and has no parameter for it. It
# expects seconds far from 0: in the first window after 0 it takes the current one for the previous one too.
_BEGAN = time.time() - time.monotonic()
memory.time = SimpleNamespace(time=lambda: _BEGAN + time.monotonic())  # type: ignore[attr-defined, assignment]


@dataclass(frozen=True)
class Window:
    """What was counted in this stretch of ``seconds``, and what in the one before it, which fades as this one passes.

    So at each moment about as much is counted as there was in the last ``seconds``.
    """

    seconds: int
    previous: int
    previous_left_seconds: float
    current: int
    current_left_seconds: float

    def remaining(self, quota: int) -> int:
        """How many more fit into a quota."""
        faded = self.previous * self.previous_left_seconds / self.seconds
        return max(0, quota - floor(faded + self.current))

    def wait_seconds(self, quota: int, cost: int) -> int:
        """In how many whole seconds ``cost`` more fit into a quota, which is not less; 0 where they do now."""
        if cost <= self.remaining(quota):
            return 0
        room = quota - cost + 1  # below which the count must have come
        if self.current < room:
            wait = self.previous_left_seconds - (room - self.current) * self.seconds / self.previous
        else:
            wait = self.current_left_seconds + self.seconds * (1 - room / self.current)
        return floor(wait + _PRECISION_SECONDS) + 1


class Counters:
    """Counts by key. While the cache is away, each process counts by itself, and so lets more through, not less."""

    def __init__(self, url: str) -> None:
        self._own = MemoryStorage()
        self._own_lock = Lock()  # its counts are right by one thread at a time
        self._shared: SlidingWindowCounterSupport = self._own
        self._errors: tuple[type[Exception], ...] = (StorageError, OSError)
        timeouts = _TIMEOUTS.get(url.split(":")[0])
        if timeouts is not None:
            storage = storage_from_string(url, wrap_exceptions=True, **dict.fromkeys(timeouts, TIMEOUT_SECONDS))
            self._shared = cast(SlidingWindowCounterSupport, storage)
            if isinstance(storage, MemcachedStorage):
                self._errors += (MemcacheError,)  # which a call of its client raises unwrapped
        self._away_until = 0.0

    def take(self, key: str, quota: int, seconds: int, cost: int = 1) -> bool:
        """Count ``cost`` more under a key where that fits into the quota; where not, count nothing and give False."""
        return self.lend(key, quota, seconds, cost) is not None

    def lend(self, key: str, quota: int, seconds: int, cost: int = 1) -> GiveBack | None:
        """Count as ``take`` does, and give what takes it back; None where it doesn't fit.

        However many ask at once, no more than the quota are lent to.
        """
        hashed = _hashed(key)
        lent = self._ask(lambda storage: (storage, _acquire(storage, hashed, quota, seconds, cost)))
        storage, release = lent
        return None if release is None else partial(self._give_back, storage, release)

    def look(self, key: str, seconds: int) -> Window:
        """What is counted under a key."""
        previous, previous_left, current, current_left = self._ask(
            lambda storage: storage.get_sliding_window(_hashed(key), seconds)
        )
        return Window(seconds, previous, previous_left, current, current_left - seconds)

    def _give_back(self, storage: SlidingWindowCounterSupport, release: GiveBack) -> None:
        # to where it was taken from; where that is away by now, it stays counted until its time is over
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
    """Count; what takes it back, None where it doesn't fit."""
    if isinstance(storage, MemcachedStorage):
        return _acquire_in_memcached(storage, key, quota, seconds, cost)
    if not storage.acquire_sliding_window_entry(key, quota, seconds, cost):
        return None
    # Where a new stretch has begun meanwhile it is taken from that one, which so lets a little more through.
    return partial(storage.acquire_sliding_window_entry, key, quota, seconds, -cost)


def _acquire_in_memcached(storage: MemcachedStorage, key: str, quota: int, seconds: int, cost: int) -> GiveBack | None:
    """Count first and look then, as memcached can't do both in one step.

    The library looks first: of many at once it lets a quota through, whatever the stretch before had.
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
    """Those of this process."""
    return Counters(settings.CACHE_URL)


def _hashed(key: str) -> str:
    # memcached takes neither blanks nor long keys
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
