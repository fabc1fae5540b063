"""The newest events of many series, against sorting all of them."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from events.admin.newest_events import Newest
from events.log.series import SeriesKey
from events.models import Event

START = datetime(2020, 1, 1, tzinfo=UTC)


def store(seed):
    """Some series, dense and sparse ones, whose events often share a timestamp; in an order of their own."""
    random = Random(seed)
    events = []
    for number in range(random.choice([1, 3, 20])):
        namespace, name = f"n{number % 4}", random.choice(["ä", "1", "x'y", '"']) + str(number)
        span = random.choice([1, 10, 10_000])
        events += [
            Event(namespace=namespace, name=name, timestamp=START + timedelta(seconds=random.randrange(span)), value=1)
            for _ in range(random.choice([1, 2, 5, 60]))
        ]
    random.shuffle(events)
    Event.objects.bulk_create(events)
    return random


def keys():
    return sorted(SeriesKey(*key) for key in Event.objects.order_by().values_list("namespace", "name").distinct())


@pytest.mark.parametrize("seed", range(25))
def test_its_pages_are_those_of_the_sorted_events(db, seed):
    random = store(seed)
    series = random.sample(keys(), random.randint(1, len(keys())))
    moments = list(Event.objects.values_list("timestamp", flat=True).order_by("pk"))
    ends = sorted(random.choice([*moments, START - timedelta(1), START + timedelta(1)]) for _ in range(2))
    window = random.choice([(None, None), (ends[0], None), (None, ends[1]), ends])
    events = Event.objects.within(*window).order_by("-timestamp", "-pk")
    expected = [event for event in events if (event.namespace, event.name) in series]
    newest = Newest(series, *window)

    assert newest.count(1_000_000) == len(expected)
    assert newest.count(7) == min(7, len(expected))
    size = random.choice([1, 3, 10])
    for start in [*range(0, min(len(expected), 30), size), len(expected)]:
        assert newest.page(start, start + size) == expected[start : start + size]


def test_none_of_no_series(db):
    assert (Newest([], None, None).count(10), Newest([], None, None).page(0, 10)) == (0, [])


def test_it_looks_no_further_than_the_page(db):
    """Ten places of one series, and of the others one, however many events they have."""
    Event.objects.bulk_create(
        Event(namespace="dense", name="a", timestamp=START + timedelta(seconds=i), value=1) for i in range(2_000)
    )
    Event.objects.bulk_create(
        Event(namespace=f"sparse {i}", name="a", timestamp=START - timedelta(days=i), value=1) for i in range(50)
    )
    newest = Newest(keys(), None, None)

    assert newest._reach(10)[1] == [("dense", "a")]
    assert len(newest.page(0, 10)) == 10
    with CaptureQueriesContext(
        connection,
    ) as captured:
        newest.page(0, 10)
    places = [query for query in captured if "OFFSET" in query["sql"] and "event.id" not in query["sql"]]
    assert len(places) == 5  # 1, 2, 4, 8 and 16
