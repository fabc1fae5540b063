"""What migrations may do that come after the tables can be distributed: only what a cluster does on every node."""

import pytest
from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import connection, migrations, models
from django.db.migrations import AddField, AlterField, RemoveField
from django.db.migrations.loader import MigrationLoader

from events.calendar.timestamps import EPOCH
from events.log.namespace_patterns import Namespaces
from events.models import Event, Histogram
from events.tests.support.rolling_up import roll_up_all

DIVIDED = {"event", "histogram", "rollup", "pruned", "watermark"}
LATER = sorted(
    (
        migration
        for (app, name), migration in MigrationLoader(None).disk_migrations.items()
        if app == "events" and name > "0011_partitions"
    ),
    key=lambda migration: migration.name,
)


def is_refused(operation):
    """Keys without the partition, a change of the partition, a rewriting of rows: each fails on a distributed table."""
    if isinstance(operation, migrations.RunSQL | migrations.RunPython):
        return True  # nobody can tell what it does
    if getattr(operation, "model_name", getattr(operation, "name", "")).lower() not in DIVIDED:
        return False
    if isinstance(operation, migrations.CreateModel):
        return False  # JoinPartitions divides it
    if isinstance(operation, AddField):
        field = operation.field
        return field.unique or field.primary_key or not (field.null or field.has_db_default())
    if isinstance(operation, migrations.AddConstraint):
        return not isinstance(operation.constraint, models.CheckConstraint)
    if isinstance(operation, RemoveField):
        return operation.name == "partition"
    return not isinstance(operation, AddIndexConcurrently | RemoveIndexConcurrently | migrations.RemoveConstraint)


@pytest.mark.parametrize("migration", LATER, ids=lambda migration: migration.name)
def test_it_works_on_a_distributed_database(migration):
    assert [operation for operation in migration.operations if is_refused(operation)] == []


UNIQUE = models.UniqueConstraint(fields=["namespace", "name", "timestamp"], name="once")
CHECK = models.CheckConstraint(condition=models.Q(value__gte=0), name="positive")
CASES = {
    "a column that may be null": (AddField("event", "note", models.TextField(null=True)), False),
    "a column with a default": (AddField("rollup", "weight", models.FloatField(db_default=1.0)), False),
    "a column that is unique": (AddField("event", "key", models.TextField(null=True, unique=True)), True),
    "a key without the partition": (migrations.AddConstraint("event", UNIQUE), True),
    "a rule": (migrations.AddConstraint("event", CHECK), False),
    "another type": (AlterField("event", "value", models.TextField()), True),
    "another key of partitions": (AlterField("watermark", "id", models.BigIntegerField(primary_key=True)), True),
    "no partition": (RemoveField("event", "partition"), True),
    "a change of rows": (migrations.RunSQL("UPDATE events_event SET partition = 1"), True),
    "a table that is not divided": (AlterField("grant", "note", models.TextField()), False),
}


@pytest.mark.parametrize(("operation", "refused"), CASES.values(), ids=CASES.keys())
def test_the_rule_knows_what_a_cluster_refuses(operation, refused):
    assert is_refused(operation) == refused


@pytest.mark.only_on("postgresql")
@pytest.mark.not_on_a_cluster
@pytest.mark.django_db
def test_a_table_that_comes_later_is_divided_as_the_log_is(partition_count, settings):
    """And so its rows can be added to by their partition."""
    settings.ROLLUP_HISTOGRAMS = Namespaces.of("*")
    loader = MigrationLoader(connection)
    migration = loader.get_migration("events", "0015_histograms")
    with connection.schema_editor() as editor:
        editor.delete_model(Histogram)
        migration.apply(loader.project_state(migration.dependencies, at_end=True), editor)
    for value in (1, 2):
        Event.objects.create(namespace="Shop", name="order", timestamp=EPOCH, value=value)
        roll_up_all()

    with connection.cursor() as cursor:
        key = connection.introspection.get_primary_key_columns(cursor, "events_histogram")
    assert key == ["resolution", "namespace", "name", "bucket", "bin", *(["partition"] if partition_count > 1 else [])]
    assert list(Histogram.objects.order_by("resolution", "bin").values_list("resolution", "count")) == [
        (3600, 1), (3600, 1), (86400, 1), (86400, 1),
    ]  # fmt: skip
