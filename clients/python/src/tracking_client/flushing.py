"""Owns what a flush waits for."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterable

from tracking_client.batches import Source


class Flush:
    """The events that wait as it begins. What comes later is none of them, however soon that is settled.

    Whoever calls it holds the lock of the outbox.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        # up to which event is waited for in each source; those leave it of which all are settled
        self._newest = {source.path: _newest(source) for source in sources if source.count}
        self._is_one_dropped = False

    @property
    def is_settled(self) -> bool:
        """Tell whether all of the events are stored or refused, by the sources when they were last looked into."""
        return not self._newest and not self._is_one_dropped

    def waits_for(self, sources: Iterable[Source]) -> bool:
        """Look whether any of the sources has some of the events still."""
        found = [source for source in sources if source.path in self._newest]
        for source in found:
            if not _has_up_to(source, self._newest[source.path]):
                del self._newest[source.path]
        return any(source.path in self._newest for source in found)

    def drop(self, source: Source, event_id: int) -> None:
        """Learn that an event was dropped."""
        self._is_one_dropped |= event_id <= self._newest.get(source.path, 0)


def _newest(source: Source) -> int:
    try:
        return source.newest()
    except sqlite3.Error:  # then all is waited for that is there
        return sys.maxsize


def _has_up_to(source: Source, event_id: int) -> bool:
    try:
        return source.has_up_to(event_id)
    except sqlite3.Error:
        return True
