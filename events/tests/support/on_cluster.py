"""What tests of a real cluster need: statements, and events of some series on every node."""

from datetime import UTC, datetime

from django.db import connection

from events.aggregation.answer import aggregate
from events.aggregation.question import Question
from events.log.append import Row

START = int(datetime(2024, 3, 1, tzinfo=UTC).timestamp()) * 1_000_000
SERIES = [("Cluster", f"metric {number}") for number in range(40)]


def query(sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def batch(number):
    return [Row(*series, START + 60_000_000 * number, float(number)) for series in SERIES]


def question_of(series):
    return Question(namespace=series[0], name=series[1], granularity="hour", aggregation_type="count")


def count_of(series):
    return sum(item["value"] for item in aggregate(question_of(series)))
