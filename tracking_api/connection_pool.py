"""The database connections that a server process shares out among its threads."""

from collections import deque
from collections.abc import Iterable
from queue import SimpleQueue
from threading import Lock

from django.db.backends.base.base import BaseDatabaseWrapper

MOST_THREADS = 512  # of a process; most of them wait for a client or for a connection


class ConnectionPool:
    """Gives a connection to one thread at a time, and to that one next which has waited longest.

    ``queue`` has none that is fair: whoever comes just then takes what another was woken up for, so that now and then
    one waits many times as long as the rest.
    """

    def __init__(self, connections: Iterable[BaseDatabaseWrapper]) -> None:
        self._free = list(connections)
        self._waiting: deque[SimpleQueue[BaseDatabaseWrapper]] = deque()
        self._lock = Lock()

    def take(self) -> BaseDatabaseWrapper:
        """Of the free ones the last that was used, as it and what serves it are the warmest; else waits for one."""
        with self._lock:
            if self._free:
                return self._free.pop()
            turn: SimpleQueue[BaseDatabaseWrapper] = SimpleQueue()
            self._waiting.append(turn)
        return turn.get()

    def give_back(self, connection: BaseDatabaseWrapper) -> None:
        """Hand it to the next thread, or keep it for one."""
        with self._lock:
            if not self._waiting:
                self._free.append(connection)
                return
            turn = self._waiting.popleft()
        turn.put(connection)

    def count_free(self) -> int:
        """How many nobody uses."""
        return len(self._free)
