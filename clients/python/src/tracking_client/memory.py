"""Lets events wait in memory."""

from __future__ import annotations

from collections import deque

from tracking_client.batches import Batch


class MemorySource:
    """Events in memory, which end with the process."""

    has_failed = False
    rests_until = 0.0

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._batches: deque[Batch] = deque()
        self._batched = 0

    @property
    def count(self) -> int:
        """Return how many events wait."""
        return len(self._lines) + self._batched

    @property
    def unbatched(self) -> int:
        """Return how many of them are in no batch yet."""
        return len(self._lines)

    @property
    def has_batches(self) -> bool:
        """Tell whether there are batches that nobody is sending."""
        return bool(self._batches)

    def put(self, line: str) -> None:
        """Let an event wait."""
        self._lines.append(line)

    def take(self, most_events: int) -> Batch | None:
        """Return the oldest batch that nobody is sending, or make one; None where nothing waits."""
        if self._batches:
            return self._batches.popleft()
        count = min(most_events, len(self._lines))
        if not count:
            return None
        self._batched += count
        return Batch(self, [self._lines.popleft() for _ in range(count)])

    def give_back(self, batch: Batch) -> None:
        """Let a batch that was taken be taken again."""
        self._batches.appendleft(batch)

    def done(self, batch: Batch) -> None:
        """Forget a batch, which is held by who sends it alone."""
        self._batched -= len(batch.lines)

    def replace(self, batch: Batch, parts: list[list[int]]) -> None:
        """Make batches with keys of their own of a batch."""
        self._batched -= len(batch.lines) - sum(map(len, parts))
        self._batches.extendleft(Batch(self, [batch.lines[index] for index in part]) for part in reversed(parts))

    def rest(self) -> None:
        """Do nothing, as memory doesn't fail."""

    def drop_oldest(self) -> bool:
        """Forget the oldest event that is in no batch; False where there is none."""
        if not self._lines:
            return False
        self._lines.popleft()
        return True

    def owns(self, batch: Batch) -> bool:
        """Tell whether the batch is of this memory."""
        return batch.source is self
