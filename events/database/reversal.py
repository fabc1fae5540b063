"""Owns the refusal of a migration to be reversed where that would lose data that is stored nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.utils import timezone
from typing_extensions import override


class WouldLoseError(CommandError, IrreversibleError):
    """Reversing a migration would lose rows. Nothing was changed."""


class RefuseToLose(Operation):
    """The last operation of a migration that makes a table or column for data that is stored nowhere else.

    ``what`` says what its rows hold and why that matters. ``chosen`` chooses the rows that count, all by default.
    ``column`` names the column that reversing would drop, where it would not drop the whole table.
    """

    reversible = True
    reduces_to_sql = False

    def __init__(
        self, model: str, what: str, chosen: Callable[[], models.Q] = models.Q, column: str | None = None
    ) -> None:
        self.model, self.what, self.chosen, self.column = model, what, chosen, column

    @override
    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__name__, [self.model, self.what], {"chosen": self.chosen, "column": self.column}

    @override
    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Leave the models as they are."""

    @override
    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Leave the database as it is."""

    @override
    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Raise WouldLoseError where rows that count are stored; ``sqlmigrate`` only prints, so nothing is refused."""
        if schema_editor.collect_sql:
            return
        model = from_state.apps.get_model(app_label, self.model)
        rows = model._default_manager.using(schema_editor.connection.alias).filter(self.chosen())
        if self.column:
            rows = rows.exclude(**{self.column: None})
        if count := rows.count():
            table = model._meta.db_table
            lost = f"{count} values of {table}.{self.column}" if self.column else f"{count} rows of {table}"
            first = f"UPDATE {table} SET {self.column} = NULL" if self.column else f"DELETE FROM {table}"  # noqa: S608
            raise WouldLoseError(
                f"Not reversed, as that would lose {lost}: {self.what}. "
                f"If they are to go, make a backup, and delete them first: {first}"
            )

    @override
    def describe(self) -> str:
        return f"Refuse to lose rows of {self.model}"


def still_kept() -> models.Q:
    """Choose the idempotency keys that are young enough to stop a request that is sent again."""
    return models.Q(created__gte=timezone.now() - timedelta(hours=settings.IDEMPOTENCY_KEEP_HOURS))


def have_stored() -> models.Q:
    """Choose the bookmarks of imports that have stored events."""
    return models.Q(events__gt=0)


def have_marks_of_nodes() -> models.Q:
    """Choose the watermarks that are past ids of other nodes than the coordinator."""
    return models.Q(of_nodes__isnull=False)
