"""Migrations, whatever the database."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations import AddField, CreateModel, RunPython
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from events.database import partitions
from events.database.reversal import RefuseToLose
from events.models import (
    AlertTarget,
    Annotation,
    Board,
    Bookmark,
    ClientUsage,
    Event,
    Grant,
    IdempotencyKey,
    Pruned,
    Thinned,
    Watermark,
)
from events.rollups.marks import Marks
from events.tests.support.commands import run

MIGRATIONS = sorted(
    (migration for (app, _), migration in MigrationLoader(None).disk_migrations.items() if app == "events"),
    key=lambda migration: migration.name,  # in one order, for processes that share the tests out
)


@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda migration: migration.name)
def test_it_can_be_undone_and_keeps_data_apart_from_schema(migration):
    kinds = {isinstance(operation, RunPython) for operation in migration.operations}

    assert all(operation.reversible for operation in migration.operations)
    assert len(kinds) == 1
    assert not re.search(r"_auto_|_alter_|_remove_", migration.name)


# What the events tell again, once the roller has gone through them and the alerts were evaluated.
REMADE = {"rollup", "watermark", "alertstate", "alertevaluator"}
NOT_REMADE = {
    "0014_marks_of_nodes": {"watermark"},  # the rollups would stay, and hold what is past the only mark left
    "0018_moving_series": {"watermark"},  # the events of a series would stay under two names
}


@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda migration: migration.name)
def test_undoing_it_keeps_what_nothing_else_knows(migration):
    made = [
        (operation.name if isinstance(operation, CreateModel) else operation.model_name).lower()
        for operation in migration.operations
        if isinstance(operation, CreateModel | AddField)
    ]
    kept = [operation.model for operation in migration.operations if isinstance(operation, RefuseToLose)]

    assert sorted(kept) == sorted(set(made) - REMADE | NOT_REMADE.get(migration.name, set()))
    # reversed, the last one is the first, before any table is gone
    assert all(
        isinstance(operation, RefuseToLose)
        for operation in migration.operations[len(migration.operations) - len(kept) :]
    )


def key(hours):
    IdempotencyKey.objects.create(client="shop", key=f"{hours} hours old", digest="0" * 64)
    IdempotencyKey.objects.update(created=timezone.now() - timedelta(hours=hours))


KEPT = {
    "0001_events": (
        lambda application: Event.objects.create(namespace="Shop", name="order", timestamp=datetime(2024, 1, 1, tzinfo=UTC), value=1),
        "Not reversed, as that would lose 1 rows of events_event: the events."
        " If they are to go, make a backup, and delete them first: DELETE FROM events_event",
    ),
    "0002_idempotency_key": (
        lambda application: key(47),
        "Not reversed, as that would lose 1 rows of events_idempotencykey: requests that would be stored twice if they were sent again."
        " If they are to go, make a backup, and delete them first: DELETE FROM events_idempotencykey",
    ),
    "0004_grants": (
        lambda application: Grant.objects.create(application=application, write_namespaces="Web-*"),
        "Not reversed, as that would lose 1 rows of events_grant: what clients are granted, without which each may do everything."
        " If they are to go, make a backup, and delete them first: DELETE FROM events_grant",
    ),
    "0006_pruned_and_bookmark": (
        lambda application: Pruned.objects.create(
            namespace="Shop", name="order", before=datetime(2024, 1, 1, tzinfo=UTC), partition=partitions.partition_of("Shop", "order")
        ),
        "Not reversed, as that would lose 1 rows of events_pruned: how far series are pruned, without which their rollups pass for wrong,"
        " and are rebuilt from what is left."
        " If they are to go, make a backup, and delete them first: DELETE FROM events_pruned",
    ),
    "0021_thinned": (
        lambda application: Thinned.objects.create(
            namespace="Shop", name="order", since=datetime(2024, 1, 1, tzinfo=UTC), before=datetime(2024, 2, 1, tzinfo=UTC),
            partition=partitions.partition_of("Shop", "order"),
        ),
        "Not reversed, as that would lose 1 rows of events_thinned: of which hours there are no rollups of minutes,"
        " which the worker makes with ROLLUP_SPARSE_MINUTES=true."
        " If they are to go, make a backup, and delete them first: DELETE FROM events_thinned",
    ),
    "0006, an import": (
        lambda application: Bookmark.objects.create(source="/events.csv", lines=3, events=2, is_done=True),
        "Not reversed, as that would lose 1 rows of events_bookmark: how far imports have come, without which they would store their events twice."
        " If they are to go, make a backup, and delete them first: DELETE FROM events_bookmark",
    ),
    "0007_client_usage": (
        lambda application: ClientUsage.objects.create(client="shop", last_used=timezone.now(), requests=1, events=1),
        "Not reversed, as that would lose 1 rows of events_clientusage: when clients were last used, and what they have sent."
        " If they are to go, make a backup, and delete them first: DELETE FROM events_clientusage",
    ),
    "0008_series": (
        lambda application: Grant.objects.create(application=application, new_series_a_day=3),
        "Not reversed, as that would lose 1 values of events_grant.new_series_a_day: how many series clients may start."
        " If they are to go, make a backup, and delete them first: UPDATE events_grant SET new_series_a_day = NULL",
    ),
    "0014_marks_of_nodes": (
        lambda application: (
            Watermark.objects.ensure_stored(),
            Watermark.objects.move(partitions.every()[0], Marks({0: 1, 2: (2 << 48) + 1})),
        ),
        "Not reversed, as that would lose 1 values of events_watermark.of_nodes: how far the rollups go in the ids of each node,"
        " without which they hold events twice."
        " If they are to go, make a backup, and delete them first: UPDATE events_watermark SET of_nodes = NULL",
    ),
    "0017_annotations_and_boards": (
        lambda application: Annotation.objects.create(namespace="Shop", timestamp=datetime(2024, 1, 1, tzinfo=UTC), title="Release"),
        "Not reversed, as that would lose 1 rows of events_annotation: annotations, which nothing else holds."
        " If they are to go, make a backup, and delete them first: DELETE FROM events_annotation",
    ),
    "0017, a board": (
        lambda application: Board.objects.create(name="Sales"),
        "Not reversed, as that would lose 1 rows of events_board: boards, which nothing else holds."
        " If they are to go, make a backup, and delete them first: DELETE FROM events_board",
    ),
    "0016_alerts": (
        lambda application: AlertTarget.objects.create(name="Chat"),
        "Not reversed, as that would lose 1 rows of events_alerttarget: the webhooks and addresses of alerts."
        " If they are to go, make a backup, and delete them first: DELETE FROM events_alerttarget",
    ),
}  # fmt: skip


def undo(name):
    """Reverse one migration as the command does, whatever came after it."""
    loader = MigrationLoader(connection)
    migration = loader.get_migration_by_prefix("events", name[:4])
    with connection.schema_editor(atomic=migration.atomic) as editor:
        migration.unapply(loader.project_state(("events", migration.name), at_end=False), editor)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", KEPT)
def test_what_would_be_lost_is_named_and_kept(name, application):
    make, said = KEPT[name]
    make(application)
    tables = set(connection.introspection.table_names())

    with pytest.raises(IrreversibleError) as error:
        undo(name)

    assert str(error.value) == said
    assert isinstance(error.value, CommandError)  # a line, and no traceback
    assert set(connection.introspection.table_names()) == tables


@pytest.mark.not_on_a_cluster  # which refuses to drop the column that tables are distributed by, even of empty ones
@pytest.mark.django_db(transaction=True)
def test_the_command_says_so_in_a_line():
    Pruned.objects.create(namespace="Shop", name="order", before=datetime(2024, 1, 1, tzinfo=UTC))

    try:
        with pytest.raises(CommandError, match=r"^Not reversed, as that would lose 1 rows of events_pruned: "):
            call_command("migrate", "events", "0005", verbosity=0)

        assert Pruned.objects.count() == 1
    finally:
        call_command("migrate", verbosity=0)


@pytest.mark.not_on_a_cluster  # as above
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("back_to", "make"),
    [
        ("0001", lambda application: key(49)),  # which nothing is held against any more
        ("0005", lambda application: Bookmark.objects.create(source="/empty.csv")),
        ("0003", lambda application: None),
    ],
)
def test_what_is_worth_nothing_any_more_stops_nobody(back_to, make, application):
    make(application)

    try:
        call_command("migrate", "events", back_to, verbosity=0)
        assert len(MigrationRecorder(connection).migration_qs.filter(app="events")) == int(back_to)
    finally:
        call_command("migrate", verbosity=0)


@pytest.mark.not_on_a_cluster  # as above
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("migration", [each.name for each in MIGRATIONS if not each.atomic])
def test_one_that_was_killed_before_it_was_noted_is_run_again(migration):
    try:
        call_command("migrate", "events", migration, verbosity=0)
        MigrationRecorder(connection).record_unapplied("events", migration)
    finally:
        call_command("migrate", verbosity=0)

    applied = MigrationRecorder(connection).migration_qs.filter(app="events")
    assert set(applied.values_list("name", flat=True)) == {each.name for each in MIGRATIONS}
    assert 'ADD COLUMN "new_series_a_day"' in run("sqlmigrate", "events", "0008")[0]
