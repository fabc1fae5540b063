"""The order of the catalogue, in an index of PostgreSQL: by code point, as SQLite's primary key is by itself."""

from django.db import migrations

NAME = "rollup_series_by_code_point"


class RunOnPostgreSQL(migrations.RunSQL):
    """Statements that are for PostgreSQL alone."""

    def _run_sql(self, schema_editor, sqls):
        if schema_editor.connection.vendor == "postgresql":
            super()._run_sql(schema_editor, sqls)


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
    ]
