"""The list of the archive's files."""

import django.utils.timezone
from django.db import migrations, models

from events.database.reversal import RefuseToLose


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0019_alerts_of_all_types'),
    ]

    operations = [
        migrations.CreateModel(
            name='ArchivedFile',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('namespace', models.CharField(max_length=255)),
                ('name', models.CharField(max_length=255)),
                ('month', models.DateField(help_text='The first day of the month.')),
                ('state', models.CharField(choices=[('writing', 'being written, so that it counts for nothing yet'), ('failed', 'not written, for a reason'), ('listed', 'whole, and its events are being deleted from the log'), ('kept', 'all that holds its events'), ('replaced', 'to be removed, as another file holds its events')], default='writing', max_length=8)),
                ('path', models.CharField(blank=True, help_text='Where it lies within ARCHIVE.', max_length=600)),
                ('start', models.DateTimeField()),
                ('end', models.DateTimeField(help_text='The first instant that is past it.')),
                ('marks', models.JSONField(help_text='The highest id of each origin that it may hold.')),
                ('events', models.BigIntegerField(default=0)),
                ('sum', models.FloatField(help_text='Of the values; empty where no double holds it.', null=True)),
                ('bytes', models.BigIntegerField(default=0)),
                ('fault', models.CharField(blank=True, help_text='Why it was not written.', max_length=500)),
                ('maker', models.CharField(blank=True, help_text='The host and process that makes it.', max_length=300)),
                ('changed', models.DateTimeField(default=django.utils.timezone.now, help_text='When its maker last said that it is at it.')),
            ],
            options={
                'default_permissions': (),
                'indexes': [models.Index(fields=['namespace', 'name', 'month'], name='archived_file_series')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('state', 'writing')), fields=('namespace', 'name'), name='archived_file_one_maker')],
            },
        ),
        RefuseToLose('archivedfile', 'which file of the archive holds which events'),
    ]
