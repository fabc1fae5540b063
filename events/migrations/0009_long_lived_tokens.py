"""What is known of a token that lasts: its name, and when it was last used."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from events.database.reversal import RefuseToLose


class Migration(migrations.Migration):

    dependencies = [
        ('events', '0008_series'),
        migrations.swappable_dependency(settings.OAUTH2_PROVIDER_ACCESS_TOKEN_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='LongLivedToken',
            fields=[
                ('token', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='long_lived', serialize=False, to=settings.OAUTH2_PROVIDER_ACCESS_TOKEN_MODEL)),
                ('name', models.CharField(max_length=100)),
                ('last_used', models.DateTimeField(help_text='To some seconds; `events.access.usage` writes it.', null=True)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        RefuseToLose('longlivedtoken', 'the names of tokens that last, and when they were last used'),
    ]
