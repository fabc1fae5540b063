"""Alerts: what is watched, how it stands, when it fired, whom that is told, and what was sent."""

import django.core.validators
import django.db.models.deletion
import events.alerts.models
import events.log.namespace_patterns
import uuid
from django.conf import settings
from django.db import migrations, models

from events.database.reversal import RefuseToLose


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0015_histograms'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='AlertEvaluator',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('holder', models.CharField(blank=True, max_length=64)),
                ('held_until', models.DateTimeField(null=True)),
                ('evaluated_at', models.DateTimeField(null=True)),
                ('alerts', models.PositiveIntegerField(default=0)),
                ('seconds', models.FloatField(default=0.0)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='AlertTarget',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True)),
                ('kind', models.CharField(choices=[('webhook', 'Webhook'), ('email', 'E-mail')], default='webhook', max_length=10)),
                ('body_format', models.CharField(choices=[('json', 'JSON'), ('slack', 'Slack'), ('mattermost', 'Mattermost'), ('alertmanager', 'Alertmanager')], default='json', help_text='What the receiver of a webhook understands.', max_length=20, verbose_name='body')),
                ('sealed_url', models.TextField(blank=True, editable=False)),
                ('shown_url', models.CharField(blank=True, editable=False, max_length=300, verbose_name='webhook')),
                ('sealed_secret', models.TextField(blank=True, editable=False)),
                ('addresses', models.TextField(blank=True, help_text='E-mail addresses, one a line.', max_length=2000)),
            ],
            options={
                'ordering': ('name',),
            },
        ),
        migrations.CreateModel(
            name='Alert',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True, validators=[django.core.validators.ProhibitNullCharactersValidator()])),
                ('severity', models.CharField(choices=[('info', 'info'), ('warning', 'warning'), ('critical', 'critical')], default='warning', max_length=10)),
                ('description', models.TextField(blank=True, help_text='Sent with the alert.', max_length=2000, validators=[django.core.validators.ProhibitNullCharactersValidator()])),
                ('is_enabled', models.BooleanField(default=True, help_text='Whether it is evaluated.', verbose_name='enabled')),
                ('namespace', models.CharField(help_text='A namespace, or the beginning of some and an asterisk. * is all.', max_length=256, validators=[events.log.namespace_patterns.validate_patterns, django.core.validators.ProhibitNullCharactersValidator()])),
                ('series_name', models.CharField(help_text='A name, or the beginning of some and an asterisk. * is all.', max_length=256, validators=[events.log.namespace_patterns.validate_patterns, django.core.validators.ProhibitNullCharactersValidator()], verbose_name='name of the series')),
                ('kind', models.CharField(choices=[('threshold', 'An aggregate is above or below a value'), ('silence', 'No event comes'), ('change', 'An aggregate changes against an earlier time')], default='threshold', max_length=10, verbose_name='condition')),
                ('aggregation_type', models.CharField(choices=[('avg', 'avg'), ('min', 'min'), ('max', 'max'), ('sum', 'sum'), ('count', 'count')], default='avg', max_length=10)),
                ('window_minutes', models.PositiveIntegerField(default=5, help_text='Over so many minutes, a week at most.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(10080)])),
                ('comparison', models.CharField(choices=[('above', 'above, or rises'), ('below', 'below, or falls'), ('either', 'changes either way')], default='above', max_length=10)),
                ('threshold', models.FloatField(default=0.0, help_text='A value; for a change, a number of percent.')),
                ('clear_threshold', models.FloatField(blank=True, help_text='It resolves only beyond this value. Empty: the threshold.', null=True)),
                ('compare_minutes', models.PositiveIntegerField(default=10080, help_text='A change is against the same window so many minutes before; a week is 10080.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(576000)])),
                ('for_minutes', models.PositiveIntegerField(default=0, help_text='It fires once the condition has held for so many minutes.', validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(10080)])),
                ('resolve_minutes', models.PositiveIntegerField(default=5, help_text='It resolves once it has been clear for so many minutes.', validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(10080)])),
                ('delay_minutes', models.PositiveIntegerField(default=1, help_text='Windows end so many minutes ago, so that events which come late count.', validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1440)])),
                ('quiet_start', models.TimeField(blank=True, help_text='From here on nothing is sent …', null=True)),
                ('quiet_end', models.TimeField(blank=True, help_text='… until here. What still fires then is sent.', null=True)),
                ('quiet_zone', models.CharField(default='UTC', max_length=64, validators=[events.alerts.models.validate_zone])),
                ('muted_until', models.DateTimeField(blank=True, help_text='Nothing is sent until then.', null=True)),
                ('problem', models.CharField(blank=True, editable=False, max_length=300)),
                ('changed_at', models.DateTimeField(auto_now=True)),
                ('created_by', models.ForeignKey(blank=True, editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('targets', models.ManyToManyField(blank=True, related_name='alerts', to='events.alerttarget')),
            ],
            options={
                'ordering': ('name',),
            },
        ),
        migrations.CreateModel(
            name='Firing',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('namespace', models.CharField(max_length=255)),
                ('name', models.CharField(max_length=255)),
                ('pending_since', models.DateTimeField()),
                ('fired_at', models.DateTimeField()),
                ('resolved_at', models.DateTimeField(null=True)),
                ('value', models.FloatField(null=True)),
                ('resolved_value', models.FloatField(null=True)),
                ('event_count', models.BigIntegerField(null=True)),
                ('revised_at', models.DateTimeField(null=True)),
                ('revised_value', models.FloatField(null=True)),
                ('would_have_fired', models.BooleanField(default=True)),
                ('checked_at', models.DateTimeField(null=True)),
                ('alert', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='firings', to='events.alert')),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='AlertState',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('namespace', models.CharField(max_length=255)),
                ('name', models.CharField(max_length=255)),
                ('state', models.CharField(choices=[('ok', 'ok'), ('pending', 'pending'), ('firing', 'firing'), ('resolved', 'resolved')], default='ok', max_length=10)),
                ('since', models.DateTimeField()),
                ('clear_since', models.DateTimeField(null=True)),
                ('value', models.FloatField(null=True)),
                ('evaluated_at', models.DateTimeField()),
                ('is_announced', models.BooleanField(default=False)),
                ('alert', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='states', to='events.alert')),
                ('firing', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='events.firing')),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='Delivery',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('alert_name', models.CharField(blank=True, max_length=100)),
                ('event', models.CharField(choices=[('firing', 'firing'), ('resolved', 'resolved'), ('test', 'test')], max_length=10)),
                ('subject', models.CharField(max_length=300)),
                ('body', models.TextField()),
                ('status', models.CharField(choices=[('waiting', 'waiting'), ('delivered', 'delivered'), ('failed', 'failed')], default='waiting', max_length=10)),
                ('created_at', models.DateTimeField()),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('next_attempt_at', models.DateTimeField(null=True)),
                ('delivered_at', models.DateTimeField(null=True)),
                ('outcome', models.CharField(blank=True, max_length=300)),
                ('alert', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='deliveries', to='events.alert')),
                ('target', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='events.alerttarget')),
            ],
            options={
                'verbose_name_plural': 'deliveries',
                'default_permissions': ('view',),
                'indexes': [models.Index(fields=['status', 'next_attempt_at'], name='delivery_next_attempt'), models.Index(fields=['-created_at'], name='delivery_created_at')],
            },
        ),
        migrations.AddIndex(
            model_name='firing',
            index=models.Index(fields=['namespace', 'name', 'fired_at'], name='firing_series_fired_at'),
        ),
        migrations.AddIndex(
            model_name='firing',
            index=models.Index(fields=['alert', '-fired_at'], name='firing_alert_fired_at'),
        ),
        migrations.AddIndex(
            model_name='firing',
            index=models.Index(fields=['resolved_at'], name='firing_resolved_at'),
        ),
        migrations.AddConstraint(
            model_name='alertstate',
            constraint=models.UniqueConstraint(fields=('alert', 'namespace', 'name'), name='alert_state_once_a_series'),
        ),
        RefuseToLose('alert', 'what is watched, and whom that is told'),
        RefuseToLose('firing', 'when alerts fired'),
        RefuseToLose('delivery', 'what was sent, and what is still to be'),
        RefuseToLose('alerttarget', 'the webhooks and addresses of alerts'),
    ]
