"""Runs the alerts beside the roller: a thread that evaluates them, and one that sends, each with its own connection."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, models
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from events.alerts.evaluator import Evaluator
from events.alerts.models import AlertState, Delivery, Firing
from events.alerts.sender import send_waiting

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_AFTER_ERROR_SECONDS = 5.0
_STOP_SECONDS = 5.0
_ROWS_A_STEP = 1_000
_FORGET_EVERY = timedelta(hours=1)


class AlertRunner:
    """The threads of a worker that evaluate alerts and send what they tell, until ``stop``."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._evaluator = Evaluator()
        self._forgotten_at: datetime | None = None
        turns = {"alerts": self._evaluate, "alert-deliveries": self._send}
        self._threads = [
            threading.Thread(target=self._loop, args=(turn,), name=name, daemon=True) for name, turn in turns.items()
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have the threads end after what they are at, and wait for that for some seconds.

        Nothing is lost where they take longer: the worker that runs next goes on.
        """
        self._stopping.set()
        give_up = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0, give_up - time.monotonic()))

    def _is_wanted(self) -> bool:
        return not self._stopping.is_set()

    def _loop(self, turn: Callable[[], None]) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            wait = _LOOK_SECONDS
            try:
                turn()
            except (DatabaseError, InterfaceError) as error:
                logger.error("Alerts will be tried again: %s", str(error).strip())
                connection.close()
                wait = _AFTER_ERROR_SECONDS
            except Exception:  # a mistake in one turn may not end all later ones
                logger.exception("Alerts will be tried again")
                wait = _AFTER_ERROR_SECONDS
        connection.close()

    def _evaluate(self) -> None:
        self._evaluator.evaluate_if_due(self._is_wanted)
        now = timezone.now()
        if self._forgotten_at is None or now - self._forgotten_at >= _FORGET_EVERY:
            forget_old(now)
            self._forgotten_at = now

    def _send(self) -> None:
        send_waiting(self._is_wanted)


def forget_old(now: datetime) -> int:
    """Delete firings that ended, and deliveries that were made, ALERT_KEEP_DAYS ago; return how many rows.

    A firing whose end is still to be told stays, and so does a delivery that is still to be sent.
    """
    before = now - timedelta(days=settings.ALERT_KEEP_DAYS)
    sent = Delivery.objects.filter(created_at__lt=before).exclude(status=Delivery.WAITING)
    told = AlertState.objects.filter(Q(told_before=OuterRef("pk")) | Q(firing=OuterRef("pk"), is_announced=True))
    ended = Firing.objects.filter(~Exists(told), resolved_at__lt=before)
    return _deleted(ended) + _deleted(sent)


def _deleted(rows: models.QuerySet[Any]) -> int:
    """Delete rows some at a time; return how many."""
    deleted = 0
    while ids := list(rows.values_list("pk", flat=True)[:_ROWS_A_STEP]):
        deleted += len(ids)
        rows.filter(pk__in=ids).delete()
    return deleted
