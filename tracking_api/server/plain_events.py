"""Stores plain events in the event loop itself, which sends them and goes on, so that no thread waits for the database.

A thread would have to be woken for each event, wait for the database, wait for its turn to run Python, and wake the
loop. Whatever this doesn't take goes to a thread: while many events wait for a session, while the database can't be
reached, and behind a pooler.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import psycopg2.errors
from django.db import DEFAULT_DB_ALIAS, Error, connections

from events.ingest.store import count_stored
from events.log.append import Row
from events.log.async_append import AsyncAppender
from events.observability.observation import Observation
from events.observability.recorder import begin, recording
from events.quick_track import PATHS, PlainRequest, answer_failed, answer_stored, store_and_answer, take
from tracking_api.server.answers import Answer, answered
from tracking_api.server.requests import Request
from tracking_api.server.thread_pool import FairThreadPool

logger = logging.getLogger(__name__)

_MOST_BYTES = 4 << 10  # what takes longer to decode would hold up all others
_PAUSE_SECONDS = 5.0  # before the database is tried again
# The database took too long. Whoever waits for a session would wait as long again for the same.
_TOO_LONG = psycopg2.errors.QueryCanceled, psycopg2.errors.LockNotAvailable

Take = Callable[[Answer | None], None]
Done = Callable[[Exception | None], None]


class NotSentError(Exception):
    """A row that waited was sent to no session, so it is stored nowhere."""


class Sessions:
    """Sessions with the database, at most so many, each opened once all others are busy; and as many rows that wait."""

    def __init__(self, most: int, threads: FairThreadPool) -> None:
        self._loop = asyncio.get_running_loop()
        self._most, self._threads = most, threads
        self._idle: list[AsyncAppender] = []  # the one that worked last comes last, as it is the warmest
        self._busy: dict[AsyncAppender, Done] = {}
        self._waiting: deque[tuple[Row, Done]] = deque()  # only while a session is busy
        self._unsent: dict[AsyncAppender, Row] = {}  # of sessions that are busy
        self._is_opening = False
        self._opens_at = 0.0

    def have_room(self) -> bool:
        """Tell whether one more row may be stored; where no session is idle and there may be more, open one."""
        if self._is_one_idle():
            return True
        if not self._is_opening and len(self._busy) < self._most and self._loop.time() >= self._opens_at:
            self._is_opening = True
            self._threads.submit(_opened, self._add, self)
        return bool(self._busy) and len(self._waiting) < self._most

    def _is_one_idle(self) -> bool:
        while self._idle and self._idle[-1].is_obsolete():
            self._drop(self._idle[-1])
        return bool(self._idle)

    def _add(self, session: AsyncAppender | None) -> None:
        self._is_opening = False
        if session is None:
            self._opens_at = self._loop.time() + _PAUSE_SECONDS
        elif session.is_pooled:  # each row might need a statement more, or two
            self._most = 0
            session.close()
        else:
            self._idle.append(session)
            self._loop.add_reader(session.fileno(), self._look, session)
            self._start_next()

    def store(self, row: Row, done: Done) -> None:
        """Store a row over a session that is idle, or the next one that is; to be called where they ``have_room``.

        Calls ``done`` once the row is committed, or with the error.
        """
        if not self._idle:
            self._waiting.append((row, done))
            return
        session = self._idle.pop()
        self._busy[session] = done
        if len(self._busy) == 1:
            self._send(session, row)
            return
        # Sent once the loop has read what else has come: PostgreSQL takes this process's CPU for each row that it gets.
        if not self._unsent:
            self._loop.call_soon(self._send_all)
        self._unsent[session] = row

    def _send_all(self) -> None:
        unsent, self._unsent = self._unsent, {}
        for session, row in unsent.items():
            self._send(session, row)

    def _send(self, session: AsyncAppender, row: Row) -> None:
        try:
            session.begin(row)
        except Exception as error:
            self._finish(session, error)

    def _start_next(self) -> None:
        """Store a row that waits; where no session is left for those that wait, call each one's ``done``."""
        if self._waiting and self._is_one_idle():
            self.store(*self._waiting.popleft())
        elif not self._busy:
            self._leave_waiting(NotSentError())

    def _leave_waiting(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, deque()
        for _, done in waiting:
            done(error)

    def _look(self, session: AsyncAppender) -> None:
        if session not in self._busy:  # the server goes away
            self._drop(session)
            return
        if self._unsent.pop(session, None):  # the server went away before the row was sent
            self._finish(session, NotSentError())
            return
        try:
            if not session.is_stored():
                return
        except Exception as error:
            self._finish(session, error)
        else:
            self._finish(session, None)

    def _finish(self, session: AsyncAppender, error: Exception | None) -> None:
        done = self._busy.pop(session)
        self._idle.append(session)
        try:
            if error is not None:
                self._drop(session)
                self._leave_waiting(error if isinstance(error, _TOO_LONG) else NotSentError())
            self._start_next()
        finally:
            done(error)

    def _drop(self, session: AsyncAppender) -> None:
        self._idle.remove(session)
        self._loop.remove_reader(session.fileno())
        session.close()


class PlainEvents:
    """Answers requests that send a plain event, and leaves all others to threads."""

    def __init__(self, most: int, threads: FairThreadPool) -> None:
        self._sessions, self._threads = Sessions(most, threads), threads

    def takes(self, request: Request, answer: Take, owner_of: Callable[[], Hashable]) -> bool:
        """Store what a request sends and call ``answer``; return False, and do nothing, where a thread has to do it.

        What a thread does of it later counts for the owner, who is asked for only then.
        """
        body = request.body
        if body is None or body.size > _MOST_BYTES or request.path not in PATHS or not self._sessions.have_room():
            return False
        if body.reader().read(1) != b"{":
            return False
        environ = request.environ()
        with recording(begin(environ, request.taken)) as seen:
            try:
                plain = take(environ)
            except Exception:  # a mistake of ours, which the thread meets again, and says so
                return False
        if plain is None:
            return False
        [row] = plain.batch.rows
        self._sessions.store(row, partial(self._done, plain, environ, seen, answer, owner_of))
        return True

    def _done(
        self,
        plain: PlainRequest,
        environ: dict[str, Any],
        seen: Observation,
        answer: Take,
        owner_of: Callable[[], Hashable],
        error: Exception | None,
    ) -> None:
        if isinstance(error, NotSentError):
            self._threads.submit(partial(_stored_by_thread, plain, environ, seen), answer, owner_of())
            return
        if error is not None:
            # it may be one that asks the database something
            self._threads.submit(partial(_failed, environ, seen, error), answer, owner_of())
            return
        try:
            found = answered(environ, partial(_answer_stored, plain), seen)
        except Exception:  # without an answer the connection would wait for ever
            logger.exception("An answer can't be made.")
            found = None
        answer(found)


def _answer_stored(plain: PlainRequest, environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    count_stored(plain.batch, plain.known.client)
    return answer_stored(plain, start_response)  # type: ignore[arg-type]


def _opened() -> AsyncAppender | None:
    try:
        return AsyncAppender()
    except Error:  # whoever waits for the database is told by the thread that works on it
        return None


def _stored_by_thread(plain: PlainRequest, environ: dict[str, Any], seen: Observation) -> Answer:
    connections[DEFAULT_DB_ALIAS].close_if_unusable_or_obsolete()
    return answered(environ, partial(store_and_answer, plain), seen)


def _failed(environ: dict[str, Any], seen: Observation, error: Exception) -> Answer:
    try:
        with connections[DEFAULT_DB_ALIAS].wrap_database_errors:
            raise error
    except Exception as translated:
        failure = translated
    return answered(environ, lambda environ, start_response: answer_failed(environ, failure, start_response), seen)
