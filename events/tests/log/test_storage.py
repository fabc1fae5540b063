"""How events reach PostgreSQL: a single one by a prepared statement, whatever stands between; a batch beside others."""

import pytest
from django.db import connection, transaction

from events.calendar.timestamps import microseconds_of
from events.log import append
from events.log.append import Row
from events.models import Event

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = [Row("a", f"b%s{number}'", number * 1_000_000, -number / 8) for number in range(8)]


def stored():
    found = Event.objects.order_by("id").values_list("namespace", "name", "timestamp", "value")
    return [Row(namespace, name, microseconds_of(instant), value) for namespace, name, instant, value in found]


def execute(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)


def prepared_statements():
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, generic_plans + custom_plans FROM pg_prepared_statements ORDER BY name")
        return cursor.fetchall()


@pytest.fixture(autouse=True)
def new_session():
    connection.close()


@pytest.mark.one_partition
def test_a_statement_is_prepared_once_for_a_session():
    for row in ROWS:
        append.append([row])

    assert stored() == ROWS
    assert prepared_statements() == [(append._OF_THE_ONLY_PARTITION.name, len(ROWS))]

    connection.close()
    append.append([ROWS[0]])

    assert stored() == [*ROWS, ROWS[0]]
    assert prepared_statements() == [(append._OF_THE_ONLY_PARTITION.name, 1)]


def test_a_pooler_may_give_a_session_that_has_not_prepared_it():
    for row in ROWS:
        append.append([row])
        execute("DEALLOCATE ALL")

    assert stored() == ROWS


def test_a_pooler_may_give_a_session_that_has_prepared_it_already():
    for row in ROWS:
        append.append([row])
        append._prepared.cursors.clear()

    assert stored() == ROWS


@pytest.mark.one_partition
def test_another_version_may_have_prepared_its_own():
    execute("PREPARE append_event AS SELECT 1")
    for row in ROWS:
        append.append([row])

    assert stored() == ROWS
    assert prepared_statements() == [("append_event", 0), (append._OF_THE_ONLY_PARTITION.name, len(ROWS))]


def test_a_transaction_goes_on_where_a_pooler_gave_it_another_session():
    append.append([ROWS[0]])
    execute("DEALLOCATE ALL")

    with transaction.atomic():
        append.append([ROWS[1]])
        append.append([ROWS[2]])

    assert stored() == ROWS[:3]
    assert prepared_statements() == []


@pytest.mark.one_partition
def test_a_batch_waits_for_no_other_of_the_same_series():
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(append._OF_THE_ONLY_PARTITION.insert, ["a", ROWS[0].name, "2020-01-01T00:00:00Z", 1.0])
        try:
            execute("SET lock_timeout = 1000")
            append.append(ROWS)
        finally:
            cursor.execute("ROLLBACK")
            other.close()

    assert stored() == ROWS
