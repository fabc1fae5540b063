"""What happened in a namespace (deployments, incidents), and boards: sets of charts."""

import uuid

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import events.boards.models
import events.log.models
from events.database.reversal import RefuseToLose


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0016_alerts'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
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
        migrations.CreateModel(
            name='Board',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(default=events.boards.models.new_key, editable=False, max_length=22, unique=True)),
                ('name', models.CharField(max_length=100)),
                ('is_shared', models.BooleanField(default=False, help_text='Whether all users who may view events see it.')),
                ('view', models.CharField(blank=True, help_text='Range, zone and refresh, as links to a chart.', max_length=500)),
                ('charts', models.JSONField(blank=True, default=list)),
                ('link_digest', models.CharField(blank=True, editable=False, help_text="SHA-256 of the link's token.", max_length=64, null=True, unique=True)),
                ('owner', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='boards', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'permissions': [('publish_board', 'Can make a board public by a link')],
                'default_permissions': ('change',),
            },
        ),
        RefuseToLose('annotation', 'annotations, which nothing else holds'),
        RefuseToLose('board', 'boards, which nothing else holds'),
    ]
