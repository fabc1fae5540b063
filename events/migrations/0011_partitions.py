"""Makes room for several partitions of the log; there is one, and nothing changes, until they are made."""

import django.db.models.deletion
from django.db import migrations, models

from events.database.reversal import RefuseToLose


class Migration(migrations.Migration):
    dependencies = [("events", "0010_rollup_rest")]

    operations = [
        migrations.RemoveConstraint(model_name="watermark", name="watermark_one_row"),
        migrations.AlterField(
            model_name="watermark",
            name="id",
            field=models.SmallIntegerField(
                default=1, editable=False, help_text="The key of the partition.", primary_key=True, serialize=False
            ),
        ),
        migrations.AddField(
            model_name="event",
            name="partition",
            field=models.ForeignKey(
                db_column="partition",
                db_constraint=False,
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="events.watermark",
            ),
        ),
        migrations.AddField(
            model_name="pruned",
            name="partition",
            field=models.SmallIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="rollup",
            name="partition",
            field=models.SmallIntegerField(db_default=1, editable=False),
        ),
        RefuseToLose("event", "which partition events are in, without which none is found", column="partition"),
        RefuseToLose("pruned", "which partition series are in, without which none is found", column="partition"),
    ]
