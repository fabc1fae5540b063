"""Alerts watch every aggregation type of the API, percentiles with their decimals too."""

from django.db import migrations, models

import events.alerts.models


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0018_moving_series'),
    ]

    operations = [
        migrations.AlterField(
            model_name='alert',
            name='aggregation_type',
            field=models.CharField(default='avg', help_text='avg, min, max, sum, count, rate, first, last, stddev, median, p50, p75, p90, p95 or p99, or another percentile.', max_length=20, validators=[events.alerts.models.validate_aggregation_type]),
        ),
    ]
