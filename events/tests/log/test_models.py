"""Event: what the database itself refuses, and what an event calls itself."""

import pytest
from django.db import IntegrityError, connection, transaction

from events.models import Event
from events.rollups.marks import Marks

pytestmark = pytest.mark.usefixtures("partition_count")


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


@pytest.mark.parametrize(("tail", "is_by_id"), [(5, True), (6, False)])
def test_the_tail_of_a_series_is_found_by_its_ids_where_it_is_short(make_event, settings, tail, is_by_id):
    settings.ROLLUP_TAIL_EVENTS = 5
    old = make_event()
    expected = [make_event(), make_event(timestamp="2020-01-01")]
    make_event(name="other")
    make_event(namespace="other")

    events = Event.objects.tail_of_series("Frontend", "pageView", Marks.of_the_only_origin(old.pk), tail)

    assert list(events.order_by("pk")) == expected
    assert events.count() == 2
    if connection.vendor == "sqlite":
        assert ("USING INTEGER PRIMARY KEY (rowid>?)" in events.explain()) == is_by_id
