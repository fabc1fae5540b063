"""Answers which alerts fired when, as the API tells it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import reduce
from itertools import islice
from operator import or_
from typing import Any

from django.db.models import Q

from events.alerts.models import Firing
from events.calendar import timestamps
from events.log.namespace_patterns import Namespaces
from events.log.series import SeriesKey

MOST_FIRINGS = 1_000


def firings(
    namespaces: Namespaces, series: Sequence[SeriesKey] | None, ts_min: datetime | None, ts_max: datetime | None
) -> list[dict[str, Any]]:
    """List the firings that have an instant between both ends, included, in order of their beginning.

    Of some series, or of every series of the namespaces; of more than 1,000 the newest. One query.
    """
    found = Firing.objects.select_related("alert").order_by("-fired_at", "-pk")
    if series:
        found = found.filter(reduce(or_, (Q(namespace=key.namespace, name=key.name) for key in series)))
    if ts_max is not None:
        found = found.filter(fired_at__lte=ts_max)
    if ts_min is not None:
        found = found.filter(Q(resolved_at=None) | Q(resolved_at__gte=ts_min))
    # SQLite compares the beginning of a text without regard to its case, so the patterns are applied here
    granted: Iterator[Firing] = (each for each in found.iterator(MOST_FIRINGS) if each.namespace in namespaces)
    return [_answered(each) for each in reversed(list(islice(granted, MOST_FIRINGS)))]


def _answered(firing: Firing) -> dict[str, Any]:
    return {
        "alert": firing.alert_id,
        "alertName": firing.alert.name,
        "severity": firing.alert.severity,
        "condition": firing.alert.condition.sentence(),
        "namespace": firing.namespace,
        "name": firing.name,
        "firedAt": timestamps.to_text(firing.fired_at),
        "resolvedAt": None if firing.resolved_at is None else timestamps.to_text(firing.resolved_at),
        "value": firing.value,
        "revision": firing.revision,
    }
