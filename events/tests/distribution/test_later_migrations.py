"""What migrations may do that come after the tables can be distributed: only what a cluster does on every node."""

import pytest
from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.migrations import AddField, AlterField, RemoveField
from django.db.migrations.loader import MigrationLoader

DIVIDED = {"event", "rollup", "pruned", "watermark"}
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
