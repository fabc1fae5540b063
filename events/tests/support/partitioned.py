"""Databases of several partitions: divided for a single test, or for all of them."""

import os
from contextlib import closing

import psycopg2
from django.conf import settings
from django.db import connection, transaction

from events.database import partitions
from events.distribution import layout
from events.log.series import SeriesKey
from events.models import Watermark

# With TEST_DISTRIBUTED, TEST_DATABASE_URL leads to the coordinator of a cluster.
ON_A_CLUSTER = bool(os.environ.get("TEST_DISTRIBUTED"))
EVERYWHERE = ON_A_CLUSTER or bool(os.environ.get("TEST_PARTITIONS"))
KEYS = (2, 5, 9)  # none of them is the key of the only partition
_SHARDS = 8
_TABLES = {
    "events_event": "id",
    "events_rollup": "resolution, namespace, name, bucket",
    "events_histogram": "resolution, namespace, name, bucket, bin",
    "events_pruned": "namespace, name",
    "events_thinned": "namespace, name",
}
_keys_of_all: tuple[int, ...] = ()


def drop_what_is_left():
    """Drop the test database of an earlier run, whoever holds it."""
    if ON_A_CLUSTER:
        with closing(psycopg2.connect(os.environ["TEST_DATABASE_URL"])) as given:
            given.autocommit = True
            name = connection.settings_dict["TEST"]["NAME"] or connection.creation._get_test_db_name()
            given.cursor().execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def divide_for_all():
    """Divide the database that all tests have."""
    global _keys_of_all
    if ON_A_CLUSTER:
        _add_nodes()
        layout.distribute(_SHARDS, lambda text: None)
    else:
        layout.divide(KEYS)
    _keys_of_all = partitions.keys()


def keys_of_all():
    """The partitions that every test's database has; none where there is a single one."""
    return _keys_of_all


def name_beside(series):
    """The name of another series, which lies in the same partition."""
    names = (SeriesKey("Till", f"order {number}") for number in range(50))
    return next(name for name in names if partitions.partition_of(*name) == partitions.partition_of(*series))


def _add_nodes():
    """Make those of the cluster known in this database, as each database knows its own."""
    with closing(psycopg2.connect(os.environ["TEST_DATABASE_URL"])) as given, given.cursor() as cursor:
        cursor.execute(
            "SELECT groupid = 0, nodename, nodeport, shouldhaveshards FROM pg_dist_node WHERE isactive ORDER BY 1 DESC"
        )
        nodes = cursor.fetchall()
    with connection.cursor() as cursor:
        for is_coordinator, host, port, has_shards in nodes:
            function = "citus_set_coordinator_host" if is_coordinator else "citus_add_node"
            cursor.execute(f"SELECT {function}(%s, %s)", [host, port])
            cursor.execute("SELECT citus_set_node_property(%s, %s, 'shouldhaveshards', %s)", [host, port, has_shards])


def unite():
    """Empty the divided tables, and leave them as the migrations make them; for tests that have no transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DROP TABLE events_rollup_partition_step")
        cursor.execute("DELETE FROM events_watermark")
        for table, key in _TABLES.items():
            cursor.execute(f"DELETE FROM {table}")
            if connection.vendor == "postgresql":
                cursor.execute(
                    f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey, ADD PRIMARY KEY ({key}),"
                    " ALTER partition DROP NOT NULL"
                )
        if connection.vendor == "postgresql":
            cursor.execute("ALTER TABLE events_rollup ALTER partition SET DEFAULT 1, ALTER partition SET NOT NULL")


def restore_watermarks(**kwargs):
    """Store the watermarks again, which are emptied like every table after a test that has no transaction."""
    resolutions = ",".join(settings.ROLLUP_RESOLUTIONS)
    rows = [Watermark(id=key, resolutions=resolutions) for key in _keys_of_all]
    Watermark.objects.bulk_create(rows, ignore_conflicts=True)
