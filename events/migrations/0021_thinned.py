"""Adds the table that says of which hours series have no rollups of minutes, divided as the log is."""

from django.db import migrations, models

from events.database.reversal import RefuseToLose
from events.distribution.later_tables import JoinPartitions


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0020_archived_files'),
    ]

    operations = [
        migrations.CreateModel(
            name='Thinned',
            fields=[
                ('pk', models.CompositePrimaryKey('namespace', 'name', blank=True, editable=False, primary_key=True, serialize=False)),
                ('namespace', models.CharField(max_length=255)),
                ('name', models.CharField(max_length=255)),
                ('since', models.DateTimeField(help_text='The start of the first of these hours in UTC.')),
                ('before', models.DateTimeField(help_text='The start of the first hour past them.')),
                ('has_new', models.BooleanField(default=False, help_text='Whether events came or changed since it was looked whether they are few.')),
                ('partition', models.SmallIntegerField(editable=False, null=True)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        JoinPartitions('thinned'),
        RefuseToLose('thinned', 'of which hours there are no rollups of minutes, which the worker makes with ROLLUP_SPARSE_MINUTES=true'),
    ]
