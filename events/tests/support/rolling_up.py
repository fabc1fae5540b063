"""Events to roll up, what the rollups must then be, and what they are."""

from datetime import UTC, datetime, timedelta

from events.aggregation.answer import aggregate
from events.aggregation.question import Question
from events.calendar.timestamps import EPOCH
from events.database import partitions
from events.models import Event, Rollup, Thinned, Watermark
from events.tests.support.by_hand import answer_by_hand
from events.worker import roll_up

START = datetime(2024, 2, 28, 22, 58, 30, tzinfo=UTC)


def events(count, name="cpu", step=timedelta(seconds=25), start=START):
    return [
        Event(namespace="Server-1", name=name, timestamp=start + step * number, value=number * 3 % 17 / 8)
        for number in range(count)
    ]


def expected(resolutions=(60, 3600, 0)):
    """The rollups that the events up to their watermark make, computed in Python."""
    found = {}
    reached = {each: Watermark.objects.current(each).marks for each in partitions.every()}
    for event in Event.objects.order_by("pk"):
        if not reached[event.partition_id].hold(event.pk):
            continue
        for resolution in resolutions:
            seconds = int(event.timestamp.timestamp())
            bucket = datetime.fromtimestamp(seconds - seconds % resolution, UTC) if resolution else EPOCH
            found.setdefault((resolution, event.namespace, event.name, bucket), []).append(event)
    return {
        key: (
            min(event.timestamp for event in of_bucket),
            max(event.timestamp for event in of_bucket),
            len(of_bucket),
            sum(event.value for event in of_bucket),
            min(event.value for event in of_bucket),
            max(event.value for event in of_bucket),
        )
        for key, of_bucket in found.items()
    }


def without_thinned(rollups):
    """Those of the rollups that are to be stored: all but the minutes of hours that are to have none."""
    spans = {(row.namespace, row.name): row.span for row in Thinned.objects.all()}
    return {
        key: rollup
        for key, rollup in rollups.items()
        if key[0] != 60 or (span := spans.get(key[1:3])) is None or not span.contains(key[3])
    }


def stored():
    columns = ("first_timestamp", "last_timestamp", "count", "sum", "min", "max")
    keys = ("resolution", "namespace", "name", "bucket")
    return {row[:4]: row[4:] for row in Rollup.objects.values_list(*keys, *columns)}


def roll_up_all():
    while roll_up.take_step():
        pass


def asked(kind="sum", answer=aggregate):
    question = Question(namespace="Server-1", name="cpu", granularity="minute", aggregation_type=kind)
    return [(item["aggregatedTimestamp"], item["value"]) for item in answer(question)]


def by_hand(kind="sum"):
    events = Event.objects.filter(name="cpu").values_list("timestamp", "value")
    return [(item["aggregatedTimestamp"], item["value"]) for item in answer_by_hand(events, kind, "minute")]
