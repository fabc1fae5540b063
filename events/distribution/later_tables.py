"""Divides a table that a migration makes, where the log was divided into partitions before."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from typing_extensions import override

from events.distribution.cluster import is_distributed

_PARTITIONS = "SELECT count(*) FROM events_watermark"


class JoinPartitions(Operation):
    """Have the rows of a new table lie in the partitions of the log, and on a cluster on the same nodes.

    The table has a composite primary key and a column for the partition. Where there is a single partition, and on
    SQLite, nothing is to be done.
    """

    reversible = True
    reduces_to_sql = False

    def __init__(self, model: str) -> None:
        self.model = model

    @override
    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__name__, [self.model], {}

    @override
    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Leave the models as they are."""

    @override
    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Add the partition to the key, and distribute the table beside the log where that is distributed."""
        connection = schema_editor.connection
        if schema_editor.collect_sql or connection.vendor != "postgresql":
            return
        meta = to_state.apps.get_model(app_label, self.model)._meta
        table, key = meta.db_table, ", ".join(field.column for field in meta.pk_fields)
        with connection.cursor() as cursor:
            cursor.execute(_PARTITIONS)
            if cursor.fetchone()[0] < 2:
                return
            cursor.execute(
                f"ALTER TABLE {table} ALTER partition SET NOT NULL,"
                f" DROP CONSTRAINT {table}_pkey, ADD PRIMARY KEY ({key}, partition)"
            )
            if is_distributed(connection):
                cursor.execute(
                    "SELECT create_distributed_table(%s, 'partition', colocate_with => 'events_event')", [table]
                )

    @override
    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Leave the table as it is, as it is dropped next."""

    @override
    def describe(self) -> str:
        return f"Divide {self.model} as the log is divided"
