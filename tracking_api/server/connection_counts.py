"""Counts the connections of each of the server's processes in memory that they share, so that they take equal parts."""

from __future__ import annotations

import mmap

_BYTES = 4
_ABSENT = (1 << 8 * _BYTES) - 1
# One is ahead that has an eighth more than another; closer ones would only wait for each other.
_SLACK = 8


class ConnectionCount:
    """The connections of one process, beside those of the others. Only that process sets it, and its parent resets."""

    def __init__(self, counts: memoryview[int], index: int) -> None:
        self._counts, self._index = counts, index

    def set(self, count: int) -> None:
        """Tell the others how many connections this process has."""
        self._counts[self._index] = count

    def reset(self) -> None:
        """Tell the others that this process takes no connections."""
        self._counts[self._index] = _ABSENT

    def is_ahead(self) -> bool:
        """Tell whether another process should take the next connection, as it has fewer."""
        least = min(self._counts)
        return self._counts[self._index] > least + least // _SLACK


def shared_counts(processes: int) -> list[ConnectionCount]:
    """Make a count for each of so many processes. To be called before they are forked."""
    # the map has no file, and stays as long as a process has it
    counts = memoryview(mmap.mmap(-1, _BYTES * processes)).cast("I")
    of_processes = [ConnectionCount(counts, index) for index in range(processes)]
    for each in of_processes:
        each.reset()
    return of_processes
