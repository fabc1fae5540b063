"""Migrations, whatever the database."""

import re

import pytest
from django.db.migrations import RunPython
from django.db.migrations.loader import MigrationLoader

MIGRATIONS = [migration for (app, _), migration in MigrationLoader(None).disk_migrations.items() if app == "events"]


@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda migration: migration.name)
def test_it_can_be_undone_and_keeps_data_apart_from_schema(migration):
    kinds = {isinstance(operation, RunPython) for operation in migration.operations}

    assert all(operation.reversible for operation in migration.operations)
    assert len(kinds) == 1
    assert not re.search(r"_auto_|_alter_|_remove_", migration.name)
