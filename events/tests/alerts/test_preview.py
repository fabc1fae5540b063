"""Previews beside what the worker reads: the same values, to the last bit, however the events are stored."""

from datetime import timedelta

import pytest

from events import renaming
from events.aggregation import windows
from events.alerts.preview import preview
from events.database.snapshot import snapshot
from events.log.series import SeriesKey
from events.models import Event, Rollup, Watermark
from events.tests.alerts.conftest import NOON
from events.tests.support import partitioned
from events.tests.support.rolling_up import roll_up_all
from events.worker import moving, retention, roll_up
from events.worker.moving import Mover

pytestmark = [pytest.mark.usefixtures("partition_count"), pytest.mark.partitions_on("postgresql")]

CPU = SeriesKey("Server-1", "cpu")
NOBODY = SeriesKey("Nobody", "knows")
LENGTH = timedelta(minutes=40)


def add(key, count, value=lambda number: 0.1, start=NOON, step=timedelta(seconds=20)):
    Event.objects.bulk_create(
        Event(namespace=key[0], name=key[1], timestamp=start - number * step, value=value(number))
        for number in range(1, count + 1)
    )


def evaluated(alert, found):
    """What the worker would have read at each minute of a preview."""
    condition = alert.condition
    points = [found.first + timedelta(minutes=number) for number in range(len(found.values))]
    asked = [condition.windows(found.series, at) for at in points]
    with snapshot():
        values = windows.read([each for of_minute in asked for each in of_minute])
    return [condition.value_of([values[each] for each in of_minute]) for of_minute in asked]


def bits(values):
    """Write values so that none are equal but the same; one that is refused, beyond a double, is none."""
    return [value.hex() if isinstance(value, float) else None for value in values]


VALUES = {
    "constant": lambda number: 0.1,
    "mixed": lambda number: number * 7 % 13 / 10 - 0.6,
    "finer than a unit of sums": lambda number: (number * 7 % 13 + 1) * 1e-11 / 9,
    "cancelling": lambda number: (1e17, 0.1, -1e17, 0.3)[number % 4],
    "whose sums two doubles don't hold": lambda number: (1e200, 0.1, 1e-30, -1e200, 3e-31)[number % 5],
    "whose sums may overflow": lambda number: (1.5e308, 1.5e308, -1.5e308, -1.5e308)[number % 4],
}


@pytest.mark.parametrize("kind", ["avg", "sum", "rate"])
@pytest.mark.parametrize("values", VALUES)
def test_sums_and_averages_are_those_of_the_evaluation_to_the_last_bit(db, make_alert, values, kind):
    add(CPU, 3 * 12, VALUES[values])
    alert = make_alert(window_minutes=5, aggregation_type=kind)

    def check():
        found = preview(alert, CPU, NOON, timedelta(minutes=6))
        assert (found.problem, len(found.values)) == ("", 7)
        assert bits(found.values) == bits(evaluated(alert, found))

    check()
    roll_up.take_step(most_events=20)
    check()
    roll_up_all()
    check()
    add(CPU, 12, VALUES[values], start=NOON - timedelta(seconds=7))
    check()


def test_a_constant_at_the_threshold_does_not_fire(db, make_alert):
    add(CPU, 3 * 50)
    roll_up_all()
    alert = make_alert(window_minutes=5, threshold=0.1)

    found = preview(alert, CPU, NOON, LENGTH)

    assert (found.values, found.firings) == ([0.1] * 41, [])


def test_an_average_is_there_where_the_sum_of_its_minute_is_beyond_a_double(db, make_alert):
    add(CPU, 6, lambda number: 1e308)
    roll_up_all()
    alert = make_alert(window_minutes=1, threshold=0.1)

    found = preview(alert, CPU, NOON, timedelta(minutes=2))

    assert (found.problem, found.values) == ("", [None, 1e308, 1e308])


def test_of_pruned_hours_sums_and_averages_come_from_the_minutes_that_are_kept(db, make_alert):
    add(CPU, 3 * 120)
    roll_up_all()
    list(retention.prune(retention.Series(*CPU, NOON - timedelta(hours=1))))
    assert Event.objects.of_series(*CPU).count() == 180
    found = {}
    for kind in ("avg", "sum", "rate"):
        alert = make_alert(window_minutes=5, aggregation_type=kind)
        of_kind = preview(alert, CPU, NOON - timedelta(minutes=57), timedelta(minutes=6))
        assert bits(of_kind.values) == bits(evaluated(alert, of_kind))
        found[kind] = of_kind.values

    assert found == {"avg": [0.1] * 7, "sum": [1.5] * 7, "rate": [0.005] * 7}


@pytest.fixture
def short_steps(monkeypatch):
    pace = moving._Pace(least_rows=30, most_rows=30, seconds=1)
    monkeypatch.setattr(moving, "_PACES", {"postgresql": pace, "sqlite": pace})


@pytest.fixture
def previewed(db, make_alert):
    """Gives what the previews of some alerts show of a series."""
    kinds = ("avg", "sum", "count", "last", "stddev", "p90")
    alerts = [make_alert(window_minutes=5, aggregation_type=kind) for kind in kinds]

    def previewed(key):
        found = [preview(alert, key, NOON, LENGTH) for alert in alerts]
        return {alert.aggregation_type: (each.problem, each.values) for alert, each in zip(alerts, found, strict=True)}

    return previewed


@pytest.mark.usefixtures("short_steps")
@pytest.mark.parametrize("merge", [False, True])
def test_between_two_steps_of_a_move_previews_are_those_of_the_new_name(previewed, merge):
    new = partitioned.name_beside(CPU)

    def store(old, into):
        add(old, 90, VALUES["mixed"])
        if merge:
            add(into, 40, VALUES["constant"], step=timedelta(seconds=31))
        roll_up_all()
        add(old, 30, VALUES["mixed"], start=NOON - timedelta(minutes=8, seconds=1))

    store(NOBODY, NOBODY)
    expected, unknown = previewed(NOBODY), previewed(SeriesKey("Server-1", "none"))
    store(CPU, new)
    begun = renaming.move(CPU, new, merge=merge)
    steps = 0

    assert (previewed(new), previewed(CPU)) == (expected, unknown)
    for _ in Mover(begun).steps(lambda: False):
        assert (previewed(new), previewed(CPU)) == (expected, unknown)
        steps += 1
    assert steps > 3
    assert (Watermark.objects.moves(), Rollup.objects.of_series(*CPU).count()) == ([], 0)
    assert (previewed(new), previewed(CPU)) == (expected, unknown)


@pytest.mark.usefixtures("short_steps")
def test_a_series_that_begins_anew_under_the_old_name_has_previews_of_its_own(previewed):
    new = partitioned.name_beside(CPU)
    add(CPU, 90, VALUES["mixed"])
    roll_up_all()
    add(CPU, 30, VALUES["mixed"], start=NOON - timedelta(minutes=8, seconds=1))
    of_new = previewed(CPU)
    begun = renaming.move(CPU, new)
    for key in (CPU, NOBODY):
        add(key, 50, VALUES["constant"], step=timedelta(seconds=31))
    own = previewed(NOBODY)

    assert (previewed(CPU), previewed(new)) == (own, of_new)
    roll_up_all()
    assert (previewed(CPU), previewed(new)) == (own, of_new)
    for _ in Mover(begun).steps(lambda: False):
        assert (previewed(CPU), previewed(new)) == (own, of_new)
    assert Watermark.objects.moves() == []
    assert (previewed(CPU), previewed(new)) == (own, of_new)
