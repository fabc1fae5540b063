"""Databases of several partitions."""

import os

from django.conf import settings
from django.db import connection, transaction

from events.models import Watermark

EVERYWHERE = bool(os.environ.get("TEST_PARTITIONS"))
KEYS = (2, 5, 9)  # none of them is the key of the only partition
_TABLES = {
    "events_event": "id",
    "events_rollup": "resolution, namespace, name, bucket",
    "events_pruned": "namespace, name",
}


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
    Watermark.objects.bulk_create([Watermark(id=key, resolutions=resolutions) for key in KEYS], ignore_conflicts=True)
