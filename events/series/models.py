"""Owns what people say of a series: its description, the unit of its values, whether lists leave it out."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.validators import ProhibitNullCharactersValidator
from django.db import models
from django.utils import timezone
from typing_extensions import override

from events.log.series import SeriesKey
from events.rollups.moves import Move

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

    @override
    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class FormerNameQuerySet(models.QuerySet["FormerName"]):
    """Former names chosen by what became of them."""

    def of_series(self, namespace: str, name: str) -> FormerNameQuerySet:
        """Choose the former names of a series."""
        return self.filter(to_namespace=namespace, to_name=name)

    def renamed(self, keys: Iterable[SeriesKey]) -> dict[SeriesKey, str]:
        """Return what the series are called now that had the names ``keys`` before, for those that did. One query."""
        wanted = set(keys)
        there = self.filter(name__in={key.name for key in wanted}).exclude(to_name="")
        rows = there.values_list("namespace", "name", "to_namespace", "to_name")
        found = {
            SeriesKey(namespace, name): f"{to_namespace}/{to_name}" for namespace, name, to_namespace, to_name in rows
        }
        return {key: to for key, to in found.items() if key in wanted}


class FormerName(models.Model):
    """A name that a series had until it was renamed, merged or deleted: what comes under it later is another series."""

    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    to_namespace = models.CharField(blank=True, max_length=255, help_text="Empty where the series was deleted.")
    to_name = models.CharField(blank=True, max_length=255)
    since = models.DateTimeField(default=timezone.now)

    objects = FormerNameQuerySet.as_manager()
    moved_by = ("namespace", "name")

    class Meta:
        # Serves the look-up of one series, and of the series of a page.
        constraints = [models.UniqueConstraint(fields=["namespace", "name"], name="former_name_once_a_series")]
        # Serves the page of a series, which lists its former names.
        indexes = [models.Index(fields=["to_namespace", "to_name"], name="former_name_to")]
        default_permissions = ()

    @override
    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def follow(move: Move) -> None:
    """Let what is said of a series go with it to its new name, or away where it is deleted; note its former name.

    Where it is merged, what is said of the other series stays as far as there is anything.
    """
    old = SeriesKey(*move.old)
    into = SeriesKey(*move.into) if move.into else None
    settings = SeriesSettings.objects.of_series(*old).first()
    if settings:
        settings.delete()
        if into:
            _say_of(into, settings)
    to = {"to_namespace": into.namespace, "to_name": into.name} if into else {"to_namespace": "", "to_name": ""}
    FormerName.objects.of_series(*old).update(**to)
    FormerName.objects.filter(namespace=old.namespace, name=old.name).delete()
    FormerName.objects.create(namespace=old.namespace, name=old.name, **to)
    if into:
        FormerName.objects.filter(namespace=into.namespace, name=into.name).delete()


def _say_of(series: SeriesKey, settings: SeriesSettings) -> None:
    known = SeriesSettings.objects.of_series(*series).first()
    SeriesSettings.objects.update_or_create(
        namespace=series.namespace,
        name=series.name,
        defaults={
            "description": (known and known.description) or settings.description,
            "unit": (known and known.unit) or settings.unit,
            "is_hidden": known.is_hidden if known else settings.is_hidden,
        },
    )
