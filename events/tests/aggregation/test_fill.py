"""The ``fill`` and ``timestamp`` parameters of the aggregation endpoint, and the limit to its items."""

import json

import pytest

from events.models import Rollup
from events.tests.support.clients import client_with
from events.tests.support.responses import items_of
from events.worker import roll_up

client = client_with("aggregation")

PATH = "/api/events/Frontend/pageView"
DAYS = {"tsMin": "2024-02-27T12:00:00Z", "tsMax": "2024-03-02T12:00:00Z", "granularity": "day"}


@pytest.fixture(params=[False, True], ids=["events", "rollups"])
def stored(request, make_event):
    """Two events on the 28th and one on the 1st; others beyond the window."""
    for timestamp, value in [
        ("2024-02-20T00:00:00", 100), ("2024-02-28T10:00:00", 2), ("2024-02-28T11:00:00", 4), ("2024-03-01T09:30:00", 8),
        ("2024-03-09T00:00:00", 100),
    ]:  # fmt: skip
        make_event(timestamp=timestamp, value=value)
    if request.param:
        roll_up.take_step()


@pytest.mark.parametrize(
    ("fill", "kind", "expected"),
    [
        ("none", "sum", [("2024-02-28T10:00:00Z", 6.0), ("2024-03-01T09:30:00Z", 8.0)]),
        ("null", "sum", [("2024-02-27T00:00:00Z", None), ("2024-02-28T10:00:00Z", 6.0), ("2024-02-29T00:00:00Z", None),
                         ("2024-03-01T09:30:00Z", 8.0), ("2024-03-02T00:00:00Z", None)]),
        ("zero", "avg", [("2024-02-27T00:00:00Z", 0.0), ("2024-02-28T10:00:00Z", 3.0), ("2024-02-29T00:00:00Z", 0.0),
                         ("2024-03-01T09:30:00Z", 8.0), ("2024-03-02T00:00:00Z", 0.0)]),
        ("zero", "count", [("2024-02-27T00:00:00Z", 0), ("2024-02-28T10:00:00Z", 2), ("2024-02-29T00:00:00Z", 0),
                           ("2024-03-01T09:30:00Z", 1), ("2024-03-02T00:00:00Z", 0)]),
        ("previous", "max", [("2024-02-27T00:00:00Z", 100.0), ("2024-02-28T10:00:00Z", 4.0), ("2024-02-29T00:00:00Z", 4.0),
                             ("2024-03-01T09:30:00Z", 8.0), ("2024-03-02T00:00:00Z", 8.0)]),
    ],
)  # fmt: skip
def test_empty_buckets_give_what_is_asked_for(client, stored, fill, kind, expected):
    response = client.get(PATH, {**DAYS, "fill": fill, "aggregationType": kind})

    assert items_of(response) == expected
    assert [type(value) for _, value in items_of(response)] == [type(value) for _, value in expected]


def test_no_change_of_the_clocks_makes_more_items_than_the_limit(client, make_event, settings):
    make_event()
    question = {"tsMin": "2010-01-01T00:00:00", "tsMax": "2011-12-31T23:59:00", "granularity": "hour", "fill": "null"}
    settings.MAX_ITEMS = 2 * 365 * 24 + 2  # as Lord Howe goes back by half an hour each year, and that is one more
    assert len(items_of(client.get(PATH, {**question, "timezone": "Australia/Lord_Howe"}))) == settings.MAX_ITEMS

    settings.MAX_ITEMS -= 1

    assert client.get(PATH, {**question, "timezone": "Australia/Lord_Howe"}).status_code == 400


def test_the_timestamp_of_a_bucket_may_be_its_start(client, stored):
    starts = ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02"]

    response = client.get(PATH, {**DAYS, "fill": "null", "timestamp": "bucket", "aggregationType": "min"})
    assert items_of(response) == [
        (f"{day}T00:00:00Z", value) for day, value in zip(starts, [None, 2.0, None, 8.0, None], strict=True)
    ]

    response = client.get(PATH, {**DAYS, "timestamp": "bucket", "aggregationType": "min"})
    assert items_of(response) == [("2024-02-28T00:00:00Z", 2.0), ("2024-03-01T00:00:00Z", 8.0)]


def test_an_open_end_is_where_the_series_ends(client, stored):
    response = client.get(
        PATH, {"granularity": "week", "fill": "zero", "aggregationType": "count", "timestamp": "bucket"}
    )

    assert items_of(response) == [("2024-02-19T00:00:00Z", 1), ("2024-02-26T00:00:00Z", 3), ("2024-03-04T00:00:00Z", 1)]


@pytest.mark.parametrize("year", [2023, 2025])
def test_a_window_without_events_is_filled_too(client, stored, year):
    window = {
        "tsMin": f"{year}-01-01T00:30:00Z",
        "tsMax": f"{year}-01-01T02:00:00Z",
        "granularity": "hour",
        "fill": "zero",
    }

    assert items_of(client.get(PATH, window)) == [(f"{year}-01-01T0{hour}:00:00Z", 0.0) for hour in (0, 1, 2)]
    assert items_of(client.get(PATH, {**window, "fill": "none"})) == []


def test_what_lies_wholly_beyond_an_open_end_is_empty(client, stored):
    assert items_of(client.get(PATH, {"tsMin": "2025-01-01", "granularity": "day", "fill": "zero"})) == []
    assert items_of(client.get(PATH, {"tsMax": "2023-01-01", "granularity": "day", "fill": "zero"})) == []


@pytest.mark.parametrize(("fill", "value"), [("zero", 0.0), ("null", None), ("previous", None)])
@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_a_series_without_events_is_filled_as_one_that_has_none_there(client, stored, fill, value, form):
    days = ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02"]

    response = client.get("/api/events/Frontend/nothing", {**DAYS, "fill": fill, "format": form})

    items = response.json() if form == "json" else [json.loads(line) for line in response.getvalue().splitlines()]
    assert items == [{"aggregatedTimestamp": f"{day}T00:00:00Z", "value": value} for day in days]
    for one_end in ({"tsMax": ""}, {"tsMin": ""}, {"granularity": "none"}, {"fill": "none"}):
        response = client.get("/api/events/Frontend/nothing", {**DAYS, "fill": fill, **one_end})
        assert items_of(response) == []


def test_filling_what_was_never_sent_is_limited_too(client, stored, settings):
    settings.MAX_ITEMS = 4

    response = client.get("/api/events/Frontend/nothing", {**DAYS, "fill": "zero"})

    advice = "More than 4 items; choose a shorter window, or a coarser granularity such as week."
    assert (response.status_code, response.json()) == (400, {"granularity": [advice]})


@pytest.mark.parametrize("fill", ["none", "zero"])
@pytest.mark.parametrize(
    ("timestamp", "items"),
    [
        ("first", [("2006-10-29T02:30:30Z", 1.0), ("2006-10-29T03:00:00Z", 2.0)]),
        ("bucket", [("2006-10-28T02:30:00Z", 2.0), ("2006-10-29T02:30:00Z", 1.0)]),
    ],
)
def test_where_a_day_comes_once_more_an_answer_goes_by_its_timestamps(client, make_event, fill, timestamp, items):
    make_event(timestamp="2006-10-29T02:30:30", value=1)  # in the first minute of the 29th
    make_event(timestamp="2006-10-29T03:00:00", value=2)  # on the 28th, half an hour after it came back
    question = {"granularity": "day", "timezone": "America/St_Johns", "timestamp": timestamp, "fill": fill}

    assert items_of(client.get("/api/events/Frontend/pageView", question)) == items


# The value before the window.


@pytest.mark.parametrize("form", ["json", "ndjson"])
@pytest.mark.parametrize(
    ("kind", "granularity", "window", "expected"),
    [
        # the whole day of the 28th, and not its last event alone
        ("sum", "day", ("2024-02-29T00:00:00", "2024-02-29T23:00:00"), [6.0]),
        ("avg", "day", ("2024-02-29T00:00:00", "2024-02-29T23:00:00"), [3.0]),
        ("count", "month", ("2024-03-02T00:00:00", "2024-03-02T23:00:00"), [1]),
        ("max", "hour", ("2024-02-28T12:00:00", "2024-02-28T13:59:00"), [4.0, 4.0]),
        # of the day that the window begins in, what is before
        ("sum", "day", ("2024-02-28T10:30:00", "2024-02-28T10:45:00"), [2.0]),
        ("sum", "day", ("2024-02-28T11:00:00", "2024-02-28T11:45:00"), [4.0]),
        # beyond the last event, and before the first
        ("min", "year", ("2030-01-01T00:00:00", "2031-01-01T00:00:00"), [2.0, 2.0]),
        ("min", "day", ("2024-02-18T00:00:00", "2024-02-20T12:00:00"), [None, None, 100.0]),
        ("min", "day", ("2024-02-20T00:00:00", "2024-02-20T12:00:00"), [100.0]),
    ],
)
def test_previous_begins_with_the_last_bucket_before(client, stored, kind, granularity, window, expected, form):
    ts_min, ts_max = window
    question = {"tsMin": ts_min, "tsMax": ts_max, "granularity": granularity, "aggregationType": kind}

    response = client.get(PATH, {**question, "fill": "previous", "format": form})

    items = response.json() if form == "json" else [json.loads(line) for line in response.getvalue().splitlines()]
    assert [item["value"] for item in items] == expected


def test_previous_goes_by_the_days_of_the_zone(client, make_event):
    for timestamp, value in [("2024-02-27T22:59:00", 1), ("2024-02-27T23:01:00", 2), ("2024-02-28T22:59:00", 4)]:
        make_event(timestamp=timestamp, value=value)
    roll_up.take_step()
    question = {"tsMin": "2024-03-01T00:00:00+01:00", "tsMax": "2024-03-01T12:00:00+01:00", "granularity": "day"}

    for zone, expected in (("Europe/Berlin", 6.0), ("UTC", 4.0)):
        answer = items_of(
            client.get(PATH, {**question, "fill": "previous", "aggregationType": "sum", "timezone": zone})
        )
        assert answer[0][1] == expected


@pytest.mark.one_partition
def test_previous_costs_one_look_up_and_what_reads_the_bucket(client, stored, django_assert_num_queries):
    question = {"tsMin": "2024-02-29T00:00:00", "tsMax": "2024-02-29T23:00:00", "granularity": "day"}
    client.get(PATH)  # the token is known from here on
    # how the series stands, and the buckets; without rollups also the newest event, the tail, and the series' ends
    zero = 2 if Rollup.objects.exists() else 6
    with django_assert_num_queries(zero):
        client.get(PATH, {**question, "fill": "zero"})
    with django_assert_num_queries(zero + 2):
        client.get(PATH, {**question, "fill": "previous"})


@pytest.mark.parametrize("form", ["json", "csv", "ndjson"])
def test_what_comes_before_a_window_changes_its_tag(client, stored, make_event, form):
    question = {"tsMin": "2024-02-29T00:00:00", "tsMax": "2024-02-29T23:00:00", "granularity": "day", "format": form}

    def ask(tag):
        response = client.get(PATH, {**question, "fill": "previous", "aggregationType": "sum"}, HTTP_IF_NONE_MATCH=tag)
        return response.status_code, response.getvalue(), response["ETag"]

    def of_value(value):
        item = {"aggregatedTimestamp": "2024-02-29T00:00:00Z", "value": value}
        return {
            "json": json.dumps([item], separators=(",", ":")),
            "csv": f"aggregatedTimestamp,value\r\n2024-02-29T00:00:00Z,{value}\r\n",
            "ndjson": json.dumps(item, separators=(",", ":")) + "\n",
        }[form].encode()

    status, body, tag = ask("")
    assert (status, body) == (200, of_value(6.0))
    assert ask(tag) == (304, b"", tag)
    make_event(timestamp="2024-02-28T12:00:00", value=8)
    status, body, later = ask(tag)
    assert (status, body, later != tag) == (200, of_value(14.0), True)
    roll_up.take_step()
    assert ask(later) == (304, b"", later)


def test_the_first_event_of_a_series_changes_the_tag_of_what_was_filled(client, stored, make_event):
    question = {**DAYS, "fill": "previous", "aggregationType": "max"}
    empty = client.get("/api/events/Frontend/new", question)
    known = {"HTTP_IF_NONE_MATCH": empty["ETag"]}

    assert client.get("/api/events/Frontend/new", question, **known).status_code == 304
    make_event(name="new", timestamp="2024-01-01T00:00:00", value=3)
    response = client.get("/api/events/Frontend/new", question, **known)

    days = ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02"]
    assert items_of(empty) == [(f"{day}T00:00:00Z", None) for day in days]
    assert items_of(response) == [(f"{day}T00:00:00Z", 3.0) for day in days]


@pytest.mark.django_db(transaction=True)
def test_a_sum_before_that_no_double_holds_is_no_value(client, make_event):
    for _ in range(2):
        make_event(timestamp="2024-02-28T10:00:00", value=1.7e308)
    question = {"tsMin": "2024-02-29T00:00:00", "tsMax": "2024-02-29T23:00:00", "granularity": "day"}

    response = client.get(PATH, {**question, "fill": "previous", "aggregationType": "sum"})

    assert items_of(response) == [("2024-02-29T00:00:00Z", None)]


def test_without_grouping_nothing_is_filled(client, stored):
    response = client.get(PATH, {**DAYS, "granularity": "none", "fill": "zero", "timestamp": "bucket"})

    assert items_of(response) == [
        ("2024-02-28T10:00:00Z", 2.0),
        ("2024-02-28T11:00:00Z", 4.0),
        ("2024-03-01T09:30:00Z", 8.0),
    ]


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("fill=linear", {"fill": ["“linear” is not accepted. Choose one of: none, null, zero, previous."]}),
        ("timestamp=last", {"timestamp": ["“last” is not accepted. Choose one of: first, bucket."]}),
        ("fill=zero&fill=null", {"fill": ["This field may be given only once."]}),
    ],
)
def test_it_refuses_a_bad_parameter_and_says_what_is_accepted(client, query, answer):
    response = client.get(f"{PATH}?{query}")

    assert (response.status_code, response.json()) == (400, answer)


@pytest.mark.one_partition
@pytest.mark.parametrize(
    ("most", "granularity", "fits"),
    [
        (100, "minute", "hour"),
        (4, "minute", "week"),
        (4, "hour", "week"),
        (4, "day", "week"),
        (100_000, "minute", None),
    ],
)
def test_the_limit_counts_filled_buckets_before_any_is_read(
    client, stored, settings, django_assert_num_queries, most, granularity, fits
):
    settings.MAX_ITEMS = most
    window = {"tsMin": "2024-02-27T12:00:00Z", "tsMax": "2024-03-02T12:00:00Z", "fill": "null"}

    if fits is None:
        assert len(items_of(client.get(PATH, {**window, "granularity": granularity}))) == 4 * 24 * 60 + 1
        return
    # the token and how the series stands; without rollups also the newest event, the tail, and the ends of the series
    with django_assert_num_queries(2 if Rollup.objects.exists() else 6):
        response = client.get(PATH, {**window, "granularity": granularity})

    advice = f"More than {most} items; choose a shorter window, or a coarser granularity such as {fits}."
    assert (response.status_code, response.json()) == (400, {"granularity": [advice]})


def test_where_no_granularity_fits_a_shorter_window_is_all_there_is(client, stored, settings):
    settings.MAX_ITEMS = 2
    response = client.get(PATH, {"tsMin": "+1900", "tsMax": "2024-01-01", "granularity": "year", "fill": "zero"})

    assert (response.status_code, response.json()) == (
        400,
        {"granularity": ["More than 2 items; choose a shorter window."]},
    )


def test_stored_buckets_are_counted_before_they_are_read(client, make_event, settings, django_assert_num_queries):
    settings.MAX_ITEMS = 3
    for minute in range(4):
        make_event(timestamp=f"2024-01-01T00:{minute * 2:02}:00")
    roll_up.take_step()

    with django_assert_num_queries(3):  # as above, and the count
        response = client.get(PATH, {"granularity": "minute"})

    advice = "More than 3 items; choose a shorter window, or a coarser granularity such as hour."
    assert (response.status_code, response.json()) == (400, {"granularity": [advice]})
    settings.MAX_ITEMS = 4
    assert len(items_of(client.get(PATH, {"granularity": "minute"}))) == 4
