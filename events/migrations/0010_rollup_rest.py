"""Adds to the rollups what is missing from their sums; of those there are it stays 0 until they are made anew."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("events", "0009_long_lived_tokens")]

    operations = [
        migrations.AddField(
            model_name="rollup",
            name="rest",
            field=models.FloatField(
                db_default=0.0,
                help_text="How much the exact sum is more than the sum.",
            ),
        ),
        migrations.AddField(
            model_name="rollup",
            name="is_exact",
            field=models.BooleanField(
                db_default=True,
                help_text="Whether sum and rest together are the exact sum; where not, sums are read from the events.",
            ),
        ),
    ]
