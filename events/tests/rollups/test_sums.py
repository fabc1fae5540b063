"""Sums and averages are those of exact arithmetic, before, while and after they are rolled up."""

import json
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import cycle, groupby, islice, product
from math import fsum, inf, nextafter

import pytest
from django.db import connection
from hypothesis import HealthCheck, example, given, strategies
from hypothesis import settings as hypothesis_settings
from rest_framework.exceptions import ValidationError as BadRequest

from events.aggregation.answer import Answer, aggregate
from events.aggregation.question import Question
from events.calendar.timestamps import to_text
from events.models import Event, Rollup
from events.rollups import sums, sums_sql
from events.tests.support.answers import stream
from events.tests.support.clients import client_with
from events.tests.support.examples import IS_THOROUGH, few_of
from events.tests.support.rolling_up import roll_up_all
from events.worker import retention, roll_up

client = client_with("aggregation")

START = datetime(2024, 2, 28, 22, 59, 40, tzinfo=UTC)
BEYOND = "The sum of a bucket is beyond what a double holds."
HARD = [
    0.0, -0.0, 0.1, 0.2, 0.3, 1.0, -1.0, 1 / 3, 2.0**53, -(2.0**53), 2.0**53 - 1, 2.0**42, nextafter(2.0**42, inf),
    2.0**-30, nextafter(2.0**-30, 0), 2.0**-82, 2.0**-83, 1e16, -1e16, 1e22, 1e100, -1e100, 1e-10, 1e-100, 5e-324, -5e-324,
    2.2e-308, nextafter(sums.OVERFLOWING, 0), sums.OVERFLOWING, 1e308, -1e308, 1.7976931348623157e308,
]  # fmt: skip
values = strategies.sampled_from(HARD) | strategies.floats(allow_nan=False, allow_infinity=False)
ordinary = strategies.integers(-(10**9), 10**9).map(lambda number: number / 1000)
settings = hypothesis_settings(
    max_examples=few_of(25), derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def to_double(total, count=1):
    try:
        return float(total / count)
    except OverflowError:
        return None


def expected(rows, granularity, kind):
    """Each bucket's value, None where no double holds it; in exact arithmetic."""
    cut = {"none": 26, "minute": 16, "hour": 13, "year": 4}[granularity]
    rows = sorted(rows, key=lambda row: row[0])
    found = []
    for _, together in groupby(rows, key=lambda row: row[0].isoformat()[:cut]):
        of_bucket = list(together)
        total = sum((Fraction(value) for _, value in of_bucket), Fraction())
        value = to_double(total, len(of_bucket) if kind == "avg" else 1)
        found.append({"aggregatedTimestamp": to_text(of_bucket[0][0]), "value": value})
    return found


QUESTIONS = list(product(("none", "minute", "hour", "year"), ("sum", "avg")))


class Watch:
    """Asks the same questions again and again, in the everyday run some of them in turn.

    What has the same tag must be the same.
    """

    def __init__(self):
        self.questions = cycle(QUESTIONS)
        self.rows = []
        self.seen = {}

    def write(self, rows):
        Event.objects.bulk_create(
            Event(namespace="S", name="cpu", timestamp=timestamp, value=value) for timestamp, value in rows
        )
        self.rows += rows

    def look(self):
        for granularity, kind in islice(self.questions, len(QUESTIONS) if IS_THOROUGH else 3):
            question = Question(namespace="S", name="cpu", granularity=granularity, aggregation_type=kind)
            answer = expected(self.rows, granularity, kind)
            assert list(stream(question)) == answer
            if any(item["value"] is None for item in answer):
                with pytest.raises(BadRequest, match=BEYOND):
                    aggregate(question)
            else:
                assert aggregate(question) == answer
            tag = Answer(question).version()
            assert self.seen.setdefault(tag, json.dumps(answer)) == json.dumps(answer)


@settings
@given(
    batches=strategies.lists(
        strategies.lists(strategies.tuples(strategies.integers(0, 4), values), min_size=1, max_size=6)
        | strategies.lists(strategies.tuples(strategies.integers(0, 4), ordinary), min_size=1, max_size=6),
        min_size=1, max_size=3,
    ),
    size=strategies.integers(1, 7),
)  # fmt: skip
@example(batches=[[(0, 2.0**53), (1, 1.0), (2, -(2.0**53))]], size=1)
@example(batches=[[(0, 2.0**53), (0, 1.0), (0, 1e-300)], [(0, -(2.0**53)), (0, -1.0)]], size=2)
@example(batches=[[(0, 1e308), (1, 1e308)], [(1, -1e308), (2, -1e308), (2, 0.1)]], size=2)
@example(batches=[[(0, 5e-324), (1, -5e-324)], [(2, 5e-324), (2, 1.0)]], size=1)
@example(batches=[[(0, 0.1)] * 3, [(1, 0.1)] * 3, [(2, 0.1)] * 4], size=2)
@pytest.mark.django_db(transaction=True)
def test_the_answer_is_exact_at_every_stage_of_the_roller(batches, size):
    Event.objects.all().delete()
    roll_up.start_over()
    watch = Watch()
    for batch in batches:
        watch.write([(START + timedelta(seconds=15 * place), value) for place, value in batch])
        watch.look()
        while roll_up.take_step(most_events=size):
            watch.look()
    Event.objects.filter(pk=Event.objects.first().pk).update(value=0.5)
    watch.rows = list(Event.objects.values_list("timestamp", "value"))
    watch.look()
    roll_up.start_over()
    watch.look()
    roll_up_all()
    watch.look()


def test_fsum_says_the_same():
    for some in ([2.0**53, 1.0, -(2.0**53)], [0.1] * 10, [1e16, 1.0, -1e16, 5e-324], [1e308, 1e308, -1e308, 0.1]):
        units = sums.exact_total(some)
        assert sums.to_double(units) == (float(sum(map(Fraction, some))))
        assert units == sum(map(sums.units_of, some))
    assert sums.to_double(sums.exact_total([0.1] * 10)) == fsum([0.1] * 10) == 1.0


@settings
@given(
    parts=strategies.lists(strategies.tuples(values, values), min_size=2, max_size=2),
    many=strategies.lists(values, min_size=1, max_size=8),
)
@pytest.mark.django_db
def test_the_databases_add_up_as_python_does(parts, many):
    """Of sums and rests as rollups have them; where it takes more than two doubles they say so."""
    with connection.cursor() as cursor:
        a, b = (sums.split(sums.units_of(x / 2**200) + sums.units_of(y / 2**300))[:2] for x, y in parts)
        marks = "CAST(%s AS double precision) AS sum, CAST(%s AS double precision) AS rest, true AS is_exact"
        added = ", ".join(sums_sql.added("a", "b").values())
        sql = f"SELECT {added} FROM (SELECT {marks}) AS a, (SELECT {marks}) AS b"
        cursor.execute(sql, [*a, *b])
        found = cursor.fetchone()
    if found[2]:
        exact = sum(map(Fraction, (*a, *b)))
        assert Fraction(found[0]) + Fraction(found[1]) == exact
        assert found[0] == float(exact)
    else:
        assert a[1] or b[1]
    assert sums.exact_total(many) == sum(map(sums.units_of, many))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("form", ["json", "csv", "ndjson"])
def test_a_sum_and_its_tag_outlast_rolling_up(client, make_event, form):
    for minute, value in enumerate((2.0**53, 1.0, -(2.0**53))):
        make_event(namespace="S", name="cpu", timestamp=f"2024-05-01T00:0{minute}:00", value=value)

    def ask(**more):
        query = {"granularity": "hour", "aggregationType": "sum", "format": form}
        response = client.get("/api/events/S/cpu", query, headers=more)
        return response.status_code, response.getvalue(), response["ETag"]

    first = ask()
    assert first[:2] == (
        200,
        {
            "json": b'[{"aggregatedTimestamp":"2024-05-01T00:00:00Z","value":1.0}]',
            "csv": b"aggregatedTimestamp,value\r\n2024-05-01T00:00:00Z,1.0\r\n",
            "ndjson": b'{"aggregatedTimestamp":"2024-05-01T00:00:00Z","value":1.0}\n',
        }[form],
    )
    for _ in range(3):
        assert roll_up.take_step(most_events=1)
        assert ask() == first
        assert ask(**{"if-none-match": first[2]}) == (304, b"", first[2])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("rolled_up", [False, True])
@pytest.mark.parametrize("count", [3, few_of(100_000)])
def test_the_average_of_equal_values_is_that_value(count, rolled_up):
    Event.objects.bulk_create(
        [
            Event(namespace="S", name="cpu", timestamp=START + timedelta(milliseconds=100 * number), value=0.1)
            for number in range(count)
        ],
        batch_size=10_000,
    )
    if rolled_up:
        while roll_up.take_step(most_events=6_000):
            pass
    for granularity in ("minute", "hour", "year"):
        question = Question(namespace="S", name="cpu", granularity=granularity)
        assert {item["value"] for item in aggregate(question)} == {0.1}


@pytest.mark.django_db(transaction=True)
def test_the_average_lies_between_the_values_by_older_rollups_too(make_event):
    for _ in range(3):
        make_event(namespace="S", name="cpu", timestamp="2024-05-01T00:00:00", value=0.1)
    roll_up_all()
    Rollup.objects.update(sum=0.30000000000000004, rest=0)  # as they were without rests

    question = Question(namespace="S", name="cpu", granularity="hour")
    assert aggregate(question) == [{"aggregatedTimestamp": "2024-05-01T00:00:00Z", "value": 0.1}]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("some", [[2.0**53, 1.0, 4.0, -(2.0**53), 1.0, 0.5], [0.1, 0.2, 1e6 + 0.1, 0.3, 1 / 3, 0.7]])
def test_the_answer_stays_when_events_are_pruned_and_late_ones_come(make_event, some):
    for number, value in enumerate(some):
        make_event(namespace="S", name="cpu", timestamp=START + timedelta(seconds=15 * number), value=value)
    roll_up_all()
    questions = [
        (Question(namespace="S", name="cpu", granularity=granularity, aggregation_type=kind))
        for granularity in ("minute", "hour", "year")
        for kind in ("sum", "avg")
    ]
    before = [aggregate(question) for question in questions]
    sum(retention.prune(retention.Series("S", "cpu", START + timedelta(days=1))))
    assert not Event.objects.exists()
    assert [aggregate(question) for question in questions] == before

    for value in (0.75, -1.0):
        make_event(namespace="S", name="cpu", timestamp=START, value=value)
    late = [aggregate(question) for question in questions]
    year = questions[4]
    assert aggregate(year)[0]["value"] == float(sum(map(Fraction, [*some, 0.75, -1.0])))
    roll_up_all()
    assert [aggregate(question) for question in questions] == late
