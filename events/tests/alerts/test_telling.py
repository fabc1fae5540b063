"""What is told of an alert, and when: which firing, in which order, and what silence holds back."""

import json
from datetime import time as time_of_day
from datetime import timedelta

import pytest

from events.alerts import sender
from events.alerts.models import Alert, Delivery, Firing
from events.alerts.runner import forget_old
from events.alerts.webhooks import Outcome
from events.models import Event
from events.tests.alerts.conftest import NOON, states
from events.tests.alerts.receiver import receiving


def past_noon(text):
    """The minutes from noon to a time of a body."""
    return text and int(text[11:13]) * 60 + int(text[14:16]) - 12 * 60


def told():
    """Each message in order: when it was made, what it says, and each of its series with when it fired and resolved."""
    made = Delivery.objects.order_by("created_at")
    bodies = [(each, json.loads(each.body)) for each in made]
    assert [body["createdAt"] for _, body in bodies] == sorted({body["createdAt"] for _, body in bodies})
    return [
        (
            round((each.created_at - NOON) / timedelta(minutes=1)),
            body["event"],
            *((of["name"], past_noon(of["firedAt"]), past_noon(of["resolvedAt"])) for of in body["series"]),
        )
        for each, body in bodies
    ]


@pytest.fixture
def track_minutes(track):
    """Tracks a value in each minute from noon on, which the evaluation at its end sees."""

    def track_minutes(*values, **series):
        for number, value in enumerate(values):
            track(number * 60 + 10, value, **series)

    return track_minutes


QUIET = {"quiet_start": time_of_day(12, 2), "quiet_end": time_of_day(12, 4)}
MUTED = {"muted_until": NOON + timedelta(minutes=4)}
EACH_MINUTE, MINUTES_WERE_MISSED = [1, 1, 1, 1, 1], [3, 1, 1]


@pytest.mark.parametrize(
    ("silence", "passes"),
    [
        (QUIET, EACH_MINUTE),
        (MUTED, EACH_MINUTE),
        (QUIET, MINUTES_WERE_MISSED),
        (MUTED, MINUTES_WERE_MISSED),
        ({}, MINUTES_WERE_MISSED),
    ],
)
def test_what_fires_anew_in_silence_is_told_after_the_end_of_what_was_told(
    track_minutes, make_alert, make_target, evaluate, silence, passes
):
    alert = make_alert(make_target(), aggregation_type="last")
    track_minutes(99, 1, 99, 99, 99, 1)
    evaluate()
    Alert.objects.filter(pk=alert.pk).update(**silence)
    for minutes in passes:
        evaluate(minutes=minutes)

    assert told() == [
        (1, "firing", ("cpu", 1, None)),
        (4, "resolved", ("cpu", 1, 2)),
        (4, "firing", ("cpu", 3, None)),
        (6, "resolved", ("cpu", 3, 6)),
    ]
    assert states() == ["resolved"]
    assert Firing.objects.count() == 2


def test_of_several_firings_in_silence_the_one_that_was_told_ends_and_the_last_one_begins(
    track_minutes, make_alert, make_target, evaluate
):
    make_alert(make_target(), aggregation_type="last")
    track_minutes(99, 1, 99, 1, 99, 99, 1)
    evaluate()
    Alert.objects.update(muted_until=NOON + timedelta(minutes=6))
    for _ in range(6):
        evaluate()

    assert told() == [
        (1, "firing", ("cpu", 1, None)),
        (6, "resolved", ("cpu", 1, 2)),
        (6, "firing", ("cpu", 5, None)),
        (7, "resolved", ("cpu", 5, 7)),
    ]


def test_what_was_not_told_that_it_fires_is_not_told_that_it_resolved(track_minutes, make_alert, make_target, evaluate):
    make_alert(make_target(), aggregation_type="last")
    track_minutes(99, 1, 99, 1, 1)
    evaluate()
    Alert.objects.update(**MUTED)
    for _ in range(4):
        evaluate()

    assert told() == [(1, "firing", ("cpu", 1, None)), (4, "resolved", ("cpu", 1, 2))]


def test_two_firings_that_ended_in_missed_minutes_are_told_in_their_order(
    track_minutes, make_alert, make_target, evaluate
):
    make_alert(make_target(), aggregation_type="last", series_name="*")
    track_minutes(99, 1, 99, 1)
    track_minutes(99, 99, 99, 1, name="memory")
    evaluate()
    evaluate(minutes=3)

    assert told() == [
        (1, "firing", ("cpu", 1, None), ("memory", 1, None)),
        (4, "resolved", ("cpu", 1, 2)),
        (4, "resolved", ("cpu", 3, 4), ("memory", 1, 4)),
    ]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (99, [
            (7, "resolved", ("cpu", 1, 2), ("swap", 2, 3)),
            (7, "resolved", ("cpu", 3, 4)),
            (7, "firing", ("cpu", 6, None), ("memory", 3, None), ("swap", 7, None)),
        ]),
        (1, [
            (7, "resolved", ("cpu", 1, 2)),
            (7, "resolved", ("cpu", 3, 4)),
            (7, "resolved", ("cpu", 6, 7), ("memory", 3, 7), ("swap", 2, 3)),
        ]),
    ],
)  # fmt: skip
def test_each_firing_that_ended_in_missed_minutes_is_told_in_its_order(
    track_minutes, make_alert, make_target, evaluate, last, expected
):
    make_alert(make_target(), aggregation_type="last", series_name="*")
    track_minutes(99, 1, 99, 1, 1, 99, last)
    track_minutes(1, 1, 99, 99, 99, 99, last, name="memory")
    track_minutes(1, 99, 1, 1, 1, 1, last, name="swap")
    evaluate()
    evaluate(minutes=6)

    assert told() == [(1, "firing", ("cpu", 1, None)), *expected]


def test_the_end_of_what_was_told_is_told_of_a_series_that_is_gone(track_minutes, make_alert, make_target, evaluate):
    make_alert(make_target(), aggregation_type="last", namespace="Server-*")
    track_minutes(99, 1, 99)
    evaluate()
    Alert.objects.update(muted_until=NOON + timedelta(minutes=5))
    for _ in range(2):
        evaluate()
    Event.objects.all().delete()
    for _ in range(2):
        evaluate()

    assert told() == [(1, "firing", ("cpu", 1, None)), (5, "resolved", ("cpu", 1, 2))]
    assert states() == []
    assert list(Firing.objects.order_by("fired_at").values_list("resolved_at", flat=True)) == [
        NOON + timedelta(minutes=2),
        NOON + timedelta(minutes=5),
    ]


@pytest.mark.parametrize("values", [(99, 1), (99, 1, 99)])
def test_a_firing_is_kept_until_its_end_is_told(
    track_minutes, make_alert, make_target, evaluate, settings, time, values
):
    settings.ALERT_KEEP_DAYS = 1
    make_alert(make_target(), aggregation_type="last")
    track_minutes(*values)
    evaluate()
    Alert.objects.update(muted_until=NOON + timedelta(days=2))
    for _ in values[1:]:
        evaluate()
    assert forget_old(NOON + timedelta(days=2)) == 0

    evaluate(minutes=2_880)

    assert told()[1] == (2_880 + len(values), "resolved", ("cpu", 1, 2))
    Delivery.objects.update(created_at=time.now)
    assert forget_old(time.now) == 1


@pytest.mark.parametrize("is_known_to_refer", [True, False])
def test_a_firing_that_was_deleted_is_not_told(track_minutes, make_alert, make_target, evaluate, is_known_to_refer):
    """Also by the release before, which doesn't know what refers to it, and so leaves its id."""
    make_alert(make_target(), aggregation_type="last")
    track_minutes(99, 1, 99, 99)
    evaluate()
    Alert.objects.update(**MUTED)
    for _ in range(2):
        evaluate()
    ended = Firing.objects.exclude(resolved_at=None)
    if is_known_to_refer:
        ended.delete()
    else:
        ended._raw_delete(ended.db)
    evaluate()

    assert told() == [(1, "firing", ("cpu", 1, None)), (4, "firing", ("cpu", 3, None))]


def test_what_goes_away_in_quiet_hours_is_told_after_them(track, make_alert, make_target, evaluate):
    alert = make_alert(make_target(), namespace="Server-*")
    track(10, 95)
    evaluate()
    assert [each.event for each in Delivery.objects.all()] == ["firing"]
    Alert.objects.update(muted_until=NOON + timedelta(minutes=4))

    Event.objects.all().delete()
    for _ in range(2):
        evaluate()
        assert states() == ["firing"]
    assert Firing.objects.get().resolved_at is None
    for _ in range(2):
        evaluate()

    assert states() == []
    assert Firing.objects.get().resolved_at is not None
    assert [each.event for each in alert.deliveries.order_by("created_at")] == ["firing", "resolved"]


@pytest.mark.parametrize("how", ["quiet", "muted"])
def test_what_fires_in_quiet_hours_is_told_after_them_if_it_still_does(track, make_alert, make_target, evaluate, how):
    until = NOON + timedelta(minutes=3)
    hours = {"quiet_start": time_of_day(13), "quiet_end": time_of_day(13, 3), "quiet_zone": "Europe/Berlin"}
    still = make_alert(make_target(), **(hours if how == "quiet" else {"muted_until": until}))
    over = make_alert(
        *still.targets.all(), series_name="memory", **(hours if how == "quiet" else {"muted_until": until})
    )
    for minute in range(3):
        track(minute * 60 + 10, 95)
    track(10, 95, name="memory")
    track(70, 10, name="memory")
    evaluate()
    assert states() == ["firing", "firing"]
    evaluate()
    assert states(over) == ["resolved"]
    assert Delivery.objects.count() == 0

    evaluate()

    assert [(each.event, each.alert) for each in Delivery.objects.all()] == [("firing", still)]


def test_the_end_is_sent_before_the_new_beginning(track_minutes, make_alert, make_target, evaluate, settings):
    settings.ALERT_PRIVATE_TARGETS = True
    with receiving() as receiver:
        target = make_target(url=f"http://127.0.0.1:{receiver.port}/", body_format="alertmanager")
        make_alert(target, aggregation_type="last")
        track_minutes(99, 1, 99)
        evaluate()
        sender.send_waiting()
        evaluate(minutes=2)
        sender.send_waiting()

    came = [alert for _, _, body in receiver.came for alert in json.loads(body)["alerts"]]
    assert [(each["status"], each["startsAt"], each["endsAt"]) for each in came] == [
        ("firing", "2026-11-28T12:01:00Z", "0001-01-01T00:00:00Z"),
        ("resolved", "2026-11-28T12:01:00Z", "2026-11-28T12:02:00Z"),
        ("firing", "2026-11-28T12:03:00Z", "0001-01-01T00:00:00Z"),
    ]
    assert len({each["fingerprint"] for each in came}) == 1


def test_a_message_waits_until_those_before_it_were_tried_once(track_minutes, make_alert, make_target, evaluate):
    targets = make_target(), make_target(name="Others")
    make_alert(*targets)
    track_minutes(99, 1, 99)
    for _ in range(3):
        evaluate()
    first, second, third = (
        list(Delivery.objects.filter(created_at=NOON + timedelta(minutes=minute)).order_by("target"))
        for minute in (1, 2, 3)
    )

    assert sender._claim() == first
    assert sender._claim() == []  # as another worker finds while this one sends
    first[0].attempts = 1
    sender._note(first[0], Outcome(False, "Answered 500."))
    assert sender._claim() == second[:1]  # what has to be repeated is not waited for any longer
    second[0].attempts = 1
    sender._note(second[0], Outcome(True, "Answered 200."))
    assert sender._claim() == third[:1]
