"""Notes which series could not be archived, so that probes and metrics can tell."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.utils import timezone

from events.archive.models import ArchivedFile

_CHARACTERS = 500


def note(namespace: str, name: str, before: datetime, error: Exception) -> None:
    """Note why the past of a series could not be archived."""
    values = {"state": ArchivedFile.State.FAILED, "fault": str(error)[:_CHARACTERS], "changed": timezone.now()}
    # what is left of an attempt keeps its path, so that the next one removes the file
    if not ArchivedFile.objects.of_series(namespace, name).in_the_making().update(**values):
        ArchivedFile.objects.create(
            namespace=namespace, name=name, month=before.date().replace(day=1), start=before, end=before, marks={},
            **values,
        )  # fmt: skip


def clear(namespace: str, name: str) -> None:
    """Forget what was wrong with a series."""
    ArchivedFile.objects.of_series(namespace, name).filter(state=ArchivedFile.State.FAILED, path="").delete()


def clear_all() -> None:
    """Forget what was wrong, as all is tried again."""
    ArchivedFile.objects.filter(state=ArchivedFile.State.FAILED, path="").delete()


def count() -> int | None:
    """Count the series that could not be archived; None where nothing is archived. One query where something is."""
    return ArchivedFile.objects.filter(state=ArchivedFile.State.FAILED).count() if settings.ARCHIVE else None
