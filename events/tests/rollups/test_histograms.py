"""Histograms in the rollups: what they hold, and the percentiles that are answered from them."""

import json
import math
import statistics
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F
from hypothesis import example, given
from hypothesis import strategies as st

from events import renaming
from events.log.namespace_patterns import Namespaces
from events.log.series import SeriesKey
from events.models import Event, Histogram, Rollup
from events.rollups.bins import Bin, bin_of, value_of
from events.tests.support.clients import client_with
from events.tests.support.rolling_up import roll_up_all
from events.worker import retention, roll_up, verification
from events.worker.moving import Mover

client = client_with("aggregation")

PATH = "/api/events/Shop/order"
START = datetime(2024, 3, 1, 22, tzinfo=UTC)
HOUR, DAY = Histogram.Resolution.HOUR, Histogram.Resolution.DAY
LARGEST = sys.float_info.max
finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture(autouse=True)
def wanted(settings):
    settings.ROLLUP_HISTOGRAMS = Namespaces.of("Shop")
    settings.RETENTION_MAY_DELETE_MOST = True


def add(*values, namespace="Shop", start=START, step=timedelta(minutes=20)):
    Event.objects.bulk_create(
        Event(namespace=namespace, name="order", timestamp=start + number * step, value=value)
        for number, value in enumerate(values)
    )


def expected():
    """The histograms that all events of wanted namespaces make, computed in Python."""
    found = Counter()
    for event in Event.objects.filter(namespace="Shop"):
        hour = event.timestamp.replace(minute=0, second=0, microsecond=0)
        found[HOUR, event.name, hour, bin_of(event.value)] += 1
        found[DAY, event.name, hour.replace(hour=0), bin_of(event.value)] += 1
    return dict(found)


def stored():
    assert not Histogram.objects.exclude(namespace="Shop").exists()
    return {row[:4]: row[4] for row in Histogram.objects.values_list("resolution", "name", "bucket", "bin", "count")}


def ask(client, kind="p95", **query):
    response = client.get(PATH, {"aggregationType": kind, "granularity": "day", **query})
    body = response.json() if "json" in response["Content-Type"] else response.getvalue()
    if response.status_code != 200:
        return response.status_code, body
    return response["Tracking-Accuracy"], [item["value"] for item in body]


def within(*values):
    return [pytest.approx(value, rel=0.01) for value in values]


def verify(*arguments):
    out = StringIO()
    call_command("verify_rollups", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue().splitlines()


# Bins.


@given(finite)
@example(0.0)
@example(-0.0)
@example(5e-324)
@example(-LARGEST)
@example(LARGEST)
def test_a_bin_stands_for_its_values_to_within_one_percent(value):
    assert abs(value_of(bin_of(value)) - value) <= 0.01 * abs(value) + (5e-324 if abs(value) < 1e-300 else 0)


@given(finite, finite)
def test_bins_sort_as_their_values(a, b):
    assert (bin_of(a) <= bin_of(b)) == (a <= b or bin_of(a) == bin_of(b))
    assert (value_of(bin_of(a)) <= value_of(bin_of(b))) == (bin_of(a) <= bin_of(b))


def test_both_databases_find_the_same_bins(db):
    values = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        5e-324,
        -5e-324,
        LARGEST,
        -LARGEST,
        2.5,
        1e-100,
        math.e,
        1e22,
        -123.456,
        2.2250738585072014e-308,
    ]
    add(*values)
    found = Event.objects.order_by("pk").annotate(bin=Bin(F("value"))).values_list("bin", flat=True)

    assert list(found) == [bin_of(value) for value in values]


# What the roller does.


def test_each_step_adds_its_events(partition_count, short_steps):
    add(*range(-10, 20))
    add(5, 5, 0, start=START + timedelta(minutes=1))
    add(1, 2, 3, namespace="Stockroom")
    while roll_up.take_step():
        pass

    assert stored() == expected()
    assert sum(count for (resolution, *_), count in stored().items() if resolution == DAY) == 33
    add(7, 7.001, start=START)  # late ones
    roll_up_all()
    assert stored() == expected()


@pytest.mark.parametrize(
    ("patterns", "namespaces"),
    [("", set()), ("*", {"Shop", "Shed", "sh"}), ("Sh*", {"Shop", "Shed"}), ("Shed\nsh", {"Shed", "sh"})],
)
def test_the_patterns_choose_namespaces(db, settings, patterns, namespaces):
    settings.ROLLUP_HISTOGRAMS = Namespaces.of(patterns)
    for namespace in ("Shop", "Shed", "sh"):
        add(1, namespace=namespace)
    roll_up_all()

    assert set(Histogram.objects.values_list("namespace", flat=True)) == namespaces


@pytest.mark.one_partition
def test_where_none_is_wanted_the_roller_sends_no_statement_for_them(settings, statements):
    settings.ROLLUP_HISTOGRAMS = Namespaces.of("")
    add(1, 2)
    with statements() as sent:
        roll_up_all()

    assert [sql for sql in sent if "histogram" in sql] == []


def test_changed_events_rebuild_them(partition_count, settings):
    add(*range(1, 20))
    roll_up_all()

    Event.objects.filter(value=3).update(value=300, timestamp=START + timedelta(hours=30))
    Event.objects.filter(value__gt=15, value__lt=20).delete()
    assert stored() == expected()
    # left out meanwhile: what was changed is gone, so that it isn't taken for the whole later
    settings.ROLLUP_HISTOGRAMS = Namespaces.of("")
    Event.objects.filter(value=8).update(value=9)
    hour = Event.objects.filter(value=9).earliest("timestamp").timestamp.replace(minute=0)
    missing = expected().keys() - stored().keys()
    assert {row[2] for row in missing if row[0] == HOUR} == {hour}
    assert not Histogram.objects.filter(resolution=HOUR, bucket=hour).exists()


def test_starting_over_makes_them_anew(partition_count):
    add(*range(10))
    roll_up_all()
    Histogram.objects.filter(resolution=HOUR).update(count=7)
    roll_up.start_over()
    assert stored() == {}
    roll_up_all()

    assert stored() == expected()


# Answers.


def test_percentiles_come_from_whole_hours_edges_and_tail(client, partition_count, settings):
    settings.PERCENTILE_EVENTS = 1
    add(*range(1, 101))  # a day and a half from 22:00 on, every 20 minutes
    roll_up_all()
    add(1000, 2000, 3000, start=START + timedelta(minutes=1))

    days = {}
    for event in Event.objects.order_by("timestamp"):
        days.setdefault(event.timestamp.date(), []).append(event.value)
    medians = [statistics.median(values) for values in days.values()]
    assert ask(client, "median") == ("0.01", within(*medians))
    assert ask(client, "p100") == ("0.01", within(*map(max, days.values())))
    for query in (
        {"timezone": "Europe/Berlin"},
        {"granularity": "hour"},
        {"granularity": "year", "tsMin": "2024-03-01T22:10:00Z"},
    ):
        accuracy, found = ask(client, "p37.5", **query)
        settings.ROLLUP_HISTOGRAMS, settings.PERCENTILE_EVENTS = Namespaces.of(""), 1000
        assert accuracy == "0.01"
        assert ("exact", within(*found)) == ask(client, "p37.5", **query)
        settings.ROLLUP_HISTOGRAMS, settings.PERCENTILE_EVENTS = Namespaces.of("Shop"), 1
    response = client.get(PATH, {"aggregationType": "median", "granularity": "day", "format": "csv"})
    lines = response.getvalue().decode().splitlines()
    assert (response["Tracking-Accuracy"], [float(line.split(",")[1]) for line in lines[1:]]) == (
        "0.01",
        within(*medians),
    )
    filled = {"tsMin": "2024-03-04", "tsMax": "2024-03-05", "fill": "previous"}
    assert ask(client, "median", **filled) == ("0.01", within(medians[-1]) * 2)


def test_what_whole_hours_cannot_make_up_is_exact(client):
    add(1, 2, 4, 8)
    roll_up_all()

    for query in (
        {"granularity": "minute"}, {"granularity": "none"}, {"timezone": "Asia/Kathmandu"}, {"tsMin": "2024-03-01T22:00:01Z", "tsMax": "2024-03-01T22:59Z"},
    ):  # fmt: skip
        assert ask(client, "p100", **query)[0] == "exact"
    assert "Tracking-Accuracy" not in client.get(PATH, {"aggregationType": "stddev", "granularity": "day"})


def test_turned_on_later_answers_are_exact_until_they_are_made(client, partition_count, settings):
    settings.ROLLUP_HISTOGRAMS = Namespaces.of("")
    add(*range(1, 6))
    roll_up_all()
    exact = ask(client, "p95")
    assert exact == ("exact", [pytest.approx(4.8)])
    etag = client.get(PATH, {"aggregationType": "p95"})["ETag"]

    settings.ROLLUP_HISTOGRAMS = Namespaces.of("Shop")
    assert client.get(PATH, {"aggregationType": "p95"})["ETag"] != etag
    add(6, 7, start=START + timedelta(minutes=30), step=timedelta(hours=1))
    roll_up_all()  # of both hours a part is in histograms now
    assert ask(client, "p95") == ("exact", [pytest.approx(6.7)])
    with pytest.raises(CommandError, match="2 rollups differ from their events"):
        verify()
    assert verify("--repair") == [
        "Shop/order, histogram of the hour 2024-03-01T22:00:00Z: 1 events are in its bins, and 4 should be",
        "Shop/order, histogram of the hour 2024-03-01T23:00:00Z: 1 events are in its bins, and 3 should be",
        "Repaired 2 rollups.",
    ]
    assert stored() == expected()
    assert verify() == ["All rollups of 1 series are right."]
    assert ask(client, "p95") == ("0.01", within(6.7))


def test_those_of_any_number_of_hours_are_made_anew_at_once(db, settings):
    """SQLite takes no condition of more than 1,000 parts."""
    settings.ROLLUP_HISTOGRAMS = Namespaces.of("")
    add(*range(1_100), step=timedelta(hours=2))
    roll_up_all()
    settings.ROLLUP_HISTOGRAMS = Namespaces.of("Shop")

    assert verify("--repair")[-1] == "Repaired 1100 rollups."

    assert stored() == expected()
    Event.objects.update(value=1)
    assert stored() == expected()
    assert verify() == ["All rollups of 1 series are right."]


def test_a_wrong_one_is_found_and_repaired(db):
    add(*range(1, 6))
    roll_up_all()
    Histogram.objects.filter(resolution=DAY, bin=bin_of(2)).update(bin=bin_of(200))
    Histogram.objects.filter(resolution=HOUR, bin=bin_of(4)).update(count=2)
    with pytest.raises(CommandError, match="2 rollups differ"):
        verify()
    verify("--repair")

    assert stored() == expected()


@pytest.mark.parametrize("resolution", [DAY, None])
def test_where_all_hours_are_right_the_rest_is_repaired(db, partition_count, resolution):
    add(*range(1, 6))
    roll_up_all()
    if resolution is None:
        Rollup.objects.whole_series().update(max=7)
    else:
        Histogram.objects.filter(resolution=resolution, bin=bin_of(2)).update(count=7)
    with pytest.raises(CommandError, match="1 rollups differ"):
        verify()
    verify("--repair")

    assert verify()[-1].endswith("are right.")
    assert stored() == expected()


def test_a_304_does_not_say_how_accurate_the_answer_was(client):
    add(1, 2, 4, 8)
    roll_up_all()
    query = {"aggregationType": "p95", "granularity": "day"}

    whole = client.get(PATH, query)
    unchanged = client.get(PATH, query, headers={"If-None-Match": whole["ETag"]})

    assert (whole.status_code, whole["Tracking-Accuracy"]) == (200, "0.01")
    assert (unchanged.status_code, unchanged.get("Tracking-Accuracy")) == (304, None)


def test_pruned_hours_keep_them(client, partition_count, settings):
    add(*range(1, 13), step=timedelta(hours=6))
    roll_up_all()
    before = datetime(2024, 3, 3, 4, tzinfo=UTC)
    series = retention.Series("Shop", "order", before)
    histograms = stored()
    assert sum(retention.prune(series)) == 5

    assert (stored(), verify()) == (histograms, ["All rollups of 1 series are right."])
    assert ask(client, "p100") == ("0.01", within(1, 5, 9, 12))
    refused = "Events are kept from 2024-03-03T04:00:00Z on, and p100 needs all of them; choose a window that starts then or later."
    # within an hour that is pruned, no histogram tells
    assert ask(client, "p100", tsMin="2024-03-01T21:30:00Z") == ("0.01", within(1, 5, 9, 12))
    assert ask(client, "p100", tsMin="2024-03-02T04:00:00Z", tsMax="2024-03-02T10:00:00Z") == (
        400,
        {"tsMin": [refused]},
    )
    assert ask(client, "p100", tsMin="2024-03-02T04:00:00Z", tsMax="2024-03-02T10:59:59.999999Z") == ("0.01", within(3))
    Histogram.objects.filter(bucket=datetime(2024, 3, 2, 4, tzinfo=UTC)).delete()
    assert ask(client, "p100", timezone="Europe/Berlin") == (400, {"tsMin": [refused]})

    assert sum(retention.prune_rollups(series)) > 0
    assert min(row[2] for row in stored()) == datetime(2024, 3, 3, tzinfo=UTC)
    assert stored() == expected()
    list(retention.prune(retention.Series("Shop", "order", datetime(2025, 1, 1, tzinfo=UTC))))
    list(retention.prune_rollups(retention.Series("Shop", "order", datetime(2025, 1, 1, tzinfo=UTC))))
    assert (stored(), Rollup.objects.count()) == ({}, 0)


def test_a_series_that_begins_within_an_hour_is_answered_of_when_it_is_pruned(client, partition_count):
    add(*range(1, 9), start=START + timedelta(minutes=17), step=timedelta(hours=6))  # until the 3rd, 16:17
    add(100, start=START + timedelta(minutes=17, days=9))
    roll_up_all()
    as_events_tell = ask(client, "p100")
    list(retention.prune(retention.Series("Shop", "order", datetime(2024, 3, 5, tzinfo=UTC))))

    assert ask(client, "p100") == as_events_tell == ("0.01", within(1, 5, 8, 100))
    assert ask(client, "p100", tsMax="2024-03-04") == ask(client, "p100", tsMin="2024-03-01", tsMax="2024-03-04")
    lines = client.get(PATH, {"aggregationType": "p100", "granularity": "day", "format": "csv"})
    assert (lines["Tracking-Accuracy"], len(lines.getvalue().splitlines())) == ("0.01", 5)
    # a window that begins in the hour of the first event, before that
    amid = {"aggregationType": "p100", "granularity": "hour", "tsMin": "2024-03-01T22:05:00Z", "tsMax": "2024-03-03"}
    answers = [client.get(PATH, {**amid, "format": form}) for form in ("json", "ndjson")]
    assert [(each.status_code, each["Tracking-Accuracy"]) for each in answers] == [(200, "0.01")] * 2
    assert answers[0].json() == [json.loads(line) for line in answers[1].getvalue().splitlines()]
    assert [item["value"] for item in answers[0].json()] == within(*range(1, 9))
    # the value before a window, whose end cuts no hour, and one that cuts the hour of the first event
    filled = {"tsMax": "2024-03-05", "fill": "previous"}
    assert ask(client, "p100", tsMin="2024-03-04", **filled) == ("0.01", within(8, 8))
    [said] = ask(
        client,
        "p100",
        tsMin="2024-03-01T22:30:00Z",
        granularity="hour",
        tsMax="2024-03-01T23:59:59.999999Z",
        fill="previous",
    )[1]["fill"]
    assert said.endswith("also for the value before the window; choose another fill.")


@pytest.mark.one_partition
def test_a_percentile_takes_two_queries_more_than_the_state(client, django_assert_num_queries):
    add(1, 2)
    roll_up_all()

    # the token, the series' state; how many events each bucket has, and their bins
    with django_assert_num_queries(4):
        client.get(PATH, {"aggregationType": "p95", "granularity": "day", "tsMin": "2024-03-01", "tsMax": "2024-03-02"})


def test_the_last_day_there_is_can_be_made_again(partition_count):
    add(1.0, 2.0, start=datetime(9999, 12, 31, 22, tzinfo=UTC))
    add(3.0, start=datetime(9999, 12, 30, 23, tzinfo=UTC))
    roll_up_all()
    assert len(stored()) == 6

    Event.objects.filter(value=1.0).delete()

    assert stored() == expected()
    assert len(stored()) == 4


def test_those_of_a_series_that_is_being_renamed_are_not_compared(db):
    add(1.0, 2.0)
    roll_up_all()
    [stretch] = verification.stretches("Shop", "order")
    move = renaming.move(SeriesKey("Shop", "order"), SeriesKey("Shop", "orders"))
    steps = Mover(move).steps(lambda: True)
    while Histogram.objects.filter(name="order").exists():
        next(steps)
    assert Event.objects.filter(name="order").exists()

    assert verification.histogram_differences(stretch) == []
    assert verification.histogram_differences(stretch._replace(name="orders")) == []
