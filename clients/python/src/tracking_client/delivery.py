"""Sends batches, and does what the service's answer asks for."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress

from tracking_client.batches import Batch
from tracking_client.complaints import Complaints
from tracking_client.encoding import RefusedEvent, decode
from tracking_client.errors import RequestRefused, Unreachable
from tracking_client.outbox import Outbox
from tracking_client.retries import RETRIED, Backoff
from tracking_client.tokens import Tokens, TryLater
from tracking_client.transport import Answer, Transport, packed

_PATH = "/api/track/"
# The one answer of the service to events that it has stored. Whatever else is no error comes from something on the way,
# such as a proxy that shows a page of its own or redirects: the events are nowhere yet.
_STORED = 201


class Delivery:
    """Takes batches out of the outbox for as long as that is open, and sends one after the other."""

    def __init__(
        self, outbox: Outbox, transport: Transport, tokens: Tokens, backoff: Backoff, complaints: Complaints,
        on_refused: Callable[[RefusedEvent], None] | None,
    ) -> None:  # fmt: skip
        self._outbox = outbox
        self._transport = transport
        self._tokens = tokens
        self._backoff = backoff
        self._complaints = complaints
        self._on_refused = on_refused

    def run(self) -> None:
        """Send until the outbox is closed, whatever goes wrong meanwhile."""
        self._outbox.senders.add(threading.get_ident())
        failures = 0
        while True:
            batch = None
            try:
                batch = self._outbox.take()
                if batch is None:
                    return
                self._deliver(batch)
                failures = 0
                continue
            except sqlite3.Error as error:
                self._complaints.say("spool", "The spool %s can't be used: %s", self._outbox.path, error)
                if batch:
                    # what waits elsewhere doesn't wait for this file
                    self._outbox.set_aside(batch)
                    continue
            except (Exception, SystemExit) as error:
                # if this thread ended, events would wait for good, and so would who flushes
                self._complaints.say("thread", "Sending failed, and is tried again: %r", error, level=logging.ERROR)
            if batch:
                self._outbox.give_back(batch)
            failures += 1
            self._outbox.wait(self._backoff.seconds(failures))

    def _deliver(self, batch: Batch) -> None:
        """Send a batch until there is an answer for good. The key stays the same, so it is stored once."""
        body = packed(batch.lines)
        failures = 0
        is_renewed = False
        while True:
            failures += 1
            try:
                token = self._tokens.get("write")
                answer = self._send(batch, body, token)
                if answer.status == 401:
                    self._tokens.forget(token)
                    if is_renewed:
                        raise RequestRefused(answer.status, answer.text)
                    # expired early or revoked: a new one, and at once
                    is_renewed = True
                    continue
                if answer.status == _STORED or (answer.status >= 400 and answer.status not in RETRIED):
                    self._settle(batch, answer)
                    return
                is_renewed = False
                raise TryLater(answer)
            except TryLater as later:
                reason, wait = str(later), self._backoff.seconds(failures, later.retry_after)
            except (Unreachable, RequestRefused) as error:
                # no token: that says nothing about the events, so they wait until somebody has put it right
                reason, wait = str(error), self._backoff.seconds(failures)
            self._complaints.say(
                "retry", "%d events wait for %s: %s", self._outbox.waiting, self._transport.url, reason
            )
            if self._outbox.wait(wait):
                self._outbox.give_back(batch)
                return

    def _send(self, batch: Batch, body: bytes, token: str) -> Answer:
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "gzip",
            "Idempotency-Key": batch.key,
        }
        return self._transport.request("POST", _PATH, headers, body)

    def _settle(self, batch: Batch, answer: Answer) -> None:
        if answer.status == _STORED:
            self._outbox.stored(batch)
            return
        if answer.status == 413 and len(batch.lines) > 1:
            self._outbox.halve(batch)
            return
        named = _named_items(answer, len(batch.lines))
        reasons = named or dict.fromkeys(range(len(batch.lines)), f"{answer.status}: {answer.text}")
        for index, reason in reasons.items():
            self.tell(RefusedEvent(decode(batch.lines[index]), reason), answer.status)
        self._outbox.refused(batch, [*reasons])

    def tell(self, refused: RefusedEvent, status: int | None = None) -> None:
        """Log that an event is refused, and call back who wants to know."""
        self._complaints.say(
            f"refused {status}", "An event is refused: %s: %s", refused.event, refused.reason, level=logging.ERROR
        )
        if self._on_refused:
            try:
                self._on_refused(refused)
            except Exception:
                with suppress(Exception):  # of a handler of the log
                    logging.getLogger("tracking_client").exception("on_refused failed")


def _named_items(answer: Answer, count: int) -> dict[int, str]:
    """Return what is wrong with which lines, where a 400 or a 403 says so: ``{"17": {"value": ["…"]}}``."""
    found = answer.json()
    if answer.status not in (400, 403) or not isinstance(found, dict):
        return {}
    named: dict[int, str] = {}
    for index, errors in found.items():
        if not (index.isascii() and index.isdigit() and int(index) < count):
            return {}
        if isinstance(errors, dict):
            fields = (f"{field}: {_words(texts)}" for field, texts in errors.items())
            named[int(index)] = "; ".join(fields)
        else:
            named[int(index)] = _words(errors)
    return named


def _words(texts: object) -> str:
    return " ".join(map(str, texts)) if isinstance(texts, list) else str(texts)
