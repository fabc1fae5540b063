"""Events that are written over a connection to the node that holds their series; the node is this same server here."""

import time

import pytest
from django.db import connection, transaction

from events.database import nodes, partitions
from events.database.nodes import Node
from events.log.append import Row, append
from events.models import Event
from events.tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

SERIES = [("Nodes", f"metric {number}") for number in range(12)]
ROWS = [Row(*series, 1_700_000_000_000_000, 1.0) for series in SERIES]


@pytest.fixture
def node(settings, partition_count, monkeypatch):
    """Holds the first series' partition, as far as this process knows."""
    settings.WRITE_TO_OWNING_NODE = True
    given = connection.settings_dict
    found = Node(given["HOST"], given["PORT"])
    known(monkeypatch, found)
    yield found
    nodes.forget()


def known(monkeypatch, node):
    owner = {partitions.partition_of(*SERIES[0]): node}
    monkeypatch.setattr(nodes, "_known", nodes._Known(partitions.keys(), owner, time.monotonic() + 60))


def sessions():
    """The sessions that the events were written by."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND (query LIKE '%append_event%' OR query LIKE 'COPY%')"
        )
        return {pid for (pid,) in cursor.fetchall()} - {connection.connection.info.backend_pid}


def test_each_event_goes_to_the_node_of_its_series_but_in_a_transaction(node, partition_count, settings, monkeypatch):
    is_several = partition_count > 1
    connection.ensure_connection()
    usual = connection.connection.info.backend_pid
    with transaction.atomic():
        append(ROWS[:1])
        append(ROWS)
        transaction.set_rollback(True)
    settings.WRITE_TO_OWNING_NODE = False
    append(ROWS)
    assert sessions() == set()

    settings.WRITE_TO_OWNING_NODE = True
    for row in ROWS:
        used = nodes.connection_of(partitions.partition_of(*row[:2]))
        is_owned = is_several and partitions.partition_of(*row[:2]) == partitions.partition_of(*SERIES[0])
        assert (used.connection.info.backend_pid != usual) is is_owned
        append([row])
    append(ROWS)
    assert len(sessions()) == is_several

    nodes.forget()  # this server is no cluster
    append(ROWS)
    wait_until(lambda: sessions() == set())  # a backend ends some time after its session is closed
    assert sorted(Event.objects.values_list("namespace", "name")) == sorted(SERIES * 4)


def test_a_node_that_is_away_is_left_alone_for_a_while(node, partition_count, monkeypatch, caplog):
    append(ROWS[:1])
    for pid in sessions():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    append(ROWS[:1])
    append(ROWS)  # over a new one
    assert len(sessions()) == (partition_count > 1)

    known(monkeypatch, Node("127.0.0.1", 1))
    for _ in range(3):
        append(ROWS[:1])
    assert Event.objects.count() == 5 + len(ROWS)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (partition_count > 1)
    assert all(each.startswith("127.0.0.1:1 is not written to directly for 5 s: ") for each in said)
