"""Owns the batch: events that are sent together, under one key."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


def new_key() -> str:
    """Return an ``Idempotency-Key`` that no other batch has."""
    return uuid.uuid4().hex


@dataclass(eq=False)
class Batch:
    """Events that are sent together, with the key that they keep however often they are sent."""

    source: Source  # where they wait
    lines: list[str]  # an event each, as NDJSON
    ids: list[int]  # of the events
    key: str = field(default_factory=new_key)


class Source(Protocol):
    """Where events wait. Whoever calls it holds the lock of the outbox."""

    # nothing is taken before that time of the monotonic clock
    rests_until: float

    @property
    def path(self) -> Path | None:
        """Return where the file is; None for memory."""

    @property
    def count(self) -> int:
        """Return how many events wait."""

    @property
    def unbatched(self) -> int:
        """Return how many of them are in no batch yet."""

    @property
    def has_failed(self) -> bool:
        """Tell whether it could not be used when it was last tried."""

    @property
    def has_batches(self) -> bool:
        """Tell whether there are batches that nobody is sending."""

    def put(self, line: str) -> None:
        """Let an event wait."""

    def take(self, most_events: int) -> Batch | None:
        """Return the oldest batch that nobody is sending, or make one; None where nothing waits.

        From then on its events and its key belong together, whatever happens to the process.
        """

    def give_back(self, batch: Batch) -> None:
        """Let a batch that was taken be taken again."""

    def done(self, batch: Batch) -> None:
        """Forget a batch."""

    def replace(self, batch: Batch, parts: list[list[int]]) -> None:
        """Make batches with keys of their own of a batch that the service refused; ``parts`` are indices of its lines.

        Events that are in none of them are forgotten.
        """

    def rest(self) -> None:
        """Have nothing taken for a while, as it can't be used; a longer one each time, until it can be used again."""

    def drop_oldest(self) -> int:
        """Forget the oldest event that is in no batch, and return its id; 0 where there is none."""

    def newest(self) -> int:
        """Return the id of the event that came last. Ids grow from 1, in each source by itself."""

    def has_up_to(self, event_id: int) -> bool:
        """Tell whether that event or an earlier one waits."""

    def owns(self, batch: Batch) -> bool:
        """Tell whether the batch is here."""
