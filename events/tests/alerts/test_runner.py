"""The threads of a worker that evaluate alerts and send: they go on after errors, and end when they are told to."""

import threading

import pytest
from django.db import OperationalError

from events.alerts import runner
from events.alerts.runner import AlertRunner


@pytest.mark.parametrize("error", [OperationalError("the database is away"), OverflowError("a mistake")])
def test_both_turns_are_taken_again_and_again_whatever_goes_wrong(monkeypatch, error):
    monkeypatch.setattr(runner, "_LOOK_SECONDS", 0)
    monkeypatch.setattr(runner, "_AFTER_ERROR_SECONDS", 0)
    turns, both = [], threading.Barrier(2, timeout=60)

    def turn(name):
        def take(*arguments):
            turns.append(name)
            if turns.count(name) == 1:
                raise error
            if turns.count(name) == 3:
                both.wait()
                alerts._stopping.set()

        return take

    monkeypatch.setattr(AlertRunner, "_evaluate", turn("evaluate"))
    monkeypatch.setattr(AlertRunner, "_send", turn("send"))
    alerts = AlertRunner()

    alerts.start()
    for thread in alerts._threads:
        thread.join(60)
    alerts.stop()

    assert [thread.is_alive() for thread in alerts._threads] == [False, False]
    assert turns.count("evaluate") >= 3
    assert turns.count("send") >= 3
