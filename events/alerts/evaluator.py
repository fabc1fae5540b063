"""Evaluates the alerts once a minute: values → verdicts → states, and what is told of them, in one transaction."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain, zip_longest
from typing import NamedTuple

from django.conf import settings
from django.db import DatabaseError, InterfaceError, transaction
from django.utils import timezone
from rest_framework.exceptions import APIException

from events.aggregation import windows
from events.aggregation.event_windows import Found
from events.aggregation.question import Window, needs_events
from events.aggregation.windows import TooManyEvents
from events.alerts import messages, revisions
from events.alerts.condition import MINUTE, Verdict
from events.alerts.lease import Lease, Lost
from events.alerts.models import Alert, AlertState, Delivery, Firing
from events.alerts.problems import words_of
from events.alerts.states import FIRING, OK, RESOLVED, Status
from events.alerts.watched import Watched
from events.calendar.granularity import MICROSECOND
from events.database.errors import is_database_away
from events.database.snapshot import snapshot
from events.log.models import Event
from events.log.series import SeriesKey

logger = logging.getLogger(__name__)

# Minutes that no worker evaluated are made up for, up to so many.
_MOST_MISSED = 15
# For so long into a minute the roller goes first, where it has more events than these to roll up.
_PATIENCE, _LONG_TAIL = timedelta(seconds=30), 5_000
_CLOCK_SET_BACK = timedelta(hours=1)
_VALUES_A_STEP = 2_000
_STATE_FIELDS = ("state", "since", "clear_since", "value", "evaluated_at", "firing", "is_announced", "told_before")
# What one alert may fail by without being in the way of the others.
BROKEN = (APIException, DatabaseError, InterfaceError, ArithmeticError, ValueError, LookupError, RuntimeError)


# The minutes to evaluate for each alert, by its id, and each of its series.
_Minutes = dict[tuple[int, SeriesKey], list[datetime]]


def _is_tail_long() -> bool:
    """Tell whether the roller has much to do: to read what it has not rolled up would take long, and slow it down."""
    return Event.objects.tail().values("pk")[: _LONG_TAIL + 1].count() > _LONG_TAIL


class Pass(NamedTuple):
    """What one evaluation of all alerts did."""

    minute: datetime
    alerts: int
    series: int
    fired: int
    resolved: int
    seconds: float


@dataclass
class _Judged:
    """What came of one alert for one series in a pass; nothing of it is stored yet."""

    state: AlertState
    fired: list[Firing] = field(default_factory=list)
    resolved: list[Firing] = field(default_factory=list)


@dataclass
class _Outcome:
    """What came of one alert in a pass."""

    alert: Alert
    judged: list[_Judged] = field(default_factory=list)
    gone: list[AlertState] = field(default_factory=list)
    problem: str = ""


class Evaluator:
    """Evaluates all alerts for the minute that has begun, unless another worker does, or that minute is done."""

    def __init__(self) -> None:
        self._lease = Lease()

    def evaluate_if_due(self, is_wanted: Callable[[], bool] = lambda: True) -> Pass | None:
        """Evaluate all alerts; None where there is nothing to do, or where the evaluator lost its lease.

        Raises DatabaseError where the database is away; the next call goes on with what is left.
        """
        start, now = time.monotonic(), timezone.now()
        minute = now.replace(second=0, microsecond=0)
        if (now - minute < _PATIENCE and _is_tail_long()) or not self._lease.take(minute):
            return None
        counts = {"alerts": 0, "series": 0, "fired": 0, "resolved": 0}
        try:
            # what reads events takes longest, and so comes last
            ordered = sorted(Watched.all(), key=lambda each: needs_events(each.alert.condition.asked_type))
            steps = _steps(ordered, minute)
            for outcomes in (judged for watched in steps for judged in _judge(watched, minute)):
                if not is_wanted():
                    return None
                for outcome in self._store(outcomes):
                    counts["alerts"] += 1
                    counts["series"] += len(outcome.judged)
                    counts["fired"] += sum(len(each.fired) for each in outcome.judged)
                    counts["resolved"] += sum(len(each.resolved) for each in outcome.judged)
            revisions.look_for_late_events(minute, self._lease)
            seconds = time.monotonic() - start
            self._lease.finish(minute, counts["alerts"], seconds)
        except Lost:
            logger.warning("Another worker evaluates the alerts by now.")
            return None
        return Pass(minute=minute, seconds=seconds, **counts)

    def _store(self, outcomes: list[_Outcome]) -> list[_Outcome]:
        """Store states, firings and deliveries in one transaction; leave out alerts that were changed meanwhile."""
        now = timezone.now()
        with transaction.atomic():
            self._lease.prolong()
            ids = [outcome.alert.pk for outcome in outcomes]
            stored = {alert.pk: alert for alert in Alert.objects.select_for_update().order_by("pk").filter(pk__in=ids)}
            valid = [
                outcome
                for outcome in outcomes
                if (alert := stored.get(outcome.alert.pk)) and alert.changed_at == outcome.alert.changed_at
            ]
            deliveries: list[Delivery] = []
            for outcome in valid:
                alert = stored[outcome.alert.pk]
                if alert.problem != outcome.problem:
                    Alert.objects.filter(pk=alert.pk).update(problem=outcome.problem)
                if alert.is_silent(now):  # that a series is gone is told later, like all else, by what is left of it
                    outcome.gone = [state for state in outcome.gone if not state.told]
                deliveries += _told(alert, outcome, now)
            judged = [each for outcome in valid for each in outcome.judged]
            gone = [state for outcome in valid for state in outcome.gone]
            Firing.objects.bulk_create(firing for each in judged for firing in each.fired)
            ended = [firing for each in judged for firing in each.resolved]
            ended += [state.firing for state in gone if state.firing]
            Firing.objects.bulk_update(ended, ["resolved_at", "resolved_value"], batch_size=100)
            _store_states([each.state for each in judged])
            AlertState.objects.filter(pk__in=[state.pk for state in gone]).delete()
            Delivery.objects.bulk_create(deliveries)
        return valid


def _store_states(states: Sequence[AlertState]) -> None:
    """Insert the new states and overwrite the others, some hundreds a statement."""
    new = [state for state in states if not state.pk]
    known = [state for state in states if state.pk]
    for some, unique in ((new, ["alert", "namespace", "name"]), (known, ["id"])):
        AlertState.objects.bulk_create(
            some, update_conflicts=True, unique_fields=unique, update_fields=_STATE_FIELDS, batch_size=500
        )


def _steps(watched: Iterable[Watched], minute: datetime) -> Iterator[list[Watched]]:
    """Cut what is watched into steps of some thousand values, so that each is done long before the lease ends."""
    step: list[Watched] = []
    count = 0
    for each in watched:
        step.append(each)
        count += sum(len(_due(each.alert, each.states.get(series), minute)) for series in each.series)
        if count >= _VALUES_A_STEP:
            yield step
            step, count = [], 0
    if step:
        yield step


def _judge(watched: Sequence[Watched], minute: datetime, most_missed: int = _MOST_MISSED) -> Iterator[list[_Outcome]]:
    """Judge some alerts together, and yield what came of them.

    Where that fails, each is judged by itself, so that one that is broken stops no other. Where they need many events,
    fewer are judged at a time; one that needs too many by itself gives up its missed minutes, and in the end says so.
    """
    try:
        with snapshot():
            found = _judge_together(watched, minute, most_missed)
    except TooManyEvents:
        if len(watched) > 1:
            middle = len(watched) // 2
            yield from _judge(watched[:middle], minute)
            yield from _judge(watched[middle:], minute)
        elif most_missed > 1:
            yield from _judge(watched, minute, 1)
        else:
            yield [_Outcome(watched[0].alert, problem=_too_many(watched[0].alert))]
        return
    except BROKEN as error:
        if is_database_away(error):
            raise
        if len(watched) > 1:
            for each in watched:
                yield from _judge([each], minute)
            return
        alert, problem = watched[0].alert, words_of(error)
        if alert.problem != problem:  # once, not every minute
            logger.error("The alert %s can't be evaluated: %s", alert.pk, str(error).partition("\n")[0])
        found = [_Outcome(alert, problem=problem)]
    yield found


def _too_many(alert: Alert) -> str:
    needed = f"{alert.condition.asked_type} would read more than {settings.PERCENTILE_EVENTS} events of all its series"
    return f"Its {needed} together (PERCENTILE_EVENTS). Choose a shorter window or fewer series, or keep histograms."


def _judge_together(watched: Sequence[Watched], minute: datetime, most_missed: int) -> list[_Outcome]:
    asked: list[Window] = []
    minutes: _Minutes = {}
    for each in watched:
        condition = each.alert.condition
        for series in each.series:
            due = minutes[each.alert.pk, series] = _due(each.alert, each.states.get(series), minute, most_missed)
            asked += [window for point in due for window in condition.windows(series, point)]
    values = windows.read(asked, settings.PERCENTILE_EVENTS)
    outcomes = [_outcome(each, minutes, values, minute) for each in watched]
    _count_events([firing for outcome in outcomes for judged in outcome.judged for firing in judged.fired])
    return outcomes


def _due(alert: Alert, state: AlertState | None, minute: datetime, most: int = _MOST_MISSED) -> list[datetime]:
    """List the minutes that are not evaluated yet, up to the one that the alert's delay allows; the last ones of many.

    None where the delay was raised, until it allows another minute.
    """
    at = minute - alert.delay_minutes * MINUTE
    if state is None or state.evaluated_at - minute > _CLOCK_SET_BACK:
        return [at]
    first = max(state.evaluated_at + MINUTE, at - (most - 1) * MINUTE)
    return [first + number * MINUTE for number in range(int((at - first) / MINUTE) + 1)]


def _outcome(watched: Watched, minutes: _Minutes, values: dict[Window, Found], minute: datetime) -> _Outcome:
    alert, condition = watched.alert, watched.alert.condition
    outcome = _Outcome(alert, problem=watched.problem)
    for series in watched.series:
        judged: _Judged | None = None
        for at in minutes[alert.pk, series]:
            found = [values[window] for window in condition.windows(series, at)]
            broken = next((each for each in found if isinstance(each, APIException)), None)
            if broken is not None:
                outcome.problem = words_of(broken)
                break
            value = condition.value_of([each for each in found if not isinstance(each, APIException)])
            state = judged.state if judged else watched.states.get(series) or _new_state(alert, series, at)
            judged = judged or _Judged(state)
            _step(judged, alert, at, value, condition.verdict(value))
        if judged:
            outcome.judged.append(judged)
    at = minute - alert.delay_minutes * MINUTE
    for state in watched.gone:
        if state.state == FIRING and state.firing:
            state.firing.resolved_at = max(at, state.evaluated_at)  # a delay that was raised goes back behind it
        outcome.gone.append(state)
    return outcome


def _new_state(alert: Alert, series: SeriesKey, at: datetime) -> AlertState:
    return AlertState(alert=alert, namespace=series.namespace, name=series.name, state=OK, since=at, evaluated_at=at)


def _step(judged: _Judged, alert: Alert, at: datetime, value: float | None, verdict: Verdict) -> None:
    state = judged.state
    before = Status(state.state, state.since, state.clear_since)
    after = before.after(at, verdict, alert.for_minutes, alert.resolve_minutes)
    state.state, state.since, state.clear_since = after.state, after.since, after.clear_since
    state.value, state.evaluated_at = value, at
    if after.state == FIRING != before.state:
        if state.is_announced:  # the end of the firing before was not told
            state.told_before, state.is_announced = state.firing, False
        pending_since = before.since if before.state == "pending" else at
        state.firing = Firing(
            alert=alert, namespace=state.namespace, name=state.name,
            pending_since=pending_since, fired_at=at, value=value,
        )  # fmt: skip
        judged.fired.append(state.firing)
    elif before.state == FIRING and after.state == RESOLVED and state.firing:
        state.firing.resolved_at, state.firing.resolved_value = at, value
        judged.resolved.append(state.firing)


def _count_events(fired: Sequence[Firing]) -> None:
    """Note on how many events each firing is based, in the snapshot that was judged by."""
    for firing, count in zip(fired, revisions.count_events(fired), strict=True):
        firing.event_count = count


def _told(alert: Alert, outcome: _Outcome, now: datetime) -> list[Delivery]:
    """Make the deliveries of what there is to tell, unless nothing is to be sent now; then it is told later.

    The end of a firing that was told, or that no worker saw, comes before the next firing of its series: the first such
    ends of all series in one message, the second ones in the next.
    """
    if alert.is_silent(now):
        return []
    before: list[list[Firing]] = []
    firing: list[Firing] = []
    resolved: list[Firing] = []
    for judged in outcome.judged:
        state = judged.state
        before.append([*([state.told_before] if state.told_before else []), *judged.fired[:-1]])
        state.told_before = None
        if state.state == FIRING and state.firing and not state.is_announced:
            firing.append(state.firing)
            state.is_announced = True
        elif state.state != FIRING and state.firing and (judged.fired or state.is_announced):
            resolved.append(state.firing)
            state.is_announced = False
    resolved += [state.told for state in outcome.gone if state.told]
    ends = [[each for each in some if each] for some in zip_longest(*before)]
    return [
        *chain.from_iterable(
            messages.deliveries(alert, "resolved", some, now - number * MICROSECOND)  # as the times tell the order
            for number, some in zip(range(len(ends), 0, -1), ends, strict=True)
        ),
        *messages.deliveries(alert, "firing", firing, now),
        *messages.deliveries(alert, "resolved", resolved, now),
    ]
