"""Fixtures of the tests of a real cluster."""

import pytest

from events.distribution import layout
from events.tests.support.on_cluster import query


@pytest.fixture(scope="module")
def shared_tables(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        layout.share_tables(lambda text: None)


@pytest.fixture
def nodes():
    """Host and port of each worker, by its id."""
    return {
        number: (host, port)
        for number, host, port in query("SELECT nodeid, nodename, nodeport FROM pg_dist_node WHERE groupid > 0")
    }
