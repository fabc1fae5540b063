"""Statements that PostgreSQL prepares once in a session."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from events.aggregation.answer import aggregate
from events.aggregation.question import Question
from events.calendar.granularity import Granularity
from events.database import prepared
from events.models import Event
from events.tests.support.rolling_up import roll_up_all

pytestmark = pytest.mark.django_db(transaction=True)

START = datetime(2024, 4, 29, 12, tzinfo=UTC)  # a Monday
EVERY_HALF_DAY = [(START + timedelta(hours=12 * number), float(number)) for number in range(24)]


@pytest.fixture(autouse=True)
def stored(transactional_db):
    connection.close()
    for name, more in (("order", 0), ("visit", 100)):
        Event.objects.bulk_create(
            Event(namespace="Shop", name=name, timestamp=at, value=value + more) for at, value in EVERY_HALF_DAY
        )
    roll_up_all()


def ask(granularity="day", kind="max", name="order", first=None, last=None):
    question = Question(
        namespace="Shop", name=name, ts_min=first, ts_max=last, granularity=Granularity(granularity), aggregation_type=kind,
        zone=UTC,
    )  # fmt: skip
    return [item["value"] for item in aggregate(question)]


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


def runs():
    """How often each that is prepared was run."""
    return [
        count
        for (count,) in execute("SELECT generic_plans + custom_plans FROM pg_prepared_statements ORDER BY prepare_time")
    ]


@pytest.mark.one_partition
def test_each_is_prepared_once_in_a_session_and_is_asked_of_any_series_and_window():
    for _ in range(8):  # the database chooses a plan for all values after five times
        assert ask("week") == [12.0, 23.0]
        assert ask("day")[:3] == [0.0, 2.0, 4.0]
        assert ask("week", name="visit") == [112.0, 123.0]
        assert ask("week", first=START, last=START + timedelta(days=8, microseconds=-1)) == [12.0, 15.0]

    assert runs() == [32, 24, 8]  # the state, by the week, by the day

    connection.close()
    assert ask("day")[:3] == [0.0, 2.0, 4.0]
    assert runs() == [1, 1]


def test_types_of_aggregates_and_granularities_are_told_apart():
    expected = {"max": [12.0, 23.0], "min": [0.0, 13.0], "sum": [78.0, 198.0], "count": [13, 11], "avg": [6.0, 18.0]}

    assert {kind: ask("week", kind) for kind in expected} == expected
    assert {kind: ask("week", kind) for kind in expected} == expected
    assert ask("hour") == ask("minute") == [value for _, value in EVERY_HALF_DAY]


@pytest.mark.one_partition
def test_a_session_that_has_forgotten_them_fails_once(client_with_scopes):
    client = client_with_scopes("aggregation")
    path = "/api/events/Shop/order?granularity=week&aggregationType=max"
    whole = [
        {"aggregatedTimestamp": "2024-04-29T12:00:00Z", "value": 12.0},
        {"aggregatedTimestamp": "2024-05-06T00:00:00Z", "value": 23.0},
    ]
    assert client.get(path).json() == whole
    execute("DEALLOCATE ALL")

    refused = client.get(path)

    assert (refused.status_code, refused["Retry-After"]) == (503, "1")
    assert client.get(path).json() == whole


@pytest.mark.one_partition
def test_a_later_release_may_add_columns_and_change_types():
    assert ask("week") == [12.0, 23.0]
    with transaction.atomic():
        execute("ALTER TABLE events_watermark ADD COLUMN later integer")
        execute("ALTER TABLE events_rollup ADD COLUMN later integer")

        assert ask("week") == [12.0, 23.0]

        execute("ALTER TABLE events_watermark ALTER COLUMN changes TYPE numeric")
        with pytest.raises(prepared.ForgottenStatement), transaction.atomic():
            ask("week")
        assert ask("week") == [12.0, 23.0]
        transaction.set_rollback(True)


@pytest.mark.one_partition
def test_a_session_has_no_more_than_so_many(monkeypatch):
    monkeypatch.setattr(prepared, "_MOST", 2)

    assert [ask("week"), ask("year"), ask("year")] == [[12.0, 23.0], [23.0], [23.0]]
    assert runs() == [3, 1]


def test_behind_a_pooler_none_is_prepared(monkeypatch):
    connection.ensure_connection()
    monkeypatch.setattr(connection, "is_pooled", True)

    assert ask("week") == [12.0, 23.0]
    assert runs() == []


def test_with_several_partitions_none_is_prepared(partition_count):
    roll_up_all()

    assert ask("week") == [12.0, 23.0]
    assert bool(runs()) == (partition_count == 1)
