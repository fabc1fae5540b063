"""Sees to it that one worker evaluates the alerts, however many run: a row that one of them holds for a while."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone

from events.alerts.models import AlertEvaluator

_ROW = 1
_HELD_FOR = timedelta(seconds=60)


class Lost(Exception):
    """Another worker evaluates the alerts by now."""


class Lease:
    """The right to evaluate the alerts at a minute.

    It lasts for a minute from each ``prolong``. Where it is lost all the same, as this worker or its clock stood
    still, ``prolong`` says so, and whoever writes does so in the transaction that has prolonged it: so what two workers
    find out never mixes.
    """

    def __init__(self) -> None:
        self.holder = uuid.uuid4().hex
        self._row = AlertEvaluator.objects.filter(pk=_ROW)

    def take(self, minute: datetime) -> bool:
        """Take the lease, unless another worker has it or that minute is evaluated. A query, and a statement if so."""
        now = timezone.now()
        is_free = Q(held_until=None) | Q(held_until__lt=now) | Q(holder=self.holder)
        # a minute far ahead was evaluated by a clock that was set back since
        is_due = Q(evaluated_at=None) | Q(evaluated_at__lt=minute) | Q(evaluated_at__gt=minute + timedelta(hours=1))
        free = self._row.filter(is_free, is_due)
        if not free.exists():  # asked every second, so nothing is written in vain
            if self._row.exists():
                return False
            AlertEvaluator.objects.bulk_create([AlertEvaluator(pk=_ROW)], ignore_conflicts=True)
        return bool(free.update(holder=self.holder, held_until=now + _HELD_FOR))

    def prolong(self) -> None:
        """Hold the lease for another while, and its row until the transaction ends. Raises Lost."""
        mine = self._row.filter(holder=self.holder)
        if not mine.update(held_until=timezone.now() + _HELD_FOR):
            raise Lost

    def finish(self, minute: datetime, alerts: int, seconds: float) -> None:
        """Note that the alerts are evaluated up to a minute, and give the lease back. Raises Lost."""
        mine = self._row.filter(holder=self.holder)
        if not mine.update(evaluated_at=minute, held_until=None, alerts=alerts, seconds=seconds):
            raise Lost
