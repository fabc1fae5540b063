"""One source of time zones: the package tzdata's, whatever the database, the system or the calendar's ends say."""

import json
import logging
import re
import subprocess
import sys
import zoneinfo
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import cycle

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from events.aggregation.items import UnmetBucket
from events.aggregation.reader import Reader
from events.calendar import zones
from events.models import Event
from events.tests.support import service, zone_files
from events.tests.support.clients import client_with
from events.tests.support.examples import IS_THOROUGH
from events.tests.support.responses import body_of
from events.tests.support.zone_files import BEFORE, Oracle
from events.worker import roll_up

client = client_with("aggregation")

PATH = "/api/events/Frontend/pageView"
UNITS = ["minute", "hour", "day", "week", "month", "year"]
FILLS = ["none", "null", "zero", "previous"]
FORMATS = ["json", "csv", "ndjson"]
SECOND, MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)


def spread(outer, inner):
    """All pairs in the thorough run; else every sixth, and others on PostgreSQL."""
    shift = 3 * (connection.vendor == "postgresql")
    return [
        (x, y)
        for row, x in enumerate(outer)
        for column, y in enumerate(inner)
        if IS_THOROUGH or (row + column + shift) % 6 == 0
    ]


def instant(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# By no rules of any place: over midnight and back, in the middle of hours and of minutes, over the date line.
ODD = [
    (BEFORE, -3 * 3600 - 31 * 60),
    (instant("2024-02-10T03:32"), -2 * 3600 - 31 * 60),  # from 00:01 to 01:01
    (instant("2024-02-12T02:32"), -3 * 3600 - 31 * 60),  # from 00:01 to 23:01 the day before
    (instant("2024-02-14T12:00:30"), 3 * 3600 + 20 * 60 + 10),
    (instant("2024-02-20T20:00"), -20 * 3600),
    (instant("2024-02-28T20:00"), 4 * 3600),  # from midnight to midnight: there is no 29th
    (instant("2024-03-31T20:59"), 3 * 3600),
]


@pytest.fixture
def rules(tmp_path):
    """Has Python go by other rules of Berlin's than any database."""
    zone_files.write(tmp_path, "Europe/Berlin", ODD)
    zoneinfo.reset_tzpath(to=[tmp_path])
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath(to=())
    zoneinfo.ZoneInfo.clear_cache()


def store(events):
    Event.objects.bulk_create(
        Event(namespace="Frontend", name="pageView", timestamp=timestamp, value=value) for timestamp, value in events
    )


def store_half_rolled_up(events):
    store(events[::2])
    roll_up.take_step()
    store(events[1::2])


def around(change):
    """Events on both sides of a change, near it and not so near; their values tell any sum of them."""
    distances = [MICROSECOND, SECOND, 29 * SECOND, 61 * SECOND, timedelta(minutes=31), timedelta(minutes=59)]
    distances += [timedelta(hours=1, minutes=1), timedelta(hours=5), timedelta(hours=23, minutes=30), timedelta(days=3)]
    instants = [change, *(change + distance for distance in distances), *(change - distance for distance in distances)]
    return [(at, float(2**number)) for number, at in enumerate(instants)]


def items(response, form):
    assert response.status_code == 200, response.content
    content = body_of(response)
    if form == "csv":
        lines = [line.split(",") for line in content.decode().splitlines()]
        return [(timestamp, float(value) if value else None) for timestamp, value in lines[1:]]
    found = json.loads(content) if form == "json" else [json.loads(line) for line in content.splitlines()]
    return [(item["aggregatedTimestamp"], item["value"]) for item in found]


def assert_as_plain_python(client, zone, changes, change, events, granularity, fills=FILLS, forms=FORMATS):
    """Over a window around the change, and over one that begins in what the clocks are about to show again."""
    oracle, streamed = Oracle(changes, granularity), cycle(forms[1:])
    reach = timedelta(**{"minute": {"hours": 2}, "hour": {"hours": 30}}.get(granularity, {"days": 40}))
    for first, last in [(change - reach, change + reach), (change - 30 * SECOND, change + timedelta(minutes=40))]:
        window = {"tsMin": first.isoformat(), "tsMax": last.isoformat(), "timezone": zone, "granularity": granularity}
        for fill in fills:
            for label in ("first", "bucket"):
                expected = oracle.items(events, first, last, fill, label)
                query = {**window, "fill": fill, "timestamp": label, "aggregationType": "sum"}
                for form in forms if IS_THOROUGH else ["json", next(streamed)]:
                    assert items(client.get(PATH, {**query, "format": form}), form) == expected, (query, form)


@pytest.mark.parametrize(("change", "granularity"), spread([change for change, _ in ODD[1:]], UNITS))
def test_the_rules_are_pythons_where_the_database_has_others(client, rules, granularity, change):
    events = around(change)
    store_half_rolled_up(events)

    assert_as_plain_python(client, "Europe/Berlin", ODD, change, events, granularity)


CHANGES = [
    ("America/St_Johns", "1988-10-30T01:31"),  # from 00:01 to 22:01 the day before
    ("America/St_Johns", "2005-10-30T02:31"),  # from 00:01 to 23:01 the day before
    ("America/St_Johns", "2005-04-03T03:31"),
    ("Asia/Gaza", "2010-03-26T22:01"),
    ("America/Juneau", "1867-10-19T00:31:13"),  # a day back, in the afternoon
    ("Pacific/Kwajalein", "1969-09-30T13:00"),  # a day back but for an hour
    ("Pacific/Apia", "2011-12-30T10:00"),
    ("Australia/Lord_Howe", "2008-04-05T15:00"),
    ("America/Sao_Paulo", "2018-11-04T03:00"),
    ("America/Havana", "2006-10-29T05:00"),
    ("Europe/Dublin", "1916-10-01T02:25:21"),
    ("Africa/Monrovia", "1972-01-07T00:44:30"),
]


@pytest.mark.parametrize(("zone_and_change", "granularity"), spread(CHANGES, UNITS), ids=str)
def test_a_change_of_the_clocks_anywhere_is_as_in_plain_python(client, zone_and_change, granularity):
    zone, change = zone_and_change
    changes, change = zone_files.read(zone), instant(change)
    assert change in dict(changes)
    events = around(change)
    store_half_rolled_up(events)

    assert_as_plain_python(client, zone, changes, change, events, granularity, ["none", "null"], ["json", "csv"])


@pytest.mark.parametrize(
    ("zone", "granularity"),
    spread(["America/Vancouver", "America/Tijuana", "Europe/Chisinau", "America/Coyhaique"], UNITS),
)
def test_no_event_vanishes_where_the_servers_rules_are_older_or_newer(client, zone, granularity):
    first = instant("2026-12-01T08:00")
    hours = [first + timedelta(hours=hour) for hour in range(480)]
    store([(hour, 1) for hour in hours])
    query = {"granularity": granularity, "aggregationType": "count", "timezone": zone}

    for fill in ("none", "null", "zero"):
        for label in ("first", "bucket"):
            found = items(client.get(PATH, {**query, "fill": fill, "timestamp": label}), "json")
            assert sum(count or 0 for _, count in found) == 480
            if granularity == "day":
                dates = Counter(hour.astimezone(zoneinfo.ZoneInfo(zone)).date() for hour in hours)
                assert [count for _, count in found] == list(dates.values())


def test_the_database_is_never_told_a_zone(client, make_event):
    make_event()
    roll_up.take_step()
    make_event(timestamp="2021-11-12T11:10:00")

    with CaptureQueriesContext(connection) as queries:
        for granularity in UNITS:
            for zone in ("Asia/Kathmandu", "America/St_Johns"):
                for form in FORMATS:
                    found = items(
                        client.get(PATH, {"granularity": granularity, "timezone": zone, "format": form}), form
                    )
                    assert len(found) == 2

    assert len(queries) > 100
    # SQLite has no rules of its own, and asks Python for ours
    sent = [re.sub(r"EVENTS_BUCKET_START\([^()]+\)", "", query["sql"]) for query in queries]
    assert [sql for sql in sent if "Kathmandu" in sql or "St_Johns" in sql] == []


@pytest.mark.only_on("sqlite")
def test_the_changes_are_those_of_the_files():
    odd = []
    for number, name in enumerate(sorted(zones.names())):
        if number % 12 == 0 or name in dict(CHANGES):
            changes = zone_files.read(name)
            found = zones._runs_of_years(zones.zone_of(name) if name != "UTC" else UTC, 1800, changes[-1][0].year)
            end = changes[-1][0].timestamp() * 1_000_000
            pairs = [(run.start, run.offset // 1_000_000) for run in found[1:] if run.start <= end]
            if pairs != [(int(at.timestamp()) * 1_000_000, offset) for at, offset in changes[1:]]:
                odd.append(name)
            assert min(zone_files.gaps(changes), default=timedelta.max) > timedelta(days=6)

    assert odd == []


# What there is to choose from.


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize(
    "name",
    ["localtime", "posixrules", "Factory", "posix/Europe/Berlin", "right/Europe/Berlin", "Europe/../Europe/Berlin",
     "tzdata.zi", "zone.tab", "leapseconds", "posix", "Europe", "EUROPE/BERLIN", "Mars/Phobos"],
)  # fmt: skip
def test_a_name_of_the_machines_is_refused(client, name):
    response = client.get(PATH, {"timezone": name})

    assert (response.status_code, response.json()) == (
        400,
        {"timezone": ["Must be the IANA name of a time zone, such as Europe/Berlin."]},
    )


@pytest.mark.only_on("sqlite")
def test_what_lies_in_the_systems_directory_is_neither_read_nor_offered(tmp_path):
    """As with zone files of years ago, of another kind, and with one that links to this machine's zone."""
    zone_files.write(tmp_path, "Europe/Berlin", [(BEFORE, 5 * 3600)])
    for name in ("localtime", "Mars/Phobos"):
        zone_files.write(tmp_path, name, [(BEFORE, 7 * 3600)])
    code = """if True:
        import json, django; django.setup()
        from zoneinfo import ZoneInfo, available_timezones
        from datetime import datetime, timezone
        from events.fields import TimeZoneField
        from events.calendar import zones
        summer = datetime(2024, 7, 1, tzinfo=timezone.utc)
        print(json.dumps([
            str(summer.astimezone(TimeZoneField().to_internal_value("Europe/Berlin"))),
            sorted(zones.names() & {"localtime", "Mars/Phobos"}), "Mars/Phobos" in available_timezones(),
            len(zones.names()),
        ]))
    """
    env = service.environment(tmp_path, PYTHONTZPATH=tmp_path, DJANGO_SETTINGS_MODULE="tracking_api.settings")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=service.PROJECT_DIR, env=env, capture_output=True, text=True
    )

    assert done.stderr == ""
    assert json.loads(done.stdout) == ["2024-07-01 02:00:00+02:00", [], False, len(zones.names())]


# Both ends of the calendar.

ENDS = [
    instant("0001-01-01"),
    instant("0001-01-02T05:00"),
    instant("9999-12-30T18:00"),
    instant("9999-12-31T23:59:59.999999"),
]
FARTHEST = ["Pacific/Kiritimati", "Etc/GMT-14", "Etc/GMT+12", "Asia/Manila", "America/Juneau", "Europe/Paris", "UTC"]


@pytest.mark.only_on("sqlite")
def test_buckets_reach_both_ends_of_the_calendar_in_every_zone():
    from events.calendar.granularity import Granularity

    for name in sorted(zones.names())[:: 1 if IS_THOROUGH else 5]:
        zone = zones.zone_of(name)
        for at in ENDS:
            for unit in UNITS:
                start, end = Granularity(unit).start_of(at, zone), Granularity(unit).end_of(at, zone)
                assert start <= at <= end, (name, at, unit)
                assert start == ENDS[0] or Granularity(unit).start_of(start, zone) == start, (name, at, unit)
                day = timedelta(hours=3) if unit == "minute" else timedelta(days=1)
                first, last = (at, at + day) if at < ENDS[2] else (at - day, at)
                starts = list(Granularity(unit).starts(first, last, zone))
                assert starts == sorted(set(starts))
                assert {Granularity(unit).start_of(first, zone), Granularity(unit).start_of(last, zone)} <= set(starts)
                assert abs(Granularity(unit).count_buckets(first, last, zone) - len(starts)) <= 1, (name, at, unit)


@pytest.mark.parametrize(("zone", "granularity"), spread(FARTHEST, [*UNITS, "none"]))
def test_events_at_both_ends_are_answered_in_every_zone(client, zone, granularity):
    events = [(at, float(2**number)) for number, at in enumerate([*ENDS, instant("2024-02-29T12:00")])]
    store_half_rolled_up(events)
    query = {"granularity": granularity, "timezone": zone, "aggregationType": "sum"}

    for label in ("first", "bucket"):
        for form in FORMATS:
            found = items(client.get(PATH, {**query, "timestamp": label, "format": form}), form)
            assert sum(value for _, value in found) == 31.0
            assert found == sorted(found)
    for at, value in (events[0], events[3]):
        window = {"tsMin": at.isoformat(), "tsMax": at.isoformat()}
        for fill in FILLS:
            response = client.get(PATH, {**query, **window, "fill": fill})
            assert items(response, "json") == [(at.isoformat().replace("+00:00", "Z"), value)]


@pytest.mark.parametrize(
    ("zone", "granularity", "expected"),
    [
        ("America/New_York", "day", [("0001-01-01T00:00:00Z", 1.0), ("0001-01-02T04:56:02Z", 2.0), ("9999-12-30T05:00:00Z", 4.0), ("9999-12-31T05:00:00Z", 8.0)]),
        ("America/New_York", "year", [("0001-01-01T00:00:00Z", 1.0), ("0001-01-01T04:56:02Z", 2.0), ("9999-01-01T05:00:00Z", 12.0)]),
        ("Europe/Berlin", "hour", [("0001-01-01T00:00:00Z", 1.0), ("0001-01-02T04:06:32Z", 2.0), ("9999-12-30T18:00:00Z", 4.0), ("9999-12-31T23:00:00Z", 8.0)]),
        ("Europe/Berlin", "year", [("0001-01-01T00:00:00Z", 3.0), ("9998-12-31T23:00:00Z", 4.0), ("9999-12-31T23:00:00Z", 8.0)]),
        ("Asia/Tokyo", "week", [("0001-01-01T00:00:00Z", 3.0), ("9999-12-26T15:00:00Z", 12.0)]),
        ("Asia/Tokyo", "month", [("0001-01-01T00:00:00Z", 3.0), ("9999-11-30T15:00:00Z", 4.0), ("9999-12-31T15:00:00Z", 8.0)]),
    ],
)  # fmt: skip
def test_a_bucket_that_starts_before_the_first_year_starts_with_it(client, zone, granularity, expected):
    store_half_rolled_up([(at, float(2**number)) for number, at in enumerate(ENDS)])
    query = {"granularity": granularity, "timezone": zone, "aggregationType": "sum", "timestamp": "bucket"}

    for form in FORMATS:
        assert items(client.get(PATH, {**query, "format": form}), form) == expected


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Tokyo"])
def test_a_window_from_the_first_day_is_answered_or_refused_for_its_length(client, make_event, zone):
    make_event(timestamp="2024-01-01T12:00:00")
    query = {"tsMin": "0001-01-01T00:00:00Z", "timezone": zone, "fill": "zero", "aggregationType": "count"}

    years = client.get(PATH, {**query, "granularity": "year"}).json()
    assert [item["value"] for item in years] == [0] * (len(years) - 1) + [1]
    assert (years[0]["aggregatedTimestamp"], len(years)) == (
        "0001-01-01T00:00:00Z",
        2025 if zone == "America/New_York" else 2024,
    )
    for granularity, coarser in [("minute", "month"), ("hour", "month"), ("day", "month"), ("week", "month")]:
        response = client.get(PATH, {**query, "granularity": granularity})
        advice = f"More than 100000 items; choose a shorter window, or a coarser granularity such as {coarser}."
        assert (response.status_code, response.json()) == (400, {"granularity": [advice]})


# What fits no bucket.


@pytest.mark.parametrize(
    ("fill", "label", "timestamps"),
    [
        ("zero", "first", ["2024-02-28T10:00:00Z", "2024-02-28T11:00:00Z"]),  # both in one day
        ("null", "bucket", ["2024-03-05T00:00:00Z"]),  # after the window
        ("previous", "first", ["2024-02-01T00:00:00Z"]),  # before it
        ("none", "bucket", ["2024-02-28T10:00:00Z", "2024-02-28T11:00:00Z"]),
    ],
)
@pytest.mark.parametrize("form", FORMATS)
def test_what_fits_no_bucket_is_an_error_and_not_left_out(
    client, make_event, monkeypatch, caplog, fill, label, timestamps, form
):
    make_event(timestamp="2024-02-28T10:00:00")
    make_event(timestamp="2024-03-03T10:00:00")
    found = [(timestamp, 1.0) for timestamp in timestamps]
    monkeypatch.setattr(Reader, "read", lambda *_, **__: found)
    monkeypatch.setattr(Reader, "iterate", lambda *_, **__: iter(found))
    client.raise_request_exception = False
    query = {"granularity": "day", "fill": fill, "timestamp": label, "format": form}

    with caplog.at_level(logging.ERROR):
        try:
            response = client.get(PATH, {**query, "tsMin": "2024-02-27", "tsMax": "2024-03-03"})
            content = response.content if form == "json" else b"".join(response.streaming_content)
        except UnmetBucket as error:
            assert form != "json"
            content = str(error).encode()
        else:
            assert (form, response.status_code) == ("json", 500), content
    assert b"No day of UTC has the events from" in content or "No day of UTC has the events from" in caplog.text
