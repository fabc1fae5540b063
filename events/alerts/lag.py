"""Tells how far the evaluation of the alerts is behind."""

from __future__ import annotations

from django.utils import timezone

from events.alerts.condition import MINUTE
from events.alerts.models import Alert, AlertEvaluator


def lag_seconds() -> float | None:
    """Return for how many seconds an evaluation has been due; None where there never was one. Two queries.

    0 where there is nothing to evaluate.
    """
    if not Alert.objects.filter(is_enabled=True).exists():
        return 0.0
    evaluated_at = AlertEvaluator.objects.values_list("evaluated_at", flat=True).first()
    if evaluated_at is None:
        return None
    return max(0.0, (timezone.now() - evaluated_at - MINUTE).total_seconds())
