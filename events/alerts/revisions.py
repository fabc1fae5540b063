"""Looks whether late events changed the data that an alert fired on.

The state follows the minutes as they pass, so a late event makes nothing flap. But what fired on data that is different
by now says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q
from rest_framework.exceptions import ValidationError

from events.aggregation import windows
from events.aggregation.windows import Window
from events.alerts.condition import MINUTE, Condition, Verdict
from events.alerts.lease import Lease
from events.alerts.models import Firing
from events.calendar.granularity import MICROSECOND
from events.database.snapshot import snapshot
from events.log.series import SeriesKey

_LOOK_FOR = timedelta(days=1)
_FIRINGS_A_PASS = 200
_MOST_POINTS = 60


def stretch_of(firing: Firing, condition: Condition) -> Window:
    """Return the window whose number of events tells whether any came late: all that the firing is based on."""
    first = firing.pending_since - condition.length
    return Window(SeriesKey(firing.namespace, firing.name), "count", first, firing.fired_at - MICROSECOND)


def look_for_late_events(minute: datetime, lease: Lease) -> int:
    """Mark what fired within a day on data that is different by now; return how many firings that are.

    The ones that were looked at longest ago come first, some hundreds a pass.
    """
    recent = Q(resolved_at=None) | Q(resolved_at__gt=minute - _LOOK_FOR)
    found = Firing.objects.filter(recent, event_count__isnull=False)
    ordered = found.select_related("alert").order_by(F("checked_at").asc(nulls_first=True), "pk")
    firings = list(ordered[:_FIRINGS_A_PASS])
    if not firings:
        return 0
    with snapshot():
        stretches = {firing: stretch_of(firing, firing.alert.condition) for firing in firings}
        counts = windows.read(stretches.values())
        revised = []
        for firing, window in stretches.items():
            count = counts[window]
            if isinstance(count, float) and int(count) != firing.event_count:
                _judge_anew(firing, minute, int(count))
                revised.append(firing)
    with transaction.atomic():
        lease.prolong()
        Firing.objects.filter(pk__in=[firing.pk for firing in firings]).update(checked_at=minute)
        fields = ["event_count", "revised_at", "revised_value", "would_have_fired"]
        Firing.objects.bulk_update(revised, fields, batch_size=100)
    return len(revised)


def _judge_anew(firing: Firing, minute: datetime, event_count: int) -> None:
    condition = firing.alert.condition
    key = SeriesKey(firing.namespace, firing.name)
    points = _points(firing)
    asked = {at: condition.windows(key, at) for at in points}
    found = windows.read([window for of_point in asked.values() for window in of_point])
    values = [_value(condition, [found[window] for window in asked[at]]) for at in points]
    firing.event_count = event_count
    firing.would_have_fired = all(condition.verdict(value) is Verdict.BREACHED for value in values)
    if values[-1] != firing.value or not firing.would_have_fired or firing.revised_at:
        firing.revised_at, firing.revised_value = minute, values[-1]


def _value(condition: Condition, found: Sequence[windows.Found]) -> float | None:
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
