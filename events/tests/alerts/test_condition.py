"""Conditions and states by themselves: what a value says, and what follows from that."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from events.alerts.condition import Condition, Verdict, minutes_text
from events.alerts.quiet_hours import is_quiet
from events.alerts.states import Status

BREACHED, BETWEEN, CLEAR, UNKNOWN = Verdict
NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def minutes(number):
    return NOON + timedelta(minutes=number)


# state, since, clear since; the verdict ten minutes past noon, for, resolve after; the next state, since, clear since
TRANSITIONS = [
    (("ok", 0, None), CLEAR, 5, 5, ("ok", 0, None)),
    (("ok", 0, None), BETWEEN, 5, 5, ("ok", 0, None)),
    (("ok", 0, None), UNKNOWN, 5, 5, ("ok", 0, None)),
    (("ok", 0, None), BREACHED, 5, 5, ("pending", 10, None)),
    (("ok", 0, None), BREACHED, 0, 5, ("firing", 10, None)),
    (("pending", 6, None), BREACHED, 5, 5, ("pending", 6, None)),
    (("pending", 5, None), BREACHED, 5, 5, ("firing", 10, None)),
    (("pending", 5, None), BETWEEN, 5, 5, ("ok", 10, None)),
    (("pending", 5, None), CLEAR, 5, 5, ("ok", 10, None)),
    (("pending", 5, None), UNKNOWN, 5, 5, ("ok", 10, None)),
    (("firing", 0, None), BREACHED, 5, 5, ("firing", 0, None)),
    (("firing", 0, 7), BREACHED, 5, 5, ("firing", 0, None)),
    (("firing", 0, 7), BETWEEN, 5, 5, ("firing", 0, None)),
    (("firing", 0, 7), UNKNOWN, 5, 5, ("firing", 0, None)),
    (("firing", 0, None), CLEAR, 5, 5, ("firing", 0, 10)),
    (("firing", 0, 6), CLEAR, 5, 5, ("firing", 0, 6)),
    (("firing", 0, 5), CLEAR, 5, 5, ("resolved", 10, None)),
    (("firing", 0, None), CLEAR, 5, 0, ("resolved", 10, None)),
    (("resolved", 0, None), CLEAR, 5, 5, ("resolved", 0, None)),
    (("resolved", 0, None), BETWEEN, 5, 5, ("resolved", 0, None)),
    (("resolved", 0, None), UNKNOWN, 5, 5, ("resolved", 0, None)),
    (("resolved", -1_430, None), CLEAR, 5, 5, ("ok", 10, None)),
    (("resolved", 0, None), BREACHED, 5, 5, ("pending", 10, None)),
    (("resolved", 0, None), BREACHED, 0, 5, ("firing", 10, None)),
]


def status(state, since, clear_since):
    return Status(state, minutes(since), None if clear_since is None else minutes(clear_since))


@pytest.mark.parametrize(("before", "verdict", "for_minutes", "resolve_minutes", "after"), TRANSITIONS)
def test_what_leads_from_a_state_to_the_next(before, verdict, for_minutes, resolve_minutes, after):
    found = status(*before).after(minutes(10), verdict, for_minutes, resolve_minutes)

    assert found == status(*after)


CHANGE = {"kind": "change", "threshold": 50.0}


@pytest.mark.parametrize(
    ("condition", "values", "expected"),
    [
        ({"threshold": 90.0}, [90.0], CLEAR),
        ({"threshold": 90.0}, [90.1], BREACHED),
        ({"threshold": 90.0}, [None], UNKNOWN),
        ({"threshold": 90.0, "clear_threshold": 80.0}, [85.0], BETWEEN),
        ({"threshold": 90.0, "clear_threshold": 80.0}, [80.0], CLEAR),
        ({"threshold": 10.0, "comparison": "below", "aggregation_type": "count"}, [9.0], BREACHED),
        ({"threshold": 10.0, "comparison": "below"}, [10.0], CLEAR),
        ({"threshold": 10.0, "comparison": "below", "clear_threshold": 20.0}, [15.0], BETWEEN),
        ({"threshold": 10.0, "comparison": "below", "clear_threshold": 20.0}, [20.0], CLEAR),
        ({"threshold": 0.0, "comparison": "below"}, [-0.5], BREACHED),
        ({"kind": "silence"}, [0.0], BREACHED),
        ({"kind": "silence"}, [1.0], CLEAR),
        ({**CHANGE, "comparison": "either"}, [151.0, 100.0], BREACHED),
        ({**CHANGE, "comparison": "either"}, [49.0, 100.0], BREACHED),
        ({**CHANGE, "comparison": "either"}, [150.0, 100.0], CLEAR),
        ({**CHANGE, "comparison": "either", "clear_threshold": 20.0}, [70.0, 100.0], BETWEEN),
        ({**CHANGE, "comparison": "above"}, [49.0, 100.0], CLEAR),
        ({**CHANGE, "comparison": "above"}, [-40.0, -100.0], BREACHED),
        ({**CHANGE, "comparison": "below"}, [49.0, 100.0], BREACHED),
        ({**CHANGE, "comparison": "below"}, [151.0, 100.0], CLEAR),
        ({**CHANGE, "comparison": "below", "clear_threshold": 20.0}, [70.0, 100.0], BETWEEN),
        ({**CHANGE, "comparison": "either"}, [0.0, 0.0], CLEAR),
        ({**CHANGE, "comparison": "either"}, [5.0, 0.0], UNKNOWN),
        ({**CHANGE, "comparison": "either"}, [None, 100.0], UNKNOWN),
        ({**CHANGE, "comparison": "either"}, [100.0, None], UNKNOWN),
        ({**CHANGE, "comparison": "either"}, [1e308, 1e-308], UNKNOWN),
    ],
)  # fmt: skip
def test_what_values_say(condition, values, expected):
    judged = Condition(**condition)

    assert judged.verdict(judged.value_of(values)) == expected


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ({"threshold": 90.0}, "avg over 5 min above 90"),
        ({"kind": "silence", "window_minutes": 15}, "no event for 15 min"),
        ({"aggregation_type": "count", "window_minutes": 60, "comparison": "below", "threshold": 10.0}, "count over 1 hour below 10"),
        ({**CHANGE, "window_minutes": 60, "comparison": "either"}, "avg over 1 hour changes by more than 50 % against 1 week before"),
        ({**CHANGE, "compare_minutes": 2_880, "comparison": "below"}, "avg over 5 min falls by more than 50 % against 2 days before"),
    ],
)  # fmt: skip
def test_a_condition_in_words(condition, sentence):
    assert Condition(**condition).sentence() == sentence
    assert minutes_text(0) == "0 min"


@pytest.mark.parametrize(
    ("now", "start", "end", "zone", "expected"),
    [
        ("2026-11-28T21:59:59", time(22), time(6), "UTC", False),
        ("2026-11-28T22:00:00", time(22), time(6), "UTC", True),
        ("2026-11-29T05:59:59", time(22), time(6), "UTC", True),
        ("2026-11-29T06:00:00", time(22), time(6), "UTC", False),
        ("2026-11-28T12:30:00", time(12), time(13), "UTC", True),
        ("2026-11-28T21:30:00", time(22), time(6), "Europe/Berlin", True),
        ("2026-07-28T20:30:00", time(22), time(6), "Europe/Berlin", True),
        ("2026-10-25T01:30:00", time(2), time(3), "Europe/Berlin", True),  # the clocks show 2:30 for the second time
        ("2026-11-28T12:30:00", None, None, "UTC", False),
        ("2026-11-28T12:30:00", time(12), time(12), "UTC", False),
    ],
)  # fmt: skip
def test_when_it_is_quiet(now, start, end, zone, expected):
    assert is_quiet(datetime.fromisoformat(f"{now}+00:00"), start, end, ZoneInfo(zone)) == expected
