"""Owns what people say of a series: its description, the unit of its values, whether lists leave it out."""

from __future__ import annotations

from django.core.validators import ProhibitNullCharactersValidator
from django.db import models

MOST_UNIT_CHARACTERS = 20


class SeriesSettingsQuerySet(models.QuerySet["SeriesSettings"]):
    """Settings chosen by series."""

    def of_series(self, namespace: str, name: str) -> SeriesSettingsQuerySet:
        """Choose the settings of one series, if it has any."""
        return self.filter(namespace=namespace, name=name)


class SeriesSettings(models.Model):
    """What is known of a series besides its events. It may be there before the first event, and after the last."""

    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True, max_length=2_000, validators=[ProhibitNullCharactersValidator()])
    unit = models.CharField(
        blank=True,
        max_length=MOST_UNIT_CHARACTERS,
        help_text="number, bytes, percent or seconds; any other text, such as EUR, is written after the values.",
    )
    is_hidden = models.BooleanField(default=False, help_text="Whether the overview leaves the series out.")

    objects = SeriesSettingsQuerySet.as_manager()
    moved_by = ("namespace", "name")

    class Meta:
        # Serves the look-up of one series, and of the series of a page.
        constraints = [models.UniqueConstraint(fields=["namespace", "name"], name="series_settings_once_a_series")]
        default_permissions = ("view", "change")
        verbose_name_plural = "series settings"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
