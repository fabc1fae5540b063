"""The aggregation endpoint's other formats, and its answers to those who have the answer already."""

import itertools
import json

import pytest

from events.aggregation import answer, rows
from events.http import renderers
from events.models import Event, Rollup
from events.tests.support.clients import client_with
from events.tests.support.examples import IS_THOROUGH
from events.tests.support.responses import body_of
from events.worker import roll_up

client = client_with("aggregation")

PATH = "/api/events/Frontend/pageView"
DAYS = f"{PATH}?granularity=day&aggregationType=sum&tsMin=2024-01-01&tsMax=2024-01-03T12:00:00Z"
CSV = "text/csv; charset=utf-8"
NDJSON = "application/x-ndjson; charset=utf-8"


@pytest.fixture(params=[False, True], ids=["events", "rollups"])
def stored(request, make_event):
    for timestamp, value in [("2024-01-01T10:00:00.5", 1), ("2024-01-01T11:00:00", 0.1), ("2024-01-03T12:00:00", -3)]:
        make_event(timestamp=timestamp, value=value)
        if request.param:
            roll_up.take_step()
    make_event(timestamp="2024-01-03T11:00:00", value=1e300)
    make_event(name="other")


AS_CSV = (
    b"aggregatedTimestamp,value\r\n2024-01-01T10:00:00.500000Z,1.1\r\n2024-01-02T00:00:00Z,\r\n"
    b"2024-01-03T11:00:00Z,1e+300\r\n"
)
AS_NDJSON = (
    b'{"aggregatedTimestamp":"2024-01-01T10:00:00.500000Z","value":1.1}\n{"aggregatedTimestamp":"2024-01-02T00:00:00Z",'
    b'"value":null}\n{"aggregatedTimestamp":"2024-01-03T11:00:00Z","value":1e300}\n'
)


@pytest.mark.parametrize("stored", [True], ids=["rollups"], indirect=True)
@pytest.mark.parametrize(
    ("parameter", "accept", "content_type", "content"),
    [
        ("csv", None, CSV, AS_CSV),
        ("ndjson", None, NDJSON, AS_NDJSON),
        ("", "text/csv", CSV, AS_CSV),
        ("", "text/html, text/csv;q=0.9, */*;q=0.1", CSV, AS_CSV),
        ("", "application/x-ndjson", NDJSON, AS_NDJSON),
        ("csv", "application/x-ndjson", CSV, AS_CSV),
        ("json", "text/csv", "application/json", None),
        ("", "*/*", "application/json", None),
        ("", "text/html", "application/json", None),
        ("", None, "application/json", None),
        ("", "application/json;q=0.9, text/csv;q=0.1", "application/json", None),
        ("", "text/csv;q=0.9, application/json;q=0.1", CSV, AS_CSV),
        ("", "text/csv, application/json", "application/json", None),
        ("", "text/csv, application/json;q=0.999", CSV, AS_CSV),
        ("", "text/csv, */*", "application/json", None),
        ("", "text/csv;q=0.5, */*;q=0.6", "application/json", None),
        ("", "application/x-ndjson;q=0.2, text/csv;q=0.3", CSV, AS_CSV),
        ("", "text/*", CSV, AS_CSV),
        ("", "text/*;q=0.1, text/csv;q=0, application/x-ndjson;q=0.01", NDJSON, AS_NDJSON),
        ("", "application/json;q=0, application/*", NDJSON, AS_NDJSON),
        ("", "application/json;q=0, */*", CSV, AS_CSV),
        ("", "text/csv;q=0", "application/json", None),
        ("", "*/*;q=0", "application/json", None),
        ("", "TEXT/CSV ; Header=present ; Q=0.9 , application/json;q=0.8", CSV, AS_CSV),
        ("", 'text/csv;x="a,b;q=0"', CSV, AS_CSV),
        ("", 'text/html;x="text/csv, text/csv"', "application/json", None),
        ("", "text/csv;charset=latin-1;q=0, text/csv;q=0.1", CSV, AS_CSV),
        ("", "text/html, image/gif, *; q=.2, */*; q=.2", "application/json", None),
        ("", "text/csv;q=1.5, application/x-ndjson;q=.1", NDJSON, AS_NDJSON),
        ("", "text/csv;q=, text/csv;q=x, text/csv;q=0.9999, text/csv;q=-1", "application/json", None),
        ("", ',;"', "application/json", None),
        ("csv", "text/csv;q=0", CSV, AS_CSV),
    ],
)
def test_the_format_is_that_of_the_parameter_or_of_accept(client, stored, parameter, accept, content_type, content):
    headers = {"Accept": accept} if accept else {}

    response = client.get(f"{DAYS}&fill=null&format={parameter}", headers=headers)

    assert (response.status_code, response["Content-Type"]) == (200, content_type)
    assert body_of(response) == content or json.loads(body_of(response)) == [*map(json.loads, AS_NDJSON.splitlines())]


GRANULARITIES = ["none", "minute", "hour", "day", "week", "month", "year"]
KINDS = ["avg", "min", "max", "sum", "count"]


@pytest.mark.parametrize(
    ("granularity", "kind"),
    # each with one of the others in the everyday run
    list(itertools.product(GRANULARITIES, KINDS) if IS_THOROUGH else zip(GRANULARITIES, itertools.cycle(KINDS))),
)
def test_all_formats_say_the_same(client, stored, granularity, kind, monkeypatch):
    monkeypatch.setattr(rows, "_ROWS_AT_A_TIME", 2)
    monkeypatch.setattr(renderers, "_PIECE_CHARACTERS", 10)
    for zone in ("UTC", "Asia/Kathmandu"):
        query = {"granularity": granularity, "aggregationType": kind, "timezone": zone}
        items = client.get(PATH, query).json()

        ndjson = body_of(client.get(PATH, {**query, "format": "ndjson"})).splitlines()
        header, *lines = body_of(client.get(PATH, {**query, "format": "csv"})).decode().splitlines()

        assert [json.loads(line) for line in ndjson] == items != []
        assert header == "aggregatedTimestamp,value"
        assert [line.split(",") for line in lines] == [
            [item["aggregatedTimestamp"], str(item["value"])] for item in items
        ]


@pytest.mark.parametrize(
    ("values", "avg", "total"), [([1.7e308, 1.7e308], 1.7e308, None), ([1.7e308, -1.7e308], 0.0, 0.0)]
)
def test_a_sum_beyond_a_double_is_null_and_others_are_exact(client, make_event, values, avg, total):
    make_event(timestamp="2024-01-01T00:00:00", value=0.25)
    for value in values:
        make_event(timestamp="2024-01-02T00:00:00", value=value)

    for kind, second in (("avg", avg), ("sum", total)):
        lines = body_of(
            client.get(PATH, {"granularity": "day", "aggregationType": kind, "format": "ndjson"})
        ).splitlines()
        assert [json.loads(line)["value"] for line in lines] == [0.25, second]


def test_without_events_there_is_nothing_but_a_header(client, db):
    assert body_of(client.get(f"{PATH}?format=csv")) == b"aggregatedTimestamp,value\r\n"
    assert body_of(client.get(f"{PATH}?format=ndjson")) == b""


def test_they_have_no_limit_to_their_items(client, stored, settings):
    settings.MAX_ITEMS = 1

    assert client.get(PATH).status_code == 400
    assert len(body_of(client.get(f"{PATH}?format=ndjson")).splitlines()) == 4
    assert len(body_of(client.get(f"{DAYS}&format=csv&fill=null")).splitlines()) == 4


@pytest.mark.parametrize("form", ["csv", "ndjson"])
@pytest.mark.parametrize(
    ("granularity", "fits"),
    [("minute", "day"), ("hour", "day"), ("day", None), ("week", None), ("month", None), ("year", None)],
)
def test_all_the_minutes_of_the_calendar_are_not_made_up(client, stored, form, granularity, fits):
    query = {"granularity": granularity, "fill": "zero", "tsMin": "0001-01-01", "tsMax": "9999-12-31", "format": form}

    response = client.get(PATH, query)

    if fits is None:
        assert (response.status_code, response.streaming) == (200, True)
        return
    advice = f"choose a shorter window, or a coarser granularity such as {fits}."
    assert (response.status_code, response["Content-Type"]) == (400, "application/json")
    assert response.json() == {"granularity": [f"More than 5000000 items (MAX_STREAM_ITEMS); {advice}"]}


@pytest.mark.parametrize("fill", ["none", "null", "zero", "previous"])
@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_only_filled_streams_have_a_limit(client, stored, settings, fill, form):
    """To the item: here are three days, and four hours with events."""
    days = f"{DAYS}&fill={fill}&format={form}"
    hours = days.replace("day", "hour")
    settings.MAX_STREAM_ITEMS = 3
    assert client.get(days).status_code == 200
    assert client.get(hours).status_code == (200 if fill == "none" else 400)

    settings.MAX_STREAM_ITEMS = 2
    response = client.get(days)
    assert response.status_code == (200 if fill == "none" else 400)
    if fill != "none":
        advice = "choose a shorter window, or a coarser granularity such as week."
        assert response.json() == {"granularity": [f"More than 2 items (MAX_STREAM_ITEMS); {advice}"]}


def test_a_series_is_filled_no_further_than_the_limit_whatever_its_own_length(client, make_event, settings):
    """The window is open: what there is to fill follows from the events."""
    settings.MAX_STREAM_ITEMS = 1_000
    make_event(timestamp="0001-01-01T00:00:00")
    make_event(timestamp="9999-12-31T00:00:00")

    response = client.get(f"{PATH}?granularity=minute&fill=previous&format=csv")

    advice = "choose a shorter window."
    assert (response.status_code, response.json()) == (
        400,
        {"granularity": [f"More than 1000 items (MAX_STREAM_ITEMS); {advice}"]},
    )


def test_an_error_is_json_in_any_format(client):
    response = client.get(f"{PATH}?format=csv&granularity=x&timezone=Nowhere")

    assert (response.status_code, response["Content-Type"]) == (400, "application/json")
    assert set(response.json()) == {"granularity", "timezone"}


def test_an_unknown_format_is_refused(client):
    response = client.get(f"{PATH}?format=xml")

    assert response.status_code == 400
    assert response.json() == {"format": ["“xml” is not accepted. Choose one of: json, csv, ndjson."]}


# Those who have it already.


@pytest.mark.one_partition
def test_an_answer_that_is_known_is_not_sent_again(client, stored, django_assert_num_queries):
    first = client.get(DAYS)
    assert first["Cache-Control"] == "private, no-cache"
    assert set(first["Vary"].split(", ")) >= {"Accept", "Authorization", "Cookie"}

    # the token is remembered; how the series stands and the tail; without rollups the newest event
    with django_assert_num_queries(2 if Rollup.objects.exists() else 3):
        again = client.get(DAYS, headers={"If-None-Match": first["ETag"]})

    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    assert client.get(DAYS, headers={"If-None-Match": f'"x", {first["ETag"]}'}).status_code == 304
    assert client.get(DAYS, headers={"If-None-Match": "*"}).status_code == 304
    assert client.get(DAYS, headers={"If-None-Match": '"x"'}).json() == first.json()


@pytest.mark.parametrize(
    "headers",
    [{"If-Match": '"x"'}, {"If-Unmodified-Since": "Wed, 21 Oct 2015 07:28:00 GMT"}],
    ids=["match", "date"],
)
def test_conditions_of_a_change_hinder_no_reading(client, stored, headers):
    first = client.get(DAYS)

    answers = [client.get(DAYS, headers={**headers, "If-None-Match": tag}) for tag in ('"x"', first["ETag"])]

    assert [(each.status_code, each.content, each["ETag"]) for each in answers] == [
        (200, first.content, first["ETag"]), (304, b"", first["ETag"])
    ]  # fmt: skip


def test_rolling_up_changes_no_answer(client, make_event):
    make_event()
    tag = client.get(PATH)["ETag"]
    roll_up.take_step()

    assert client.get(PATH)["ETag"] == tag


CHANGES = {
    "another event": lambda: Event.objects.create(namespace="Frontend", name="pageView", timestamp="2020-01-01T00:00:00Z", value=1),
    "another value": lambda: Event.objects.filter(name="pageView").update(value=5),
    "one event less and one more": lambda: (Event.objects.filter(name="pageView").first().delete(), CHANGES["another event"]()),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_of_the_series_is_answered(client, stored, change):
    tag = client.get(DAYS)["ETag"]

    change()

    response = client.get(DAYS, headers={"If-None-Match": tag})
    assert response.status_code == 200
    assert response["ETag"] != tag


@pytest.mark.django_db(transaction=True)
def test_with_a_long_tail_any_commit_of_its_events_is_answered(client, make_event, monkeypatch):
    monkeypatch.setattr(answer, "_MOST_COUNTED_TAIL", 0)
    make_event()
    tag = client.get(PATH)["ETag"]

    make_event()

    response = client.get(PATH, headers={"If-None-Match": tag})
    assert response.status_code == 200
    assert response["ETag"] != tag


def test_with_a_long_tail_an_answer_is_the_same_while_nothing_is_committed(client, make_event, monkeypatch):
    monkeypatch.setattr(answer, "_MOST_COUNTED_TAIL", 0)
    monkeypatch.setattr(answer, "snapshot_id", lambda: "1:1:")  # others commit to the same server
    make_event()
    tag = client.get(PATH)["ETag"]

    assert client.get(PATH, headers={"If-None-Match": tag}).status_code == 304


def test_events_of_another_series_change_nothing(client, stored, make_event):
    tag = client.get(DAYS)["ETag"]
    make_event(name="other")

    assert client.get(DAYS, headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize(
    "parameter", ["aggregationType=avg", "fill=zero", "format=csv", "timestamp=bucket", "timezone=Asia/Kolkata", "tsMax=2024-01-02"]
)  # fmt: skip
def test_another_question_has_another_tag(client, stored, parameter):
    name = parameter.partition("=")[0]
    url = "&".join([part for part in DAYS.split("&") if not part.startswith(name)] + [parameter])

    assert client.get(DAYS)["ETag"] != client.get(url)["ETag"]
