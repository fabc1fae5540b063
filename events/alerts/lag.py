"""Tells how far the evaluation of the alerts is behind."""

from __future__ import annotations

from typing import NamedTuple

from django.utils import timezone

from events.alerts.condition import MINUTE
from events.alerts.models import Alert, AlertEvaluator, AlertState
from events.alerts.states import FIRING

_LATE_SECONDS = 60


class AlertLag(NamedTuple):
    """How many seconds an evaluation has been due, None where there never was one; and how many states are firing."""

    seconds: float | None
    firing: int

    @property
    def rounded(self) -> float | None:
        """The seconds with one decimal."""
        return self.seconds and round(self.seconds, 1)

    @property
    def is_late(self) -> bool:
        """Tell whether something is wrong: a minute may pass until a pass is through."""
        return self.seconds is None or self.seconds > _LATE_SECONDS


def read_lag() -> AlertLag | None:
    """Return the lag; None where there is nothing to evaluate. One query, and two more where there is something."""
    if not Alert.objects.filter(is_enabled=True).exists():
        return None
    evaluated_at = AlertEvaluator.objects.values_list("evaluated_at", flat=True).first()
    firing = AlertState.objects.filter(state=FIRING).count()
    if evaluated_at is None:
        return AlertLag(None, firing)
    return AlertLag(max(0.0, (timezone.now() - evaluated_at - MINUTE).total_seconds()), firing)
