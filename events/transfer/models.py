"""Owns the bookmarks: how far imports have come."""

from django.db import models
from typing_extensions import override


class Bookmark(models.Model):
    """How far an import has come in its source, kept in the transactions that store the events."""

    source = models.CharField(max_length=1000, unique=True, help_text="The path of a file, or a name of its own.")
    lines = models.BigIntegerField(default=0, help_text="How many lines are done, whether stored or rejected.")
    digest = models.CharField(max_length=64, blank=True, help_text="BLAKE2 of the lines that are done.")
    head = models.CharField(
        max_length=64, blank=True, help_text="BLAKE2 of the first line, by which the source is known again."
    )
    events = models.BigIntegerField(default=0)
    rejected = models.BigIntegerField(default=0)
    rejects = models.CharField(max_length=1000, blank=True, help_text="The path of the file of the rejects.")
    rejects_bytes = models.BigIntegerField(default=0, help_text="How many bytes the file of the rejects had then.")
    is_done = models.BooleanField(default=False)
    changed = models.DateTimeField(auto_now=True)

    # lines and digest of another source by this name, which is known until the first step of this one is stored
    was: tuple[int, str] | None = None

    class Meta:
        default_permissions = ()

    @override
    def __str__(self) -> str:
        return f"{self.source}, line {self.lines}"
