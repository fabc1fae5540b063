"""Owns the counts of what became of the events."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    """What became of the events of one process. One that was taken waits until it is stored, refused or dropped.

    Those that another process left in a spool count as taken when they are found there.
    """

    taken: int = 0
    stored: int = 0  # acknowledged by the service
    refused: int = 0  # by the service, or at once where the value is no number
    dropped: int = 0  # as there was no room for them

    @property
    def settled(self) -> int:
        """Return how many events are waiting no longer."""
        return self.stored + self.refused + self.dropped
