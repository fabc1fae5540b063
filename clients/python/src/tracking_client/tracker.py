"""Owns the Tracker, which is all that most programs need."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self, SupportsFloat

from tracking_client.annotating import Instant, annotate
from tracking_client.calling import Caller
from tracking_client.complaints import Complaints
from tracking_client.counts import Counts
from tracking_client.delivery import Delivery
from tracking_client.encoding import NoEventError, RefusedEvent, encode
from tracking_client.outbox import Outbox, WhenFull
from tracking_client.reading import Aggregate, Reader, Series, Time
from tracking_client.retries import Backoff
from tracking_client.tokens import Tokens
from tracking_client.transport import Transport

_MOST_EVENTS_IN_MEMORY = 100_000
_MOST_EVENTS_IN_SPOOL = 1_000_000
_EXIT_SECONDS = 5.0
# for the answer to the batch that is on its way
_LAST_ANSWER_SECONDS = 1.0


class Tracker:
    """Sends events to one service, by one client's credentials, from any thread and from forked processes too.

    Made once, for as long as the program runs. Address and credentials come from ``TRACKING_URL``,
    ``TRACKING_CLIENT_ID`` and ``TRACKING_CLIENT_SECRET`` where they are not given.
    """

    def __init__(
        self,
        url: str | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        *,
        enabled: bool = True,
        spool: str | os.PathLike[str] | None = None,
        batch_events: int = 1_000,
        batch_seconds: float = 1.0,
        largest_batch_events: int = 5_000,
        most_events: int | None = None,
        when_full: WhenFull = "drop_oldest",
        senders: int = 1,
        timeout_seconds: float = 10.0,
        backoff: Backoff | None = None,
        on_refused: Callable[[RefusedEvent], None] | None = None,
    ) -> None:
        """Make a tracker. It connects when there is something to send. Raises ValueError for what can't work.

        A batch is sent once ``batch_events`` wait, or the oldest has waited ``batch_seconds``, one at a time by each of
        ``senders`` threads; of more that wait by then, up to ``largest_batch_events`` go with it. ``most_events`` may
        wait: 100,000 in memory, a million in a spool. ``on_refused`` is called for each event that is refused, mostly
        by the thread that sends. ``enabled=False`` makes a tracker that does nothing and needs no address.
        """
        self.enabled = enabled
        if not enabled:
            url, client_id, client_secret = "http://disabled.invalid", "", ""
        if batch_events < 1 or senders < 1 or (most_events is not None and most_events < 1):
            raise ValueError("batch_events, senders and most_events are 1 or more.")
        if most_events is None:
            most_events = _MOST_EVENTS_IN_MEMORY if spool is None else _MOST_EVENTS_IN_SPOOL
        backoff = backoff or Backoff()
        self._complaints = Complaints()
        path = None if spool is None else Path(spool).absolute()
        self._outbox = Outbox(
            path, batch_events, batch_seconds, largest_batch_events, most_events, when_full, self._complaints
        )
        self._transport = Transport(_setting(url, "TRACKING_URL"), timeout_seconds, senders + 3)
        self._tokens = Tokens(
            self._transport,
            _setting(client_id, "TRACKING_CLIENT_ID"),
            _setting(client_secret, "TRACKING_CLIENT_SECRET"),
        )
        self._caller = Caller(self._transport, self._tokens, backoff, timeout_seconds)
        self._reader = Reader(self._caller)
        self._delivery = Delivery(self._outbox, self._transport, self._tokens, backoff, self._complaints, on_refused)
        self._senders = senders
        self._threads: list[threading.Thread] = []
        self._starting = threading.RLock()
        if enabled:
            with _registering:
                _trackers.add(self)
                _open.add(self)
            if spool is not None:
                # what an earlier process left is sent without waiting for an event
                self._outbox.open()
                self._start()

    def track(
        self, namespace: str, name: str, value: SupportsFloat = 1.0, timestamp: datetime | float | None = None
    ) -> None:
        """Take an event in, and return at once; it is sent in the background.

        ``timestamp`` is now where there is none; a datetime (UTC where it has no offset), or unix seconds or
        milliseconds. Raises nothing: an event that can't be stored is logged, counted and given to ``on_refused``.
        """
        if not self.enabled:
            return
        try:
            line = encode(namespace, name, value, timestamp)
        except NoEventError as error:
            event = {"namespace": namespace, "name": name, "timestamp": timestamp, "value": value}
            self._delivery.tell(RefusedEvent(event, str(error)))
            self._outbox.count_refused()
            return
        if not self._threads:
            self._start()
        self._outbox.put(line)

    @contextmanager
    def timer(self, namespace: str, name: str) -> Iterator[None]:
        """Track how many seconds the block took, also where it raises. A decorator too."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.track(namespace, name, time.perf_counter() - start)

    def annotate(
        self,
        namespace: str,
        title: str,
        *,
        timestamp: Instant | None = None,
        end: Instant | None = None,
        text: str = "",
        tags: Iterable[str] = (),
    ) -> str:
        """Say what happened in a namespace, such as a deployment, and return the id of the annotation.

        It is of now where there is no ``timestamp``, and of a moment where there is no ``end``. Unlike ``track`` it
        waits until that is stored, ``timeout_seconds`` at most, and is stored once. Raises TrackingError.
        """
        if not self.enabled:
            return ""
        return annotate(self._caller, namespace, title, timestamp, end, text, tags)

    def aggregate(
        self,
        namespace: str,
        name: str,
        *,
        granularity: str | None = None,
        aggregation_type: str | None = None,
        ts_min: Time | None = None,
        ts_max: Time | None = None,
        timezone: str | None = None,
        fill: str | None = None,
        timestamp: str | None = None,
    ) -> Aggregate:
        """Return the aggregate of a series as a list of (datetime, float), as the API's parameters of these names say.

        Events that wait are not in it: ``flush`` first. Raises TrackingError.
        """
        if not self.enabled:
            return Aggregate()
        parameters = {
            "granularity": granularity, "aggregationType": aggregation_type, "tsMin": ts_min, "tsMax": ts_max,
            "timezone": timezone, "fill": fill, "timestamp": timestamp,
        }  # fmt: skip
        return self._reader.aggregate(namespace, name, parameters)

    def catalogue(self, namespace: str | None = None, search: str | None = None) -> list[Series]:
        """Return the series that the client may read, of one namespace or of all. Raises TrackingError."""
        return self._reader.catalogue(namespace, search) if self.enabled else []

    @property
    def counts(self) -> Counts:
        """Return what became of this process's events until now."""
        return self._outbox.counts

    @property
    def waiting(self) -> int:
        """Return how many events wait to be sent."""
        return self._outbox.waiting

    def flush(self, timeout: float | None = None) -> bool:
        """Send what waits, and return whether all of it is stored or refused within the time, in seconds."""
        if not self._threads and self._outbox.waiting:
            self._start()
        return not self.enabled or self._outbox.flush(timeout if self._threads else 0)

    def close(self, timeout: float = _EXIT_SECONDS) -> None:
        """Send what waits, for as long as ``timeout`` seconds, and end; called at the end of the program too.

        What waits in a spool stays there, and is not waited for while the service is away or the spool can't be used.
        What waits in memory after that is lost, and the log says how many events that are.
        """
        outbox = self._outbox
        if not self.enabled or outbox.is_closed:
            return
        if self._threads:
            outbox.flush_at_end(timeout)
        outbox.close()
        with _registering:
            _open.discard(self)
        deadline = time.monotonic() + _LAST_ANSWER_SECONDS
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        if not any(thread.is_alive() for thread in self._threads):
            self._transport.close()
        if lost := outbox.waiting_in_memory:
            self._complaints.say("lost", "The program ends, and %d events are lost that could not be sent.", lost)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        with self._starting:
            if self._threads or self._outbox.is_closed:
                return
            _close_with_multiprocessing()
            for number in range(self._senders):
                thread = threading.Thread(target=self._delivery.run, name=f"tracking-{number}", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # too many in this process, or it is ending
                    self._complaints.say("thread", "No thread can be started to send events: %s", error)
                    return
                self._threads.append(thread)

    def _before_fork(self) -> None:
        self._outbox.hold()

    def _after_fork_in_parent(self) -> None:
        self._outbox.release()

    def _after_fork_in_child(self) -> None:
        self._outbox.start_afresh()
        self._transport.forget_connections()
        self._tokens.forget_locks()
        self._complaints.forget_locks()
        self._threads = []
        self._starting = threading.RLock()


def _setting(given: str | None, variable: str) -> str:
    found = os.environ.get(variable, "") if given is None else given
    if not found and given is None:
        raise ValueError(f"{variable} is not set, and nothing is given instead.")
    return found


# For what concerns the whole process: all trackers, and those that are open, which end with it even where the program
# has forgotten them. Whoever forks holds the lock until that is done, and so no two threads hold trackers at a time.
_trackers: weakref.WeakSet[Tracker] = weakref.WeakSet()
_open: set[Tracker] = set()
_registering = threading.RLock()
_held: list[Tracker] = []


def _close_all() -> None:
    for tracker in list(_open):
        tracker.close()


def _before_fork() -> None:
    _registering.acquire()
    for tracker in list(_trackers):
        _held.append(tracker)
        tracker._before_fork()


def _after_fork_in_parent() -> None:
    try:
        while _held:
            _held.pop()._after_fork_in_parent()
    finally:
        _registering.release()


def _after_fork_in_child() -> None:
    global _registering
    _registering = threading.RLock()
    while _held:
        _held.pop()._after_fork_in_child()


def _close_with_multiprocessing() -> None:
    """Have trackers closed at the end of a process of multiprocessing, which runs nothing of atexit."""
    from multiprocessing import process, util

    if process.parent_process() is not None:
        util.Finalize(None, _close_all, exitpriority=0)


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
