"""The ``timezone`` parameter of the aggregation endpoint, over events, rollups and a mixture of both."""

import pytest

from events.tests.support.clients import client_with
from events.worker import roll_up

client = client_with("aggregation")

PATH = "/api/events/Frontend/pageView"
UNKNOWN = {"timezone": ["Must be the IANA name of a time zone, such as Europe/Berlin."]}


@pytest.fixture(params=["events", "rollups", "both"])
def track(request, make_event):
    """Makes an event of value 1 at each of the times, all, half or none of which are rolled up."""

    def make(*timestamps):
        for number, timestamp in enumerate(timestamps):
            make_event(timestamp=timestamp)
            if request.param == "rollups" or (request.param == "both" and number == len(timestamps) // 2):
                roll_up.take_step()

    return make


def counted(client, granularity, timezone, **parameters):
    query = {"granularity": granularity, "timezone": timezone, "aggregationType": "count", **parameters}
    response = client.get(PATH, query)
    assert response.status_code == 200, response.content
    return [(item["aggregatedTimestamp"], item["value"]) for item in response.json()]


def test_the_repeated_hour_is_two_buckets_and_the_day_has_25_hours(client, track):
    track(
        "2024-10-26T21:59:59.999999", "2024-10-26T22:00:00", "2024-10-27T00:15:00", "2024-10-27T00:45:00",
        "2024-10-27T01:15:00", "2024-10-27T02:15:00", "2024-10-27T22:59:59.999999", "2024-10-27T23:00:00",
    )  # fmt: skip

    assert counted(client, "hour", "Europe/Berlin", timestamp="bucket") == [
        ("2024-10-26T21:00:00Z", 1), ("2024-10-26T22:00:00Z", 1), ("2024-10-27T00:00:00Z", 2), ("2024-10-27T01:00:00Z", 1),
        ("2024-10-27T02:00:00Z", 1), ("2024-10-27T22:00:00Z", 1), ("2024-10-27T23:00:00Z", 1),
    ]  # fmt: skip
    assert counted(client, "day", "Europe/Berlin") == [
        ("2024-10-26T21:59:59.999999Z", 1), ("2024-10-26T22:00:00Z", 6), ("2024-10-27T23:00:00Z", 1)
    ]  # fmt: skip


def test_there_is_no_bucket_for_the_missing_hour_and_the_day_has_23(client, track):
    track(
        "2024-03-30T22:59:59", "2024-03-30T23:00:00", "2024-03-31T00:59:59", "2024-03-31T01:00:00",
        "2024-03-31T21:59:59", "2024-03-31T22:00:00",
    )  # fmt: skip

    window = {"tsMin": "2024-03-31T00:00:00Z", "tsMax": "2024-03-31T01:59:59Z"}
    assert counted(client, "hour", "Europe/Berlin", timestamp="bucket", fill="zero", **window) == [
        ("2024-03-31T00:00:00Z", 1), ("2024-03-31T01:00:00Z", 1)
    ]  # fmt: skip
    assert counted(client, "day", "Europe/Berlin", timestamp="bucket") == [
        ("2024-03-29T23:00:00Z", 1), ("2024-03-30T23:00:00Z", 4), ("2024-03-31T22:00:00Z", 1)
    ]  # fmt: skip


def test_half_an_hour_of_summer_time(client, track):
    track(
        "2024-04-06T14:10:00",
        "2024-04-06T14:59:00",
        "2024-04-06T15:00:00",
        "2024-04-06T15:29:00",
        "2024-04-06T15:30:00",
    )

    assert counted(client, "hour", "Australia/Lord_Howe", timestamp="bucket") == [
        ("2024-04-06T14:00:00Z", 2), ("2024-04-06T15:00:00Z", 2), ("2024-04-06T15:30:00Z", 1)
    ]  # fmt: skip
    assert counted(client, "day", "Australia/Lord_Howe", timestamp="bucket") == [("2024-04-06T13:00:00Z", 5)]


@pytest.mark.parametrize(
    ("timezone", "granularity", "buckets"),
    [
        ("UTC", "hour", [("2024-01-01T00:00:00Z", 3), ("2024-01-01T01:00:00Z", 1)]),
        ("Asia/Kolkata", "hour", [("2023-12-31T23:30:00Z", 2), ("2024-01-01T00:30:00Z", 2)]),
        ("Asia/Kathmandu", "hour", [("2023-12-31T23:15:00Z", 1), ("2024-01-01T00:15:00Z", 3)]),
        ("Asia/Kathmandu", "minute", [("2024-01-01T00:14:00Z", 1), ("2024-01-01T00:15:00Z", 1), ("2024-01-01T00:30:00Z", 1), ("2024-01-01T01:00:00Z", 1)]),
        ("Asia/Kathmandu", "day", [("2023-12-31T18:15:00Z", 4)]),
        ("America/New_York", "day", [("2023-12-31T05:00:00Z", 4)]),
        ("America/New_York", "week", [("2023-12-25T05:00:00Z", 4)]),
        ("Europe/Berlin", "week", [("2023-12-31T23:00:00Z", 4)]),
        ("America/New_York", "month", [("2023-12-01T05:00:00Z", 4)]),
        ("Pacific/Kiritimati", "month", [("2023-12-31T10:00:00Z", 4)]),
        ("America/New_York", "year", [("2023-01-01T05:00:00Z", 4)]),
    ],
)  # fmt: skip
def test_buckets_follow_the_calendar_of_the_zone(client, track, timezone, granularity, buckets):
    track("2024-01-01T00:14:59.999999", "2024-01-01T00:15:00", "2024-01-01T00:30:00", "2024-01-01T01:00:00")

    assert counted(client, granularity, timezone, timestamp="bucket") == buckets


def test_local_mean_time_has_odd_seconds(client, track):
    track("1890-01-01T23:06:31", "1890-01-01T23:06:32", "1890-01-01T23:07:31", "1890-01-01T23:07:32")

    assert counted(client, "minute", "Europe/Berlin", timestamp="bucket") == [
        ("1890-01-01T23:05:32Z", 1), ("1890-01-01T23:06:32Z", 2), ("1890-01-01T23:07:32Z", 1)
    ]  # fmt: skip
    assert counted(client, "day", "Europe/Berlin", timestamp="bucket") == [
        ("1889-12-31T23:06:32Z", 1), ("1890-01-01T23:06:32Z", 3)
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["Nowhere", "europe/berlin", "/etc/passwd", "../UTC", "UTC+1", "%00", "é"])
def test_an_unknown_zone_is_refused(client, name):
    response = client.get(f"{PATH}?timezone={name}")

    assert response.status_code == 400
    assert list(response.json()) == ["timezone"]
    assert response.json() == UNKNOWN


def test_an_empty_zone_counts_as_not_given(client, track):
    track("2024-01-01T23:30:00")

    assert counted(client, "day", "", timestamp="bucket") == [("2024-01-01T00:00:00Z", 1)]


@pytest.mark.parametrize(
    ("timestamp", "timezone", "day"),
    [
        (
            "0001-01-01T00:00:00Z",
            "America/New_York",
            "0001-01-01T00:00:00Z",
        ),  # the last of the year before, as far as it is
        ("9999-12-31T23:59:59Z", "Asia/Tokyo", "9999-12-31T15:00:00Z"),  # the first of the year 10000
    ],
)
def test_an_event_whose_date_has_no_year_hinders_no_other(client, track, timestamp, timezone, day):
    track(timestamp.removesuffix("Z"), "2024-01-01T12:00:00")
    other = "2024-01-01T05:00:00Z" if timezone == "America/New_York" else "2023-12-31T15:00:00Z"

    assert counted(client, "day", timezone) == sorted([(timestamp, 1), ("2024-01-01T12:00:00Z", 1)])
    assert counted(client, "day", timezone, timestamp="bucket") == sorted([(day, 1), (other, 1)])


@pytest.mark.parametrize("granularity", ["none", "hour", "day"])
def test_a_window_may_begin_before_the_calendar_where_the_series_does_not(client, track, granularity):
    track("2024-01-01T00:00:00")
    window = {"tsMin": "0001-01-01T00:00:00", "tsMax": "2025-01-01T00:00:00"}

    assert counted(client, granularity, "America/New_York", **window) == [("2024-01-01T00:00:00Z", 1)]
