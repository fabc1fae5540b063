"""``GET /api/series/<namespace>/<name>``: what the events of a window are altogether."""

import pytest
from rest_framework.test import APIClient

from events.models import Grant, SeriesSettings
from events.tests.support.clients import client_with
from events.tests.support.errors import NO_TIMESTAMP
from events.worker import retention
from events.worker.roll_up import take_step as roll_up

client = client_with("aggregation")

PATH = "/api/series/Shop/order"
NOTHING = {
    "namespace": "Shop", "name": "order", "count": 0, "sum": None, "avg": None, "min": None, "max": None,
    "description": "", "unit": "",
}  # fmt: skip


@pytest.fixture
def events(make_event):
    """Makes events of the series, each a timestamp and a value."""
    return lambda *pairs: [make_event("Shop", "order", timestamp, value) for timestamp, value in pairs]


@pytest.mark.parametrize("rolled_up", [0, 2, 4])
def test_years_are_merged_and_an_average_is_no_average_of_averages(client, events, rolled_up):
    pairs = [("2019-06-01", 1.0), ("2020-06-01", 2.0), ("2020-06-02", 3.0), ("2021-01-01", -4.0)]
    events(*pairs[:rolled_up])
    roll_up()
    events(*pairs[rolled_up:])

    expected = {**NOTHING, "count": 4, "sum": 2.0, "avg": 0.5, "min": -4.0, "max": 3.0}
    assert (client.get(PATH).status_code, client.get(PATH).json()) == (200, expected)
    assert client.get(f"{PATH}/?tsMin=2020-06-01&tsMax=2020-12-31").json() == {
        **NOTHING, "count": 2, "sum": 5.0, "avg": 2.5, "min": 2.0, "max": 3.0,
    }  # fmt: skip


def test_both_ends_are_included_and_a_date_is_its_whole_day(client, events):
    events(("2020-06-01T00:00:00", 1.0), ("2020-06-02T23:59:59.999999", 2.0), ("2020-06-03T00:00:00", 4.0))

    assert client.get(f"{PATH}?tsMin=2020-06-01&tsMax=2020-06-02").json()["sum"] == 3.0
    assert client.get(f"{PATH}?tsMin=2020-06-01T00:00:00Z&tsMax=2020-06-03T00:00:00Z").json()["sum"] == 7.0
    assert client.get(f"{PATH}?tsMin=2020-06-01T00:00:00.000001Z&tsMax=2020-06-02").json()["sum"] == 2.0


def test_a_series_without_events_has_none(client):
    assert client.get(PATH).json() == NOTHING
    assert client.get(f"{PATH}?tsMin=2020-01-01&tsMax=2020-01-02").json() == NOTHING


@pytest.mark.parametrize(
    ("values", "total"), [((1.7e308, 1.7e308), None), ((1.7e308, 1.7e308, -1.7e308, -1.7e308), 0.0)]
)
def test_a_sum_that_no_double_holds_is_not_known_and_the_average_is(client, events, values, total):
    events(*((f"{2019 + number // 2}-06-01T00:00:0{number}", value) for number, value in enumerate(values)))

    found = client.get(PATH).json()

    assert (found["count"], found["sum"], found["max"]) == (len(values), total, 1.7e308)
    assert found["avg"] == pytest.approx(sum(value / len(values) for value in values))


@pytest.mark.parametrize("rolled_up", [False, True])
@pytest.mark.parametrize(
    ("pairs", "total", "average"),
    [
        ([(f"2020-06-01T00:00:0{number}", 0.1) for number in range(3)], 0.30000000000000004, 0.1),
        ([("2023-06-01", 2.0**53), ("2023-06-02", 1.0), ("2024-06-01", 1.0)], 2.0**53 + 2, (2.0**53 + 2) / 3),
    ],
    ids=["an average that its sum is too coarse for", "years whose sums are rounded"],
)
def test_sum_and_average_are_the_doubles_nearest_to_what_they_are(client, events, rolled_up, pairs, total, average):
    events(*pairs)
    if rolled_up:
        roll_up()

    found = client.get(PATH).json()

    assert (found["sum"], found["avg"]) == (total, average)


def test_what_people_say_of_the_series_is_there(client, events):
    SeriesSettings.objects.create(namespace="Shop", name="order", description="What it is worth", unit="EUR")
    SeriesSettings.objects.create(namespace="Shop", name="other", description="Another", unit="bytes")

    assert client.get(PATH).json() == {**NOTHING, "description": "What it is worth", "unit": "EUR"}


def test_pruned_hours_count(client, events):
    events(("2020-06-01T00:10:00", 1.0), ("2020-06-01T00:20:00", 3.0), ("2020-06-02T00:00:00", 5.0))
    roll_up()
    for series in retention.older_than(retention._DAY):
        list(retention.prune(series))

    assert client.get(PATH).json() == {**NOTHING, "count": 3, "sum": 9.0, "avg": 3.0, "min": 1.0, "max": 5.0}
    for later in ("00:10:00.5", "00:10:30"):
        answer = client.get(f"{PATH}?tsMin=2020-06-01T{later}Z")
        expected = {**NOTHING, "count": 2, "sum": 8.0, "avg": 4.0, "min": 3.0, "max": 5.0}
        assert (answer.status_code, answer.json()) == (200, expected)


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("tsMin=x", {"tsMin": [NO_TIMESTAMP]}),
        ("tsMax=2020-13-01", {"tsMax": [NO_TIMESTAMP]}),
        ("tsMin=2020-01-02&tsMax=2020-01-01", {"tsMin": ["Must not be later than tsMax."]}),
        ("granularity=day", {"granularity": ["Unknown field. Accepted: tsMin, tsMax."]}),
        ("tsMin=2020&tsMin=2021", {"tsMin": ["This field may be given only once."]}),
    ],
)
def test_what_is_wrong_is_named(client, query, errors):
    answer = client.get(f"{PATH}?{query}")

    assert (answer.status_code, answer.json()) == (400, errors)


@pytest.mark.parametrize(
    ("path", "errors"),
    [
        ("/api/series/../order", {"namespace": ["This field may not contain “/” nor be “.” or “..”."]}),
        ("/api/series/Shop/%20", {"name": ["This field may not be blank."]}),
        (f"/api/series/Shop/{'x' * 256}", {"name": ["Ensure this field has no more than 255 characters."]}),
    ],
)
def test_a_path_that_no_series_has_is_refused(client, path, errors):
    answer = client.get(path)

    assert (answer.status_code, answer.json()) == (400, errors)


def test_a_token_needs_the_scope(client_with_scopes):
    assert client_with_scopes("read write").get(PATH).json() == {
        "detail": "The access token lacks the scope aggregation."
    }


def test_without_a_token_it_is_closed(db):
    answer = APIClient().get(PATH)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Authentication credentials were not provided."})


def test_a_grant_narrows_it_to_its_namespaces(client, application):
    Grant.objects.create(application=application, aggregation_namespaces="Other")

    answer = client.get(PATH)

    assert answer.status_code == 403
    assert answer.json() == {"namespace": ["The client is not granted the scope aggregation in “Shop”."]}


def test_its_cost_does_not_grow_with_the_events(client, events, django_assert_num_queries):
    events(*((f"20{year}-06-01", float(year)) for year in range(10, 30)))
    roll_up()
    client.get(PATH)

    # the state, buckets of three statistics, the settings, the watermark, and three for the sum and for the average
    with django_assert_num_queries(12):
        client.get(PATH)
