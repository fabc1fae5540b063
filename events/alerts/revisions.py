"""Looks whether late events changed the data that an alert fired on.

The state follows the minutes as they pass, so a late event makes nothing flap. But what fired on data that is different
by now says so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from rest_framework.exceptions import ValidationError

from events.aggregation import windows
from events.aggregation.event_windows import Found
from events.aggregation.question import Window
from events.aggregation.windows import TooManyEvents
from events.alerts.condition import MINUTE, Condition, Verdict
from events.alerts.lease import Lease
from events.alerts.models import Alert, Firing
from events.calendar.granularity import MICROSECOND
from events.database.snapshot import snapshot
from events.log.series import SeriesKey

_LOOK_FOR = timedelta(days=1)
_FIRINGS_A_PASS = 200
_SECONDS_A_PASS = 10
_MOST_POINTS = 60


def count_events(firings: Sequence[Firing]) -> list[int | None]:
    """Count the events that each firing is based on, which tells whether any came late; None where that isn't known.

    Of a change, these are also the ones that it is against. To be called in a snapshot.
    """
    stretches = [_stretches(firing, firing.alert.condition) for firing in firings]
    counts = windows.read(window for of_firing in stretches for window in of_firing)
    found: list[int | None] = []
    for of_firing in stretches:
        numbers = [int(count) for window in of_firing if isinstance(count := counts[window], float)]
        found.append(sum(numbers) if len(numbers) == len(of_firing) else None)
    return found


def _stretches(firing: Firing, condition: Condition) -> list[Window]:
    key, first = SeriesKey(firing.namespace, firing.name), firing.pending_since - condition.length
    ends = [(first - offset, firing.fired_at - offset - MICROSECOND) for offset in condition.offsets]
    return [Window(key, "count", *of_offset) for of_offset in ends]


def look_for_late_events(minute: datetime, lease: Lease) -> int:
    """Mark what fired within a day on data that is different by now; return how many firings that are.

    The ones that were looked at longest ago come first, some hundreds a pass, or as many as there is time for.
    """
    recent = Q(resolved_at=None) | Q(resolved_at__gt=minute - _LOOK_FOR)
    found = Firing.objects.filter(recent, event_count__isnull=False)
    ordered = found.select_related("alert").order_by(F("checked_at").asc(nulls_first=True), "pk")
    firings = list(ordered[:_FIRINGS_A_PASS])
    if not firings:
        return 0
    checked: list[int] = []
    revised: list[Firing] = []
    with snapshot():
        end = time.monotonic() + _SECONDS_A_PASS
        for firing, count in zip(firings, count_events(firings), strict=True):
            if count is not None and count != firing.event_count:
                if time.monotonic() > end:
                    continue
                _judge_anew(firing, minute, count)
                revised.append(firing)
            checked.append(firing.pk)
    with transaction.atomic():
        lease.prolong()
        revised = _unchanged(revised)
        Firing.objects.filter(pk__in=checked).update(checked_at=minute)
        fields = ["event_count", "revised_at", "revised_value", "would_have_fired"]
        Firing.objects.bulk_update(revised, fields, batch_size=100)
    return len(revised)


def _unchanged(revised: Sequence[Firing]) -> list[Firing]:
    """Lock the alerts of firings, and leave out those of one that was changed since: another condition judged these."""
    if not revised:
        return []
    alerts = Alert.objects.select_for_update().order_by("pk").filter(pk__in={firing.alert_id for firing in revised})
    changed_at = dict(alerts.values_list("pk", "changed_at"))
    return [firing for firing in revised if changed_at.get(firing.alert_id) == firing.alert.changed_at]


def _judge_anew(firing: Firing, minute: datetime, event_count: int) -> None:
    firing.event_count = event_count
    condition, points = firing.alert.condition, _points(firing)
    try:
        values = _values(firing, condition, points)
    except TooManyEvents:
        try:
            values = _values(firing, condition, points[-1:])
        except TooManyEvents:
            return
    firing.would_have_fired = all(condition.verdict(value) is Verdict.BREACHED for value in values)
    if values[-1] != firing.value or not firing.would_have_fired or firing.revised_at:
        firing.revised_at, firing.revised_value = minute, values[-1]


def _values(firing: Firing, condition: Condition, points: Sequence[datetime]) -> list[float | None]:
    key = SeriesKey(firing.namespace, firing.name)
    asked = {at: condition.windows(key, at) for at in points}
    found = windows.read((window for of_point in asked.values() for window in of_point), settings.PERCENTILE_EVENTS)
    return [_value(condition, [found[window] for window in asked[at]]) for at in points]


def _value(condition: Condition, found: Sequence[Found]) -> float | None:
    if any(isinstance(each, ValidationError) for each in found):
        return None
    return condition.value_of([each for each in found if not isinstance(each, ValidationError)])


def _points(firing: Firing) -> list[datetime]:
    """List the minutes from the first breach to the firing; of many, some that are spread evenly, and both ends."""
    count = int((firing.fired_at - firing.pending_since) / MINUTE)
    if count < _MOST_POINTS:
        return [firing.pending_since + number * MINUTE for number in range(count + 1)]
    numbers = [count * number // (_MOST_POINTS - 1) for number in range(_MOST_POINTS)]
    return [firing.pending_since + number * MINUTE for number in numbers]
