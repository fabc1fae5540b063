"""Fixtures of the tests of alerts: a clock that stands still until it is set, alerts, and turns of the evaluator."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from events.alerts.evaluator import Evaluator
from events.alerts.models import Alert, AlertState, AlertTarget
from events.tests.support.rolling_up import roll_up_all

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = NOON

    def forward(self, **duration):
        self.now += timedelta(**duration)
        return self.now


@pytest.fixture
def time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timezone, "now", lambda: clock.now)
    return clock


@pytest.fixture
def track(make_event):
    """Tracks a value of cpu so many seconds past noon."""

    def track(seconds, value, namespace="Server-1", name="cpu"):
        return make_event(namespace, name, NOON + timedelta(seconds=seconds), value)

    return track


@pytest.fixture
def make_target(db):
    def make(name="Ops", url="http://127.0.0.1:1/hook", secret="", **fields):
        target = AlertTarget(name=name, **fields)
        target.set_url(url)
        target.set_secret(secret)
        target.save()
        return target

    return make


@pytest.fixture
def make_alert(db, time):
    """Makes an alert: the average of Server-1/cpu over a minute above 90, without any delay, unless said otherwise."""

    def make(*targets, **fields):
        given = {
            "name": f"Alert {Alert.objects.count() + 1}", "namespace": "Server-1", "series_name": "cpu",
            "window_minutes": 1, "threshold": 90, "delay_minutes": 0, "resolve_minutes": 0, **fields,
        }  # fmt: skip
        alert = Alert(**given)
        alert.full_clean()
        alert.save()
        alert.targets.set(targets)
        return alert

    return make


@pytest.fixture
def evaluate(db, time):
    """Sets the clock some minutes on, and has the alerts evaluated; gives what the pass did."""
    evaluator = Evaluator()

    def evaluate(minutes=1, by=evaluator, is_rolled_up=True):
        time.forward(minutes=minutes)
        if is_rolled_up:
            roll_up_all()
        return by.evaluate_if_due()

    return evaluate


def states(alert=None):
    found = AlertState.objects.order_by("alert", "namespace", "name")
    return [each.state for each in (found.filter(alert=alert) if alert else found)]
