"""Values of many windows at once, held to the answers to questions about each window by itself."""

from datetime import UTC, datetime, timedelta

import pytest
from rest_framework.exceptions import ValidationError

from events.aggregation.answer import aggregate
from events.aggregation.question import ROLLED_UP_TYPES, Question
from events.aggregation.windows import Window, read, stored_series
from events.calendar.granularity import MICROSECOND
from events.database.snapshot import snapshot
from events.log.series import SeriesKey
from events.models import Event, Watermark
from events.tests.support.rolling_up import roll_up_all
from events.worker import retention

START = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
SERIES = [SeriesKey("Server-1", "cpu"), SeriesKey("Server-2", "cpu"), SeriesKey("it's", 'ü "%s" 🙂')]


def track(series, count, start=START, step=timedelta(seconds=37), values=lambda number: number * 3 % 17 / 8 + 0.1):
    Event.objects.bulk_create(
        Event(namespace=series.namespace, name=series.name, timestamp=start + step * number, value=values(number))
        for number in range(count)
    )


def found(windows):
    with snapshot():
        return read(windows)


def by_itself(window):
    question = Question(
        **window.series._asdict(), granularity="year", aggregation_type=window.aggregation_type,
        ts_min=window.first, ts_max=window.last,
    )  # fmt: skip
    nothing = 0.0 if window.aggregation_type in {"count", "sum"} else None
    return next((item["value"] for item in aggregate(question)), nothing)


@pytest.mark.parametrize("resolutions", ["minute,hour", "hour"])
def test_many_windows_are_answered_as_each_by_itself(partition_count, resolutions, django_assert_max_num_queries):
    Watermark.objects.ensure_stored()
    Watermark.objects.update(resolutions=resolutions)
    for number, series in enumerate(SERIES):
        track(series, 200 + number)
    roll_up_all()
    for series in SERIES[:2]:
        track(series, 9, START + timedelta(minutes=100))
    missing = SeriesKey("Server-1", "none")
    windows = [
        Window(series, kind, START + timedelta(minutes=first), START + timedelta(minutes=last) - MICROSECOND)
        for series in [*SERIES, missing]
        for kind in ROLLED_UP_TYPES
        for first, last in [(0, 5), (3, 118), (100, 105), (500, 505)]
    ]

    with django_assert_max_num_queries(160 if partition_count == 1 else 480):
        answers = found(windows)

    assert answers == {window: by_itself(window) for window in windows}
    assert answers[windows[0]] is not None
    assert stored_series([*SERIES, missing]) == set(SERIES)


def test_what_is_pruned_or_not_held_by_rollups_is_asked_by_itself(partition_count):
    track(SERIES[0], 300, START, timedelta(minutes=1))
    track(SERIES[1], 3, START, values=lambda number: [1e308, 1e308, -1e308][number])
    track(SERIES[2], 2, START, values=lambda number: 1e308)
    roll_up_all()
    list(retention.prune(retention.Series(*SERIES[0], START.replace(hour=12, minute=0))))
    hour = START.replace(hour=10, minute=0)
    whole = hour, hour + timedelta(hours=1) - MICROSECOND
    cut = START, hour - MICROSECOND
    windows = [Window(SERIES[0], "avg", *whole), Window(SERIES[1], "sum", *cut), Window(SERIES[2], "sum", *cut)]

    answers = found(windows)

    assert [answers[each] for each in windows[:2]] == [by_itself(each) for each in windows[:2]]
    assert answers[windows[1]] == 1e308
    assert isinstance(answers[windows[2]], ValidationError)


def test_a_window_may_reach_over_the_turn_of_a_year(db):
    turn = datetime(2027, 1, 1, tzinfo=UTC)
    track(SERIES[0], 4, turn - timedelta(minutes=2), timedelta(minutes=1), lambda number: number + 1.0)
    ends = turn - timedelta(minutes=2), turn + timedelta(minutes=1)
    values = {"avg": 2.5, "min": 1, "max": 4, "sum": 10, "count": 4}

    assert found([Window(SERIES[0], kind, *ends) for kind in values]) == {
        Window(SERIES[0], kind, *ends): value for kind, value in values.items()
    }
