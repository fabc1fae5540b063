"""What happened at a moment, or over a while, of a namespace: deployments, incidents."""

import uuid

from django.db import migrations, models

import events.log.models
from events.database.reversal import RefuseToLose


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0012_series_settings'),
    ]

    operations = [
        migrations.CreateModel(
            name='Annotation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.UUIDField(default=uuid.uuid4, editable=False, help_text='The id in the API, in any database.', unique=True)),
                ('namespace', models.CharField(max_length=255, validators=[events.log.models.validate_path_segment])),
                ('timestamp', models.DateTimeField()),
                ('end', models.DateTimeField(blank=True, null=True)),
                ('title', models.CharField(max_length=200)),
                ('text', models.TextField(blank=True, max_length=4000)),
                ('tag_lines', models.TextField(default='\n', help_text='A line each, between line breaks, so that one can be found.')),
            ],
            options={
                'default_permissions': ('add', 'change', 'delete'),
                'indexes': [models.Index(fields=['namespace', 'timestamp'], name='annotation_window')],
                'constraints': [models.CheckConstraint(condition=models.Q(('end__isnull', True), ('end__gte', models.F('timestamp')), _connector='OR'), name='annotation_ends_after_its_beginning')],
            },
        ),
        RefuseToLose('annotation', 'annotations, which nothing else holds'),
    ]
