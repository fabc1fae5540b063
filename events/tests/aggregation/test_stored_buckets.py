"""Answers whose buckets rollups hold as they are asked for, beside edges and events that came late."""

import random
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from events.aggregation import reader
from events.models import Event, Rollup
from events.tests.support.by_hand import REDUCE, answer_by_hand
from events.tests.support.clients import client_with
from events.tests.support.rolling_up import roll_up_all

client = client_with("aggregation")

PATH = "/api/events/Server/cpu"
START = datetime(2024, 2, 28, 20, tzinfo=UTC)


@pytest.fixture
def handed_over(monkeypatch):
    """How many buckets the database handed over, in each answer."""
    counts = []

    def count(*arguments):
        found = reader_read(*arguments)
        counts.append(len(found))
        return found

    reader_read = reader.read_stored
    monkeypatch.setattr(reader, "read_stored", count)
    return counts


def store(events):
    Event.objects.bulk_create(
        Event(namespace="Server", name="cpu", timestamp=timestamp, value=value) for timestamp, value in events
    )


def asked(client, kind, granularity, **ends):
    query = {"granularity": granularity, "aggregationType": kind} | {key: end.isoformat() for key, end in ends.items()}
    return client.get(f"{PATH}?{urlencode(query)}").json()


@pytest.mark.parametrize("kind", REDUCE)
@pytest.mark.parametrize(("granularity", "seconds"), [("minute", 60), ("hour", 3600)])
def test_each_bucket_is_exact_whoever_makes_its_value(client, partition_count, handed_over, kind, granularity, seconds):
    chance = random.Random(f"{kind} {granularity}")
    values = [0.1, 0.3, -0.7, 12.25, 1e17, 5e-324, -0.0, 1e-300]
    events = [
        (START + timedelta(milliseconds=chance.randrange(9 * 3_600_000)), chance.choice(values) * chance.choice([1, 3]))
        for _ in range(300)
    ]
    first, last = START + timedelta(minutes=90, microseconds=1), START + timedelta(hours=7, seconds=5)
    store(events)
    roll_up_all()

    assert asked(client, kind, granularity) == answer_by_hand(events, kind, granularity)
    assert asked(client, kind, granularity, tsMin=first, tsMax=last) == answer_by_hand(
        events, kind, granularity, ts_min=first, ts_max=last
    )
    late = [(START + timedelta(hours=4, minutes=30), 0.2), (START + timedelta(hours=30), 0.6)]
    store(late)
    events += late
    assert asked(client, kind, granularity) == answer_by_hand(events, kind, granularity)
    assert asked(client, kind, granularity, tsMin=first, tsMax=last) == answer_by_hand(
        events, kind, granularity, ts_min=first, ts_max=last
    )

    of_all, of_window, before_late, within_window = handed_over
    assert of_all == len({timestamp.timestamp() // seconds for timestamp, _ in events[:300]})
    assert of_all > of_window > within_window > 0
    assert of_all > before_late > 0


def test_a_series_without_ends_in_the_question_has_no_edges(client, make_event, django_assert_num_queries):
    """So its last hour, which is not full, is not read by itself."""
    make_event(namespace="Server", name="cpu", timestamp="2024-02-28T20:59:00", value=1)
    make_event(namespace="Server", name="cpu", timestamp="2024-02-28T21:10:00", value=2)
    roll_up_all()
    Rollup.objects.filter(resolution=3600).update(sum=8, rest=0, max=8)  # tells where the answer comes from

    answer = asked(client, "avg", "hour")

    assert answer == [
        {"aggregatedTimestamp": "2024-02-28T20:59:00Z", "value": 8.0},
        {"aggregatedTimestamp": "2024-02-28T21:10:00Z", "value": 8.0},
    ]


def test_the_first_hour_there_is_may_be_merged(client, make_event):
    make_event(namespace="Server", name="cpu", timestamp="0001-01-01T00:10:00", value=1)
    roll_up_all()
    make_event(namespace="Server", name="cpu", timestamp="0001-01-01T00:05:00", value=2)

    assert asked(client, "avg", "hour") == [{"aggregatedTimestamp": "0001-01-01T00:05:00Z", "value": 1.5}]
