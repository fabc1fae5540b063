"""``GET /api/series/``: a page of the series, with how each of them is going."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from rest_framework.test import APIClient

from events.models import Event, Grant, Rollup, SeriesSettings
from events.series import overview
from events.tests.support.clients import client_with
from events.worker import retention
from events.worker.roll_up import take_step as roll_up

client = client_with("read")

PATH = "/api/series/"
NOW = datetime(2020, 11, 12, 11, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def still(monkeypatch):
    """The clock of the overview stands still."""
    monkeypatch.setattr(overview.timezone, "now", lambda: NOW)


def add(name, *pairs, namespace="Shop"):
    """Store events of a series, each so many hours before now and a value."""
    Event.objects.bulk_create(
        Event(namespace=namespace, name=name, timestamp=NOW - timedelta(hours=hours), value=value)
        for hours, value in pairs
    )


def names(answer):
    return [line["name"] for line in answer.json()["series"]]


@pytest.mark.parametrize("is_rolled_up", [False, True, "half"])
def test_a_line_says_how_a_series_is_going(client, db, is_rolled_up):
    pairs = [(25, 10.0), (24.9, 20.0), (2, 30.0), (1.9, 40.0), (0.25, 50.0)]
    add("order", *pairs[:3])
    if is_rolled_up:
        roll_up()
    add("order", *pairs[3:])
    if is_rolled_up is True:
        roll_up()
    SeriesSettings.objects.create(namespace="Shop", name="order", description="What it is worth", unit="EUR")

    answer = client.get(PATH)

    line = {
        "namespace": "Shop",
        "name": "order",
        "count": 5,
        "firstTimestamp": "2020-11-11T10:30:00Z",
        "lastTimestamp": "2020-11-12T11:15:00Z",
        "lastValue": 50.0,
        # 35 on the average of the whole hours of the day, and 15 on that of the hours a day before
        "changePercent": pytest.approx(100 * (35 - 15) / 15),
        "isQuiet": False,
        "hours": {
            "firstTimestamp": "2020-11-11T12:00:00Z",
            "aggregationType": "avg",
            "values": [None] * 21 + [35.0, None, 50.0],
        },
        "unit": "EUR",
        "description": "What it is worth",
        "isHidden": False,
        "renamedTo": None,
    }
    assert (answer.status_code, answer.json()) == (200, {"count": 1, "page": 1, "pages": 1, "series": [line]})


def test_where_all_values_are_1_the_events_are_counted(client, db):
    add("click", *((hours, 1.0) for hours in (30, 26, 25, 3, 2.9, 2.8, 2, 0.1)))
    roll_up()

    [line] = client.get(PATH).json()["series"]

    assert line["hours"]["aggregationType"] == "count"
    assert line["hours"]["values"] == [0] * 20 + [3, 1, 0, 1]
    assert line["changePercent"] == pytest.approx(100 * (4 - 3) / 3)


def test_a_series_that_ended_has_its_last_day(client, db):
    add("order", (1000, 5.0), (1024, 2.0), (1001, 4.0))

    [line] = client.get(PATH).json()["series"]

    assert line["hours"]["values"] == [None] * 22 + [4.0, 5.0]
    assert (line["changePercent"], line["lastValue"], line["isQuiet"]) == (125.0, 5.0, True)


def test_of_events_at_the_same_time_the_last_one_stored_is_last(client, db):
    add("order", (1, 5.0), (1, 7.0), (1, 6.0))

    [line] = client.get(PATH).json()["series"]

    assert line["lastValue"] == 6.0


@pytest.mark.parametrize(
    ("hours", "is_quiet"),
    [
        ([number / 60 for number in range(1, 120)], False),
        ([number / 60 for number in range(10, 120)], True),
        ([*(number / 60 + 3 for number in range(1, 60)), *(number / 60 + 9 for number in range(60))], False),
        ([*range(12, 24)], True),
        ([5], False),
        ([47.5, 24, 1], False),
    ],
    ids=["each minute", "silent for ten minutes", "usually silent for hours", "each hour", "once", "each day"],
)
def test_a_series_is_quiet_against_its_own_rhythm(client, db, hours, is_quiet):
    add("order", *((each, 5.0) for each in hours))

    [line] = client.get(PATH).json()["series"]

    assert line["isQuiet"] is is_quiet


def test_pages_and_their_bounds(client, db, monkeypatch):
    monkeypatch.setattr(overview, "PAGE_SERIES", 2)
    for name in "abcde":
        add(name, (1, 1.0))

    pages = [client.get(PATH, {"page": number}) for number in (1, 2, 3, 4)]

    assert [names(page) for page in pages] == [["a", "b"], ["c", "d"], ["e"], ["e"]]
    assert [(page.json()["count"], page.json()["page"], page.json()["pages"]) for page in pages] == [
        (5, 1, 3), (5, 2, 3), (5, 3, 3), (5, 3, 3),
    ]  # fmt: skip


def test_without_series_there_is_an_empty_page(client, db):
    assert client.get(PATH).json() == {"count": 0, "page": 1, "pages": 1, "series": []}


@pytest.mark.parametrize("search", ["ORD", "p/o", "Shop/order", ""])
def test_a_part_of_a_name_is_searched_in_any_case(client, db, search):
    add("order", (1, 1.0))
    add("äpfel", (1, 1.0), namespace="Other")

    assert names(client.get(PATH, {"search": search})) == (["äpfel", "order"] if not search else ["order"])
    assert names(client.get(PATH, {"search": "ÄPF"})) == ["äpfel"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("name", "abcd"), ("-name", "dcba"),
        ("count", "acdb"), ("-count", "bacd"),
        ("lastTimestamp", "dcba"), ("-lastTimestamp", "abcd"),
        ("lastValue", "bacd"), ("-lastValue", "dcab"),
        ("changePercent", "bacd"), ("-changePercent", "abcd"),
        ("unit", "cabd"), ("-unit", "acbd"),
        ("description", "bacd"), ("-description", "abcd"),
    ],
)  # fmt: skip
def test_the_order(client, db, order, expected):
    add("a", (25, 1.0), (1, 2.0))
    add("b", (26, 2.0), (25.5, 2.0), (2, 1.0))
    add("c", (4, 7.0), (3, 3.0))
    add("d", (60, 7.0), (5, 4.0))
    for name, unit, description in (("a", "EUR", "z"), ("b", "", "Y"), ("c", "bytes", "")):
        SeriesSettings.objects.create(namespace="Shop", name=name, unit=unit, description=description)
    roll_up()

    found = "".join(names(client.get(PATH, {"order": order})))

    assert found == expected


@pytest.mark.parametrize("resolutions", [["minute"], ["minute", "hour"]])
def test_the_order_by_change_is_that_of_the_changes_on_the_page(client, partition_count, settings, resolutions):
    settings.ROLLUP_RESOLUTIONS = resolutions
    chance = random.Random(19)
    add("of the first day there is", (17_705_771.0, 1.0), (17_705_766.0, 4.0))
    for number in range(40):
        ended = chance.choice([0, 0, 3, 500])
        values = [1.0] if number % 5 == 0 else [-2.5, 0.0, 1.0, 7.125, 1e300]
        add(
            f"x{number}",
            *((ended + chance.uniform(0, 50), chance.choice(values)) for _ in range(chance.randrange(1, 12))),
        )
        if number == 20:
            roll_up()

    changes = [line["changePercent"] for line in client.get(PATH).json()["series"]]
    ascending, descending = (
        client.get(PATH, {"order": order}).json()["series"] for order in ("changePercent", "-changePercent")
    )

    known = sorted(change for change in changes if change is not None)
    assert len(set(known)) > 15
    unknown = [None] * (len(changes) - len(known))
    assert [line["changePercent"] for line in ascending] == known + unknown
    assert [line["changePercent"] for line in descending] == known[::-1] + unknown


def test_hidden_series_are_left_out_and_listed_where_asked_for(client, db):
    add("a", (1, 1.0))
    add("b", (1, 1.0))
    SeriesSettings.objects.create(namespace="Shop", name="a", is_hidden=True)

    assert names(client.get(PATH)) == ["b"]
    answer = client.get(PATH, {"hidden": "yes"}).json()
    assert [(line["name"], line["isHidden"]) for line in answer["series"]] == [("a", True), ("b", False)]


def test_a_grant_narrows_it_to_its_namespaces(client, application):
    add("a", (1, 1.0))
    add("b", (1, 1.0), namespace="Other")
    Grant.objects.create(application=application, read_namespaces="Oth*")

    assert names(client.get(PATH)) == ["b"]
    assert client.get(PATH).json()["count"] == 1


def test_where_events_are_pruned_the_hours_are_there_and_the_last_value_is_not_known(client, db):
    add("order", (100, 5.0), (100.1, 7.0))
    roll_up()
    for series in retention.older_than(timedelta(hours=50), "*"):
        list(retention.prune(series))
    assert not Event.objects.exists()

    [line] = client.get(PATH).json()["series"]

    assert (line["lastValue"], line["hours"]["values"][-1], line["count"]) == (None, 6.0, 2)


@pytest.mark.parametrize("resolutions", [["minute"], ["hour"], ["minute", "hour"]])
def test_any_resolution_of_the_rollups_will_do(client, db, settings, resolutions):
    settings.ROLLUP_RESOLUTIONS = resolutions
    add("order", (1.1, 5.0), (1.2, 7.0), (0.3, 8.0))
    roll_up()
    assert Rollup.objects.exists()

    [line] = client.get(PATH).json()["series"]

    assert line["hours"]["values"][-2:] == [6.0, 8.0]


@pytest.mark.parametrize("timestamp", ["0001-01-01T00:00:00", "9999-12-31T23:59:59"])
@pytest.mark.parametrize("value", [1.7e308, 5e-324, -1.7e308])
@pytest.mark.parametrize("is_rolled_up", [False, True])
@pytest.mark.parametrize("order", ["name", "changePercent"])
def test_no_timestamp_and_no_value_is_too_much(client, make_event, timestamp, value, is_rolled_up, order):
    for _ in range(2):
        make_event("Shop", "order", timestamp, value)
    if is_rolled_up:
        roll_up()

    answer = client.get(PATH, {"order": order})

    assert (answer.status_code, answer.json()["series"][0]["lastValue"]) == (200, value)


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("page=0", {"page": ["Must be a whole number from 1."]}),
        ("page=x", {"page": ["Must be a whole number from 1."]}),
        ("page=99999999999", {"page": ["Must be a whole number from 1."]}),
        ("hidden=1", {"hidden": ["“1” is not accepted. Choose one of: no, yes."]}),
        ("limit=1", {"limit": ["Unknown field. Accepted: search, order, page, hidden."]}),
        ("page=1&page=2", {"page": ["This field may be given only once."]}),
        ("search=%00", {"search": ["Null characters are not allowed."]}),
        (f"search={'x' * 512}", {"search": ["Ensure this field has no more than 511 characters."]}),
    ],
)
def test_what_is_wrong_is_named(client, query, errors):
    answer = client.get(f"{PATH}?{query}")

    assert (answer.status_code, answer.json()) == (400, errors)


def test_an_order_that_there_is_not_is_refused_with_those_that_there_are(client):
    answer = client.get(PATH, {"order": "size"})

    assert answer.status_code == 400
    assert answer.json()["order"][0].startswith("“size” is not accepted. Choose one of: name, -name, count, -count,")


def test_a_token_needs_the_scope(client_with_scopes, db):
    answer = client_with_scopes("write aggregation").get(PATH)
    assert (answer.status_code, answer.json()) == (403, {"detail": "The access token lacks the scope read."})


def test_without_a_token_it_is_closed(db):
    answer = APIClient().get("/api/series")
    assert (answer.status_code, answer.json()) == (401, {"detail": "Authentication credentials were not provided."})


@pytest.mark.one_partition
def test_the_number_of_queries_does_not_grow_with_the_series(client, db, django_assert_num_queries):
    counts = []
    for number in range(30):
        add(f"series {number}", (1, 1.0), (25, 2.0))
        if number in {1, 29}:
            roll_up()
            client.get(PATH)
            with django_assert_num_queries(8) as found:
                client.get(PATH, {"order": "-changePercent"})
            counts.append(len(found))

    assert counts[0] == counts[1]
