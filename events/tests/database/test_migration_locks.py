"""Migrations on PostgreSQL: while one runs events go on being written, by the release before it.

SQLite has one lock for everything, and this isn't collected there.
"""

import re

import pytest
from django.contrib.postgres.operations import AddConstraintNotValid, AddIndexConcurrently, RemoveIndexConcurrently
from django.db import connection, migrations, models
from django.db.migrations import AddField, AlterField, RemoveField, RenameField
from django.db.migrations.loader import MigrationLoader
from django.db.models.functions import Now

# Tables that grow with the events, and that the server writes to or the worker does.
GROWING = {"events_event", "events_rollup", "events_idempotencykey"}
# By PostgreSQL's manual, "Explicit Locking" and ALTER TABLE, what reads and rewrites no row or lets writers go on; and
# of that, what leaves the statements of the release before valid.
HARMLESS = re.compile(
    r"(CREATE|CREATE UNIQUE|DROP) INDEX CONCURRENTLY .*"
    r"|COMMENT ON .*"
    r"|ALTER TABLE \S+ ("
    r'ADD COLUMN "\w+" [\w ]+?(\(\d+(, ?\d+)?\))? NULL'
    # a constant is stored once for all rows
    r"|ADD COLUMN \"\w+\" [\w ]+?(\(\d+(, ?\d+)?\))? DEFAULT ('[^']*'|[\w.+-]+)( NOT)? NULL"
    r"|ADD CONSTRAINT .* NOT VALID|VALIDATE CONSTRAINT .*|DROP CONSTRAINT \S+"
    r"|ALTER COLUMN \S+ (DROP NOT NULL|SET DEFAULT .*)"
    r")"
)
LOADER = MigrationLoader(None)
LATEST = LOADER.project_state()
MIGRATIONS = sorted(
    (migration for (app, _), migration in LOADER.disk_migrations.items() if app == "events"),
    key=lambda migration: migration.name,
)


def harmful(statements, made=()):
    """The statements about growing tables that aren't known to be harmless; not about those the migration makes."""
    tables = "|".join(sorted(GROWING.difference(made)))
    about = re.compile(rf'(?<!\w)"?({tables})"?(?!\w)|^DROP INDEX ')  # which doesn't say of what table
    return [text for text in statements if tables and about.search(text) and not HARMLESS.fullmatch(text)]


def statements_of(migration, state):
    """What the database would be told, comments apart."""
    with connection.schema_editor(collect_sql=True, atomic=migration.atomic) as editor:
        migration.apply(state, editor, collect_sql=True)
    return [line.rstrip(";") for line in editor.collected_sql if not line.startswith("--")]


@pytest.mark.django_db
@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda migration: migration.name)
def test_it_harms_no_writer(migration):
    made = {f"events_{each.name.lower()}" for each in migration.operations if isinstance(each, migrations.CreateModel)}
    state = LOADER.project_state(("events", migration.name), at_end=False)

    assert harmful(statements_of(migration, state), made) == []


INDEX = models.Index(fields=["value"], name="by_value")
CHECK = models.CheckConstraint(condition=models.Q(value__gte=0), name="positive")
CASES = {
    "a column that may be null": (AddField("event", "note", models.CharField(max_length=9, null=True)), True),
    "a column with a default in the database": (AddField("event", "weight", models.FloatField(db_default=1.5)), True),
    "a text column with one": (AddField("event", "note", models.CharField(max_length=9, db_default="x")), True),
    "a column with a default in Python": (AddField("event", "weight", models.FloatField(default=1)), False),
    "a column with a default to compute": (AddField("event", "at", models.DateTimeField(db_default=Now())), False),
    "a column of references": (AddField("event", "of", models.ForeignKey("events.watermark", models.CASCADE, null=True)), False),
    "no column": (RemoveField("event", "value"), False),
    "another column's name": (RenameField("event", "value", "number"), False),
    "another type": (AlterField("event", "id", models.CharField(max_length=9, primary_key=True)), False),
    "no null": (AlterField("rollup", "sum", models.FloatField(unique=True)), False),
    "an index": (migrations.AddIndex("event", INDEX), False),
    "an index made beside the writers": (AddIndexConcurrently("event", INDEX), True),
    "no index": (migrations.RemoveIndex("event", "event_series_timestamp"), False),
    "no index, once nobody uses it": (RemoveIndexConcurrently("event", "event_series_timestamp"), True),
    "a constraint": (migrations.AddConstraint("event", CHECK), False),
    "a constraint for new rows": (AddConstraintNotValid("event", CHECK), True),
    "no constraint": (migrations.RemoveConstraint("event", "event_value_finite"), True),
    "a change of every row": (migrations.RunSQL("UPDATE events_event SET value = 0"), False),
    "a lock": (migrations.RunSQL('LOCK TABLE "events_event"'), False),
    "a small table": (AddField("watermark", "note", models.FloatField(default=1)), True),
    "a table of its own": (migrations.CreateModel("Note", [("id", models.BigAutoField(primary_key=True))]), True),
}  # fmt: skip


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("operation", "is_harmless"), CASES.values(), ids=CASES.keys())
def test_the_rule_knows_what_harms(operation, is_harmless):
    migration = migrations.Migration("case", "events")
    migration.operations, migration.atomic = [operation], False

    statements = statements_of(migration, LATEST.clone())

    assert statements
    assert (harmful(statements) == []) == is_harmless
