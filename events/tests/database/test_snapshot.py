"""Snapshots of PostgreSQL: what their queries see, and with how much memory."""

from threading import Thread

import pytest
from django.db import connection

from events.database.snapshot import snapshot
from events.models import Event

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = ("transaction_isolation", "transaction_read_only", "work_mem")
SETTINGS = "SELECT " + ", ".join(f"current_setting('{name}')" for name in NAMES)
OF_A_SNAPSHOT = ("repeatable read", "on", "16MB")


def settings_within(cursor):
    with cursor:
        cursor.execute(SETTINGS)
        return cursor.fetchone()


def by_another_session(store):
    def run():
        store()
        connection.close()

    thread = Thread(target=run)
    thread.start()
    thread.join()


def test_its_first_statement_makes_it_one_and_nothing_is_left_after():
    before = settings_within(connection.cursor())

    with snapshot():
        assert [settings_within(connection.cursor()) for _ in range(2)] == [OF_A_SNAPSHOT] * 2
    with snapshot():
        assert settings_within(connection.chunked_cursor()) == OF_A_SNAPSHOT

    assert settings_within(connection.cursor()) == before
    assert before[:2] == ("read committed", "off")


@pytest.mark.parametrize("begin", [Event.objects.count, lambda: len(list(Event.objects.iterator()))])
def test_every_query_sees_what_the_first_one_did(make_event, begin):
    make_event()

    with snapshot():
        first = begin()
        by_another_session(make_event)
        assert (first, Event.objects.count()) == (1, 1)

    assert Event.objects.count() == 2


def test_it_takes_a_round_trip_of_its_own_with_several_partitions_alone(partition_count, statements):
    """Citus refuses to distribute a query that shares a message with another statement."""
    with statements() as sent, snapshot():
        Event.objects.count()

    [beginning] = [sql for sql in sent if "REPEATABLE READ" in sql]
    assert ("COUNT" in beginning) == (partition_count == 1)
