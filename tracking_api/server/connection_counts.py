"""Counts the connections of each of the server's processes in memory that they share, so that they take equal parts."""

from __future__ import annotations

import mmap
from collections.abc import Collection

_BYTES = 4
_ABSENT = (1 << 8 * _BYTES) - 1
# One is behind another that has an eighth more; closer ones would only wait for each other.
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

    def behind(self, but: Collection[int] = ()) -> int | None:
        """Return which other process should take the next connection, as it has fewer; None where none should.

        ``but`` are processes that are not to be looked at.
        """
        least, process = min((count, each) for each, count in enumerate(self._counts) if each not in but)
        return process if self._counts[self._index] > least + least // _SLACK else None


def shared_counts(processes: int) -> list[ConnectionCount]:
    """Make a count for each of so many processes. To be called before they are forked."""
    # the map has no file, and stays as long as a process has it
    counts = memoryview(mmap.mmap(-1, _BYTES * processes)).cast("I")
    of_processes = [ConnectionCount(counts, index) for index in range(processes)]
    for each in of_processes:
        each.reset()
    return of_processes
