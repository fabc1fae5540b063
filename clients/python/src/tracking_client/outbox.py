"""Keeps events until they are stored: within its limit, for many threads, and across forks."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from tracking_client.batches import Batch, Source
from tracking_client.complaints import Complaints
from tracking_client.counts import Counts
from tracking_client.flushing import Flush
from tracking_client.memory import MemorySource
from tracking_client.spool import Spool, open_left, open_own

WhenFull = Literal["drop_oldest", "drop_newest", "block"]
# how often is looked for spools that other processes have left, and for events that nobody told of, as a signal's
# handler raised where they were tracked
_LOOK_SECONDS = 30.0


class Outbox:
    """Events that wait to be sent. With a spool they are in its file first, and in memory only where that fails."""

    def __init__(
        self, spool: Path | None, batch_events: int, batch_seconds: float, largest_batch_events: int, most_events: int,
        when_full: WhenFull, complaints: Complaints,
    ) -> None:  # fmt: skip
        if when_full not in get_args(WhenFull):
            raise ValueError(f"when_full is one of {', '.join(get_args(WhenFull))}; not {when_full!r}.")
        self.path = spool
        # who waits for room waits for a batch to be sent
        self.batch_events = min(batch_events, most_events)
        self.batch_seconds = batch_seconds
        self.largest_batch_events = max(batch_events, largest_batch_events)
        self.most_events = most_events
        self.when_full = when_full
        self._complaints = complaints
        self.is_closed = False
        self.start_afresh()

    def start_afresh(self) -> None:
        """Begin empty, as in a forked process: what waits in the parent is sent by the parent."""
        self._counts = Counts()  # of what waits no longer
        self._left_in_files = 0  # events, once the outbox is closed
        self.senders: set[int] = set()  # threads, by their idents
        # the service didn't take what was last sent, and the next attempt waits for its time
        self.is_failing = False
        self._is_held = False  # files are closed only for a fork
        self._flushing: set[Flush] = set()
        self._memory = MemorySource()
        self._is_memorys_turn = False
        self._spool: Spool | None = None
        self._left: list[Spool] = []
        self._sending: set[str] = set()
        self._look_at = 0.0
        self._open_again_at = 0.0
        self._oldest_at = 0.0  # when the oldest event came that is in no batch
        # what is to be logged once the lock is free: a handler of the log may track, or wait for a thread that does
        self._notes: deque[tuple[str, str, tuple[object, ...]]] = deque()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    @property
    def counts(self) -> Counts:
        """Return what became of the events until now."""
        with self._lock:
            return replace(self._counts, taken=self._counts.settled + self.waiting)

    @property
    def waiting(self) -> int:
        """Return how many events were taken and are neither stored nor refused nor dropped.

        It is what the sources have, and counted nowhere else: a signal's handler may raise between any two steps of
        whoever tracks, and a second count would be wrong from then on.
        """
        with self._lock:
            return sum(source.count for source in self._sources()) + self._left_in_files

    @property
    def waiting_in_memory(self) -> int:
        """Return how many events would be lost if the process ended now."""
        with self._lock:
            return self._memory.count

    def count_refused(self) -> None:
        """Count an event that is none."""
        with self._lock:
            self._counts.refused += 1

    def put(self, line: str) -> None:
        """Take an event in. Where there is no room, one is dropped, or room is waited for."""
        with self._lock:
            self._put(line)
        if self._notes:
            self._log_notes()

    def _put(self, line: str) -> None:
        if self.is_closed or (self.waiting >= self.most_events and not self._make_room()):
            self._counts.dropped += 1
            return
        source = self._own()
        try:
            source.put(line)
        except sqlite3.Error as error:
            self._note("spool", "The spool %s can't be written; events wait in memory: %s", self.path, error)
            source = self._memory
            source.put(line)
        if source.unbatched == 1:
            self._oldest_at = time.monotonic()
            self._changed.notify_all()
        elif source.unbatched == self.batch_events:
            self._changed.notify_all()

    def _make_room(self) -> bool:
        # a thread that sends, and tracks as it is called back, would wait for itself
        if self.when_full == "block" and threading.get_ident() not in self.senders:
            while self.waiting >= self.most_events and not self.is_closed:
                self._changed.wait()
            return not self.is_closed
        self._note(
            "full", "%d events wait, and no more may: %s. Dropped until now: %d.",
            self.most_events, "the oldest are dropped" if self.when_full == "drop_oldest" else "new ones are dropped",
            self._counts.dropped + 1,
        )  # fmt: skip
        if self.when_full == "drop_oldest" and any(map(self._drop_oldest, self._sources())):
            self._counts.dropped += 1
            return True
        return False

    def _drop_oldest(self, source: Source) -> bool:
        try:
            event_id = source.drop_oldest()
        except sqlite3.Error as error:
            self._note("spool", "The spool %s can't be written; new events are dropped: %s", self.path, error)
            return False
        if event_id:
            for flush in self._flushing:
                flush.drop(source, event_id)
        return bool(event_id)

    def _note(self, topic: str, message: str, *arguments: object) -> None:
        self._notes.append((topic, message, arguments))

    def _log_notes(self) -> None:
        with suppress(IndexError):  # another thread logs them too
            while True:
                topic, message, arguments = self._notes.popleft()
                self._complaints.say(topic, message, *arguments)

    def _own(self) -> Source:
        if self.path is None:
            return self._memory
        if self._spool is None:
            if time.monotonic() < self._open_again_at:
                return self._memory
            try:
                self._spool = open_own(self.path, self._sending)
            except (sqlite3.Error, OSError) as error:
                self._open_again_at = time.monotonic() + _LOOK_SECONDS
                self._note("spool", "The spool %s can't be opened; events wait in memory: %s", self.path, error)
                return self._memory
        return self._spool

    def _sources(self) -> Sequence[Source]:
        return [*self._left, *([self._spool] if self._spool else []), self._memory]

    def _look_for_left(self) -> None:
        """Take over what other processes have left, and leave files that are empty."""
        if self.path is None or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_SECONDS
        self._own()
        self._have_flushes_look()
        for spool in [each for each in self._left if not each.count]:
            self._left.remove(spool)
            spool.close()
        open_here = {spool.path for spool in (self._spool, *self._left) if spool}
        with suppress(OSError):  # a directory that may not be looked into
            self._left += open_left(self.path, open_here, self._sending)

    def open(self) -> None:
        """Open the spool, so that what an earlier process left waits here from now on."""
        with self._lock:
            self._look_for_left()
        self._log_notes()

    def take(self) -> Batch | None:
        """Wait for a batch that is due, and return it; None once the outbox is closed."""
        while not self.is_closed:
            with self._lock:
                batch = self._take_or_wait()
            self._log_notes()
            if batch:
                return batch
        return None

    def _take_or_wait(self) -> Batch | None:
        if self.is_closed:  # just now; the spool would be opened again
            return None
        self._look_for_left()
        wait = self._next_due()
        if wait is not None and wait <= 0:
            for source in self._in_turn():
                batch = self._take_from(source)
                if batch:
                    self._oldest_at = time.monotonic()
                    self._is_memorys_turn = source is not self._memory
                    return batch
        wait = min(_LOOK_SECONDS, wait if wait is not None else _LOOK_SECONDS)
        if not self._notes:
            self._changed.wait(wait)
        return None

    def _in_turn(self) -> Sequence[Source]:
        """Return the sources that may be taken from, in the order to try them.

        Memory has events beside a file only where that could not be written. Then each has its turn, or a file that
        can't be used, or always has something, would keep back what ends with the process.
        """
        *files, memory = self._sources()
        now = time.monotonic()
        awake = [file for file in files if file.rests_until <= now]
        return [memory, *awake] if self._is_memorys_turn else [*awake, memory]

    def _take_from(self, source: Source) -> Batch | None:
        try:
            return source.take(self.largest_batch_events)
        except sqlite3.Error as error:
            self._note("spool", "The spool %s can't be used: %s", self.path, error)
            source.rest()
            self._changed.notify_all()
            return None

    def _next_due(self) -> float | None:
        """Return in how many seconds a batch is due; None where nothing waits."""
        due = [at for source in self._sources() if (at := self._due_at(source)) is not None]
        return min(due) - time.monotonic() if due else None

    def _due_at(self, source: Source) -> float | None:
        if source.has_batches:
            return source.rests_until
        if not source.unbatched:
            return None
        # what other processes have left waited long enough
        if self._flushing or source.unbatched >= self.batch_events or source not in (self._spool, self._memory):
            return source.rests_until
        return max(source.rests_until, self._oldest_at + self.batch_seconds)

    def give_back(self, batch: Batch) -> None:
        """Let a batch be taken again."""
        with self._lock:
            if owner := self._owner(batch):
                owner.give_back(batch)

    def set_aside(self, batch: Batch) -> None:
        """Let a batch be taken again once its file has rested, which could not be written."""
        with self._lock:
            if owner := self._owner(batch):
                owner.give_back(batch)
                owner.rest()
            self._changed.notify_all()

    def stored(self, batch: Batch) -> None:
        """Forget a batch that the service has stored."""
        with self._lock:
            self.is_failing = False
            if owner := self._owner(batch):
                owner.done(batch)
                self._counts.stored += len(batch.lines)
            self._changed.notify_all()

    def refused(self, batch: Batch, indices: Sequence[int]) -> None:
        """Forget those events of a batch that the service refuses; the others become a batch with another key."""
        with self._lock:
            self.is_failing = False
            kept = sorted(set(range(len(batch.lines))) - set(indices))
            if owner := self._owner(batch):
                owner.replace(batch, [kept] if kept else [])
                self._counts.refused += len(batch.lines) - len(kept)
            self._changed.notify_all()

    def halve(self, batch: Batch) -> None:
        """Make two batches of one that is too large."""
        with self._lock:
            middle = len(batch.lines) // 2
            if owner := self._owner(batch):
                owner.replace(batch, [[*range(middle)], [*range(middle, len(batch.lines))]])

    def _owner(self, batch: Batch) -> Source | None:
        """Return where the batch is; None where another process has its file now, and sends it under its key."""
        owner = next((source for source in self._sources() if source.owns(batch)), None)
        if owner is None:
            self._sending.discard(batch.key)  # sent again if the file comes back with it
        return owner

    def flush(self, timeout_seconds: float | None) -> bool:
        """Have all events sent that wait by now, and return whether they are stored or refused within the time.

        A thread that sends, and flushes as it is called back, can't wait for itself: it returns at once.
        """
        with self._lock:
            if self._left_in_files:
                return False
            flush = Flush(self._sources())
            # at a fork the child may take over some of them, and none of those is settled here
            self._send_until(flush, lambda: not flush.waits_for(self._sources()), timeout_seconds)
            return flush.is_settled

    def flush_at_end(self, timeout_seconds: float) -> None:
        """Have all events sent that wait by now, but for those that are safe in a file and can't be sent or forgotten.

        That is so where the service is away, and where the file can't be used.
        """
        with self._lock:
            flush = Flush(self._sources())
            is_away = self.path is not None and self.is_failing

            def is_done() -> bool:
                wanting = [self._memory] if is_away else [each for each in self._sources() if not each.has_failed]
                return not flush.waits_for(wanting)

            self._send_until(flush, is_done, timeout_seconds)

    def _send_until(self, flush: Flush, is_done: Callable[[], bool], timeout_seconds: float | None) -> None:
        if threading.get_ident() in self.senders:
            timeout_seconds = 0.0
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        try:
            self._flushing.add(flush)
            self._changed.notify_all()
            while not (is_done() or self.is_closed):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return
                self._changed.wait(None if left is None else min(left, threading.TIMEOUT_MAX))
        finally:
            self._flushing.discard(flush)

    def _have_flushes_look(self) -> None:
        """Have flushes learn what is settled in files that are about to be closed."""
        for flush in self._flushing:
            flush.waits_for(self._sources())

    def close(self) -> None:
        """Take nothing more, wake whoever waits, and close the files."""
        with self._lock:
            left = sum(spool.count for spool in (self._spool, *self._left) if spool)
            self.is_closed = True
            self.close_files()
            self._left_in_files += left
            self._changed.notify_all()

    def close_files(self) -> None:
        """Close the files; they are opened again where they are needed."""
        self._have_flushes_look()
        for spool in (self._spool, *self._left):
            if spool:
                spool.close()
        self._spool, self._left, self._look_at = None, [], 0.0

    def wait(self, seconds: float) -> bool:
        """Wait before the next attempt; return whether the outbox was closed meanwhile."""
        deadline = time.monotonic() + seconds
        with self._lock:
            self.is_failing = True
            self._changed.notify_all()
            while not self.is_closed and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return self.is_closed

    def hold(self) -> None:
        """Keep all other threads out, and no file open: a process is about to fork."""
        self._lock.acquire()
        if self._spool or self._left:
            self.close_files()
            self._is_held = True

    def release(self) -> None:
        """Open the files again, and let other threads in."""
        try:
            if self._is_held:
                self._is_held = False
                self._look_for_left()
                self._changed.notify_all()
        finally:
            self._lock.release()
