"""Which series is being renamed, merged or deleted, and which names series had before."""

import django.utils.timezone
from django.db import migrations, models

from events.database.reversal import RefuseToLose


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0017_annotations_and_boards'),
    ]

    operations = [
        migrations.AddField(
            model_name='watermark',
            name='moving',
            field=models.JSONField(editable=False, help_text='The series that is renamed, merged or deleted.', null=True),
        ),
        migrations.CreateModel(
            name='FormerName',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('namespace', models.CharField(max_length=255)),
                ('name', models.CharField(max_length=255)),
                ('to_namespace', models.CharField(blank=True, help_text='Empty where the series was deleted.', max_length=255)),
                ('to_name', models.CharField(blank=True, max_length=255)),
                ('since', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'default_permissions': (),
                'constraints': [models.UniqueConstraint(fields=('namespace', 'name'), name='former_name_once_a_series')],
                'indexes': [models.Index(fields=['to_namespace', 'to_name'], name='former_name_to')],
            },
        ),
        RefuseToLose('formername', 'which names series had before'),
        RefuseToLose('watermark', 'which series is being moved, whose events are then found under two names', column='moving'),
    ]
