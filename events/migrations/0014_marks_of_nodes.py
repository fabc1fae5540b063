"""A mark for the ids of each node of a cluster, beside the one for the coordinator's."""

from django.db import migrations, models

from events.database.reversal import RefuseToLose, have_marks_of_nodes


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0012_series_settings'),
    ]

    operations = [
        migrations.AddField(
            model_name='watermark',
            name='of_nodes',
            field=models.JSONField(help_text='The same for ids that other nodes of a cluster than the coordinator hand out, by “node” and number.', null=True),
        ),
        RefuseToLose(
            "watermark", "how far the rollups go in the ids of each node, without which they hold events twice",
            chosen=have_marks_of_nodes, column="of_nodes",
        ),
    ]
