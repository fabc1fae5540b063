"""What people say of a series: its description, its unit, whether the overview leaves it out."""

import django.core.validators
from django.db import migrations, models

from events.database.reversal import RefuseToLose


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0011_partitions'),
    ]

    operations = [
        migrations.CreateModel(
            name='SeriesSettings',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('namespace', models.CharField(max_length=255)),
                ('name', models.CharField(max_length=255)),
                ('description', models.TextField(blank=True, max_length=2000, validators=[django.core.validators.ProhibitNullCharactersValidator()])),
                ('unit', models.CharField(blank=True, help_text='number, bytes, percent or seconds; any other text, such as EUR, is written after the values.', max_length=20)),
                ('is_hidden', models.BooleanField(default=False, help_text='Whether the overview leaves the series out.')),
            ],
            options={
                'verbose_name_plural': 'series settings',
                'default_permissions': ('view', 'change'),
                'constraints': [models.UniqueConstraint(fields=('namespace', 'name'), name='series_settings_once_a_series')],
            },
        ),
        RefuseToLose('seriessettings', 'the descriptions and units of series'),
    ]
