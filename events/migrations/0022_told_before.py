"""Which firing was told before the one that an alert has by now, and whose end is still to be told."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0021_thinned'),
    ]

    operations = [
        migrations.AddField(
            model_name='alertstate',
            name='told_before',
            field=models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='events.firing'),
        ),
    ]
