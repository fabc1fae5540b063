"""Finds the series that each alert watches, and how it stood for them."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from django.db import transaction

from events.aggregation import windows
from events.aggregation.catalogue import Catalogue
from events.alerts.models import Alert, AlertState, Firing
from events.alerts.states import FIRING
from events.log.namespace_patterns import Namespaces, fits
from events.log.series import SeriesKey

# An alert watches so many series at most, the first ones by name, and says where there are more.
MOST_SERIES = 1_000
_MOST_LISTED = 200_000
# Where one of these is changed, the states are about something else.
_WATCHED = (
    "is_enabled", "namespace", "series_name", "kind", "aggregation_type", "window_minutes", "comparison", "threshold",
    "clear_threshold", "compare_minutes",
)  # fmt: skip


@dataclass
class Watched:
    """An alert, the series that it watches, how it stood for each, and for those that it watches no more."""

    alert: Alert
    series: Sequence[SeriesKey]
    states: dict[SeriesKey, AlertState]
    gone: list[AlertState]
    problem: str = ""

    @classmethod
    def all(cls) -> list[Watched]:
        """Find what every enabled alert watches. A handful of queries, and one reading of the patterns' catalogue."""
        alerts = list(Alert.objects.filter(is_enabled=True).order_by("pk"))
        states: defaultdict[int, dict[SeriesKey, AlertState]] = defaultdict(dict)
        for state in AlertState.objects.filter(alert__in=alerts).select_related("firing", "told_before"):
            states[state.alert_id][state.series] = state
        known = _Known.of(alerts)
        return [known.watched_by(alert, states[alert.pk]) for alert in alerts]


class _Known:
    """The series that there are, as far as alerts ask."""

    def __init__(self, listed: list[SeriesKey], single: set[SeriesKey]) -> None:
        self._listed, self._single = listed, single
        self._matching: dict[tuple[str, str], list[SeriesKey]] = {}

    @classmethod
    def of(cls, alerts: Sequence[Alert]) -> _Known:
        single = [alert.series for alert in alerts if alert.series]
        texts = "\n".join(alert.namespace for alert in alerts if not alert.series)
        namespaces = Namespaces.of(texts)
        listed: list[SeriesKey] = []
        if namespaces:
            lines = islice(Catalogue(namespaces).iterate(), _MOST_LISTED)
            listed = [SeriesKey(line["namespace"], line["name"]) for line in lines]
        return cls(listed, windows.stored_series(single) if single else set())

    def watched_by(self, alert: Alert, states: dict[SeriesKey, AlertState]) -> Watched:
        series, problem = [alert.series] if alert.series else self._matching_of(alert), ""
        if alert.series and alert.series not in self._single:
            problem = f"There is no series “{'/'.join(alert.series)}”."
        elif not series:
            problem = "No series matches."
        elif len(series) > MOST_SERIES:
            problem = f"It matches {len(series)} series; the first {MOST_SERIES} are watched."
            series = series[:MOST_SERIES]
        wanted = set(series)
        gone = [state for key, state in states.items() if key not in wanted]
        return Watched(alert, series, {key: states[key] for key in wanted & states.keys()}, gone, problem[:300])

    def _matching_of(self, alert: Alert) -> list[SeriesKey]:
        patterns = alert.namespace, alert.series_name
        if patterns not in self._matching:
            # the list is sorted, so those with the beginning of a namespace follow each other
            start = bisect_left(self._listed, SeriesKey(alert.namespace.removesuffix("*"), ""))
            found = []
            for key in islice(self._listed, start, None):
                if not fits(key.namespace, alert.namespace):
                    break
                if fits(key.name, alert.series_name):
                    found.append(key)
            self._matching[patterns] = found
        return self._matching[patterns]


def store(alert: Alert) -> None:
    """Store an alert that somebody made or changed; begin anew where it watches something else from now on, or nothing.

    To be called before its targets are.
    """
    with transaction.atomic():
        before = Alert.objects.select_for_update().filter(pk=alert.pk).first()
        alert.save()
        if before and any(getattr(before, name) != getattr(alert, name) for name in _WATCHED):
            forget(alert)


def series_of(alert: Alert, most: int) -> list[SeriesKey]:
    """List the first series that an alert watches, or would."""
    if alert.series:
        return [alert.series]
    lines = islice(Catalogue(alert.namespaces).iterate(), _MOST_LISTED)
    keys = (SeriesKey(line["namespace"], line["name"]) for line in lines)
    return list(islice((key for key in keys if alert.matches(key)), most))


def forget(alert: Alert) -> None:
    """Begin anew with an alert whose condition was changed or which was turned off: what fires ends without a word."""
    firing = AlertState.objects.filter(alert=alert, state=FIRING).values_list("firing", flat=True)
    evaluated = AlertState.objects.filter(alert=alert).order_by("-evaluated_at").values_list("evaluated_at", flat=True)
    Firing.objects.filter(pk__in=list(firing)).update(resolved_at=evaluated.first())
    Firing.objects.filter(alert=alert).update(event_count=None)  # no late event changes what another condition says
    AlertState.objects.filter(alert=alert).delete()
