"""The alerts' evaluation, minute by minute: states and values, late events, missed minutes, what is broken, the lease."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import DatabaseError, OperationalError, transaction

from events.aggregation import windows
from events.alerts import evaluator as evaluator_module
from events.alerts import revisions, watched
from events.alerts.evaluator import Evaluator
from events.alerts.models import Alert, AlertEvaluator, AlertState, Delivery, Firing
from events.alerts.watched import forget, store
from events.models import Event, Watermark
from events.tests.alerts.conftest import NOON, states
from events.tests.support.rolling_up import roll_up_all
from events.worker import retention


def test_an_alert_from_ok_to_resolved(partition_count, track, make_alert, make_target, evaluate, time):
    alert = make_alert(make_target(), for_minutes=2, resolve_minutes=1, clear_threshold=80)
    values = [50, 95, 96, 97, 85, 70, 60, 95]
    found = []
    for minute, value in enumerate(values):
        track(minute * 60 + 30, value)
        evaluate()
        state = AlertState.objects.get()
        found.append((state.state, state.since - NOON, state.value))

    assert found == [
        ("ok", timedelta(minutes=1), 50),
        ("pending", timedelta(minutes=2), 95),
        ("pending", timedelta(minutes=2), 96),
        ("firing", timedelta(minutes=4), 97),
        ("firing", timedelta(minutes=4), 85),
        ("firing", timedelta(minutes=4), 70),
        ("resolved", timedelta(minutes=7), 60),
        ("pending", timedelta(minutes=8), 95),
    ]
    firing = Firing.objects.get()
    assert (firing.alert, firing.namespace, firing.name) == (alert, "Server-1", "cpu")
    assert (firing.pending_since, firing.fired_at, firing.resolved_at) == tuple(
        NOON + timedelta(minutes=each) for each in (2, 4, 7)
    )
    assert (firing.value, firing.resolved_value, firing.event_count, firing.revision) == (97, 60, 3, "")
    told = Delivery.objects.order_by("created_at").values_list("event", "created_at", "status")
    assert list(told) == [
        ("firing", NOON + timedelta(minutes=4), "waiting"), ("resolved", NOON + timedelta(minutes=7), "waiting"),
    ]  # fmt: skip


@pytest.mark.parametrize("is_rolled_up", [True, False])
def test_each_kind_of_condition(track, make_alert, evaluate, is_rolled_up, time):
    for week in (7 * 86_400, 0):
        for minute in range(6):
            track(minute * 10 - week, 10 if week else 20)
    expected: dict[str, tuple[dict[str, object], bool]] = {
        "avg above": ({"threshold": 19}, True),
        "count below": ({"aggregation_type": "count", "comparison": "below", "threshold": 7}, True),
        "sum": ({"aggregation_type": "sum", "threshold": 120}, False),
        "max": ({"aggregation_type": "max", "threshold": 19.5}, True),
        "p95": ({"aggregation_type": "p95", "threshold": 19.9}, True),
        "stddev": ({"aggregation_type": "stddev", "threshold": 0.1}, False),
        "last": ({"aggregation_type": "last", "threshold": 19}, True),
        "first": ({"aggregation_type": "first", "comparison": "below", "threshold": 20}, False),
        "rate": ({"aggregation_type": "rate", "threshold": 1.9}, True),
        "median": ({"kind": "change", "aggregation_type": "median", "threshold": 99}, True),
        "change": ({"kind": "change", "comparison": "either", "threshold": 50}, True),
        "fall": ({"kind": "change", "comparison": "below", "threshold": 50}, False),
        "silent": ({"kind": "silence", "series_name": "memory"}, True),
        "not silent": ({"kind": "silence", "window_minutes": 15}, False),
    }
    for name, (given, _) in expected.items():
        make_alert(name=name, **{"threshold": 0, **given})

    done = evaluate(is_rolled_up=is_rolled_up)

    assert (done.minute, done.alerts, done.series) == (NOON + timedelta(minutes=1), 14, 14)
    found = {state.alert.name: state.state == "firing" for state in AlertState.objects.select_related("alert")}
    assert found == {name: fires for name, (_, fires) in expected.items()}
    assert Alert.objects.get(name="silent").problem == "There is no series “Server-1/memory”."


def test_every_series_that_a_pattern_matches(partition_count, track, make_alert, make_target, evaluate):
    for namespace, name, value in [("Server-1", "cpu.a", 95), ("Server-2", "cpu.b", 10), ("Server-3", "cpu", 99),
                                   ("Server-1", "memory", 99), ("Servers", "cpu", 99)]:  # fmt: skip
        track(1, value, namespace, name)
    alert = make_alert(make_target(), namespace="Server-*", series_name="cpu*")

    evaluate()

    found = AlertState.objects.order_by("namespace").values_list("namespace", "name", "state")
    assert list(found) == [
        ("Server-1", "cpu.a", "firing"), ("Server-2", "cpu.b", "ok"), ("Server-3", "cpu", "firing"),
    ]  # fmt: skip
    assert [each.subject for each in Delivery.objects.all()] == [f"[warning] {alert.name} fires for 2 series"]

    Event.objects.filter(namespace="Server-3").delete()
    track(61, 95, "Server-1", "cpu.a")
    track(61, 99, "Server-4", "cpu")
    evaluate()

    assert states() == ["firing", "ok", "firing"]
    assert Firing.objects.get(namespace="Server-3").resolved_at == NOON + timedelta(minutes=2)
    assert (
        Delivery.objects.filter(event="resolved").get().subject
        == f"[warning] {alert.name} is resolved for Server-3/cpu"
    )


def subjects():
    return list(Delivery.objects.order_by("created_at").values_list("event", "subject"))


def test_series_that_others_make_hide_none_that_an_alert_watches(
    partition_count, track, make_alert, make_target, evaluate, monkeypatch
):
    monkeypatch.setattr(watched, "MOST_SERIES", 3)
    make_alert(make_target(), name="CPU", namespace="*", series_name="cpu.*")
    make_alert(name="all", namespace="*", series_name="*", is_enabled=False)
    track(10, 95, "Zoo", "cpu.1")
    evaluate()
    Alert.objects.update(is_enabled=True)
    for number in range(10):
        track(70, 1, f"A{number % 2}", f"a{number}")
        track(70, 1, "Zoo", f"a{number}")
    track(70, 95, "Zoo", "cpu.1")
    track(70, 95, "Zoo", "cpu.2")
    evaluate()

    found = AlertState.objects.order_by("alert", "namespace", "name")
    assert list(found.values_list("alert__name", "namespace", "name", "state")) == [
        ("CPU", "Zoo", "cpu.1", "firing"), ("CPU", "Zoo", "cpu.2", "firing"),
        ("all", "A0", "a0", "ok"), ("all", "A0", "a2", "ok"), ("all", "A0", "a4", "ok"),
    ]  # fmt: skip
    assert subjects() == [
        ("firing", "[warning] CPU fires for Zoo/cpu.1"),
        ("firing", "[warning] CPU fires for Zoo/cpu.2"),
    ]
    assert list(Alert.objects.order_by("pk").values_list("problem", flat=True)) == [
        "", "It matches 22 series; 3 are watched: what fires, then the first.",
    ]  # fmt: skip


def test_series_that_come_drive_out_none_that_fires(
    partition_count, track, make_alert, make_target, evaluate, monkeypatch
):
    monkeypatch.setattr(watched, "MOST_SERIES", 2)
    alert = make_alert(make_target(), name="CPU", series_name="cpu.*")
    track(10, 1, name="cpu.8")
    track(10, 95, name="cpu.9")
    evaluate()
    for number in range(3):
        track(70, 1, name=f"cpu.{number}")
    track(70, 95, name="cpu.9")
    evaluate()

    assert list(AlertState.objects.order_by("name").values_list("name", "state")) == [
        ("cpu.0", "ok"),
        ("cpu.9", "firing"),
    ]
    alert.refresh_from_db()
    assert alert.problem == "It matches 5 series; 2 are watched: what fires, then the first."
    track(130, 1, name="cpu.9")
    for _ in range(2):
        evaluate()

    assert list(AlertState.objects.order_by("name").values_list("name", "state")) == [("cpu.0", "ok"), ("cpu.1", "ok")]
    assert subjects() == [
        ("firing", "[warning] CPU fires for Server-1/cpu.9"),
        ("resolved", "[warning] CPU is resolved for Server-1/cpu.9"),
    ]


def test_a_preview_lists_the_first_series_that_an_alert_would_watch(partition_count, track, make_alert):
    for name in ("CPU.0", "a", "b", "cp", "cpu.1", "cpu.2", "cpu.3"):
        track(1, 1, name=name)
    track(1, 1, namespace="A", name="cpu.0")

    def listed(most, **where):
        return watched.series_of(Alert(**where), most)

    assert listed(2, namespace="Server-*", series_name="cpu.*") == [("Server-1", "cpu.1"), ("Server-1", "cpu.2")]
    assert listed(9, namespace="*", series_name="cpu.2") == [("Server-1", "cpu.2")]
    assert listed(2, namespace="*", series_name="*") == [("A", "cpu.0"), ("Server-1", "CPU.0")]
    assert listed(2, namespace="None", series_name="cpu") == [("None", "cpu")]


def test_what_fired_on_data_that_a_late_event_changed_says_so(
    partition_count, track, make_alert, make_target, evaluate
):
    make_alert(make_target(), for_minutes=1, resolve_minutes=1)
    track(10, 95)
    evaluate()
    track(70, 99)
    evaluate()
    assert states() == ["firing"]

    track(75, 1)  # late, as 12:02 is over
    track(130, 99)
    evaluate()

    assert states() == ["firing"]  # it doesn't flap
    firing = Firing.objects.get()
    assert (firing.revised_at, firing.revised_value, firing.would_have_fired) == (
        NOON + timedelta(minutes=3),
        50,
        False,
    )
    sentence = "Events that came late changed the data it fired on: 99 is now 50, on which it would not have fired."
    assert firing.revision == sentence
    for seconds in (190, 250):
        track(seconds, 1)
        evaluate()
    assert states() == ["resolved"]
    assert sentence in Delivery.objects.get(event="resolved").body


def test_a_late_event_in_the_earlier_window_of_a_change_is_told(partition_count, track, make_alert, evaluate):
    make_alert(kind="change", threshold=50, compare_minutes=60)
    track(-3_590, 10)
    track(10, 20)
    evaluate()
    assert states() == ["firing"]
    assert Firing.objects.get().event_count == 2

    track(-3_580, 30)
    evaluate(is_rolled_up=False)

    firing = Firing.objects.get()
    assert (firing.event_count, firing.revised_at) == (3, NOON + timedelta(minutes=2))
    sentence = "Events that came late changed the data it fired on: 100 is now 0, on which it would not have fired."
    assert firing.revision == sentence


def test_late_events_mark_nothing_by_a_condition_that_is_not_the_alerts_any_more(
    track, make_alert, evaluate, monkeypatch
):
    changed, other = make_alert(), make_alert(threshold=80)
    track(10, 95)
    evaluate()
    track(20, 97)
    count = revisions.count_events

    def change(firings):
        if firings:
            monkeypatch.setattr(revisions, "count_events", count)
            alert = Alert.objects.get(pk=changed.pk)
            alert.threshold = 500
            store(alert)
        return count(firings)

    monkeypatch.setattr(revisions, "count_events", change)
    for _ in range(2):
        evaluate()

    found = Firing.objects.order_by("alert").values_list("alert", "event_count", "revised_at", "revised_value")
    assert list(found) == [(changed.pk, None, None, None), (other.pk, 2, NOON + timedelta(minutes=2), 96)]


def test_late_events_are_weighed_as_far_as_there_is_time(track, make_alert, evaluate, monkeypatch):
    make_alert()
    track(10, 95)
    evaluate()
    track(20, 97)
    with monkeypatch.context() as patch:
        patch.setattr(revisions, "_SECONDS_A_PASS", -1)
        evaluate()
    assert (Firing.objects.get().revision, Firing.objects.get().checked_at) == ("", NOON + timedelta(minutes=1))

    evaluate()

    assert Firing.objects.get().revised_value == 96


def test_alerts_that_read_many_events_are_evaluated_a_few_at_a_time(
    partition_count, track, make_alert, evaluate, settings, monkeypatch
):
    settings.PERCENTILE_EVENTS = 3
    for second in range(3):
        track(second, 95)
    track(0, 95, name="memory")
    alerts = [make_alert(aggregation_type="p50", window_minutes=minutes) for minutes in (1, 2, 3)]
    many = make_alert(aggregation_type="p50", series_name="*", name="many")
    cheap = make_alert(series_name="*")
    stored, store = [], evaluator_module._store_states
    monkeypatch.setattr(evaluator_module, "_store_states", lambda states: stored.append(states) or store(states))

    done = evaluate()

    assert (done.alerts, done.fired) == (5, 5)
    steps = [{state.alert for state in step} for step in stored]
    assert steps == [{cheap, alerts[0]}, {alerts[1]}, {alerts[2]}, set()]
    many.refresh_from_db()
    assert many.problem == (
        "Its p50 would read more than 3 events of all its series together (PERCENTILE_EVENTS). Choose a shorter window "
        "or fewer series, or keep histograms."
    )
    for minute in range(1, 6):
        track(minute * 60 + 10, 1)
        track(minute * 60 + 20, 1)
    evaluate(minutes=5)  # of the missed minutes, the last one alone is read
    found = AlertState.objects.get(alert=alerts[0])
    assert (found.state, found.evaluated_at, found.value) == ("resolved", NOON + timedelta(minutes=6), 1)
    assert found.since == NOON + timedelta(minutes=6)


def test_a_late_event_that_changes_nothing_is_not_told(track, make_alert, evaluate):
    make_alert(aggregation_type="max")
    track(10, 95)
    evaluate()
    track(20, 94)
    track(61, 95)

    evaluate()

    firing = Firing.objects.get()
    assert (firing.event_count, firing.revision, firing.checked_at) == (2, "", NOON + timedelta(minutes=2))


def test_late_events_within_the_delay_are_in_time(track, make_alert, evaluate):
    make_alert(aggregation_type="count", comparison="below", threshold=2, delay_minutes=2)
    for seconds in (-110, -100):
        track(seconds, 1)
    evaluate(minutes=0)  # of the minute that begins at 11:57
    assert states() == ["firing"]
    evaluate()
    assert states() == ["resolved"]
    track(-50, 1)
    evaluate(is_rolled_up=False)
    assert states() == ["firing"]
    track(5, 1)
    track(6, 1)
    evaluate()
    assert states() == ["resolved"]


def test_minutes_that_no_worker_evaluated_are_made_up_for(track, make_alert, make_target, evaluate):
    make_alert(make_target(), for_minutes=2, resolve_minutes=0)
    track(10, 50)
    evaluate()
    for minute, value in [(3, 95), (4, 95), (5, 95), (6, 10)]:
        track(minute * 60 + 10, value)

    evaluate(minutes=7)

    firing = Firing.objects.get()
    assert (firing.fired_at, firing.resolved_at) == (NOON + timedelta(minutes=6), NOON + timedelta(minutes=7))
    assert [each.event for each in Delivery.objects.all()] == ["resolved"]
    track(9 * 3600, 50)
    assert evaluate(minutes=600) is not None  # only the last of them
    assert AlertState.objects.get().evaluated_at == NOON + timedelta(minutes=608)


def test_a_delay_that_is_raised_lets_no_minute_be_judged_again(track, make_alert, make_target, evaluate, time):
    alert = make_alert(make_target(), aggregation_type="sum", delay_minutes=1)
    track(600, 99)
    found = []
    for turn in range(20):
        evaluate(minutes=10)
        found.append(AlertState.objects.get().evaluated_at)
        if turn == 1:
            alert.delay_minutes = 90
            store(alert)

    firing = Firing.objects.get()
    assert [firing.fired_at, firing.resolved_at] == [NOON + timedelta(minutes=each) for each in (11, 12)]
    assert [each.event for each in Delivery.objects.all()] == ["resolved"]
    minutes = [int((each - NOON) / timedelta(minutes=1)) for each in found]
    assert minutes == [9, *[19] * 9, *range(20, 111, 10)]


def test_what_is_gone_with_a_delay_that_was_raised_ends_no_earlier_than_it_was_seen(track, make_alert, evaluate):
    alert = make_alert(namespace="Server-*")
    track(10, 95)
    evaluate()
    alert.delay_minutes = 30
    store(alert)
    Event.objects.all().delete()
    evaluate()

    firing = Firing.objects.get()
    assert (firing.fired_at, firing.resolved_at) == (NOON + timedelta(minutes=1), NOON + timedelta(minutes=1))


@pytest.mark.parametrize("delay_minutes", [0, 5])
def test_a_clock_that_is_set_back_by_hours_does_not_stop_the_evaluation(track, make_alert, evaluate, delay_minutes):
    make_alert(delay_minutes=delay_minutes)
    track(-180 * 60 - delay_minutes * 60 + 10, 95)
    evaluate()

    evaluate(minutes=-180)

    state = AlertState.objects.get()
    assert (state.state, state.evaluated_at) == ("firing", NOON - timedelta(minutes=179 + delay_minutes))


def test_a_broken_alert_stops_no_other(track, make_alert, evaluate, monkeypatch):
    track(10, 95)
    broken = make_alert(threshold=1)
    make_alert()
    make_alert(namespace="None-*")
    one_read = windows.read

    def read(asked, *limits):
        asked = list(asked)
        if any(broken.matches(each.series) and each.last == NOON + timedelta(seconds=30) for each in asked):
            raise DatabaseError("out of range")
        return one_read(asked, *limits)

    one_windows = type(broken.condition).windows

    def windows_of(condition, series, at):
        found = one_windows(condition, series, at)
        return (
            [each._replace(last=NOON + timedelta(seconds=30)) for each in found] if condition.threshold == 1 else found
        )

    monkeypatch.setattr(evaluator_module.windows, "read", read)
    monkeypatch.setattr(type(broken.condition), "windows", windows_of)

    done = evaluate()

    assert (done.alerts, done.series, done.fired) == (3, 1, 1)
    problems = [each.problem for each in Alert.objects.order_by("pk")]
    assert problems == ["It can’t be evaluated (DatabaseError).", "", "No series matches."]
    assert states() == ["firing"]


def test_a_window_that_only_pruned_events_could_answer_is_a_problem(track, make_alert, evaluate):
    track(10, 95)
    for seconds in (-3_500, -3_000):
        track(seconds, 95)
    roll_up_all()
    Watermark.objects.update(resolutions="hour")
    list(retention.prune(retention.Series("Server-1", "cpu", NOON + timedelta(hours=1))))
    alert = make_alert(window_minutes=55)

    evaluate()

    alert.refresh_from_db()
    assert "are pruned, and kept by the hour of UTC only" in alert.problem
    assert states() == []


def test_a_database_that_is_away_is_no_fault_of_an_alert(track, make_alert, evaluate, monkeypatch):
    alert = make_alert()

    def read(asked, *limits):
        raise OperationalError("the server closed the connection") from RuntimeError()

    monkeypatch.setattr(evaluator_module.windows, "read", read)
    with pytest.raises(OperationalError):
        evaluate(is_rolled_up=False)

    alert.refresh_from_db()
    assert alert.problem == ""


def test_one_evaluator_however_many_workers_run(track, make_alert, make_target, evaluate, time):
    make_alert(make_target())
    track(10, 95)
    one, other = Evaluator(), Evaluator()

    assert evaluate(by=one).fired == 1
    assert evaluate(minutes=0, by=other) is None
    assert evaluate(minutes=0, by=one) is None
    assert evaluate(by=other).series == 1
    assert Delivery.objects.filter(event="firing").count() == 1

    assert one._lease.take(time.forward(minutes=1))  # and now it is killed
    assert evaluate(minutes=0.9, by=other) is None
    assert evaluate(minutes=0.2, by=other).series == 1


def test_a_worker_that_stood_still_stores_nothing_that_another_evaluated(
    track, make_alert, make_target, evaluate, time, monkeypatch
):
    make_alert(make_target(), window_minutes=5)
    track(10, 95)
    slow, other = Evaluator(), Evaluator()
    store = slow._store

    def stand_still(outcomes):
        time.forward(seconds=61)
        assert other.evaluate_if_due().fired == 1
        return store(outcomes)

    monkeypatch.setattr(slow, "_store", stand_still)

    assert evaluate(by=slow) is None
    assert (Firing.objects.count(), Delivery.objects.count()) == (1, 1)


def test_state_and_delivery_are_stored_together_or_not_at_all(track, make_alert, make_target, evaluate, monkeypatch):
    """As where the worker is killed between both: the next one finds neither, and tells it."""
    make_alert(make_target())
    track(10, 95)

    def killed(*arguments, **options):
        raise SystemExit

    with monkeypatch.context() as patch, transaction.atomic():
        patch.setattr(Delivery.objects, "bulk_create", killed)
        with pytest.raises(SystemExit):
            evaluate()
    assert (states(), Firing.objects.count(), Delivery.objects.count()) == ([], 0, 0)

    evaluate(minutes=0, by=SimpleNamespace(evaluate_if_due=lambda: AlertEvaluator.objects.update(held_until=NOON)))
    evaluate(minutes=0, by=Evaluator())

    assert (states(), Firing.objects.count(), Delivery.objects.count()) == (["firing"], 1, 1)


def test_an_alert_that_is_changed_meanwhile_is_left_to_the_next_pass(
    track, make_alert, make_target, evaluate, monkeypatch
):
    make_alert(make_target())
    track(10, 95)
    evaluator = Evaluator()
    store = evaluator._store

    def change_first(outcomes):
        Alert.objects.get().save()
        return store(outcomes)

    with monkeypatch.context() as patch:
        patch.setattr(evaluator, "_store", change_first)
        assert evaluate(by=evaluator).series == 0
    assert states() == []
    alert = Alert.objects.get()

    track(70, 95)
    evaluate(by=evaluator)
    assert states() == ["firing"]
    forget(alert)
    assert (states(), Firing.objects.get().resolved_at) == ([], NOON + timedelta(minutes=2))


def test_an_alert_that_is_off_is_not_evaluated(track, make_alert, evaluate):
    make_alert(is_enabled=False)

    assert evaluate()[1:5] == (0, 0, 0, 0)
    assert AlertEvaluator.objects.get().evaluated_at == NOON + timedelta(minutes=1)


def test_the_roller_goes_first_for_half_a_minute(partition_count, track, make_alert, evaluate, monkeypatch):
    monkeypatch.setattr(evaluator_module, "_LONG_TAIL", 3)
    make_alert(window_minutes=5)
    for number in range(4):
        track(number, 95)

    assert evaluate(is_rolled_up=False) is None
    assert evaluate(minutes=0.4, is_rolled_up=False) is None
    assert evaluate(minutes=0.1, is_rolled_up=False).fired == 1
    assert evaluate(minutes=0.5).series == 1
