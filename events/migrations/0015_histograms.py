"""Adds the histograms, and where the log is divided into partitions divides them as well."""

from django.db import migrations, models

from events.database.reversal import RefuseToLose
from events.distribution.later_tables import JoinPartitions


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0014_marks_of_nodes'),
    ]

    operations = [
        migrations.CreateModel(
            name='Histogram',
            fields=[
                ('pk', models.CompositePrimaryKey('resolution', 'namespace', 'name', 'bucket', 'bin', blank=True, editable=False, primary_key=True, serialize=False)),
                ('bucket', models.DateTimeField(help_text='The start of the hour or day in UTC.')),
                ('count', models.BigIntegerField()),
                ('resolution', models.IntegerField(choices=[(3600, 'Hour'), (86400, 'Day')])),
                ('bin', models.IntegerField(help_text='Which values are counted; bins sort as their values do.')),
                ('namespace', models.CharField(max_length=255)),
                ('name', models.CharField(max_length=255)),
                ('partition', models.SmallIntegerField(editable=False, null=True)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        JoinPartitions('histogram'),
        RefuseToLose('histogram', 'how the values of hours are distributed, which of pruned ones is known from nowhere else'),
    ]
