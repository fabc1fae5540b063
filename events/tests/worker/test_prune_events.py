"""Retention: ``manage.py prune_events``, what is answered after it, and what can't be done any more."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from zoneinfo import ZoneInfo

import pytest
from django.core import serializers
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from hypothesis import HealthCheck, example, given, strategies
from hypothesis import settings as hypothesis_settings
from rest_framework.exceptions import ValidationError as BadRequest

from events.aggregation.answer import aggregate
from events.aggregation.question import Question
from events.database import partitions
from events.models import Event, Pruned, Rollup, Watermark
from events.rollups.models import WatermarkManager
from events.rollups.rebuild import PrunedError
from events.tests.support.answers import catalogue, stream
from events.tests.support.by_hand import ZONES, answer_by_hand
from events.tests.support.examples import IS_THOROUGH, few_of
from events.tests.support.rolling_up import roll_up_all, stored
from events.worker import retention, roll_up, turns
from events.worker.retention import Series, WouldDeleteMostError

pytestmark = [pytest.mark.usefixtures("partition_count"), pytest.mark.partitions_on("postgresql")]

NOW = datetime(2024, 6, 1, 12, 30, tzinfo=UTC)
START = datetime(2024, 2, 28, 22, 58, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(retention.timezone, "now", lambda: NOW)


@pytest.fixture
def short_steps(monkeypatch):
    monkeypatch.setattr(retention, "_STEP_EVENTS", {"postgresql": 7, "sqlite": 7})
    monkeypatch.setattr(retention, "_STEP_BUCKETS", {"postgresql": 7, "sqlite": 7})


def add(count, namespace="Shop", name="order", start=START, step=timedelta(minutes=7, seconds=11)):
    Event.objects.bulk_create(
        Event(namespace=namespace, name=name, timestamp=start + number * step, value=number * 3 % 17 / 8)
        for number in range(count)
    )


def prune(*arguments):
    output = StringIO()
    call_command("prune_events", *arguments, stdout=output)
    return output.getvalue()


def prune_series(before, namespace="Shop", name="order"):
    return sum(retention.prune(Series(namespace, name, before)))


def ask(kind="sum", granularity="hour", **more):
    return aggregate(Question(namespace="Shop", name="order", granularity=granularity, aggregation_type=kind, **more))


QUESTIONS = [
    {"granularity": granularity, "kind": kind, **more}
    for granularity in ("minute", "hour", "day", "week", "month", "year")
    for kind in ("avg", "min", "max", "sum", "count")
    for more in ({}, {"zone": ZoneInfo("Asia/Kathmandu")}, {"fill": "previous"}, {"label": "bucket"})
    if "fill" not in more or granularity != "minute"
]


def test_it_deletes_old_events_and_aggregates_stay_just_as_they_were(db, short_steps):
    add(100)
    add(30, start=NOW - timedelta(days=2))
    roll_up_all()
    answers, rolled_up, listed = [ask(**each) for each in QUESTIONS], stored(), catalogue()

    assert prune("--older-than", "90d") == "Deleted 100 events before 2024-03-03T12:00:00Z.\n"

    assert Event.objects.count() == 30
    assert [ask(**each) for each in QUESTIONS] == answers
    assert [list(stream(Question(namespace="Shop", name="order", granularity="day")))] == [ask("avg", "day")]
    assert (stored(), catalogue()) == (rolled_up, listed)
    assert prune("--older-than", "90d") == "Deleted 0 events before 2024-03-03T12:00:00Z.\n"


def test_a_dry_run_deletes_nothing(db):
    add(20)
    roll_up_all()

    assert prune("--older-than", "1h", "--dry-run") == "Would delete 20 events before 2024-06-01T11:00:00Z.\n"
    assert (Event.objects.count(), Pruned.objects.count()) == (20, 0)


def test_only_whole_hours_are_pruned(db):
    for minutes in (0, 29, 30, 31, 59.999999, 60):
        add(1, start=NOW.replace(minute=0) - timedelta(days=1, hours=1) + timedelta(minutes=minutes))
    roll_up_all()

    assert prune("--older-than", "24h") == "Deleted 5 events before 2024-05-31T12:00:00Z.\n"


def test_only_what_is_rolled_up_is_pruned(db):
    add(5)
    roll_up_all()
    add(3)

    assert prune("--older-than", "1d").startswith("Deleted 5 events ")
    assert Event.objects.count() == 3
    answer = ask()
    roll_up_all()
    assert ask() == answer
    assert prune("--older-than", "1d").startswith("Deleted 3 events ")
    assert ask() == answer


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("Shop", {"Shop-1", "shop", "Other"}),
        ("Shop*", {"shop", "Other"}),
        ("Shop-*", {"Shop", "shop", "Other"}),
        ("*", set()),
        ("Sh_p", {"Shop", "Shop-1", "shop", "Other"}),
    ],
)
def test_a_namespace_is_chosen_by_name_or_by_what_it_starts_with(db, pattern, left):
    for namespace in ("Shop", "Shop-1", "shop", "Other"):
        add(2, namespace)
    roll_up_all()

    prune("--older-than", "1d", "--namespace", pattern)

    assert set(Event.objects.values_list("namespace", flat=True)) == left


@pytest.mark.parametrize("age", ["90", "d", "-1d", "1.5d", "1w", "", "²d", "1234567d"])
def test_it_refuses_ages_that_it_can_not_read(db, age):
    with pytest.raises(CommandError, match="Must be a number of days or hours, such as 90d or 36h"):
        prune(f"--older-than={age}")


def test_an_age_before_all_time_is_none(db):
    add(2)
    roll_up_all()

    assert prune("--older-than", "999999d") == "Deleted 0 events before 0001-01-01T00:00:00Z.\n"


def move_the_first():
    event = Event.objects.earliest("timestamp")
    event.timestamp += timedelta(days=3)
    event.save()


@pytest.mark.parametrize(("change", "pruned"), [(roll_up.start_over, 0), (move_the_first, 19)])
def test_what_is_changed_while_it_waits_for_its_turn_stays(db, monkeypatch, change, pruned):
    add(20)
    roll_up_all()
    with monkeypatch.context() as patch:
        locked = WatermarkManager.locked

        def locked_after_a_change(manager, partition):
            patch.undo()
            change()
            return locked(manager, partition)

        patch.setattr(WatermarkManager, "locked", locked_after_a_change)
        assert prune_series(START.replace(day=29, hour=22, minute=0, second=0)) == pruned

    roll_up_all()
    assert sum(item["value"] for item in ask("count")) == 20
    assert Event.objects.count() == 20 - pruned


@pytest.mark.one_partition
def test_with_rollups_nothing_is_kept(db, short_steps):
    add(100)
    add(10, start=NOW - timedelta(days=2))
    add(10, name="click")
    roll_up_all()
    version = Watermark.objects.current(None).changes

    output = prune("--older-than", "90d", "--with-rollups")

    assert output.startswith("Deleted 110 events and ")
    assert Event.objects.count() == Rollup.objects.event_count() == 10
    assert [series["count"] for series in catalogue()] == [10]
    assert list(Pruned.objects.values_list("name", flat=True)) == ["order"]  # the other one is gone altogether
    assert ask("count", "year") == [{"aggregatedTimestamp": "2024-05-30T12:30:00Z", "value": 10}]
    assert Watermark.objects.current(None).changes > version
    call_command("verify_rollups", stdout=StringIO())


def test_rollups_of_what_was_pruned_before_can_be_deleted_later(db):
    add(20)
    roll_up_all()
    prune("--older-than", "1d")

    assert prune("--older-than", "1d", "--with-rollups").startswith("Deleted 0 events and ")
    assert (Rollup.objects.count(), Pruned.objects.count()) == (0, 0)


def test_an_interrupted_run_is_right_and_can_be_done_again(db, short_steps):
    add(100)
    roll_up_all()
    answer = ask()
    steps = retention.prune(Series("Shop", "order", NOW.replace(minute=0)))
    next(steps)
    steps.close()

    assert Event.objects.count() == 93
    assert ask() == answer
    call_command("verify_rollups", stdout=StringIO())
    assert prune("--older-than", "0d").startswith("Deleted 93 events ")
    assert ask() == answer


# What an answer can't tell any more.


@pytest.fixture
def pruned(db):
    """Three events in one minute of a pruned day, one in another, and one of a day that is not."""
    for text in ("10:10:05", "10:10:30", "10:10:50", "11:20:00"):
        Event.objects.create(
            namespace="Shop", name="order", timestamp=datetime.fromisoformat(f"2024-02-28T{text}+00:00"), value=2
        )
    Event.objects.create(namespace="Shop", name="order", timestamp=NOW, value=8)
    roll_up_all()
    prune_series(NOW.replace(hour=0, minute=0))


KEPT = "Events before 2024-06-01T00:00:00Z are pruned, and kept by the minute of UTC only"


def at(text):
    return datetime.fromisoformat(f"2024-02-28T{text}+00:00")


@pytest.mark.parametrize(
    ("asked", "values"),
    [
        ({}, [6, 2, 8]),
        ({"ts_min": at("10:10:05")}, [6, 2, 8]),  # no event of its minute lies before it
        ({"ts_min": at("10:10:50.000001")}, [2, 8]),  # none after it
        ({"ts_min": at("10:10:00"), "ts_max": at("10:10:50")}, [6]),
        ({"ts_min": at("11:20:00"), "ts_max": at("11:20:00")}, [2]),
        ({"ts_min": at("10:10:06")}, {"tsMin": [f"{KEPT}; choose an end of one, such as 2024-02-28T10:10:00Z."]}),
        ({"ts_max": at("10:10:49")}, {"tsMax": [f"{KEPT}; choose an end of one, such as 2024-02-28T10:10:59.999999Z."]}),
        ({"ts_min": at("10:10:31"), "ts_max": at("10:10:40")}, {"tsMin": [f"{KEPT}; choose an end of one, such as 2024-02-28T10:10:00Z."]}),
        ({"ts_min": at("10:10:51"), "granularity": "none"}, [2, 8]),
        ({"granularity": "none"}, {"granularity": [f"{KEPT}; choose a later window, or buckets that are made up of those."]}),
    ],
)  # fmt: skip
def test_a_window_that_cuts_what_is_kept_is_refused(pruned, asked, values):
    def values_of(answer):
        try:
            return [item["value"] for item in answer()]
        except BadRequest as error:
            return error.detail

    question = Question(namespace="Shop", name="order", **{"granularity": "hour", "aggregation_type": "sum", **asked})
    assert values_of(lambda: aggregate(question)) == values
    assert values_of(lambda: stream(question)) == values  # at once, and not only after the answer's head


@pytest.mark.one_partition
def test_hours_alone_are_kept_by_the_hour(settings, db):
    settings.ROLLUP_RESOLUTIONS = ["hour"]
    add(20)
    roll_up_all()
    days, in_nepal = ask(granularity="day"), {"granularity": "hour", "zone": ZoneInfo("Asia/Kathmandu")}
    prune_series(NOW.replace(minute=0))

    assert ask(granularity="day") == days
    for asked in ({"granularity": "minute"}, in_nepal, {"granularity": "none"}):
        with pytest.raises(BadRequest, match="kept by the hour of UTC only"):
            ask(**asked)


def test_the_endpoint_says_so_in_every_format(pruned, client_with_scopes):
    client = client_with_scopes("aggregation")
    for form in ("json", "csv", "ndjson"):
        answer = client.get(f"/api/events/Shop/order?tsMin=2024-02-28T10:10:06&format={form}")
        assert (answer.status_code, list(answer.json())) == (400, ["tsMin"])


def test_an_answer_that_is_known_is_asked_for_again_once_it_may_be_refused(db, client_with_scopes):
    add(20)
    roll_up_all()
    client = client_with_scopes("aggregation")
    first = client.get("/api/events/Shop/order")

    prune_series(NOW.replace(minute=0))

    assert client.get("/api/events/Shop/order", headers={"If-None-Match": first["ETag"]}).status_code == 200
    assert client.get("/api/events/Shop/order").json() == first.json()  # each alone in its minute


def test_the_value_before_a_window_may_be_pruned(pruned):
    window = {"ts_min": at("12:00:00"), "ts_max": at("13:59:59"), "fill": "previous"}
    for kind, granularity, expected in (
        ("sum", "day", 8),
        ("sum", "hour", 2),
        ("count", "month", 4),
        ("max", "minute", 2),
    ):
        question = Question(namespace="Shop", name="order", granularity=granularity, aggregation_type=kind, **window)
        for answer in (aggregate, stream):
            assert {item["value"] for item in answer(question)} == {expected}


@pytest.mark.one_partition
def test_a_value_before_that_is_not_kept_is_refused(settings, db):
    settings.ROLLUP_RESOLUTIONS = ["hour"]
    add(20)
    roll_up_all()
    prune_series(NOW.replace(minute=0))
    question = Question(
        namespace="Shop", name="order", granularity="minute", fill="previous",
        ts_min=NOW - timedelta(days=1), ts_max=NOW - timedelta(hours=23),
    )  # fmt: skip

    for answer in (aggregate, stream):
        with pytest.raises(BadRequest, match="kept by the hour of UTC only"):
            answer(question)


def test_late_events_are_added_to_what_is_kept(pruned):
    for timestamp in (at("10:10:20"), at("12:00:00")):
        Event.objects.create(namespace="Shop", name="order", timestamp=timestamp, value=1)

    for _ in range(2):
        assert [item["value"] for item in ask()] == [7, 2, 1, 8]
        roll_up_all()
    call_command("verify_rollups", stdout=StringIO())
    with pytest.raises(BadRequest):
        ask(ts_min=at("10:10:20"))


@pytest.mark.parametrize("kind", ["sum", "avg"])
def test_a_sum_that_may_not_fit_is_refused_once_its_events_are_gone(db, kind):
    for value in (1e300, -1e300, 5.0):
        Event.objects.create(namespace="Shop", name="order", timestamp=START, value=value)
    Event.objects.create(namespace="Shop", name="order", timestamp=NOW, value=4.0)
    roll_up_all()
    assert ask(kind)[1]["value"] == 4
    prune_series(NOW.replace(minute=0))

    with pytest.raises(BadRequest, match="beyond what a double holds"):
        ask(kind)
    assert [item["value"] for item in ask(kind, ts_min=NOW)] == [4]
    assert ask("max")[0]["value"] == 1e300
    question = Question(namespace="Shop", name="order", granularity="hour", aggregation_type=kind)
    assert [item["value"] for item in stream(question)] == [None, 4]


# What can't be done any more.


def late_event():
    event = Event.objects.create(namespace="Shop", name="order", timestamp=at("10:10:20"), value=1)
    roll_up_all()
    return event


def move(event):
    recent = Event.objects.get(timestamp=NOW)
    recent.timestamp = at("10:10:20")
    recent.save()


def load(event):
    [fixture] = serializers.deserialize("json", serializers.serialize("json", [event]))
    fixture.object.pk = event.pk - 1
    fixture.save()


REFUSED = {
    "save": lambda event: event.save(),
    "delete": lambda event: event.delete(),
    "queryset delete": lambda event: Event.objects.all().delete(),
    "update": lambda event: Event.objects.update(value=3),
    "move there": move,
    "load what was pruned": load,
    "bulk create over": lambda event: Event.objects.bulk_create([Event(pk=1, namespace="Shop", name="order", timestamp=START, value=1)]),
    "rebuild": lambda event: roll_up.start_over(),
}  # fmt: skip


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_a_change_that_would_rebuild_what_is_kept_is_refused(pruned, change):
    event = late_event()
    before = stored(), list(Event.objects.order_by("pk").values_list())

    with pytest.raises(PrunedError, match="pruned"), transaction.atomic():
        change(event)

    assert (stored(), list(Event.objects.order_by("pk").values_list())) == before


def test_other_events_can_still_be_changed(pruned):
    Event.objects.filter(timestamp=NOW).update(value=9)
    Event.objects.create(
        namespace="Shop", name="order", timestamp=at("10:10:20"), value=1
    ).delete()  # not rolled up yet

    assert [item["value"] for item in ask()] == [6, 2, 9]


def test_a_rebuild_says_what_stands_in_its_way(pruned):
    with pytest.raises(CommandError, match=r"^Events of 1 series are pruned; their rollups can't be made anew\.$"):
        call_command("roll_up", "--rebuild")


def test_the_admin_offers_no_such_change(pruned, admin_user):
    event = late_event()
    admin = Client()
    admin.force_login(admin_user)
    path = f"/admin/events/event/{event.pk}"
    action = {"action": "delete_selected", "_selected_action": [event.pk], "post": "yes"}

    assert admin.get(f"{path}/change/").status_code == 200  # to be seen
    assert admin.post(f"{path}/change/", {}).status_code == 403
    assert admin.post(f"{path}/delete/", {"post": "yes"}).status_code == 403
    admin.post("/admin/events/event/", action)
    assert Event.objects.filter(pk=event.pk).exists()

    recent = Event.objects.get(timestamp=NOW)
    moved = {"namespace": "Shop", "name": "order", "timestamp_0": "2024-02-28", "timestamp_1": "10:10:20", "value": "4"}
    answer = admin.post(f"/admin/events/event/{recent.pk}/change/", moved)
    assert answer.status_code == 200
    assert b"Events of this series are pruned up to this hour" in answer.content
    with pytest.raises(ValidationError):
        event.full_clean()


def test_fixtures_bring_no_pruning_along(pruned):
    [fixture] = serializers.deserialize("json", serializers.serialize("json", Pruned.objects.all()))
    Pruned.objects.all().delete()

    fixture.save()

    assert not Pruned.objects.exists()


def test_the_first_visit_brings_no_demo_data_where_all_events_are_pruned(db, tmp_path, settings):
    settings.LOCAL_DIR = tmp_path
    add(3)
    roll_up_all()
    prune("--older-than", "1d")

    call_command("prepare_first_visit", stdout=StringIO())

    assert Event.objects.count() == 0


# Verification.


def verify(**options):
    output = StringIO()
    try:
        call_command("verify_rollups", stdout=output, **options)
    except CommandError as error:
        return output.getvalue().splitlines(), str(error)
    return output.getvalue().splitlines(), None


def test_verification_knows_what_is_pruned(pruned):
    assert verify() == (["All rollups of 1 series are right."], None)

    Rollup.objects.filter(resolution=3600, bucket=at("10:00:00")).update(count=5)

    lines = ["Shop/order, Hour 2024-02-28T10:00:00Z: count 5 is 3 by the finer rollups"]
    assert verify() == (lines, "1 rollups differ from their events. Rebuild them with --repair.")
    assert verify(repair=True) == (lines, "1 rollups differ in hours that are pruned, and can't be rebuilt.")
    assert Rollup.objects.get(resolution=3600, bucket=at("10:00:00")).count == 5


def test_what_is_not_pruned_is_repaired_beside_it(pruned):
    before = stored()
    Rollup.objects.filter(resolution=3600, bucket__gt=at("23:00:00")).update(count=0)

    assert verify(repair=True)[0][-1] == "Repaired 1 rollups."
    assert stored() == before


def test_what_only_the_rollups_hold_is_never_lost_unasked(pruned):
    """As where nobody knows any more that it is pruned."""
    before, held = stored(), Rollup.objects.event_count()
    left = Event.objects.count()
    Pruned.objects.all().delete()

    lines, error = verify(repair=True)

    assert len(lines) > 2
    assert error == (
        f"{len(lines)} rollups are left as they are: they hold {held - left} events that are not in the log any more. "
        "Rebuilding them loses these for good: --repair --accept-loss does it all the same."
    )
    assert stored() == before
    with pytest.raises(PrunedError, match=f"The rollups hold {held} events, of which {left} are in the log"):
        roll_up.start_over()
    assert stored() == before
    assert verify(repair=True, accept_loss=True)[1] is None
    assert Rollup.objects.event_count() == left


# Status policy.


@pytest.fixture
def newest(db):
    """A year of events, the newest of which came an hour ago."""
    for days in range(366):
        add(1, start=NOW - timedelta(days=days, hours=1))
    roll_up_all()


@pytest.mark.parametrize("ahead_days", [0, 1, 2, 400, 4_000])
def test_a_clock_that_is_ahead_makes_nothing_older(newest, settings, monkeypatch, ahead_days):
    settings.RETENTION = [("*", timedelta(days=300))]
    monkeypatch.setattr(retention.timezone, "now", lambda: NOW + timedelta(days=ahead_days))

    sum(retention.carry_out())

    assert Event.objects.count() == 300


def test_what_would_delete_most_deletes_nothing_unless_it_may(newest, settings):
    settings.RETENTION = [("*", timedelta(days=180))]

    with pytest.raises(WouldDeleteMostError) as error:
        sum(retention.carry_out())

    assert str(error.value) == (
        "RETENTION would delete 186 of 366 events, more than half. If that is meant, set RETENTION_MAY_DELETE_MOST=true"
        " or run manage.py prune_events; if not, look at the clock."
    )
    assert (Event.objects.count(), Pruned.objects.count()) == (366, 0)
    settings.RETENTION_MAY_DELETE_MOST = True
    assert sum(retention.carry_out()) == 186


def test_a_turn_can_be_stopped_after_each_series_that_it_looks_at(db, settings, monkeypatch):
    settings.RETENTION = [("*", timedelta(days=1))]
    for name in ("click", "order", "view"):
        add(1, name=name)
    roll_up_all()
    assert prune("--older-than", "1d").startswith("Deleted 3 events ")
    add(1, name="order")
    add(2, name="view", start=NOW)
    roll_up_all()
    monkeypatch.setattr(turns, "_LOOK_SECONDS", 0)

    # whether most would be deleted, of three; then click and order, which one is deleted of; then view
    assert list(retention.carry_out()) == [0, 0, 0, 0, 1, 0, 0]
    assert list(retention.carry_out()) == [0, 0, 0, 0, 0, 0]


def test_a_series_with_nothing_to_prune_costs_two_looks(db, django_assert_num_queries):
    add(3)
    add(3, start=NOW)
    roll_up_all()
    assert prune_series(NOW.replace(minute=0)) == 3

    with django_assert_num_queries(2):
        assert list(retention.prune(Series("Shop", "order", NOW.replace(minute=0)))) == []


def test_a_policy_goes_by_the_first_pattern_that_fits(db, settings):
    settings.RETENTION = [("Shop-*", timedelta(days=30)), ("Audit", None), ("*", timedelta(days=365))]
    for namespace in ("Shop-1", "Audit", "Other"):
        for days in (10, 100, 1000):
            add(1, namespace, start=NOW - timedelta(days=days))
    roll_up_all()

    assert sum(retention.carry_out()) == 3

    left = Event.objects.order_by("namespace", "-timestamp").values_list("namespace", "timestamp")
    assert [(namespace, (NOW - timestamp).days) for namespace, timestamp in left] == [
        ("Audit", 10), ("Audit", 100), ("Audit", 1000), ("Other", 10), ("Other", 100), ("Shop-1", 10)
    ]  # fmt: skip


# Whatever is written and pruned in whatever order.

NOON = datetime(2024, 3, 30, 12, tzinfo=UTC)
instants = strategies.builds(
    lambda hours, seconds, microseconds: NOON + timedelta(hours=3 * hours, seconds=seconds, microseconds=microseconds),
    strategies.integers(0, 5), strategies.sampled_from([0, 1, 59, 60, 1799, 1800, 3599]), strategies.sampled_from([0, 0, 1]),
)  # fmt: skip
rows = strategies.lists(strategies.tuples(instants, strategies.integers(-80, 80)), min_size=1, max_size=12)
questions = strategies.fixed_dictionaries({
    "granularity": strategies.sampled_from(["minute", "hour", "day", "week", "none"]),
    "kind": strategies.sampled_from(["avg", "min", "max", "sum", "count"]),
    "zone": strategies.sampled_from(ZONES).map(lambda name: UTC if name == "UTC" else ZoneInfo(name)),
    "ts_min": strategies.none() | instants, "ts_max": strategies.none() | instants,
})  # fmt: skip


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("resolutions", [["minute", "hour"], ["hour"], ["minute"]])
def test_an_answer_is_exact_or_refused(resolutions, settings, partition_count):
    settings.ROLLUP_RESOLUTIONS = resolutions
    outcomes = {"exact": 0, "refused": 0}

    @hypothesis_settings(
        max_examples=few_of(60) if IS_THOROUGH or partition_count == 1 else 4,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        strategies.lists(strategies.tuples(rows, instants), min_size=1, max_size=3),
        rows,
        strategies.lists(questions, min_size=4, max_size=12),
    )
    @example(  # one that is refused, as the few others may have none
        [([(NOON, 1), (NOON + timedelta(seconds=59), 2)], NOON + timedelta(hours=3))],
        [(NOON, 4)],
        [{"granularity": "hour", "kind": "sum", "zone": UTC, "ts_min": NOON + timedelta(seconds=1), "ts_max": None}],
    )
    def check(turns, tail, asked):
        with connection.cursor() as cursor:
            for table in ("events_event", "events_rollup", "events_pruned", "events_watermark"):
                cursor.execute(f"DELETE FROM {table}")
        # which a single partition makes itself
        Watermark.objects.bulk_create(Watermark(id=key, resolutions=",".join(resolutions)) for key in partitions.keys())  # noqa: SIM118
        events = []
        for more, before in [*turns, (tail, None)]:
            events += more
            Event.objects.bulk_create(Event(namespace="Shop", name="order", timestamp=t, value=v) for t, v in more)
            if before:
                roll_up_all()
                prune_series(before.replace(minute=0, second=0, microsecond=0))
        for question in asked:
            expected = answer_by_hand(events, **question)
            more = {key: value for key, value in question.items() if key not in {"kind", "granularity"}}
            try:
                assert ask(question["kind"], question["granularity"], **more) == expected
                outcomes["exact"] += 1
            except BadRequest:
                [pruned] = Pruned.objects.all()
                assert any((question["ts_min"] or t) <= pruned.before for t, _ in events)
                outcomes["refused"] += 1
                continue
            streamed = Question(
                namespace="Shop", name="order", granularity=question["granularity"],
                aggregation_type=question["kind"], **more,
            )  # fmt: skip
            assert list(stream(streamed)) == expected

    check()
    assert min(outcomes.values()) > (15 if IS_THOROUGH else 0)
