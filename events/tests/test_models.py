"""Event: what the database itself refuses, what an event calls itself, and how others are found."""

from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Count

from events.models import Event

NOON = datetime(2020, 11, 12, 12, tzinfo=UTC)


def test_an_event_reads_as_a_sentence(make_event):
    event = make_event(value=0.5)

    assert str(event) == "Frontend/pageView = 0.5 at 2020-11-12T11:10:00Z"


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"namespace": ""}, "event_series_named"),
        ({"name": ""}, "event_series_named"),
        ({"value": float("inf")}, "event_value_finite"),
        ({"value": float("-inf")}, "event_value_finite"),
        ({"value": float("nan")}, "value"),
    ],
)
def test_the_database_refuses_what_no_event_may_be(make_event, fields, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        make_event(**fields)

    assert not Event.objects.exists()


def test_the_distinct_values_come_from_the_index_one_by_one(make_event, django_assert_num_queries):
    for namespace, name in [("b", "x"), ("a", "y"), ("b", "x"), ("b", "z"), ("a", "x")]:
        make_event(namespace, name)

    with django_assert_num_queries(3):
        assert list(Event.objects.namespaces()) == ["a", "b"]
    with django_assert_num_queries(3):
        assert list(Event.objects.names("b")) == ["x", "z"]


SERIES = ("Frontend", "pageView")
TAILS = {
    "of a series": lambda pk: Event.objects.tail_of_series(*SERIES, pk).order_by(),
    "of a series, by timestamp": lambda pk: grouped(Event.objects.tail_of_series(*SERIES, pk).within(NOON, NOON), "timestamp"),
    "of a namespace, by series": lambda pk: grouped(Event.objects.filter(namespace="Frontend").after(pk), "namespace", "name"),
    "of all, by series": lambda pk: grouped(Event.objects.after(pk), "namespace", "name"),
}  # fmt: skip


def grouped(events, *columns):
    return events.order_by().values(*columns).annotate(count=Count("pk"))


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS.keys())
def test_the_tail_is_found_by_its_ids(make_event, tail):
    """SQLite has no statistics, and would look through the whole series, or all of them."""
    seen = make_event(*SERIES, timestamp=NOON)
    make_event(*SERIES, timestamp=NOON)

    found = tail(seen.pk)

    assert len(found) == 1
    if connection.vendor == "sqlite":
        assert "SEARCH events_event USING INTEGER PRIMARY KEY (rowid>?)" in found.explain()
