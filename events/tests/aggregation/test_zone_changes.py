"""Windows in which a zone's clocks were ahead of UTC by odd minutes or seconds for a while."""

from datetime import UTC, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import pytest

from events.aggregation.answer import aggregate
from events.aggregation.question import Question
from events.calendar.granularity import Granularity
from events.log.namespace_patterns import Namespaces
from events.models import Event, Resolution, Rollup
from events.tests.support.answers import stream
from events.tests.support.by_hand import answer_by_hand
from events.tests.support.clients import client_with
from events.tests.support.responses import items_of
from events.tests.support.rolling_up import roll_up_all
from events.worker import retention

client = client_with("aggregation")

PATH = "/api/events/Frontend/pageView"


@pytest.mark.parametrize(
    ("stray", "window"),
    [
        ([], {"tsMin": "1900-01-01", "tsMax": "2025-01-01"}),
        (["1890-01-01T10:30:00"], {}),
        (["1911-03-10T23:50:38", "1911-03-10T23:50:40"], {"tsMin": "1900-01-01"}),
    ],
)
def test_hours_after_local_mean_time_are_read_from_the_rollups(client, make_event, partition_count, stray, window):
    for timestamp in stray:
        make_event(timestamp=timestamp, value=2)
    for timestamp in ("2020-11-12T11:10:00", "2020-11-12T11:40:00", "2020-11-13T11:40:00"):
        make_event(timestamp=timestamp, value=3)
    roll_up_all()
    Rollup.objects.filter(resolution=Resolution.HOUR).update(max=4)  # as if their events had been larger

    response = client.get(PATH, {"aggregationType": "max", "granularity": "day", "timezone": "Europe/Paris", **window})

    # the clocks were 9 minutes and 21 seconds ahead until the last ten minutes of that day, which came once more
    assert items_of(response) == [
        *([(f"{stray[0]}Z", 2)] if stray else []), ("2020-11-12T11:10:00Z", 4), ("2020-11-13T11:40:00Z", 4)
    ]  # fmt: skip


def test_percentiles_after_local_mean_time_come_from_histograms(client, make_event, settings, partition_count):
    settings.ROLLUP_HISTOGRAMS = Namespaces.of("Frontend")
    for minute in range(0, 300, 30):
        make_event(timestamp=datetime(2020, 11, 12, 10, tzinfo=UTC) + timedelta(minutes=minute), value=100)
    roll_up_all()
    query = {
        "aggregationType": "p95", "granularity": "day", "timezone": "Europe/Paris",
        "tsMin": "1900-01-01", "tsMax": "2025-01-01",
    }  # fmt: skip

    answers = [client.get(PATH, {**query, "format": form}) for form in ("json", "ndjson")]

    assert [(each.status_code, each["Tracking-Accuracy"]) for each in answers] == [(200, "0.01")] * 2
    assert items_of(answers[0]) == [("2020-11-12T10:00:00Z", pytest.approx(100, rel=0.01))]


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("Asia/Singapore", "1981-12-31T16:00:00"),  # from 7:30 to 8:00 ahead
        ("Europe/Amsterdam", "1937-06-30T22:40:28"),  # from 1:19:32 to 1:20 ahead
        ("Africa/Monrovia", "1972-01-07T00:44:30"),  # from 0:44:30 behind
        ("Australia/Lord_Howe", "2024-10-05T15:30:00"),  # from 10:30 to 11:00 ahead, each year
    ],
)
def test_buckets_before_and_after_the_change_are_exact(partition_count, settings, pruned, name, change):
    zone = ZoneInfo(name)
    start = datetime.fromisoformat(change).replace(tzinfo=UTC) - timedelta(hours=30, seconds=13)
    events = [(start + number * timedelta(minutes=11, seconds=7), number % 7 / 8) for number in range(330)]
    Event.objects.bulk_create(
        Event(namespace="Frontend", name="pageView", timestamp=timestamp, value=value) for timestamp, value in events
    )
    roll_up_all()
    if pruned:
        settings.RETENTION_MAY_DELETE_MOST = True
        before = (start + timedelta(hours=36)).replace(minute=0, second=0)
        assert sum(retention.prune(retention.Series("Frontend", "pageView", before)))
    ends = start + timedelta(hours=1, minutes=3), start + timedelta(hours=59)

    for granularity, kind in product(["hour", "day", "month"], ["sum", "max"]):
        for ts_min, ts_max in (
            (None, None),
            ends,
            (datetime(1880, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)),
        ):
            question = Question(
                namespace="Frontend", name="pageView", granularity=Granularity(granularity), aggregation_type=kind,
                zone=zone, ts_min=ts_min, ts_max=ts_max,
            )  # fmt: skip
            expected = answer_by_hand(events, kind, granularity, zone, ts_min, ts_max)
            assert aggregate(question) == list(stream(question)) == expected
