"""The order of the catalogue, in an index of PostgreSQL: by code point, as SQLite's primary key is by itself.

And a limit to how many series a client may start.
"""

from django.db import migrations, models

from events.database.reversal import RefuseToLose

NAME = "rollup_series_by_code_point"


class RunOnPostgreSQL(migrations.RunSQL):
    """Statements that are for PostgreSQL alone."""

    def _run_sql(self, schema_editor, sqls):
        if schema_editor.connection.vendor == "postgresql":
            super()._run_sql(schema_editor, sqls)


class AddFieldOnce(migrations.AddField):
    """Adds a column that may be there already, as a process was killed before Django noted the migration."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        # sqlmigrate prints the statement whatever is there
        if schema_editor.collect_sql or not self._is_there(app_label, schema_editor, to_state):
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def _is_there(self, app_label, schema_editor, state):
        table = state.apps.get_model(app_label, self.model_name)._meta.db_table
        with schema_editor.connection.cursor() as cursor:
            columns = schema_editor.connection.introspection.get_table_description(cursor, table)
        return self.name in {column.name for column in columns}


class Migration(migrations.Migration):

    # beside the writers, which a transaction can't
    atomic = False

    dependencies = [
        ("events", "0007_client_usage"),
    ]

    operations = [
        RunOnPostgreSQL(
            [
                # one that was begun and not finished is of no use
                f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}",
                f'CREATE INDEX CONCURRENTLY {NAME} ON events_rollup (namespace COLLATE "C", name COLLATE "C")'
                " WHERE resolution = 0",
            ],
            [f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}"],
        ),
        # last, as it can't be done again where the index fails
        AddFieldOnce(
            "grant",
            "new_series_a_day",
            models.PositiveIntegerField(
                null=True, blank=True, help_text="Empty: RATE_LIMIT_NEW_SERIES holds. 0: no limit."
            ),
        ),
        RefuseToLose("grant", "how many series clients may start", column="new_series_a_day"),
    ]
