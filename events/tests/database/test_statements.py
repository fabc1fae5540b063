"""Statements that are built once and given their values later."""

from datetime import UTC, datetime

import pytest
from django.db.models import BigIntegerField, CharField, DateTimeField, Max, Q

from events.database.statements import Given, Statement
from events.models import Event, Rollup

NAMESPACE, NAME = Given("namespace", CharField()), Given("name", CharField())
FIRST, LAST = Given("first", DateTimeField()), Given("last", DateTimeField())
LAST_ID = Given("last_id", BigIntegerField())
VALUES = {
    "namespace": "Server's “%s”",
    "name": "cpu %(name)s",
    "first": datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
    "last": datetime(9999, 12, 31, tzinfo=UTC),
    "last_id": 1 << 62,
}


def events(namespace, name, first, last, last_id):
    chosen = Event.objects.filter(Q(pk__gt=0) & Q(pk__lte=last_id), namespace=namespace, name=name)
    return chosen.filter(timestamp__gte=first, timestamp__lte=last).values("name").annotate(most=Max("value"))


def rollups(namespace, name, first, last, last_id):
    return Rollup.objects.filter(namespace=namespace, name=name, bucket__range=(first, last), count__lt=last_id)


@pytest.mark.parametrize("choose", [events, rollups])
def test_it_is_the_statement_with_the_values_in_it_from_the_start(choose):
    kept = Statement.of(choose(NAMESPACE, NAME, FIRST, LAST, LAST_ID))

    assert kept.given(VALUES) == Statement.of(choose(**VALUES))
    assert kept.given(VALUES | {"name": "memory"}) == Statement.of(choose(**VALUES | {"name": "memory"}))


def test_a_value_that_is_missing_is_refused():
    kept = Statement.of(rollups(NAMESPACE, NAME, FIRST, LAST, LAST_ID))

    with pytest.raises(KeyError, match="last_id"):
        kept.given({name: value for name, value in VALUES.items() if name != "last_id"})
