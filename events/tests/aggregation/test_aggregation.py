"""``GET /api/events/<namespace>/<name>``."""

import random
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import pytest
from rest_framework.test import APIClient

from events.models import Event
from events.tests.support.clients import client_with
from events.tests.support.errors import NO_TIMESTAMP
from events.tests.support.examples import IS_THOROUGH
from events.tests.support.responses import items_of
from events.worker import roll_up

client = client_with("aggregation")

PATH = "/api/events/Frontend/pageView"
CHOOSE = "Choose one of: "
GRANULARITIES = ["minute", "hour", "day", "week", "month", "year", "none"]
TYPES = ["avg", "min", "max", "sum", "count"]
WORDS = [*TYPES, "rate", "first", "last", "stddev", "median", "p50", "p75", "p90", "p95", "p99"]
PERCENTILES = "Another percentile is a “p” and a number from 0 to 100, such as p99.9."


@pytest.mark.one_partition
def test_it_answers_the_average_by_default_without_grouping(client, make_event, django_assert_num_queries):
    make_event(timestamp="2020-11-12T11:10:00", value=3)
    make_event(timestamp="2020-11-12T11:10:00", value=4)
    make_event(timestamp="2020-11-12T11:10:00.000001", value=5)
    make_event(name="other")
    make_event(namespace="other")

    # the token; how the series stands, the newest event and the tail; the ends of the series, the buckets
    with django_assert_num_queries(7):
        response = client.get(PATH)

    assert response.json() == [
        {"aggregatedTimestamp": "2020-11-12T11:10:00Z", "value": 3.5},
        {"aggregatedTimestamp": "2020-11-12T11:10:00.000001Z", "value": 5.0},
    ]


@pytest.mark.parametrize(
    ("granularity", "expected"),
    [
        ("minute", [("2020-12-31T23:59:58Z", 3.0), ("2021-01-01T00:00:00Z", 4.0), ("2021-01-03T23:59:00Z", 8.0), ("2021-01-04T00:00:00Z", 16.0)]),
        ("hour", [("2020-12-31T23:59:58Z", 3.0), ("2021-01-01T00:00:00Z", 4.0), ("2021-01-03T23:59:00Z", 8.0), ("2021-01-04T00:00:00Z", 16.0)]),
        ("day", [("2020-12-31T23:59:58Z", 3.0), ("2021-01-01T00:00:00Z", 4.0), ("2021-01-03T23:59:00Z", 8.0), ("2021-01-04T00:00:00Z", 16.0)]),
        ("week", [("2020-12-31T23:59:58Z", 15.0), ("2021-01-04T00:00:00Z", 16.0)]),
        ("month", [("2020-12-31T23:59:58Z", 3.0), ("2021-01-01T00:00:00Z", 28.0)]),
        ("year", [("2020-12-31T23:59:58Z", 3.0), ("2021-01-01T00:00:00Z", 28.0)]),
        ("none", [("2020-12-31T23:59:58Z", 1.0), ("2020-12-31T23:59:59.999999Z", 2.0), ("2021-01-01T00:00:00Z", 4.0),
                  ("2021-01-03T23:59:00Z", 8.0), ("2021-01-04T00:00:00Z", 16.0)]),
    ],
)  # fmt: skip
def test_it_groups_by_the_calendar(client, make_event, granularity, expected):
    make_event(timestamp="2021-01-04T00:00:00", value=16)  # a Monday, week 1 after a week 53
    make_event(timestamp="2021-01-03T23:59:00", value=8)
    make_event(timestamp="2021-01-01T00:00:00", value=4)
    make_event(timestamp="2020-12-31T23:59:59.999999", value=2)
    make_event(timestamp="2020-12-31T23:59:58", value=1)

    assert items_of(client.get(PATH, {"granularity": granularity, "aggregationType": "sum"})) == expected


@pytest.mark.parametrize(("kind", "expected"), [("avg", 2.5), ("min", -1.0), ("max", 6.0), ("sum", 5.0), ("count", 2)])
def test_it_aggregates(client, make_event, kind, expected):
    make_event(timestamp="2020-02-29T12:00:00", value=6)
    make_event(timestamp="2020-02-29T00:00:01", value=-1)

    response = client.get(PATH, {"granularity": "day", "aggregationType": kind})

    assert items_of(response) == [("2020-02-29T00:00:01Z", expected)]
    assert type(response.json()[0]["value"]) is type(expected)


@pytest.mark.parametrize(
    "query",
    [
        {"tsMin": "1605179400", "tsMax": "1605179460"},
        {"tsMin": "1605179400000", "tsMax": "1605179460000"},
        {"tsMin": "1605179399.999999", "tsMax": "1605179460.0"},
        {"tsMin": "2020-11-12T11:10:00Z", "tsMax": "2020-11-12T11:11:00Z"},
        {"tsMin": "2020-11-12T12:10:00+01:00", "tsMax": "2020-11-12 11:11"},
    ],
)
def test_the_window_includes_both_ends(client, make_event, query):
    for timestamp in ("11:09:59.999998", "11:10:00", "11:11:00", "11:11:00.000001"):
        make_event(timestamp=f"2020-11-12T{timestamp}")

    assert items_of(client.get(PATH, query)) == [("2020-11-12T11:10:00Z", 1.0), ("2020-11-12T11:11:00Z", 1.0)]


def test_the_window_may_be_open_at_either_end(client, make_event):
    for day in (1, 2, 3):
        make_event(timestamp=f"2020-11-0{day}T00:00:00", value=day)

    assert [value for _, value in items_of(client.get(PATH, {"tsMin": "2020-11-02"}))] == [2.0, 3.0]
    assert [value for _, value in items_of(client.get(PATH, {"tsMax": "2020-11-02"}))] == [1.0, 2.0]
    assert [value for _, value in items_of(client.get(f"{PATH}?tsMin=&tsMax=&granularity=&aggregationType="))] == [
        1,
        2,
        3,
    ]


def test_an_offset_survives_a_url_where_the_plus_was_not_escaped(client, make_event):
    make_event(timestamp="2020-11-12T11:10:00")

    response = client.get(f"{PATH}?tsMin=2020-11-12T12:10:00+01:00&tsMax=2020-11-12T12:10:00+01:00")

    assert items_of(response) == [("2020-11-12T11:10:00Z", 1.0)]


@pytest.mark.parametrize("name", ["pageView", "ä b", "a?b#c", "%2F", "a\nb", "...", "+", "\\", ";", "😀"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_it_finds_a_series_by_its_path(client, make_event, name, slash):
    make_event(namespace=name, name=name)

    assert items_of(client.get(f"/api/events/{quote(name, safe='')}/{quote(name, safe='')}{slash}")) == [
        ("2020-11-12T11:10:00Z", 1.0)
    ]


def test_a_series_without_events_is_an_empty_list(client, make_event):
    make_event()

    assert items_of(client.get("/api/events/Frontend/pageview")) == []
    assert items_of(client.get(PATH, {"tsMin": "2021-01-01"})) == []


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("granularity=fortnight", {"granularity": [f"“fortnight” is not accepted. {CHOOSE}{', '.join(GRANULARITIES)}."]}),
        (f"granularity={'x' * 5000}", {"granularity": [f"“{'x' * 50}” is not accepted. {CHOOSE}{', '.join(GRANULARITIES)}."]}),
        ("granularity=Day", {"granularity": [f"“Day” is not accepted. {CHOOSE}{', '.join(GRANULARITIES)}."]}),
        ("aggregationType=mode", {"aggregationType": [f"“mode” is not accepted. {CHOOSE}{', '.join(WORDS)}. {PERCENTILES}"]}),
        ("granularity=day&granularity=hour", {"granularity": ["This field may be given only once."]}),
        ("tsmin=1", {"tsmin": ["Unknown field. Accepted: tsMin, tsMax, granularity, aggregationType, timezone, fill, timestamp, format."]}),
        ("x=1", {"x": ["Unknown field. Accepted: tsMin, tsMax, granularity, aggregationType, timezone, fill, timestamp, format."]}),
        ("tsMin=%2B2&tsMax=%2B1", {"tsMin": ["Must not be later than tsMax."]}),
        *((f"tsMin={text}", {"tsMin": [NO_TIMESTAMP]}) for text in ("nan", "inf", "1e9", "9" * 400, "%00", "now", "0x1", "1_0", "%FF")),
        *((f"tsMax={text}", {"tsMax": [NO_TIMESTAMP]}) for text in ("-Infinity", "0000-01-01", "10000-01-01", "1" * 20, "%ED%A0%80")),
    ],
)  # fmt: skip
def test_it_refuses_a_bad_parameter_and_says_what_is_accepted(client, query, answer):
    response = client.get(f"{PATH}?{query}")

    assert (response.status_code, response.json()) == (400, answer)


@pytest.mark.parametrize(
    ("path", "status", "answer"),
    [
        ("/api/events/a%00b/c", 400, {"namespace": ["Null characters are not allowed."]}),
        ("/api/events/a/%00", 400, {"name": ["Null characters are not allowed."]}),
        (f"/api/events/a/{'b' * 256}", 400, {"name": ["Ensure this field has no more than 255 characters."]}),
        ("/api/events/a/%20", 400, {"name": ["This field may not be blank."]}),
        ("/api/events/a/b%2Fc", 404, {"detail": "Not found."}),
        ("/api/events/a//", 404, {"detail": "Not found."}),
        ("/api/events//b", 404, {"detail": "Not found."}),
        ("/api/events/a/%FF", 200, []),
    ],
)
def test_it_refuses_a_path_that_can_be_no_series(client, path, status, answer):
    response = client.get(path)

    assert (response.status_code, response.json()) == (status, answer)


def test_it_needs_a_token(db):
    response = APIClient().get(PATH)

    assert (response.status_code, response.json()) == (401, {"detail": "Authentication credentials were not provided."})
    assert response["WWW-Authenticate"] == 'Bearer realm="api"'


@pytest.mark.parametrize("scope", ["read write", "", "aggregations"])
def test_it_needs_the_scope_aggregation(client_with_scopes, scope):
    response = client_with_scopes(scope).get(PATH)

    assert (response.status_code, response.json()) == (403, {"detail": "The access token lacks the scope aggregation."})


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_it_takes_nothing_but_get(client, method):
    response = getattr(client, method)(PATH)

    assert (response.status_code, response.json()) == (405, {"detail": f'Method "{method.upper()}" not allowed.'})


@pytest.mark.parametrize(
    ("granularity", "coarser"), [("none", "week"), ("minute", "week"), ("hour", "week"), ("day", "week")]
)
def test_it_refuses_more_items_than_the_limit(client, make_event, settings, granularity, coarser):
    settings.MAX_ITEMS = 2
    for day in (1, 2):
        make_event(timestamp=f"2020-11-0{day}T00:00:00")
    assert len(items_of(client.get(PATH, {"granularity": granularity}))) == 2
    make_event(timestamp="2020-11-03T00:00:00")

    response = client.get(PATH, {"granularity": granularity})

    advice = f"More than 2 items; choose a shorter window, or a coarser granularity such as {coarser}."
    assert (response.status_code, response.json()) == (400, {"granularity": [advice]})


@pytest.mark.one_partition
@pytest.mark.parametrize("timezone", ["UTC", "Asia/Kolkata"])
def test_stored_hours_tell_of_too_many_before_any_is_read(
    client, make_event, settings, django_assert_num_queries, timezone
):
    settings.MAX_ITEMS = 3
    for hour in range(8):
        make_event(timestamp=f"2020-11-12T{hour:02}:45:00")
    roll_up.take_step()
    query = {"granularity": "hour", "tsMin": "2020-11-12", "tsMax": "2020-11-12", "timezone": timezone}

    # the token, the series' state; how many hours are stored
    with django_assert_num_queries(3) as queries:
        response = client.get(PATH, query)

    *_, last = (each["sql"] for each in queries if "SAVEPOINT" not in each["sql"])
    assert last.startswith("SELECT COUNT(*)")
    advice = "More than 3 items; choose a shorter window, or a coarser granularity such as day."
    assert (response.status_code, response.json()) == (400, {"granularity": [advice]})


@pytest.mark.parametrize(
    ("timezone", "times", "first"),
    [
        ("UTC", ["10:00", "11:00", "12:00", "13:45"], ["10:00", "11:00", "12:00"]),  # the last one is past the window
        ("Asia/Kolkata", ["09:45", "10:15", "10:45", "11:15", "12:45", "13:15"], ["09:45", "10:45", "12:45"]),
    ],
)
def test_stored_hours_that_are_no_items_do_not_count(client, make_event, settings, timezone, times, first):
    settings.MAX_ITEMS = 3
    for time in times:
        make_event(timestamp=f"2020-11-12T{time}:00")
    roll_up.take_step()
    query = {"granularity": "hour", "tsMin": "2020-11-12T09:00:00Z", "tsMax": "2020-11-12T13:30:00Z"}

    response = client.get(PATH, {**query, "timezone": timezone})

    assert items_of(response) == [(f"2020-11-12T{time}:00Z", 1.0) for time in first]


BIG = 1.7e308


@pytest.mark.django_db(transaction=True)  # a query that PostgreSQL refuses ends a transaction
@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([BIG, BIG], "avg", BIG), ([BIG, BIG, -BIG, -BIG], "avg", 0.0), ([BIG, -BIG], "sum", 0.0), ([1e200, 1e200, -1e200, 3e200], "avg", 1e200), ([BIG, BIG], "max", BIG),
    ],
)  # fmt: skip
def test_huge_values_have_an_average(client, make_event, values, kind, expected):
    for value in values:
        make_event(value=value)

    assert [value for _, value in items_of(client.get(PATH, {"aggregationType": kind}))] == [pytest.approx(expected)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_rolled_up", [False, True])
@pytest.mark.parametrize(
    ("granularity", "kind", "expected"),
    [
        ("none", "avg", [BIG, 1e-310, -1e-300, 4e-300]), ("none", "sum", [BIG, 1e-310, -1e-300, 4e-300]),
        ("hour", "avg", [BIG, 1e-310, 1.5e-300]), ("hour", "sum", [BIG, 1e-310, 3e-300]),
        ("day", "avg", [BIG / 2, 1.5e-300]), ("day", "sum", [BIG, 3e-300]),
    ],
)  # fmt: skip
def test_a_huge_value_changes_no_tiny_one(client, make_event, granularity, kind, expected, is_rolled_up):
    for timestamp, value in [("01T00:00", BIG), ("01T01:00", 1e-310), ("02T02:00", -1e-300), ("02T02:30", 4e-300)]:
        make_event(timestamp=f"2020-11-{timestamp}:00", value=value)
    if is_rolled_up:
        roll_up.take_step()

    response = client.get(PATH, {"aggregationType": kind, "granularity": granularity})

    assert [value for _, value in items_of(response)] == [pytest.approx(value, rel=1e-12, abs=0) for value in expected]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beyond_a_double_is_refused(client, make_event, sign):
    make_event(value=sign * BIG)
    make_event(value=sign * BIG)

    response = client.get(PATH, {"aggregationType": "sum"})

    assert response.status_code == 400
    assert response.json() == {"aggregationType": ["The sum of a bucket is beyond what a double holds."]}


# The oracle: the same answers from plain Python.


def bucket_of(timestamp, granularity):
    year, week, _ = timestamp.isocalendar()
    return {
        "minute": (timestamp.date(), timestamp.hour, timestamp.minute),
        "hour": (timestamp.date(), timestamp.hour),
        "day": timestamp.date(),
        "week": (year, week),
        "month": (timestamp.year, timestamp.month),
        "year": timestamp.year,
        "none": timestamp,
    }[granularity]


def oracle(events, ts_min, ts_max, granularity, kind):
    buckets = {}
    for timestamp, value in sorted(events):
        if (ts_min is None or timestamp >= ts_min) and (ts_max is None or timestamp <= ts_max):
            buckets.setdefault(bucket_of(timestamp, granularity), []).append((timestamp, value))
    reduce = {"avg": lambda v: sum(v) / len(v), "min": min, "max": max, "sum": sum, "count": len}[kind]
    return [(bucket[0][0], reduce([value for _, value in bucket])) for bucket in buckets.values()]


def random_events(chance):
    """Crowded around the edges of calendar units, some at the same instant; values whose sums are exact."""
    edges = [
        datetime(*date, tzinfo=UTC)
        for date in [(2019, 12, 30), (2020, 1, 1), (2020, 2, 29), (2020, 3, 1), (2021, 1, 4)]
    ]
    reaches = [timedelta(seconds=2), timedelta(minutes=3), timedelta(hours=5), timedelta(days=12), timedelta(days=400)]
    for _ in range(250):
        reach = chance.choice(reaches).total_seconds()
        timestamp = chance.choice(edges) + timedelta(
            seconds=round(chance.uniform(-reach, reach), chance.choice([0, 0, 3, 6]))
        )
        for _ in range(chance.choice([1, 1, 2])):
            yield timestamp, chance.randrange(-8000, 8000) / 8


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("kind", TYPES)
def test_it_agrees_with_plain_python(client, granularity, kind):
    chance = random.Random(f"{granularity} {kind}")
    events = list(random_events(chance))
    Event.objects.bulk_create(
        Event(namespace="Frontend", name="pageView", timestamp=timestamp, value=value) for timestamp, value in events
    )
    instants = sorted(timestamp for timestamp, _ in events)
    for _ in range(8 if IS_THOROUGH else 3):
        window = sorted(
            chance.choice(instants) + timedelta(microseconds=chance.choice([-1, 0, 0, 1])) for _ in range(2)
        )
        ts_min, ts_max = (chance.choice([None, end, end]) for end in window)
        query = {"granularity": granularity, "aggregationType": kind}
        query |= {key: end.isoformat() for key, end in [("tsMin", ts_min), ("tsMax", ts_max)] if end}

        answer = items_of(client.get(f"{PATH}?{urlencode(query)}"))

        parsed = [(datetime.fromisoformat(timestamp), value) for timestamp, value in answer]
        assert parsed == oracle(events, ts_min, ts_max, granularity, kind)
