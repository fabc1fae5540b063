"""Statements of answers that are kept, beside those that are built for each answer."""

from datetime import UTC, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import pytest

from events.aggregation import kept_statements
from events.aggregation.answer import aggregate
from events.aggregation.bucket_rows import BucketRows
from events.aggregation.plan import Piece
from events.aggregation.question import Question
from events.aggregation.sources import Source
from events.aggregation.stored_buckets import stored_rows
from events.calendar.granularity import Granularity
from events.calendar.spans import Span
from events.database.statements import Statement
from events.database.trunc_clock import Rules
from events.models import Event, Resolution
from events.rollups.marks import Marks
from events.tests.support.by_hand import answer_by_hand
from events.tests.support.rolling_up import roll_up_all

START = datetime(2024, 3, 29, 20, 15, 30, tzinfo=UTC)
STEP = timedelta(minutes=25, seconds=3)
KINDS = ("avg", "max", "count")
ZONES = (UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kathmandu"))
WINDOWS = (
    (START + timedelta(hours=1), START + timedelta(hours=2)),  # more than a day before the clocks change
    (START + timedelta(minutes=90, seconds=7), START + timedelta(hours=80, microseconds=1)),
    (None, None),
)


def value_of(name, number):
    return number * 7 % 23 / 8 + (100 if name == "memory" else 0)


def store(first, count):
    events = [
        (name, START + STEP * number, value_of(name, number))
        for name in ("cpu", "memory")
        for number in range(first, first + count)
    ]
    Event.objects.bulk_create(
        Event(namespace="Server", name=name, timestamp=at, value=value) for name, at, value in events
    )


def questions():
    for name, granularity, kind, zone, (first, last) in product(
        ("cpu", "memory"), ("minute", "hour", "day"), KINDS, ZONES, WINDOWS
    ):
        yield Question(
            namespace="Server", name=name, ts_min=first, ts_max=last, granularity=Granularity(granularity),
            aggregation_type=kind, zone=zone,
        )  # fmt: skip


def expected(question, count):
    events = [(START + STEP * number, value_of(question.name, number)) for number in range(count)]
    return answer_by_hand(
        events, question.aggregation_type, question.granularity, question.zone, question.ts_min, question.ts_max
    )


def test_each_answer_is_its_own_whatever_was_asked_before(partition_count):
    kept_statements._kept.cache.clear()
    store(0, 200)
    roll_up_all()
    store(200, 30)  # the tail
    asked = list(questions())

    for question in [*asked, *reversed(asked)]:
        assert aggregate(question) == expected(question, 230)


@pytest.mark.parametrize("marks", [Marks({0: 7}), Marks({0: 7, 3: (3 << 48) + 9})])
def test_each_statement_is_the_one_that_is_built_for_its_values(partition_count, marks):
    span = Span(START, START + timedelta(days=3, microseconds=-1))
    piece = Piece(Resolution.HOUR, *span)
    zone = ZoneInfo("Europe/Berlin")
    rows = BucketRows(Granularity.DAY, "avg", Rules("day", zone, *span), aligned=False, bounds=True)
    hours = BucketRows(Granularity.HOUR, "avg", Rules("hour", UTC, *span), aligned=True)
    for source in (Source("Server", "cpu"), Source("Shop", "order"), Source("Shop", "order", after=Marks({0: 5}))):
        rollups = source.rollups().filter(resolution=3600, bucket__range=span)
        events = source.events().within(*span).up_to(marks)

        assert kept_statements.of_rollups(rows, source, piece) == Statement.of(rows.of_rollups(rollups))
        assert kept_statements.of_stored(hours, source, piece) == Statement.of(hours.stored(rollups))
        assert kept_statements.of_buckets("avg", source, piece) == Statement.of(stored_rows(rollups, "avg"))
        assert kept_statements.of_events(rows, source, span, marks) == Statement.of(rows.of_events(events))
        for tail in (9, 1_000_000):
            of_tail = rows.of_events(source.tail(marks, tail).within(*span))
            assert kept_statements.of_tail(rows, source, span, marks, tail) == Statement.of(of_tail)


@pytest.mark.only_on("postgresql")
def test_few_long_statements_are_kept(db):
    """As many years as these have many changes of the clocks, which are in the statement."""
    kept_statements._kept.cache.clear()
    source, first = Source("Server", "cpu"), datetime(1900, 1, 1, tzinfo=UTC)
    lengths = []
    for year in range(2400, 2500):
        piece = Piece(Resolution.HOUR, first, datetime(year, 7, 1, tzinfo=UTC))
        rules = Rules("day", ZoneInfo("Europe/Berlin"), *piece[1:])
        rows = BucketRows(Granularity.DAY, "max", rules, aligned=False)
        rollups = source.rollups().filter(resolution=3600, bucket__range=piece[1:])

        written = kept_statements.of_rollups(rows, source, piece)

        assert written == Statement.of(rows.of_rollups(rollups))
        lengths.append(len(written.sql))
    kept = [len(each.sql) for each in kept_statements._kept.cache.values()]
    assert sum(lengths) > 2_000_000 >= sum(kept) > 1_900_000


def test_a_statement_is_built_once_for_all_series(db):
    kept_statements._kept.cache.clear()
    store(0, 60)
    roll_up_all()
    ask = Question(namespace="Server", name="cpu", granularity=Granularity.DAY, aggregation_type="max")
    first = aggregate(ask)
    kept = dict(kept_statements._kept.cache)

    other = aggregate(Question(namespace="Server", name="memory", granularity=Granularity.DAY, aggregation_type="max"))

    assert [item["value"] + 100 for item in first] == [item["value"] for item in other]
    assert dict(kept_statements._kept.cache) == kept
    assert len(kept) == 1
