"""Values of many windows at once, held to the answers to questions about each window by itself."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction
from rest_framework.exceptions import ValidationError

from events.aggregation.answer import aggregate
from events.aggregation.question import AGGREGATION_TYPES, ROLLED_UP_TYPES, Question, Window
from events.aggregation.windows import TooManyEvents, read, stored_series
from events.calendar.granularity import MICROSECOND
from events.database import partitions
from events.database.snapshot import snapshot
from events.log.namespace_patterns import Namespaces
from events.log.series import SeriesKey
from events.models import Event, Watermark
from events.tests.support.rolling_up import roll_up_all
from events.worker import moving, retention

pytestmark = pytest.mark.partitions_on("postgresql")

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
    nothing = 0.0 if window.aggregation_type in {"count", "sum", "rate"} else None
    try:
        return next((item["value"] for item in aggregate(question)), nothing)
    except ValidationError as error:
        return error.detail


def said(answers):
    return {window: getattr(value, "detail", value) for window, value in answers.items()}


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
        for kind in (*ROLLED_UP_TYPES, "rate")
        for first, last in [(0, 5), (3, 118), (100, 105), (500, 505)]
    ]

    with django_assert_max_num_queries(190 if partition_count == 1 else 570):
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


@pytest.mark.parametrize("state", ["as it was", "amid a renaming", "pruned"])
def test_the_years_of_a_window_are_added_up_exactly(db, state):
    """The first year's sum has no double of its own: to the nearest one, nothing is added."""
    series, turn, step = SERIES[0], datetime(2027, 1, 1, tzinfo=UTC), timedelta(days=1)
    track(series, 3, turn - 2 * step, step, lambda number: [2.0**53, 1.0, 1.0][number])
    roll_up_all()
    if state == "amid a renaming":
        with transaction.atomic():
            Watermark.objects.locked(partitions.partition_of(*series))
            moving.begin(series, SERIES[1], is_merged=False)
        series = SERIES[1]
    elif state == "pruned":
        list(retention.prune(retention.Series(*series, turn)))
    of_sum, of_average = (Window(series, kind, turn - 2 * step, turn + step) for kind in ("sum", "avg"))

    assert found([of_sum, of_average]) == {of_sum: 2.0**53 + 2, of_average: (2.0**53 + 2) / 3}


def test_a_sum_over_the_turn_of_a_year_may_be_one_that_its_parts_are_not(db):
    turn = datetime(2027, 1, 1, tzinfo=UTC)
    track(SERIES[0], 3, turn - timedelta(days=2), timedelta(days=1), lambda number: [1e308, 1e308, -1e308][number])
    roll_up_all()
    window = Window(SERIES[0], "sum", turn - timedelta(days=2), turn)

    assert found([window]) == {window: 1e308}


def test_a_sum_over_the_turn_of_a_year_may_be_beyond_a_double(db):
    turn = datetime(2027, 1, 1, tzinfo=UTC)
    track(SERIES[0], 2, turn - timedelta(minutes=1), timedelta(minutes=1), lambda number: 1e308)
    ends = turn - timedelta(minutes=1), turn + timedelta(minutes=1)
    of_sum, of_rate, of_average = (Window(SERIES[0], kind, *ends) for kind in ("sum", "rate", "avg"))

    answers = found([of_sum, of_rate, of_average])

    assert answers[of_average] == 1e308
    beyond = {"aggregationType": ["The sum of a bucket is beyond what a double holds."]}
    assert [answers[each].detail for each in (of_sum, of_rate)] == [beyond, beyond]


def but_for_last_digits(window, answer):
    """Of the same values in another order, PostgreSQL's deviation has another last digit."""
    is_number = window.aggregation_type == "stddev" and isinstance(answer, float)
    return pytest.approx(answer, rel=1e-14) if is_number else answer


OF_EVENTS = [kind for kind in AGGREGATION_TYPES if kind not in (*ROLLED_UP_TYPES, "rate")] + ["p99.9"]


@pytest.mark.parametrize("histograms", ["", "Server-*"])
def test_what_events_alone_or_histograms_tell_is_answered_as_by_itself(
    partition_count, settings, histograms, django_assert_max_num_queries
):
    settings.ROLLUP_HISTOGRAMS = Namespaces.of(histograms)
    settings.RETENTION_MAY_DELETE_MOST = True
    for number, series in enumerate(SERIES):
        track(series, 400 + number)
    huge, single = SeriesKey("Server-3", "huge"), SeriesKey("Server-3", "single")
    track(huge, 2, values=lambda number: -1.7e308 if number else 1.7e308)
    track(single, 1, values=lambda number: -0.0)
    roll_up_all()
    for series in SERIES[:2]:
        track(series, 9, START + timedelta(minutes=100), values=lambda number: 50.0)  # in the tail
        track(series, 2, START + timedelta(minutes=100), timedelta(0), lambda number: 60.0 - number)
    windows = [
        Window(series, kind, START + timedelta(minutes=first), START + timedelta(minutes=last) - MICROSECOND)
        for series in [*SERIES, huge, single, SeriesKey("Server-1", "none")]
        for kind in OF_EVENTS
        for first, last in [(0, 5), (0, 238), (100, 100.5), (500, 505)]
    ]

    with django_assert_max_num_queries(150 if partition_count == 1 else 450):
        answers = found(windows)

    for window, answer in said(answers).items():
        assert answer == but_for_last_digits(window, by_itself(window))
    of_an_instant = [window for window in windows if window.last - window.first < timedelta(minutes=1)]
    ends = [answers[window] for window in of_an_instant if window.series == SERIES[0]]
    assert ends[:2] == [50.0, 59.0]

    list(retention.prune(retention.Series(*SERIES[0], START.replace(hour=11, minute=0))))
    of_pruned = [
        Window(SERIES[0], kind, START.replace(hour=first, minute=0), START.replace(hour=12, minute=59))
        for kind in OF_EVENTS
        for first in (10, 11)
    ]
    answers = said(found(of_pruned))
    for window in of_pruned:
        assert answers[window] == but_for_last_digits(window, by_itself(window))
    refused = {window.aggregation_type for window in of_pruned if isinstance(answers[window], dict)}
    assert refused == set(OF_EVENTS) - ({"median", "p99.9"} if histograms else set())


def test_no_more_events_are_read_than_are_allowed(partition_count, settings):
    for series in SERIES:
        track(series, 20)
    roll_up_all()
    span = START, START + timedelta(hours=1)
    windows = [Window(series, "p50", *span) for series in SERIES]

    with pytest.raises(TooManyEvents), snapshot():
        read(windows, 59)
    with snapshot():
        assert len(read(windows, 60)) == 3
        assert len(read([window._replace(aggregation_type="last") for window in windows], 3)) == 3
    settings.PERCENTILE_EVENTS = 19
    answers = found(windows)
    assert said(answers) == {window: by_itself(window) for window in windows}
    assert "The window has 20 events; p50 may read 19" in str(answers[windows[0]])


def test_a_percentile_over_the_turn_of_a_year_is_of_both_parts(db, settings):
    settings.ROLLUP_HISTOGRAMS = Namespaces.of("Server-1")
    settings.RETENTION_MAY_DELETE_MOST = True
    turn = datetime(2027, 1, 1, tzinfo=UTC)
    for series in SERIES[:2]:
        track(series, 5, turn - timedelta(hours=3), timedelta(hours=1), lambda number: number + 1.0)
    roll_up_all()
    span = turn - timedelta(hours=3), turn + timedelta(hours=2) - MICROSECOND
    windows = [Window(series, kind, *span) for series in SERIES[:2] for kind in ("p50", "rate", "stddev")]
    near = pytest.approx(3, rel=0.01)

    answers = found(windows)
    assert [answers[window] for window in windows] == [near, 15 / 18_000, 2.5**0.5, 3.0, 15 / 18_000, 2.5**0.5]
    assert answers[windows[0]] != 3.0  # by histograms

    list(retention.prune(retention.Series(*SERIES[0], turn + timedelta(hours=1))))
    answers = found(windows)
    assert [answers[window] for window in windows[:2]] == [near, 15 / 18_000]
    assert "Events are kept from 2027-01-01T01:00:00Z on" in str(answers[windows[2]])
