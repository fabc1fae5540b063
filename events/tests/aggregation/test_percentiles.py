"""``aggregationType`` of what is not in the rollups: percentiles, ``stddev``, ``first``, ``last``; and ``rate``."""

import json
import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import numpy
import pytest
from django.conf import settings
from django.db import connection
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from events.aggregation.answer import aggregate
from events.aggregation.question import Question, fraction_of
from events.aggregation.reader import Reader
from events.calendar.granularity import Granularity
from events.log.namespace_patterns import Namespaces
from events.models import Event
from events.tests.support.answers import stream
from events.tests.support.clients import client_with
from events.tests.support.examples import few_of
from events.tests.support.responses import items_of
from events.tests.support.rolling_up import roll_up_all
from events.worker import retention

client = client_with("aggregation")

PATH = "/api/events/Shop/order"
WORDS = "avg, min, max, sum, count, rate, first, last, stddev, median, p50, p75, p90, p95, p99"
BERLIN = ZoneInfo("Europe/Berlin")
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
def make_orders(make_event):
    return partial(make_events, make_event)


def make_events(make_event, *values, start=datetime(2024, 3, 1, tzinfo=UTC), step=timedelta(minutes=1)):
    for number, value in enumerate(values):
        make_event("Shop", "order", start + number * step, value)


def refused(response):
    assert response.status_code == 400, response.content
    return response.json()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("p0", 1.0), ("p50", 2.5), ("median", 2.5), ("p50.0", 2.5), ("p75", 3.25), ("p90", 3.7), ("p99.9", 3.997), ("p100", 4.0),
        ("p33.3333333333", 2.0), ("stddev", math.sqrt(5 / 3)), ("first", 4.0), ("last", 1.0), ("rate", 10 / 86_400),
    ],
)  # fmt: skip
def test_a_bucket_has_its_percentile_deviation_ends_and_rate(client, make_orders, partition_count, kind, value):
    make_orders(4, 2, 3, 1)

    for _ in ("from events", "from rollups"):
        [(timestamp, found)] = items_of(client.get(PATH, {"aggregationType": kind, "granularity": "day"}))
        assert (timestamp, found) == ("2024-03-01T00:00:00Z", pytest.approx(value, rel=1e-9))
        roll_up_all()


@pytest.mark.parametrize(
    "kind", ["p", "p101", "p-1", "p100.5", "p5.", "p1e1", "P50", "p050", "p50 ", "p٥", "percentile", "p0.12345678901"]
)
def test_what_is_no_percentile_is_refused(client, kind):
    assert refused(client.get(PATH, {"aggregationType": kind})) == {
        "aggregationType": [
            f"“{kind}” is not accepted. Choose one of: {WORDS}. Another percentile is a “p” and a number from 0 to 100, such as p99.9."
        ]
    }


def test_a_lonely_event_has_no_deviation_and_is_all_else(client, make_orders):
    make_orders(7, step=timedelta(days=2))
    make_orders(1, 3, start=datetime(2024, 3, 3, tzinfo=UTC))
    days = {"granularity": "day", "fill": "zero"}

    assert items_of(client.get(PATH, {"aggregationType": "stddev", **days})) == [
        ("2024-03-01T00:00:00Z", None), ("2024-03-02T00:00:00Z", 0.0), ("2024-03-03T00:00:00Z", pytest.approx(math.sqrt(2))),
    ]  # fmt: skip
    assert (
        client.get(PATH, {"aggregationType": "stddev", **days, "format": "csv"}).getvalue().splitlines()[1]
        == b"2024-03-01T00:00:00Z,"
    )
    for kind in ("p1", "first", "last"):
        assert items_of(client.get(PATH, {"aggregationType": kind, **days}))[0] == ("2024-03-01T00:00:00Z", 7.0)
    lines = client.get(PATH, {"aggregationType": "median", **days, "fill": "previous", "format": "ndjson"}).getvalue()
    assert lines.splitlines()[1:] == [
        b'{"aggregatedTimestamp":"2024-03-02T00:00:00Z","value":7.0}',
        b'{"aggregatedTimestamp":"2024-03-03T00:00:00Z","value":2.0}',
    ]


def test_of_events_at_one_instant_the_ids_tell_the_first_and_the_last(client, make_event, partition_count):
    for value in (5, 3, 4):
        make_event("Shop", "order", "2024-03-01T10:00:00", value)
    roll_up_all()
    make_event("Shop", "order", "2024-03-01T10:00:00", 2)  # in the tail
    make_event("Shop", "order", "2024-03-01T09:00:00.5", 1)

    ask = lambda **query: items_of(client.get(PATH, query))  # noqa: E731
    assert ask(aggregationType="first", granularity="hour") == [
        ("2024-03-01T09:00:00.500000Z", 1.0),
        ("2024-03-01T10:00:00Z", 5.0),
    ]
    assert ask(aggregationType="last", granularity="day") == [("2024-03-01T09:00:00.500000Z", 2.0)]
    assert ask(aggregationType="last") == [("2024-03-01T09:00:00.500000Z", 1.0), ("2024-03-01T10:00:00Z", 2.0)]
    assert ask(aggregationType="first", tsMin="2024-03-01T09:30", granularity="year") == [("2024-03-01T10:00:00Z", 5.0)]


@pytest.mark.parametrize(
    ("query", "rates"),
    [
        # the clocks skip an hour on the 31st of March, and repeat one on the 27th of October
        ({"tsMin": "2024-03-31", "tsMax": "2024-03-31"}, [3600 / (23 * 3600)]),
        ({"tsMin": "2024-10-27", "tsMax": "2024-10-27"}, [7200 / (25 * 3600)]),
        # a bucket that the window cuts, to its part in the window
        ({"tsMin": "2024-03-31T00:00:00+01:00", "tsMax": "2024-03-31T12:00:00+01:00"}, [3600 / (12 * 3600 + 1e-6)]),
        ({"tsMin": "2024-03-31T11:59:59+01:00", "tsMax": "2024-03-31T12:00:00+01:00"}, [3600.0 / (1 + 1e-6)]),
        # less than a second counts as one
        ({"tsMin": "2024-03-31T12:00:00+01:00", "tsMax": "2024-03-31T12:00:00+01:00"}, [3600.0]),
        ({"tsMax": "2024-05-01", "granularity": "none"}, [3600.0]),
        # an end that is open cuts nothing; empty buckets have no rate, or that of the part before the window
        ({"tsMax": "2024-04-01", "fill": "zero"}, [3600 / (23 * 3600), 0.0]),
        ({"tsMin": "2024-03-31T22:00:00+02:00", "tsMax": "2024-04-01", "fill": "previous"}, [3600 / (21 * 3600)] * 2),
    ],
)  # fmt: skip
def test_a_rate_goes_by_the_seconds_that_pass(client, make_event, query, rates):
    make_event("Shop", "order", "2024-03-31T11:00:00", 3600)
    make_event("Shop", "order", "2024-10-27T11:00:00", 7200)

    question = {"aggregationType": "rate", "granularity": "day", "timezone": "Europe/Berlin", **query}
    assert [value for _, value in items_of(client.get(PATH, question))] == pytest.approx(rates, rel=1e-15)
    lines = client.get(PATH, {**question, "format": "csv"}).getvalue().decode().splitlines()
    assert [float(line.split(",")[1]) for line in lines[1:]] == pytest.approx(rates, rel=1e-15)


@pytest.mark.parametrize(
    ("query", "rates"),
    [
        ({}, [("2006-10-28T12:00:00Z", 120 / 89_940), ("2006-10-29T02:30:10Z", 80 / 86_460)]),
        # both parts of the 28th, one of the 29th
        ({"tsMax": "2006-10-29T03:29:59.999999Z"}, [("2006-10-28T12:00:00Z", 120 / 89_940), ("2006-10-29T02:30:10Z", 50 / 60)]),
        # half an hour of the 28th, the second part of the 29th
        ({"tsMin": "2006-10-29T03:00:00Z"}, [("2006-10-29T03:10:00Z", 20 / 1800), ("2006-10-29T12:00:00Z", 30 / 86_400)]),
        ({"granularity": "week"}, [("2006-10-28T12:00:00Z", 200 / (7 * 86_400 + 3600))]),
        ({"granularity": "hour", "tsMin": "2006-10-29T02:31:00Z"},
         [("2006-10-29T03:10:00Z", 20 / 3540), ("2006-10-29T12:00:00Z", 30 / 3600)]),
    ],
)  # fmt: skip
def test_a_day_that_comes_twice_has_the_seconds_of_both_its_parts(client, make_event, query, rates):
    """In St John's, one minute into the 29th, clocks went back by an hour to the 28th."""
    make_event("Shop", "order", "2006-10-28T12:00:00", 100)
    make_event("Shop", "order", "2006-10-29T02:30:10", 50)
    make_event("Shop", "order", "2006-10-29T03:10:00", 20)
    make_event("Shop", "order", "2006-10-29T12:00:00", 30)
    question = {"aggregationType": "rate", "granularity": "day", "timezone": "America/St_Johns", **query}

    assert items_of(client.get(PATH, question)) == [(first, pytest.approx(rate, rel=1e-15)) for first, rate in rates]


def test_no_value_is_too_large(client, make_orders):
    largest = 1.7976931348623157e308
    make_orders(-largest, largest, 5e-324, -largest, largest)
    make_orders(1.5e300, 2.5e300, start=datetime(2024, 3, 2, tzinfo=UTC))

    ask = lambda kind, **query: client.get(PATH, {"aggregationType": kind, "granularity": "day", **query})  # noqa: E731
    assert items_of(ask("p37.5")) == [("2024-03-01T00:00:00Z", -largest / 2), ("2024-03-02T00:00:00Z", 1.875e300)]
    assert ask("p37.5", format="csv").getvalue().splitlines()[1] == b"2024-03-01T00:00:00Z,-8.988465674311579e+307"
    assert items_of(ask("stddev", tsMin="2024-03-02")) == [
        ("2024-03-02T00:00:00Z", pytest.approx(math.sqrt(0.5) * 1e300))
    ]
    assert items_of(ask("stddev", tsMax="2024-03-01T00:01:30", granularity="minute")) == [
        ("2024-03-01T00:00:00Z", None), ("2024-03-01T00:01:00Z", None),
    ]  # fmt: skip
    make_orders(-largest, largest, start=datetime(2024, 3, 3, tzinfo=UTC))
    assert refused(ask("stddev")) == {
        "aggregationType": ["The standard deviation of a bucket is beyond what a double holds."]
    }
    assert ask("stddev", format="csv", tsMin="2024-03-03").getvalue().splitlines()[1] == b"2024-03-03T00:00:00Z,"


@pytest.mark.parametrize(
    ("values", "deviation"),
    [
        ((0, 1e-200), 7.071067811865475e-201),
        ((0, -1e-200), 7.071067811865475e-201),
        ((0, 0, -3e-300), 1.7320508075688774e-300),
        ((-1e-200, 1e-180), 7.071067811865475e-181),
        ((0, 5e-324), 5e-324),
        ((0, 0), 0.0),
    ],
)
def test_no_value_is_too_small(client, make_orders, values, deviation):
    make_orders(*values)

    items = items_of(client.get(PATH, {"aggregationType": "stddev", "granularity": "day"}))

    assert items == [("2024-03-01T00:00:00Z", pytest.approx(deviation, rel=1e-12, abs=0))]


@pytest.mark.parametrize("rolled_up", [True, False])
def test_more_events_than_may_be_read_are_refused_with_the_window_that_fits(
    client, make_orders, settings, partition_count, rolled_up
):
    make_orders(*range(10), step=timedelta(minutes=20))  # until 03:00
    if rolled_up:
        roll_up_all()
    settings.PERCENTILE_EVENTS = 5
    query = {"aggregationType": "p95", "granularity": "hour"}

    for more in ({}, {"format": "csv"}):
        assert refused(client.get(PATH, {**query, **more})) == {
            "tsMin": [
                "The window has 10 events; p95 may read 5 (PERCENTILE_EVENTS). "
                "The longest window up to the same end that fits starts at 2024-03-01T01:21:00Z."
            ]
        }
    fits = {**query, "tsMin": "2024-03-01T01:21:00Z"}
    assert items_of(client.get(PATH, fits)) == [
        ("2024-03-01T01:40:00Z", 5.0),
        ("2024-03-01T02:00:00Z", 7.9),
        ("2024-03-01T03:00:00Z", 9.0),
    ]
    assert "may read 5" in str(refused(client.get(PATH, {**fits, "tsMin": "2024-03-01T01:20:00Z"})))
    # the others read one event a bucket, or none
    assert len(items_of(client.get(PATH, {"aggregationType": "last"}))) == 10
    settings.PERCENTILE_EVENTS = 1
    make_orders(1, 2, start=datetime(2024, 3, 1, 3, 0, 1, tzinfo=UTC), step=timedelta(seconds=1))
    assert refused(client.get(PATH, {**query, "tsMin": "2024-03-01T02:59:00Z"})) == {
        "tsMin": ["The window has 3 events; p95 may read 1 (PERCENTILE_EVENTS). Its last minute alone has too many."]
    }
    before = {"tsMin": "2024-03-01T03:30:00Z", "tsMax": "2024-03-01T03:40:00Z", "fill": "previous"}
    assert refused(client.get(PATH, {**query, **before})) == {
        "fill": ["The bucket before the window has 3 events; p95 may read 1 (PERCENTILE_EVENTS). Choose another fill."]
    }


@pytest.mark.parametrize(
    ("most", "start"),
    [(1_000, "2024-05-28T07:01:00Z"), (47, "2024-07-07T00:01:00Z"), (1, "2024-07-08T22:01:00Z")],
)
def test_the_window_that_fits_is_found_by_few_buckets(client, settings, monkeypatch, partition_count, most, start):
    Event.objects.bulk_create(
        Event(
            namespace="Shop", name="order", timestamp=datetime(2024, 3, 31, tzinfo=UTC) + timedelta(hours=hour), value=1
        )
        for hour in range(2_400)
    )
    roll_up_all()
    settings.PERCENTILE_EVENTS = most
    numbers = []

    def count(reader):
        found = read(reader)
        numbers.append(len(found))
        return found

    read = Reader.read
    monkeypatch.setattr(Reader, "read", count)

    assert refused(client.get(PATH, {"aggregationType": "p95", "granularity": "year"})) == {
        "tsMin": [
            f"The window has 2400 events; p95 may read {most} (PERCENTILE_EVENTS). "
            f"The longest window up to the same end that fits starts at {start}."
        ]
    }
    assert max(numbers) <= 31 * 24


@pytest.mark.parametrize("kind", ["median", "stddev", "first", "last"])
def test_what_only_pruned_events_tell_is_refused(client, make_orders, partition_count, kind):
    make_orders(1, 3, 5, 5, 9, step=timedelta(hours=1))
    roll_up_all()
    assert sum(retention.prune(retention.Series("Shop", "order", datetime(2024, 3, 1, 2, tzinfo=UTC)))) == 2
    query = {"aggregationType": kind, "granularity": "day"}
    kept = f"Events are kept from 2024-03-01T02:00:00Z on, and {kind} needs all of them"

    for more in ({}, {"format": "csv"}, {"tsMax": "2024-03-01T01:00:00Z"}):
        assert refused(client.get(PATH, {**query, **more})) == {
            "tsMin": [f"{kept}; choose a window that starts then or later."]
        }
    value = {"median": 5.0, "stddev": pytest.approx(math.sqrt(16 / 3)), "first": 5.0, "last": 9.0}[kind]
    assert items_of(client.get(PATH, {**query, "tsMin": "2024-03-01T02:00:00Z"})) == [("2024-03-01T02:00:00Z", value)]
    filled = {**query, "granularity": "hour", "fill": "previous"}
    assert len(items_of(client.get(PATH, {**filled, "tsMin": "2024-03-01T03:00:00Z"}))) == 2
    assert refused(client.get(PATH, {**filled, "tsMin": "2024-03-01T02:00:00Z"})) == {
        "fill": [f"{kept}, also for the value before the window; choose another fill."]
    }
    # where nothing was pruned of the window, an early start is no harm
    assert items_of(client.get(PATH, {**query, "tsMax": "2024-02-28"})) == []


def test_rates_of_pruned_hours_come_from_the_rollups(client, make_orders):
    make_orders(1, 3, 5, step=timedelta(hours=1))
    roll_up_all()
    list(retention.prune(retention.Series("Shop", "order", datetime(2024, 3, 1, 2, tzinfo=UTC))))

    assert items_of(client.get(PATH, {"aggregationType": "rate", "granularity": "day"})) == [
        ("2024-03-01T00:00:00Z", 9 / 86_400)
    ]


@pytest.mark.one_partition
@pytest.mark.parametrize(("kind", "more"), [("avg", 0), ("rate", 0), ("median", 0), ("first", 1), ("stddev", 0)])
def test_few_events_are_counted_by_no_query(client, make_orders, django_assert_num_queries, kind, more):
    make_orders(4, 2)
    roll_up_all()

    # the token, the series' state, the buckets; then the values of the first events
    with django_assert_num_queries(3 + more):
        client.get(PATH, {"aggregationType": kind, "granularity": "day", "tsMin": "2024-03-01", "tsMax": "2024-03-02"})


@pytest.mark.parametrize(
    ("first", "last", "accuracy"),
    [
        ("2024-03-01", "2024-03-01", "0.01"),  # its hours are whole, however many events each has
        ("2024-03-01T10:03:00Z", "2024-03-01T10:57:00Z", "exact"),
        ("2024-03-01T10:03:00Z", "2024-03-01T11:59:59.999999Z", "0.01"),
    ],
)
def test_a_percentile_is_the_same_in_every_format(
    client, make_orders, settings, partition_count, first, last, accuracy
):
    settings.ROLLUP_HISTOGRAMS = Namespaces.of("Shop")
    make_orders(*range(100, 200), start=datetime(2024, 3, 1, 10, 5, tzinfo=UTC), step=timedelta(seconds=30))
    roll_up_all()
    query = {"aggregationType": "p95", "granularity": "day", "tsMin": first, "tsMax": last}

    answers = [
        client.get(PATH, {**query, "fill": fill, "format": form})
        for fill in ("none", "zero")
        for form in ("json", "csv", "ndjson")
    ]

    assert {(each.status_code, each["Tracking-Accuracy"]) for each in answers} == {(200, accuracy)}
    item = answers[0].json()[0]
    assert item == {
        "aggregatedTimestamp": "2024-03-01T10:05:00Z",
        "value": pytest.approx(194.05, rel=1e-9 if accuracy == "exact" else 0.01),
    }
    for in_json, in_csv, in_ndjson in (answers[:3], answers[3:]):
        assert in_json.json() == [item]
        assert in_csv.getvalue().decode().splitlines()[1:] == [f"2024-03-01T10:05:00Z,{item['value']}"]
        assert json.loads(in_ndjson.getvalue()) == item


@pytest.mark.parametrize("form", ["json", "csv", "ndjson"])
@pytest.mark.parametrize("fill", ["none", "zero"])
def test_nothing_is_exact_in_every_format(client, make_orders, settings, fill, form):
    settings.ROLLUP_HISTOGRAMS = Namespaces.of("Shop")
    make_orders(1, 2)
    roll_up_all()
    of_another_year = {"granularity": "day", "tsMin": "2023-03-01", "tsMax": "2023-03-01"}

    answer = client.get(PATH, {"aggregationType": "p95", **of_another_year, "fill": fill, "format": form})

    assert (answer.status_code, answer["Tracking-Accuracy"]) == (200, "exact")


# The oracle: numpy, with its default for percentiles, over buckets made by Python.

NIGHT = datetime(2024, 10, 26, 22, tzinfo=UTC)  # the night on which Berlin's clocks go back
instants = st.builds(
    lambda minutes, microseconds: NIGHT + timedelta(minutes=minutes, microseconds=microseconds),
    st.integers(-90, 240) | st.sampled_from([-60, 0, 60, 120, 180, 24 * 60, 40 * 24 * 60]), st.sampled_from([0, 0, 1, 30_000_000]),
)  # fmt: skip
plain_values = st.integers(-800, 800).map(lambda number: number / 8)
values = plain_values | st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(st.tuples(instants, values), min_size=1, max_size=40) | st.lists(
    st.tuples(instants, plain_values), min_size=20, max_size=60
)
questions = st.fixed_dictionaries({
    "aggregation_type": st.sampled_from(["median", "p95", "stddev", "first", "last", "rate"])
    | st.decimals(0, 100, places=2).map(lambda number: f"p{number}"),
    "granularity": st.sampled_from(list(Granularity)),
    "zone": st.sampled_from([UTC, BERLIN, ZoneInfo("Asia/Kathmandu")]),
    "ts_min": st.none() | instants, "ts_max": st.none() | instants,
})  # fmt: skip


def reckoned(kind, events, bounds):
    """The value of a bucket, and how far another may be off for its rounding."""
    values = [value for _, value in events]
    peak = max(map(abs, values))
    exact = numpy.array(values, dtype=numpy.longdouble)
    if kind in {"first", "last"}:
        return values[0 if kind == "first" else -1], 0
    if kind == "rate":
        seconds = max((bounds[1] - bounds[0] + MICROSECOND).total_seconds(), 1)
        return float(exact.sum() / seconds), 1e-13 * peak * len(values)
    if kind == "stddev":
        return (None if len(values) == 1 else float(numpy.std(exact, ddof=1))), 1e-12 * peak
    fraction = fraction_of(kind)
    if settings.ROLLUP_HISTOGRAMS:
        rank = fraction * (len(values) - 1)
        low, high = sorted(values)[math.floor(rank)], sorted(values)[math.ceil(rank)]
        return float(numpy.percentile(exact, fraction * 100)), 0.01 * max(abs(low), abs(high)) + 1e-300
    return float(numpy.percentile(exact, fraction * 100)), 1e-14 * peak


def by_numpy(events, aggregation_type, granularity, zone, ts_min, ts_max):
    buckets = defaultdict(list)
    for timestamp, value in sorted(events, key=lambda event: event[0]):
        if (ts_min or timestamp) <= timestamp <= (ts_max or timestamp):
            start = timestamp if granularity == "none" else granularity.start_of(timestamp, zone)
            buckets[start].append((timestamp, value))
    for start, of_bucket in buckets.items():
        end = start + timedelta(seconds=1) - MICROSECOND
        if granularity != "none":
            end = granularity.end_of(start, zone)
        within = max(start, ts_min or start), min(end, ts_max or end)
        value, error = reckoned(aggregation_type, of_bucket, within)
        yield of_bucket[0][0].isoformat().replace("+00:00", "Z"), value, error


def agree(found, expected):
    assert [item["aggregatedTimestamp"] for item in found] == [timestamp for timestamp, *_ in expected]
    for item, (_, value, error) in zip(found, expected, strict=True):
        assert (item["value"] is None) == (value is None)
        assert value is None or abs(item["value"] - value) <= error + 1e-9 * abs(value) * (error > 0), (item, value)


@pytest.mark.one_partition
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("namespaces", ["", "Shop"])
def test_it_answers_what_numpy_does(settings, namespaces):
    settings.ROLLUP_HISTOGRAMS = Namespaces.of(namespaces)

    @hypothesis_settings(
        max_examples=few_of(60), derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(rows, st.integers(0, 60), st.lists(questions, min_size=6, max_size=8))
    def check(events, tail, asked):
        with connection.cursor() as cursor:
            for table in ("events_event", "events_rollup", "events_histogram", "events_watermark"):
                cursor.execute(f"DELETE FROM {table}")
        head = max(len(events) - tail, 0)
        for part in (events[:head], events[head:]):
            roll_up_all()
            Event.objects.bulk_create(Event(namespace="Shop", name="order", timestamp=t, value=v) for t, v in part)
        for question in asked:
            expected = list(by_numpy(events, **question))
            if any(value is not None and math.isinf(value) for _, value, _ in expected):
                continue
            asking = Question(namespace="Shop", name="order", **question)
            try:
                agree(aggregate(asking), expected)
            except Exception as error:
                if question["aggregation_type"] == "rate" and "beyond what a double holds" in str(error):
                    continue  # a rate is refused where its sum is
                raise
            agree(list(stream(asking)), expected)

    check()
