"""Lets alerts follow a series that gets another name."""

from __future__ import annotations

from django.utils import timezone

from events.alerts.models import Alert, AlertState, Firing
from events.log.series import SeriesKey
from events.rollups.moves import Move


def follow(move: Move) -> None:
    """Let the alerts that name a series watch it under its new name, and all keep how they stand for it.

    Patterns stay as they are: the new name is watched by those that it fits. The alerts of a series that is deleted
    stay too, and say that there is no such series; so do those of one whose new name would be a pattern. An evaluation
    that is under way stores nothing of these alerts, as they were changed. To be called in a transaction.
    """
    old, into = SeriesKey(*move.old), SeriesKey(*move.into) if move.into else None
    alerts = Alert.objects.select_for_update().order_by("pk")
    concerned = [alert for alert in alerts if alert.matches(old) or (into and alert.matches(into))]
    Alert.objects.filter(pk__in=[alert.pk for alert in concerned]).update(changed_at=timezone.now())
    if into is None:
        return
    if not (into.namespace.endswith("*") or into.name.endswith("*")):
        exact = Alert.objects.filter(pk__in=[alert.pk for alert in concerned if alert.series == old])
        exact.update(namespace=into.namespace, series_name=into.name)
    watching = [
        alert.pk for alert in Alert.objects.filter(pk__in=[each.pk for each in concerned]) if alert.matches(into)
    ]
    of_old = {"namespace": old.namespace, "name": old.name}
    of_into = {"namespace": into.namespace, "name": into.name}
    known = AlertState.objects.filter(**of_into).values_list("alert", flat=True)
    AlertState.objects.filter(**of_old, alert__in=watching).exclude(alert__in=list(known)).update(**of_into)
    Firing.objects.filter(**of_old).update(**of_into)
    if move.is_merged:  # what both have together is not what one of them had when an alert fired
        Firing.objects.filter(**of_into).update(event_count=None)
