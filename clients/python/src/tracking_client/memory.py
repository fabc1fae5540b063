"""Lets events wait in memory."""

from __future__ import annotations

from collections import deque

from tracking_client.batches import Batch


class MemorySource:
    """Events in memory, which end with the process."""

    path = None
    has_failed = False
    rests_until = 0.0

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._first = 1  # the id of the first of them
        self._batches: deque[Batch] = deque()
        self._made: dict[str, Batch] = {}  # those that are being sent too

    @property
    def count(self) -> int:
        """Return how many events wait."""
        return len(self._lines) + sum(len(batch.lines) for batch in self._made.values())

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
        ids = [*range(self._first, self._first + count)]
        self._first += count
        return self._make([self._lines.popleft() for _ in ids], ids)

    def _make(self, lines: list[str], ids: list[int]) -> Batch:
        batch = Batch(self, lines, ids)
        self._made[batch.key] = batch
        return batch

    def give_back(self, batch: Batch) -> None:
        """Let a batch that was taken be taken again."""
        self._batches.appendleft(batch)

    def done(self, batch: Batch) -> None:
        """Forget a batch."""
        del self._made[batch.key]

    def replace(self, batch: Batch, parts: list[list[int]]) -> None:
        """Make batches with keys of their own of a batch."""
        self.done(batch)
        for part in reversed(parts):
            lines, ids = zip(*((batch.lines[index], batch.ids[index]) for index in part), strict=True)
            self._batches.appendleft(self._make([*lines], [*ids]))

    def rest(self) -> None:
        """Do nothing, as memory doesn't fail."""

    def drop_oldest(self) -> int:
        """Forget the oldest event that is in no batch, and return its id; 0 where there is none."""
        if not self._lines:
            return 0
        self._lines.popleft()
        self._first += 1
        return self._first - 1

    def newest(self) -> int:
        """Return the id of the event that came last."""
        return self._first + len(self._lines) - 1

    def has_up_to(self, event_id: int) -> bool:
        """Tell whether that event or an earlier one waits."""
        is_unbatched = bool(self._lines) and self._first <= event_id
        return is_unbatched or any(batch.ids[0] <= event_id for batch in self._made.values())

    def owns(self, batch: Batch) -> bool:
        """Tell whether the batch is of this memory."""
        return batch.source is self
