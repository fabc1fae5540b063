"""Times as people write them: each is the same instant in a body, a form, an import and a query, or is refused in all."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from io import StringIO
from math import floor
from urllib.parse import urlencode

import pytest
from django.core.management import CommandError, call_command
from django.http import QueryDict
from hypothesis import example, given
from hypothesis import strategies as st

from events.calendar import timestamps, zones
from events.calendar.granularity import MICROSECOND, first_of_day, last_of_day
from events.ingest import decoding
from events.models import Event
from events.tests.support.clients import client_with
from events.tests.support.errors import NO_TIMESTAMP
from events.tests.support.rolling_up import roll_up_all

client = client_with("write aggregation")

PATH = "/api/events/Shop/order"
ISO = [
    ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
    ("2016-12-31 23:59:60", "2017-01-01T00:00:00Z"),
    ("20161231T235960Z", "2017-01-01T00:00:00Z"),
    ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00Z"),  # of RFC 3339
    ("2017-01-01T05:29:60+0530", "2017-01-01T00:00:00Z"),
    ("2016-12-31T23:59:60.25Z", "2017-01-01T00:00:00.250000Z"),
    ("2020-11-12T24:00:00Z", "2020-11-13T00:00:00Z"),
    ("2020-12-31T24:00", "2021-01-01T00:00:00Z"),
    ("20200228T240000,000Z", "2020-02-29T00:00:00Z"),
    ("2020-11-12T24+01:00", "2020-11-12T23:00:00Z"),
    ("2020-11-12T11:10:00+0000", "2020-11-12T11:10:00Z"),
    ("2020-11-12T11:10:00 +0100", "2020-11-12T10:10:00Z"),
    ("2020-11-12 11:10:00.5 -01:00", "2020-11-12T12:10:00.500000Z"),
    ("2020-11-12 11:10:00 Z", "2020-11-12T11:10:00Z"),
    ("2020-317T11:10:00Z", "2020-11-12T11:10:00Z"),
    ("2020317T111000Z", "2020-11-12T11:10:00Z"),
    ("2020-366T24:00:00 +00:00", "2021-01-01T00:00:00Z"),
    ("0001-01-01T24:00+01:00", "0001-01-01T23:00:00Z"),
    ("2019-001T00:00:00.0000005", "2019-01-01T00:00:00.000001Z"),
    ("2020-11-12T11:10:00.1234565Z", "2020-11-12T11:10:00.123457Z"),
    ("2020-11-12T11:10:00.12345649999999999999999Z", "2020-11-12T11:10:00.123456Z"),
    ("1969-12-31T23:59:59.9999995Z", "1970-01-01T00:00:00Z"),
]
# Digits that a double keeps, and those that it doesn't: by it, the third would be rounded down and the fourth up.
NUMBERS = [
    ("1605179400.1234565", "2020-11-12T11:10:00.123457Z"),
    ("1605179400.12345649999", "2020-11-12T11:10:00.123456Z"),
    ("1605179402.1234575", "2020-11-12T11:10:02.123458Z"),
    ("1605179400.12345649999999999999", "2020-11-12T11:10:00.123456Z"),
    ("1605179400123.4565", "2020-11-12T11:10:00.123457Z"),
    ("99999999999.99999949999999", "5138-11-16T09:46:39.999999Z"),
    ("-0.0000005", "1970-01-01T00:00:00Z"),
    ("-0.0000015", "1969-12-31T23:59:59.999999Z"),
    ("-1605179400.1234565", "1919-02-19T12:49:59.876544Z"),
]

SMALL = [
    ("+1", "1970-01-01T00:00:01Z"),
    ("-5", "1969-12-31T23:59:55Z"),
    ("+2020", "1970-01-01T00:33:40Z"),
    ("+44147.46", "1970-01-01T12:15:47.460000Z"),
    ("2020.5", "1970-01-01T00:33:40.500000Z"),
    ("0.0", "1970-01-01T00:00:00Z"),
    ("31536000", "1971-01-01T00:00:00Z"),
    ("40001312", "1971-04-08T23:28:32Z"),
    ("160517940", "1975-02-01T20:19:00Z"),
]


def event_of(timestamp):
    return f'{{"namespace":"Shop","name":"order","timestamp":{timestamp},"value":1}}'


def imported(path, text):
    """What an import of one line gives: nothing, or what it says of the line."""
    path.write_text(text)
    try:
        call_command("import_events", path, stdout=StringIO(), stderr=StringIO())
    except CommandError as error:
        return str(error)
    return None


def stored():
    """The only timestamp of everything that is stored, which is deleted; and how often."""
    found = [timestamps.to_text(event.timestamp) for event in Event.objects.all()]
    Event.objects.all().delete()
    assert len(set(found)) == 1
    return found[0], len(found)


@pytest.mark.parametrize(
    ("text", "instant"), [(json.dumps(text), instant) for text, instant in ISO] + NUMBERS, ids=lambda text: text
)
def test_an_instant_is_the_same_in_all_json(db, client, tmp_path, text, instant):
    event = event_of(text)
    answers = [
        client.post("/api/track/", event, content_type="application/json"),
        client.post("/api/track/", f"[{event}]", content_type="application/json"),
        client.post("/api/track/", f"{event}\n{event_of(1)}", content_type="application/x-ndjson"),
    ]

    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert answers[0].json() == {"namespace": "Shop", "name": "order", "timestamp": instant, "value": 1.0}
    Event.objects.filter(timestamp=timestamps.from_unix(1)).delete()
    assert imported(tmp_path / "events.ndjson", f"{event}\n") is None
    assert stored() == (instant, 4)


@pytest.mark.parametrize(("text", "instant"), ISO + NUMBERS + SMALL, ids=lambda text: text)
def test_an_instant_is_the_same_in_all_texts(db, client, tmp_path, text, instant):
    form = {"namespace": "Shop", "name": "order", "timestamp": text, "value": "1"}
    answers = [
        client.post("/api/track/", urlencode(form), content_type="application/x-www-form-urlencoded"),
        client.post("/api/track/", form, format="multipart"),
    ]

    stored_event = {"namespace": "Shop", "name": "order", "timestamp": instant, "value": 1.0}
    assert [(answer.status_code, answer.json()) for answer in answers] == [(201, stored_event)] * 2
    header = "namespace,name,timestamp,value\n"
    assert imported(tmp_path / "events.csv", f'{header}Shop,order,"{text}",1\n') is None
    for window in [{"tsMin": text}, {"tsMax": text}, {"tsMin": text, "tsMax": text}]:
        answer = client.get(PATH, {**window, "aggregationType": "count"})
        assert (answer.status_code, answer.json()) == (200, [{"aggregatedTimestamp": instant, "value": 3}])
    assert stored() == (instant, 3)


@pytest.mark.only_on("sqlite")
@given(
    st.integers(-(10**10), 3 * 10**9) | st.integers(10**11, 2 * 10**14) | st.integers(-6 * 10**13, -(10**11) - 1),
    st.from_regex("[0-9]{1,20}", fullmatch=True) | st.sampled_from(["5", "1234565", "12345649999999999999", "4445"]),
)
@example(1605179402, "1234575")
@example(-1, "0000005")
def test_every_number_is_rounded_half_up_by_its_digits(whole, fraction):
    text = f"{whole}.{fraction}"
    factor = 10**6 if abs(Fraction(text)) < 10**11 else 10**3
    expected = floor(Fraction(text) * factor + Fraction(1, 2))
    signed = text if whole < 0 else f"+{text}"
    line = event_of(text).encode()

    assert timestamps.microseconds_of_unix(Decimal(text)) == expected
    assert timestamps.microseconds_of(timestamps.from_text(signed)) == expected
    assert [row.microseconds for row in decoding.decode_json(line).rows] == [expected]
    assert [row.microseconds for row in decoding.decode_json(b"[%s,%s]" % (line, line)).rows] == [expected] * 2
    assert [row.microseconds for row in decoding._validate_all([decoding.load_json(line)])] == [expected]


def meant(text, reading, written, unix):
    return (
        f"“{text}” may mean {reading}, or unix time, {unix}. Write {written} for the first, +{text} (in a URL "
        f"%2B{text}) for the second."
    )


AMBIGUOUS = [
    ("2020", "the year 2020", "2020-01-01", "1970-01-01T00:33:40Z"),
    ("202011", "the month 2020-11", "2020-11-01", "1970-01-03T08:06:51Z"),
    ("2020317", "the date 2020-317", "2020-317", "1970-01-24T09:11:57Z"),
    ("20201112", "the date 2020-11-12", "2020-11-12", "1970-08-22T19:25:12Z"),
    ("99991231", "the date 9999-12-31", "9999-12-31", "1973-03-03T07:20:31Z"),
    ("44147.46", "a spreadsheet's day, 2020-11-12T11:02:24Z", "2020-11-12T11:02:24Z", "1970-01-01T12:15:47.460000Z"),
    ("44147", "a spreadsheet's day, 2020-11-12T00:00:00Z", "2020-11-12T00:00:00Z", "1970-01-01T12:15:47Z"),
    ("0", "a part of a date", "a whole one such as 2020-11-12", "1970-01-01T00:00:00Z"),
    ("31535999", "a part of a date", "a whole one such as 2020-11-12", "1970-12-31T23:59:59Z"),
    ("00000000000000000005", "a part of a date", "a whole one such as 2020-11-12", "1970-01-01T00:00:05Z"),
]


@pytest.mark.parametrize(("text", "reading", "written", "unix"), AMBIGUOUS)
def test_digits_that_may_mean_a_date_are_told_both_readings(db, client, tmp_path, text, reading, written, unix):
    said = meant(text, reading, written, unix)
    form = {"namespace": "Shop", "name": "order", "timestamp": text, "value": "1"}

    answers = [client.post("/api/track/", form, format="multipart")]
    answers += [client.get(PATH, {end: text}) for end in ("tsMin", "tsMax")]
    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (400, {field: [said]}) for field in ("timestamp", "tsMin", "tsMax")
    ]
    header = "namespace,name,timestamp,value\n"
    path = tmp_path / "events.csv"
    assert imported(path, f"{header}Shop,order,{text},1\n") == (
        f"{path}: Line 2: timestamp: {said} The lines before it are imported."
    )
    with pytest.raises(CommandError, match=f"argument --to: “{text}” may mean {reading}, or unix time"):
        call_command("export_events", "-", "--to", text)
    number = client.post("/api/track/", event_of(text.lstrip("0") or "0"), content_type="application/json")
    assert (number.status_code, number.json()["timestamp"]) == (201, unix)
    quoted = client.post("/api/track/", event_of(f'"{text}"'), content_type="application/json")
    assert (quoted.status_code, quoted.json()) == (400, {"timestamp": [NO_TIMESTAMP]})


# Days as the ends of a window.


def window_of(client, **query):
    answer = client.get(PATH, {"granularity": "none", "aggregationType": "count", **query})
    assert answer.status_code == 200, answer.content
    return [item["aggregatedTimestamp"] for item in answer.json()]


def edges(make_event, start, end):
    """An event at each end of a day, and just beyond it."""
    first, last = (datetime.fromisoformat(each) for each in (start, end))
    instants = [first - MICROSECOND, first, last - MICROSECOND, last]
    for instant in instants:
        make_event(namespace="Shop", name="order", timestamp=instant.isoformat())
    return [timestamps.to_text(instant) for instant in instants]


@pytest.mark.parametrize("rolled_up", [False, True])
@pytest.mark.parametrize(
    ("zone", "day", "start", "end"),
    [
        (None, "2020-11-12", "2020-11-12T00:00:00Z", "2020-11-13T00:00:00Z"),
        ("UTC", "2020-W46-4", "2020-11-12T00:00:00Z", "2020-11-13T00:00:00Z"),
        ("Europe/Berlin", "2020-11-12", "2020-11-11T23:00:00Z", "2020-11-12T23:00:00Z"),
        ("Europe/Berlin", "2020-317", "2020-11-11T23:00:00Z", "2020-11-12T23:00:00Z"),
        ("Europe/Berlin", "2020-03-29", "2020-03-28T23:00:00Z", "2020-03-29T22:00:00Z"),  # of 23 hours
        ("Europe/Berlin", "2020-10-25", "2020-10-24T22:00:00Z", "2020-10-25T23:00:00Z"),  # of 25
        ("Asia/Kathmandu", "2020-11-12", "2020-11-11T18:15:00Z", "2020-11-12T18:15:00Z"),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"),  # without a midnight
        ("America/Sao_Paulo", "2018-11-03", "2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z"),
        ("America/Sao_Paulo", "2018-02-17", "2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z"),  # 23:00 comes twice
        ("America/Havana", "2020-11-01", "2020-11-01T04:00:00Z", "2020-11-02T05:00:00Z"),  # midnight comes twice
        ("Pacific/Apia", "2011-12-29", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
        ("America/St_Johns", "2010-11-06", "2010-11-06T02:30:00Z", "2010-11-07T03:30:00Z"),  # comes again after 00:01
    ],
)  # fmt: skip
def test_a_date_alone_is_a_whole_day_of_the_zone(client, make_event, rolled_up, zone, day, start, end):
    before, first, last, after = edges(make_event, start, end)
    if rolled_up:
        roll_up_all()
    given_zone = {"timezone": zone} if zone else {}

    assert window_of(client, tsMin=day, tsMax=day, **given_zone) == [first, last]
    assert window_of(client, tsMin=day, **given_zone) == [first, last, after]
    assert window_of(client, tsMax=day, **given_zone) == [before, first, last]
    # an instant is an instant, with and without an offset
    assert window_of(client, tsMin=start, tsMax=last, **given_zone) == [first, last]
    assert window_of(client, tsMin=last.removesuffix("Z"), tsMax=last, **given_zone) == [last]


@pytest.mark.parametrize("fill", ["none", "null", "zero", "previous"])
def test_a_day_that_a_zone_leaves_out_has_no_events(client, make_event, fill):
    edges(make_event, "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z")
    query = {
        "timezone": "Pacific/Apia",
        "granularity": "day",
        "fill": fill,
        "tsMin": "2011-12-30",
        "tsMax": "2011-12-30",
    }

    answer = client.get(PATH, query)
    assert (answer.status_code, answer.json()) == (200, [])
    streamed = client.get(PATH, {**query, "format": "csv"})
    assert (streamed.status_code, streamed.getvalue()) == (200, b"aggregatedTimestamp,value\r\n")
    assert len(client.get(PATH, {**query, "tsMin": "2011-12-29"}).json()) == 1
    assert len(client.get(PATH, {**query, "tsMax": "2011-12-31"}).json()) == 1


def test_days_are_filled_from_the_first_to_the_last(client, make_event):
    make_event(namespace="Shop", name="order", timestamp="2020-10-25T12:00:00", value=2)
    query = {
        "granularity": "day",
        "timezone": "Europe/Berlin",
        "fill": "zero",
        "timestamp": "bucket",
        "aggregationType": "sum",
    }

    assert client.get(PATH, {**query, "tsMin": "2020-10-24", "tsMax": "2020-10-26"}).json() == [
        {"aggregatedTimestamp": "2020-10-23T22:00:00Z", "value": 0.0},
        {"aggregatedTimestamp": "2020-10-24T22:00:00Z", "value": 2.0},
        {"aggregatedTimestamp": "2020-10-25T23:00:00Z", "value": 0.0},
    ]


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ({"tsMin": "2020-11-13", "tsMax": "2020-11-12"}, "tsMin", "Must not be later than tsMax."),
        ({"tsMin": "2020-11-13T00:00:00Z", "tsMax": "2020-11-12"}, "tsMin", "Must not be later than tsMax."),
        ({"tsMin": "2020-11-12", "tsMax": "2020-11-11T22:59:59Z", "timezone": "Europe/Berlin"}, "tsMin", "Must not be later than tsMax."),
        ({"tsMax": "2020-11-31"}, "tsMax", NO_TIMESTAMP),
        ({"tsMin": "2019-366"}, "tsMin", NO_TIMESTAMP),
        ({"tsMin": "2020-11-12", "timezone": "Mars"}, "timezone", "Must be the IANA name of a time zone, such as Europe/Berlin."),
    ],
)  # fmt: skip
def test_a_bad_day_is_refused(client, query, field, said):
    answer = client.get(PATH, query)

    assert (answer.status_code, answer.json()) == (400, {field: [said]})


def test_a_window_may_end_with_the_same_day_that_it_starts_in(client, make_event):
    make_event(namespace="Shop", name="order", timestamp="2020-11-12T22:59:59.999999")

    window = {"tsMin": "2020-11-12T12:00:00+01:00", "tsMax": "2020-11-12", "timezone": "Europe/Berlin"}
    assert window_of(client, **window) == ["2020-11-12T22:59:59.999999Z"]


@pytest.mark.only_on("sqlite")
@given(
    st.dates(date(1, 1, 1), date(9999, 12, 31)) | st.dates(date(1900, 1, 1), date(2040, 1, 1)),
    st.sampled_from(sorted(zones.names())).map(zones.zone_of),
)
@example(date(1, 1, 1), zones.zone_of("Europe/Berlin"))
@example(date(9999, 12, 31), zones.zone_of("Pacific/Honolulu"))
@example(date(9999, 12, 31), zones.zone_of("Pacific/Kiritimati"))
def test_a_day_has_the_instants_that_show_its_date(day, zone):
    first, last = first_of_day(day, zone), last_of_day(day, zone)
    within = timedelta(days=2) <= first - timestamps.EPOCH.replace(year=1) and last.year < 9999

    if within and first < last:
        shown = [each.astimezone(zone).date() for each in (first - MICROSECOND, first, last, last + MICROSECOND)]
        assert shown[1:3] == [day, day]
        assert shown[0] != day != shown[3]
    elif within:  # left out
        assert (last + MICROSECOND, first.astimezone(zone).date() > day) == (first, True)
    assert datetime.min.replace(tzinfo=UTC) <= first
    assert first <= last + MICROSECOND if last.year < 9999 else first < last


def test_an_export_ends_with_the_end_of_a_day(db, make_event, tmp_path):
    _, first, last, _ = edges(make_event, "2020-11-12T00:00:00Z", "2020-11-13T00:00:00Z")

    path = tmp_path / "events.ndjson"
    call_command("export_events", path, "--from", "2020-11-12", "--to", "2020-11-12", stderr=StringIO())

    assert [json.loads(line)["timestamp"] for line in path.read_text().splitlines()] == [first, last]


def test_the_admins_list_ends_with_the_end_of_a_day(admin_client, make_event):
    edges(make_event, "2020-11-12T00:00:00Z", "2020-11-13T00:00:00Z")

    page = admin_client.get("/admin/events/event/?namespace=Shop&name=order&start=2020-11-12&end=2020-11-12")

    shown = [timestamps.to_text(event.timestamp) for event in page.context["cl"].result_list]
    assert shown == ["2020-11-12T23:59:59.999999Z", "2020-11-12T00:00:00Z"]
    assert 'value="2020-11-12T23:59:59.999"' in page.text


def test_a_form_is_read_as_an_import_is():
    record = {"namespace": "Shop", "name": "order", "timestamp": "2020-317T24:00 +0000", "value": "1"}
    fields = QueryDict(urlencode(record))

    assert decoding.decode_form(fields).rows == decoding.decode_texts([("Shop", "order", "2020-317T24:00 +0000", "1")])
