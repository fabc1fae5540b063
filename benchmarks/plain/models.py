"""The same table."""

from django.db import models


class Event(models.Model):
    """One fact."""

    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    timestamp = models.DateTimeField()
    value = models.FloatField()

    class Meta:
        indexes = [models.Index(fields=["namespace", "name", "timestamp"], name="plain_series_timestamp")]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
