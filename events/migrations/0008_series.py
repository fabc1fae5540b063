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
        migrations.AddField(
            "grant",
            "new_series_a_day",
            models.PositiveIntegerField(
                null=True, blank=True, help_text="Empty: RATE_LIMIT_NEW_SERIES holds. 0: no limit."
            ),
        ),
        RefuseToLose("grant", "how many series clients may start", column="new_series_a_day"),
    ]
