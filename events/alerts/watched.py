"""Finds the series that each alert watches, and how it stood for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from django.db import transaction

from events.aggregation import windows
from events.aggregation.catalogue import Catalogue
from events.alerts.models import Alert, AlertState, Firing
from events.alerts.states import FIRING
from events.log.namespace_patterns import EVERYWHERE, Namespaces, fits
from events.log.series import SeriesKey

# An alert watches so many series at most, those that fire and then the first ones by name, and says if there are more.
MOST_SERIES = 1_000
# The database compares names with so many patterns at most: beyond that, to read more series costs less.
_MOST_NAMES_ASKED = 20
# Where one of these is changed, the states are about something else.
_WATCHED = (
    "is_enabled", "namespace", "series_name", "kind", "aggregation_type", "window_minutes", "comparison", "threshold",
    "clear_threshold", "compare_minutes",
)  # fmt: skip
# Of a namespace and of a name.
_Patterns = tuple[str, str]


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
        known = _Known.of(alerts, states)
        return [known.watched_by(alert, states[alert.pk]) for alert in alerts]


@dataclass
class _Matching:
    """The series that two patterns match: how many, and of these the first ones by name, and those that are kept."""

    kept: set[SeriesKey] = field(default_factory=set)
    series: list[SeriesKey] = field(default_factory=list)
    count: int = 0

    def add(self, series: SeriesKey) -> None:
        self.count += 1
        if self.count <= MOST_SERIES or series in self.kept:
            self.series.append(series)


class _Known:
    """The series that there are, as far as alerts ask."""

    def __init__(self, matching: dict[_Patterns, _Matching], single: set[SeriesKey]) -> None:
        self._matching, self._single = matching, single

    @classmethod
    def of(cls, alerts: Sequence[Alert], states: Mapping[int, dict[SeriesKey, AlertState]]) -> _Known:
        single = [alert.series for alert in alerts if alert.series]
        matching: defaultdict[_Patterns, _Matching] = defaultdict(_Matching)
        for alert in alerts:
            if not alert.series:
                matching[alert.namespace, alert.series_name].kept |= _told_of(states[alert.pk])
        if matching:
            _find(matching)
        return cls(matching, windows.stored_series(single) if single else set())

    def watched_by(self, alert: Alert, states: dict[SeriesKey, AlertState]) -> Watched:
        if alert.series:
            series, problem = [alert.series], ""
            if alert.series not in self._single:
                problem = f"There is no series “{'/'.join(alert.series)}”."
        else:
            matching = self._matching[alert.namespace, alert.series_name]
            series, problem = matching.series, "" if matching.series else "No series matches."
            if matching.count > MOST_SERIES:
                # or a series that comes would end what is told of another that is still there
                told = _told_of(states)
                series = sorted(sorted(series, key=lambda key: key not in told)[:MOST_SERIES])
                problem = f"It matches {matching.count} series; {MOST_SERIES} are watched: what fires, then the first."
        wanted = set(series)
        gone = [state for key, state in states.items() if key not in wanted]
        return Watched(alert, series, {key: states[key] for key in wanted & states.keys()}, gone, problem[:300])


def _told_of(states: Mapping[SeriesKey, AlertState]) -> set[SeriesKey]:
    return {key for key, state in states.items() if state.state == FIRING or state.told}


def _find(matching: Mapping[_Patterns, _Matching]) -> None:
    """Find what matches patterns, by one reading of the catalogue, however many of its series none of them matches."""
    by_namespace: defaultdict[str, list[tuple[str, _Matching]]] = defaultdict(list)
    for (namespace, name), each in matching.items():
        by_namespace[namespace].append((name, each))
    lengths = {len(namespace) - 1 for namespace in by_namespace if namespace.endswith("*")}
    names = {name for _, name in matching}
    asked = Namespaces.of_patterns(names) if len(names) <= _MOST_NAMES_ASKED else EVERYWHERE
    keys = Catalogue(Namespaces.of_patterns(by_namespace), asked).keys()
    for namespace, of_namespace in groupby(keys, itemgetter(0)):
        patterns = {namespace, *(f"{namespace[:length]}*" for length in lengths if length <= len(namespace))}
        fitting = [each for pattern in patterns for each in by_namespace.get(pattern, ())]
        for key in of_namespace:
            for name, each in fitting:
                if fits(key.name, name):
                    each.add(key)


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
    lines = Catalogue(alert.namespaces, Namespaces.of_patterns([alert.series_name])).page(most).series
    return [SeriesKey(line["namespace"], line["name"]) for line in lines]


def forget(alert: Alert) -> None:
    """Begin anew with an alert whose condition was changed or which was turned off: what fires ends without a word."""
    firing = AlertState.objects.filter(alert=alert, state=FIRING).values_list("firing", flat=True)
    evaluated = AlertState.objects.filter(alert=alert).order_by("-evaluated_at").values_list("evaluated_at", flat=True)
    Firing.objects.filter(pk__in=list(firing)).update(resolved_at=evaluated.first())
    Firing.objects.filter(alert=alert).update(event_count=None)  # no late event changes what another condition says
    AlertState.objects.filter(alert=alert).delete()
