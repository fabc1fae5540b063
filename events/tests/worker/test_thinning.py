"""Minutes that are left out of the rollups: between any two steps every answer is as it was with them."""

from datetime import UTC, datetime, timedelta
from itertools import islice, product
from math import inf
from zoneinfo import ZoneInfo

import pytest
from django.core import serializers
from rest_framework.exceptions import ValidationError as BadRequest

from events import renaming
from events.aggregation import windows
from events.aggregation.answer import aggregate
from events.aggregation.question import Question, Window
from events.aggregation.readers import reader_of
from events.aggregation.series_state import state_of
from events.database import partitions
from events.database.snapshot import snapshot
from events.log.series import SeriesKey
from events.models import Event, Pruned, Rollup, Thinned, Watermark
from events.tests.support import partitioned
from events.tests.support.answers import stream
from events.tests.support.commands import fails, run
from events.tests.support.examples import IS_THOROUGH
from events.tests.support.rolling_up import expected, roll_up_all, stored, without_thinned
from events.worker import moving, retention, roll_up, thinning, turns
from events.worker.moving import CannotMoveError, Mover
from events.worker.retention import Series

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("partition_count"),
    pytest.mark.partitions_on("postgresql"),
]

NOW = datetime(2024, 3, 10, 12, 30, tzinfo=UTC)
START = datetime(2024, 2, 28, 22, 58, 30, tzinfo=UTC)
HOUR = START.replace(minute=0, second=0)
SERIES = SeriesKey("Shop", "order")
MIDST = START + timedelta(hours=9)
SPANS = [
    {},
    {"ts_min": START + timedelta(hours=3, minutes=10, seconds=7), "ts_max": MIDST + timedelta(minutes=1, seconds=3)},
    {"ts_min": MIDST, "ts_max": MIDST + timedelta(minutes=95)},
]
ALL_QUESTIONS = [
    Question(namespace=SERIES.namespace, name=SERIES.name, granularity=granularity, aggregation_type=kind, **more)
    for granularity, kind, span in product(
        ("minute", "hour", "day", "none"), ("avg", "min", "max", "sum", "count", "rate", "last"), SPANS
    )
    for more in (span, {**span, "zone": ZoneInfo("Asia/Kathmandu"), "label": "bucket"})
]
ALL_WINDOWS = list(product(("avg", "min", "count", "sum", "p90"), SPANS[1:]))
# in steps that leave out no value of any part, as all are asked again and again
QUESTIONS = ALL_QUESTIONS if IS_THOROUGH else ALL_QUESTIONS[::11]
WINDOWS = ALL_WINDOWS if IS_THOROUGH else ALL_WINDOWS[::3]
STEP_EVENTS = 7 if IS_THOROUGH else 23


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(thinning.timezone, "now", lambda: NOW)
    monkeypatch.setattr(thinning, "_STEP_EVENTS", {"postgresql": STEP_EVENTS, "sqlite": STEP_EVENTS})
    monkeypatch.setattr(thinning, "_LEAST_EVENTS", 10)
    monkeypatch.setattr(turns, "_LOOK_SECONDS", inf)


def add(count, key=SERIES, start=START, step=timedelta(minutes=7, seconds=11)):
    Event.objects.bulk_create(
        Event(namespace=key[0], name=key[1], timestamp=start + number * step, value=number * 3 % 17 / 8)
        for number in range(count)
    )
    roll_up_all()


def asked():
    with snapshot():
        values = windows.read(Window(SERIES, kind, span["ts_min"], span["ts_max"]) for kind, span in WINDOWS)
    streamed = [list(stream(question)) for question in QUESTIONS[::5]]
    return [aggregate(question) for question in QUESTIONS], streamed, list(values.values())


def thin(steps=None):
    return len(list(islice(thinning.carry_out(), steps)))


def span(key=SERIES):
    found = Thinned.objects.span_of(*key)
    return found and tuple(found)


def until(hours):
    return HOUR + timedelta(hours=hours, microseconds=-1)


def minutes(key=SERIES):
    return Rollup.objects.of_series(*key).filter(resolution=60).count()


def check(answers):
    """All is as it was with minutes, and the rollups are those that are to be there."""
    assert asked() == answers
    assert stored() == without_thinned(expected())
    assert run("verify_rollups")[0].endswith(" series are right.\n")


@pytest.fixture
def answers():
    """Of a series whose events are alone in their minutes."""
    add(140)
    return asked()


@pytest.fixture
def thinned(answers):
    """Hours in the midst of the series have no minutes, and the first and the last ones have some."""
    Thinned.objects.create(
        **SERIES._asdict(), since=HOUR + timedelta(hours=6), before=HOUR + timedelta(hours=12), has_new=False,
        partition=partitions.partition_of(*SERIES),
    )  # fmt: skip
    within = {"bucket__gte": HOUR + timedelta(hours=6), "bucket__lt": HOUR + timedelta(hours=12)}
    Rollup.objects.of_series(*SERIES).filter(resolution=60, **within).delete()
    return answers


def test_minutes_that_hold_one_event_are_left_out_in_steps_that_change_no_answer(answers):
    count = minutes()

    while thin(steps=1):
        check(answers)

    assert (count, minutes()) == (140, 0)
    assert span() == (HOUR, until(18))
    assert thin() == 0


def test_what_has_minutes_before_and_after_is_answered_from_both(thinned):
    check(thinned)


def test_what_is_young_or_dense_keeps_its_minutes(monkeypatch):
    add(20, start=NOW - timedelta(hours=49), step=timedelta(minutes=30))  # the first three are two days old
    add(90, SeriesKey("Shop", "view"), step=timedelta(seconds=29))  # a little more than two a minute
    monkeypatch.setattr(thinning, "_MOST_EVENTS_AN_HOUR", 8)
    add(16, SeriesKey("Shop", "sale"))
    add(9, SeriesKey("Shop", "sale"), start=HOUR + timedelta(hours=1))  # with those before 17 in an hour

    thin()

    assert {str(row) for row in Thinned.objects.all()} == {
        "Shop/order from 2024-03-08T11:00:00Z to 2024-03-08T12:00:00Z",
        "Shop/sale from 2024-02-28T22:00:00Z to 2024-02-28T23:00:00Z",
    }
    assert stored() == without_thinned(expected())


def test_a_busy_hour_among_others_is_left_out_with_them():
    add(60, start=HOUR)
    add(100, start=HOUR + timedelta(hours=2), step=timedelta(seconds=20))  # three a minute

    thin()

    assert (minutes(), span()) == (0, (HOUR, until(8)))


def test_a_turn_can_be_stopped_after_each_series_that_it_looks_at_in_vain(monkeypatch):
    for name in ("order", "view"):
        add(60, SeriesKey("Shop", name), start=HOUR, step=timedelta(seconds=20))  # three a minute
        add(60, SeriesKey("Shop", name), start=HOUR + timedelta(hours=1))
    monkeypatch.setattr(thinning, "_MOST_EVENTS_AN_HOUR", 59)
    monkeypatch.setattr(turns, "_LOOK_SECONDS", 0)

    assert list(thinning.carry_out()) == [0, 0]
    assert not Thinned.objects.exists()


def test_hours_that_come_of_age_follow(monkeypatch, answers):
    monkeypatch.setattr(thinning.timezone, "now", lambda: START + timedelta(days=2, hours=5))
    thin()
    assert span() == (HOUR, until(5))
    check(answers)

    monkeypatch.setattr(thinning.timezone, "now", lambda: NOW)
    thin()

    assert span() == (HOUR, until(18))
    check(answers)


def test_late_events_bring_no_minutes_to_these_hours(thinned):
    add(5, start=START + timedelta(hours=5), step=timedelta(minutes=40, seconds=1))

    counts = Question(**SERIES._asdict(), aggregation_type="count", granularity="minute")
    assert sum(item["value"] for item in aggregate(counts)) == 145
    check(asked())
    assert Thinned.objects.get().has_new


def test_hours_that_late_events_make_dense_get_their_minutes_again(monkeypatch, thinned):
    monkeypatch.setattr(thinning, "_MOST_EVENTS_AN_HOUR", 12)
    add(9, start=HOUR + timedelta(hours=9), step=timedelta(minutes=1))
    answers = asked()

    while thin(steps=1):
        check(answers)

    assert span() == (HOUR + timedelta(hours=6), until(9))
    assert not Thinned.objects.get().has_new
    check(answers)
    assert thin() == 0  # they aren't left out again


def test_changed_events_leave_them_without_minutes(thinned):
    event = Event.objects.get(timestamp=START + 60 * timedelta(minutes=7, seconds=11))
    event.value = 99
    event.save()
    Event.objects.filter(timestamp=START + 61 * timedelta(minutes=7, seconds=11)).delete()

    assert asked() != thinned
    check(asked())


def test_pruning_makes_the_minutes_first(thinned):
    add(30, start=NOW - timedelta(days=1))
    before = HOUR + timedelta(hours=15)
    answers = asked()
    deleted = 0

    while True:  # killed after each step
        step = next(retention.prune(Series(*SERIES, before)), None)
        if step is None:
            break
        deleted += step
        if not Pruned.objects.exists():
            check(answers)
        for question, answer in zip(QUESTIONS, answers[0], strict=True):
            if question.granularity != "none" and question.ts_min is None and question.aggregation_type != "last":
                assert aggregate(question) == answer

    assert (deleted, Event.objects.count(), span()) == (118, 52, None)
    assert minutes() == 170
    assert run("verify_rollups")[0].endswith(" series are right.\n")


def test_pruning_a_part_leaves_the_other_part_without_minutes(thinned):
    before = HOUR + timedelta(hours=8)
    list(retention.prune(Series(*SERIES, before)))

    assert span() == (before, until(12))
    assert aggregate(QUESTIONS[0]) == thinned[0][0]
    list(retention.prune_rollups(Series(*SERIES, before)))
    assert run("verify_rollups")[0].endswith(" series are right.\n")
    assert stored() == without_thinned(expected())
    thin()
    assert span() == (before, until(18))


@pytest.fixture
def new():
    """A name in the same partition."""
    return partitioned.name_beside(SERIES)


def test_under_another_name_the_same_hours_have_no_minutes(settings, thinned, new):
    add(20, new)
    thin()
    Event.objects.of_series(*new).delete()
    assert span(new) == (HOUR, until(4))

    begun = renaming.move(SERIES, new)
    add(20, start=START + timedelta(hours=7))  # a new series under the old name
    for _ in Mover(begun).steps(lambda: True):
        assert [aggregate(renamed(question, new)) for question in QUESTIONS] == thinned[0]
        for is_kept in (True, False):
            settings.ROLLUP_SPARSE_MINUTES = is_kept
            assert not is_moving(new) or thin() == 0

    assert (span(new), span(), minutes()) == ((HOUR + timedelta(hours=6), until(18)), None, 20)
    assert stored() == without_thinned(expected())


def is_moving(key):
    return Watermark.objects.current(partitions.partition_of(*key)).move_of(*key) is not None


def renamed(question, key):
    return Question(**{**vars(question), "namespace": key.namespace, "name": key.name})


def test_a_merge_makes_the_minutes_of_both_first(thinned, new):
    add(30, new, start=START + timedelta(hours=6))
    with pytest.raises(
        CannotMoveError,
        match=r"^The minutes of old hours are being made, without which it can't be merged\. Try again\.$",
    ):
        renaming.move(new, SERIES, merge=True, is_wanted=lambda: False)
    assert moving.is_there(new)

    begun = renaming.move(new, SERIES, merge=True)

    answers = asked()
    for _ in Mover(begun).steps(lambda: True):
        assert asked() == answers
        assert not is_moving(new) or thin() == 0  # no hours of one of them lose minutes
    assert span() is None
    check(answers)


def test_a_deleted_series_leaves_nothing(thinned):
    for _ in Mover(renaming.move(SERIES, None)).steps(lambda: True):
        pass

    assert (Thinned.objects.count(), Rollup.objects.count()) == (0, 0)


def test_all_are_made_again_where_they_are_wanted(settings, thinned):
    settings.ROLLUP_SPARSE_MINUTES = True

    while thin(steps=1):
        check(thinned)

    assert (span(), minutes()) == (None, 140)


def test_rolling_up_anew_makes_them_all(thinned):
    roll_up.start_over()
    roll_up_all()

    assert (span(), minutes()) == (None, 140)
    check(thinned)


def test_the_check_finds_minutes_where_there_are_to_be_none(thinned):
    row = Rollup.objects.of_series(*SERIES).filter(resolution=60).first()
    row.bucket = HOUR + timedelta(hours=7)
    row.save(force_insert=True)

    assert fails("verify_rollups") == "1 rollups differ from their events. Rebuild them with --repair."
    run("verify_rollups", "--repair")

    check(thinned)


@pytest.mark.parametrize("kind", ["avg", "median"])
def test_too_many_minutes_are_refused_as_ever(settings, answers, kind):
    thin()
    settings.MAX_ITEMS = 139
    with snapshot():
        state = state_of(*SERIES)
        assert reader_of(QUESTIONS[0], state.rolled_up, state).count_stored(139) == 139  # before any is read

    with pytest.raises(BadRequest) as error:
        aggregate(Question(**SERIES._asdict(), granularity="minute", aggregation_type=kind))

    advice = "choose a shorter window, or a coarser granularity such as hour."
    assert error.value.get_full_details() == {
        "granularity": [{"message": f"More than 139 items; {advice}", "code": "invalid"}]
    }


def test_fixtures_bring_none_along(thinned):
    [fixture] = serializers.deserialize("json", serializers.serialize("json", Thinned.objects.all()))
    Thinned.objects.all().delete()

    fixture.save()

    assert not Thinned.objects.exists()
