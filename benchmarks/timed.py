"""What is timed within a process that knows the models. Usage: python -m benchmarks.timed NAME [JSON ARGUMENTS]."""

import json
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from zoneinfo import ZoneInfo

import django
import msgspec

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.models import Avg, Max, Min  # noqa: E402
from django.db.models.functions import TruncDay, TruncHour, TruncMinute, TruncMonth, TruncWeek  # noqa: E402
from tqdm import tqdm  # noqa: E402

from events.aggregation import reader, stored_buckets  # noqa: E402
from events.aggregation import rows as fetching  # noqa: E402
from events.aggregation.answer import aggregate  # noqa: E402
from events.aggregation.question import Question  # noqa: E402
from events.log import append  # noqa: E402
from events.models import Event, Watermark  # noqa: E402
from events.serializers import AggregationQuerySerializer  # noqa: E402
from events.worker import thinning  # noqa: E402
from events.worker.pacing import Roller  # noqa: E402

TRUNC = {"minute": TruncMinute, "hour": TruncHour, "day": TruncDay, "week": TruncWeek, "month": TruncMonth}
START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


def plain(query: dict[str, str], times: int) -> dict[str, Any]:
    """Median milliseconds of the query that a plain implementation asks, and its values."""
    trunc = TRUNC[query["granularity"]]("timestamp", tzinfo=ZoneInfo(query.get("timezone", "UTC")))
    events = Event.objects.filter(namespace="Server", name="cpu")
    if "tsMin" in query:
        ends = [datetime.fromisoformat(query[end]).replace(tzinfo=UTC) for end in ("tsMin", "tsMax")]
        events = events.filter(timestamp__range=ends)
    aggregate = {"avg": Avg, "max": Max}[query["aggregationType"]]("value")
    rows = events.annotate(bucket=trunc).values("bucket").annotate(first=Min("timestamp"), aggregate=aggregate)
    rows = rows.order_by("bucket").values_list("first", "aggregate")
    took = []
    for _ in range(times):
        start = time.perf_counter()
        found = list(rows.all())
        took.append((time.perf_counter() - start) * 1000)
    return {"milliseconds": statistics.median(took), "values": [value for _, value in found]}


def rows(query: dict[str, str], times: int) -> float:
    """Median milliseconds of reading the rollups that an answer is made of, and writing as many items as JSON."""
    resolution = {"minute": 60}.get(query["granularity"], 3600)
    sql = (
        "SELECT first_timestamp, sum / count FROM events_rollup WHERE namespace = 'Server' AND name = 'cpu'"
        " AND resolution = %s AND bucket BETWEEN %s AND %s ORDER BY bucket"
    )
    ends = [query.get("tsMin", "2000-01-01"), query.get("tsMax", "2100-01-01")]
    took = []
    for _ in range(times + 2):
        start = time.perf_counter()
        with connection.cursor() as cursor:
            cursor.execute(sql, [resolution, *ends])
            msgspec.json.encode([{"aggregatedTimestamp": first, "value": value} for first, value in cursor.fetchall()])
        took.append((time.perf_counter() - start) * 1000)
    return statistics.median(took[2:])


def roll_up() -> dict[str, float]:
    """Seconds that the roller takes for all that is not rolled up, without the pauses that it makes on SQLite."""
    newest = Event.objects.order_by("pk").values_list("pk", flat=True).last() or 0
    position = Watermark.objects.highest()
    start = time.perf_counter()
    with tqdm(total=newest - position, unit=" events", desc="rolling up") as bar:
        for step in Roller().catch_up(lambda: True, lambda _: None):
            bar.update(step.event_id - position)
            position = step.event_id
    return {"seconds": time.perf_counter() - start}


def thin() -> dict[str, float]:
    """Seconds that the worker takes to leave out minutes, without its pauses."""
    start = time.perf_counter()
    for _ in tqdm(thinning.carry_out(), unit=" steps", desc="leaving minutes out"):
        pass
    return {"seconds": time.perf_counter() - start}


def watch() -> None:
    """Have the worker roll up all that is stored by now, as it does beside a server."""
    call_command("roll_up", stdout=sys.stderr)


def store(rows: str, count: int) -> None:
    """Store so many of the events that a function here makes."""
    made = list(globals()[rows](count))
    for start in range(0, count, 10_000):
        append.append(made[start : start + 10_000])


def one_series(count: int) -> Iterator[append.Row]:
    """Events of one series over a month."""
    for number in range(count):
        yield append.Row("Server", "cpu", START + number * (30 * 86_400_000_000 // count), number % 1000 / 8)


def thousand_series(count: int, microseconds: int = 1_000_000) -> Iterator[append.Row]:
    """Events of 1,000 series in turn, each with one a second, or at another interval."""
    for number in range(count):
        series, turn = number % 1000, number // 1000
        yield append.Row(
            f"Server-{series // 10}", f"metric{series % 10}", START + turn * microseconds, number % 1000 / 8
        )


def lonely(count: int) -> Iterator[append.Row]:
    """The same, every event alone in its minute and its hour."""
    return thousand_series(count, 3_700_000_000)


def copy_and_roll_up(rows: str, count: int) -> dict[str, float]:
    """Events a second of COPY, and of rolling the same events up."""
    made = list(globals()[rows](count))
    data = [append._binary(made[start : start + 10_000]) for start in range(0, count, 10_000)]
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE events_event, events_rollup; UPDATE events_watermark SET event_id = 0; CHECKPOINT")
        start = time.perf_counter()
        for batch in data:
            cursor.copy_expert(append._OF_THE_ONLY_PARTITION.copy, BytesIO(batch), size=1 << 20)
        copied = time.perf_counter() - start
        cursor.execute("CHECKPOINT")
    return {"copy": count / copied, "roll_up": count / roll_up()["seconds"]}


def explain(query: dict[str, str]) -> str:
    """How PostgreSQL reads the buckets that the service answers from."""
    plans = []

    def fetch(parts: Any) -> Any:
        if parts:
            sql, parameters = fetching._union(parts)
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {sql}", parameters)
                plans.extend(line for (line,) in cursor.fetchall())
        return _fetch(parts)

    _fetch = fetching.fetch
    reader.fetch = stored_buckets.fetch = fetch
    serializer = AggregationQuerySerializer(data=query)
    serializer.is_valid(raise_exception=True)
    aggregate(Question(namespace="Server", name="cpu", **serializer.validated_data))
    return "\n".join(plans)


if __name__ == "__main__":
    json.dump(globals()[sys.argv[1]](*map(json.loads, sys.argv[2:])), sys.stdout)
