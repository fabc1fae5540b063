"""Calendar units in any time zone."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.calendar.granularity import MICROSECOND, Granularity

UNITS = [unit for unit in Granularity if unit != "none"]


def zone(name):
    return UTC if name == "UTC" else ZoneInfo(name)


def instant(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("unit", "name", "first", "last", "starts"),
    [
        ("minute", "UTC", "2024-02-28T23:59:59.999999", "2024-02-29T00:00:00", ["2024-02-28T23:59", "2024-02-29T00:00"]),
        ("hour", "UTC", "2024-02-29T00:00", "2024-02-29T01:59:59.999999", ["2024-02-29T00:00", "2024-02-29T01:00"]),
        ("day", "UTC", "2024-02-28T12:00", "2024-03-01T00:00", ["2024-02-28T00:00", "2024-02-29T00:00", "2024-03-01T00:00"]),
        ("week", "UTC", "2021-01-03T23:59", "2021-01-04T00:00", ["2020-12-28T00:00", "2021-01-04T00:00"]),
        ("month", "UTC", "2023-12-31T23:59", "2024-02-01T00:00", ["2023-12-01T00:00", "2024-01-01T00:00", "2024-02-01T00:00"]),
        ("year", "UTC", "2023-12-31T23:59", "2024-01-01T00:00", ["2023-01-01T00:00", "2024-01-01T00:00"]),
        # the clocks go back: the hour from 2 to 3 is two buckets, and the day has 25 hours
        ("hour", "Europe/Berlin", "2024-10-26T23:30", "2024-10-27T02:30", ["2024-10-26T23:00", "2024-10-27T00:00", "2024-10-27T01:00", "2024-10-27T02:00"]),
        ("day", "Europe/Berlin", "2024-10-26T21:59", "2024-10-27T23:00", ["2024-10-25T22:00", "2024-10-26T22:00", "2024-10-27T23:00"]),
        # they go forward: there is no hour from 2 to 3, and the day has 23
        ("hour", "Europe/Berlin", "2024-03-31T00:30", "2024-03-31T01:30", ["2024-03-31T00:00", "2024-03-31T01:00"]),
        ("day", "Europe/Berlin", "2024-03-31T00:00", "2024-04-01T00:00", ["2024-03-30T23:00", "2024-03-31T22:00"]),
        ("week", "Europe/Berlin", "2024-03-25T00:00", "2024-04-01T00:00", ["2024-03-24T23:00", "2024-03-31T22:00"]),
        ("month", "Europe/Berlin", "2024-03-15T00:00", "2024-04-15T00:00", ["2024-02-29T23:00", "2024-03-31T22:00"]),
        ("year", "America/New_York", "2024-01-01T04:59", "2024-01-01T05:00", ["2023-01-01T05:00", "2024-01-01T05:00"]),
        ("hour", "Asia/Kolkata", "2024-01-01T00:29", "2024-01-01T00:30", ["2023-12-31T23:30", "2024-01-01T00:30"]),
        ("day", "Asia/Kathmandu", "2024-01-01T18:14:59", "2024-01-01T18:15", ["2023-12-31T18:15", "2024-01-01T18:15"]),
        ("minute", "Asia/Kathmandu", "2024-01-01T18:14:59", "2024-01-01T18:15", ["2024-01-01T18:14", "2024-01-01T18:15"]),
        # half an hour of summer time: the repeated half hour is a bucket of its own, the skipped one shortens another
        ("hour", "Australia/Lord_Howe", "2024-04-06T14:00", "2024-04-06T16:30", ["2024-04-06T14:00", "2024-04-06T15:00", "2024-04-06T15:30", "2024-04-06T16:30"]),
        ("hour", "Australia/Lord_Howe", "2024-10-05T14:30", "2024-10-05T16:00", ["2024-10-05T14:30", "2024-10-05T15:30", "2024-10-05T16:00"]),
        # they go forward at a minute past midnight: that minute is a bucket, and the next hour starts with its second one
        ("hour", "America/St_Johns", "2000-04-02T03:30", "2000-04-02T04:29:59", ["2000-04-02T03:30", "2000-04-02T03:31"]),
        # a day that starts at one o'clock, one that a zone leaves out, one whose first hour is repeated
        ("day", "America/Sao_Paulo", "2018-11-03T12:00", "2018-11-05T12:00", ["2018-11-03T03:00", "2018-11-04T03:00", "2018-11-05T02:00"]),
        ("day", "Pacific/Apia", "2011-12-29T12:00", "2011-12-31T12:00", ["2011-12-29T10:00", "2011-12-30T10:00", "2011-12-31T10:00"]),
        ("day", "America/Havana", "2024-11-03T04:00", "2024-11-04T05:00", ["2024-11-03T04:00", "2024-11-04T05:00"]),
        ("year", "UTC", "0001-01-01T00:00", "0002-01-01T00:00", ["0001-01-01T00:00", "0002-01-01T00:00"]),
        ("year", "UTC", "9999-06-01T00:00", "9999-12-31T23:59:59.999999", ["9999-01-01T00:00"]),
        ("month", "UTC", "9999-12-31T00:00", "9999-12-31T23:59:59.999999", ["9999-12-01T00:00"]),
        ("minute", "UTC", "9999-12-31T23:59", "9999-12-31T23:59:59.999999", ["9999-12-31T23:59"]),
    ],
)  # fmt: skip
def test_buckets_follow_the_calendar_of_the_zone(unit, name, first, last, starts):
    first, last = instant(first), instant(last)

    assert list(Granularity(unit).starts(first, last, zone(name))) == [instant(start) for start in starts]
    assert Granularity(unit).start_of(first, zone(name)) == instant(starts[0])
    assert Granularity(unit).start_of(last, zone(name)) == instant(starts[-1])
    assert abs(Granularity(unit).count_buckets(first, last, zone(name)) - len(starts)) <= 1


instants = st.datetimes(datetime(1860, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))
names = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "Africa/Monrovia"]
)  # fmt: skip


@given(instants, st.integers(0, 200), st.sampled_from(UNITS), names)
def test_starts_are_the_starts_of_what_lies_between(first, length, unit, name):
    last = first + length * timedelta(
        **{"minutes": 1} if unit == "minute" else {"hours": 7} if unit == "hour" else {"days": 5}
    )
    starts = list(Granularity(unit).starts(first, last, zone(name)))

    assert starts[0] <= first <= last
    assert Granularity(unit).start_of(first, zone(name)) in starts[:2]
    for start in starts:
        assert start <= Granularity(unit).end_of(start, zone(name))
        assert Granularity(unit).start_of(Granularity(unit).end_of(start, zone(name)), zone(name)) == start
    assert starts == sorted(set(starts))
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        assert Granularity(unit).start_of(start, zone(name)) == start
        if following:
            assert Granularity(unit).start_of(following - MICROSECOND, zone(name)) == start
    assert (
        Granularity(unit).start_of(last, zone(name)) in starts[-2:]
    )  # the day before once more, where clocks went back
    assert abs(Granularity(unit).count_buckets(first, last, zone(name)) - len(starts)) <= 2


@pytest.mark.parametrize(
    ("name", "year", "unit", "hours", "minutes"),
    [
        ("UTC", 2024, "minute", False, True),
        ("UTC", 2024, "hour", True, True),
        ("UTC", 2024, "none", False, False),
        ("UTC", 1, "year", True, True),
        ("Europe/Berlin", 2024, "hour", True, True),
        ("Europe/Berlin", 2024, "day", True, True),
        ("Europe/Berlin", 1890, "day", False, False),  # local mean time, 53 minutes and 28 seconds ahead
        ("Asia/Kolkata", 2024, "month", False, True),
        ("Asia/Kathmandu", 2024, "hour", False, True),
        ("Australia/Lord_Howe", 2024, "hour", False, True),
        ("Asia/Gaza", 2010, "year", False, True),  # the clocks changed a minute after midnight
        ("Asia/Gaza", 2024, "year", True, True),
        ("Europe/Berlin", 9999, "day", True, True),
    ],
)
def test_stored_buckets_compose_those_whose_edges_they_never_straddle(name, year, unit, hours, minutes):
    first, last = datetime(year, 2, 1, tzinfo=UTC), datetime(year, 11, 30, tzinfo=UTC)

    assert Granularity(unit).composes(3600, first, last, zone(name)) is hours
    assert Granularity(unit).composes(60, first, last, zone(name)) is minutes


@pytest.mark.parametrize(
    ("name", "first", "unit", "seconds", "since"),
    [
        ("UTC", "1880-01-01", "hour", 3600, "1880-01-01"),
        ("UTC", "1880-01-01", "minute", 3600, None),
        ("Europe/Berlin", "1880-01-01", "day", 3600, "1893-04-01"),
        ("Europe/Berlin", "1893-04-01", "day", 3600, "1893-04-01"),
        ("Europe/Paris", "1880-01-01", "hour", 3600, "1911-03-11"),  # at 23:50:39 the day before
        ("Europe/Paris", "1880-01-01", "minute", 60, "1911-03-11"),
        ("Asia/Singapore", "1880-01-01", "day", 3600, "1981-12-31T16:00"),
        ("Asia/Singapore", "1880-01-01", "day", 60, "1905-05-31T18:00"),
        ("Europe/London", "2024-01-01", "day", 86_400, "2024-10-27T01:00"),
        ("Asia/Kolkata", "1880-01-01", "day", 3600, None),
        ("Asia/Kolkata", "2000-01-01", "day", 60, "2000-01-01"),
    ],
)
def test_it_is_known_since_when_stored_buckets_compose_others(name, first, unit, seconds, since):
    start, last = datetime.fromisoformat(first).replace(tzinfo=UTC), datetime(2024, 11, 30, tzinfo=UTC)

    expected = since and datetime.fromisoformat(since).replace(tzinfo=UTC)
    assert Granularity(unit).composed_since(seconds, start, last, zone(name)) == expected
