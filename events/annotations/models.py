"""Owns the table of annotations: what people and programs say happened at a moment, or over a while, of a namespace."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import reduce
from operator import or_
from typing import NamedTuple
from uuid import UUID, uuid4

from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import StrIndex
from typing_extensions import override

from events.calendar import timestamps
from events.log.models import validate_path_segment
from events.log.namespace_patterns import Namespaces

MOST_TITLE_CHARACTERS, MOST_TEXT_CHARACTERS = 200, 4_000
MOST_TAGS, MOST_TAG_CHARACTERS = 20, 50


class Place(NamedTuple):
    """Where an annotation stands among all, which are ordered by time."""

    timestamp: datetime
    key: UUID


def _place_of(text: str, field: str) -> StrIndex:
    return StrIndex(F(field), Value(text))


class AnnotationQuerySet(models.QuerySet["Annotation"]):
    """Annotations chosen by namespace, time and tags, ordered by time."""

    def in_namespaces(self, namespaces: Namespaces) -> AnnotationQuerySet:
        """Choose those of the namespaces, which are compared code point by code point."""
        if "" in namespaces.prefixes:
            return self
        # “startswith” ignores case on SQLite
        places = {
            f"prefix_{number}": _place_of(prefix, "namespace") for number, prefix in enumerate(namespaces.prefixes)
        }
        begins = [Q(**{place: 1}) for place in places]
        return self.alias(**places).filter(reduce(or_, begins, Q(namespace__in=namespaces.exact)))

    def within(self, first: datetime | None, last: datetime | None) -> AnnotationQuerySet:
        """Choose those of which any part lies in the window [first, last]; None leaves an end open."""
        found = self
        if last is not None:
            found = found.filter(timestamp__lte=last)
        if first is not None:
            found = found.filter(Q(timestamp__gte=first) | Q(end__gte=first))
        return found

    def with_tags(self, tags: Iterable[str]) -> AnnotationQuerySet:
        """Choose those that have all of the tags."""
        places = {f"tag_{number}": _place_of(f"\n{tag}\n", "tag_lines") for number, tag in enumerate(tags)}
        return self.alias(**places).filter(**{f"{place}__gt": 0 for place in places})

    def in_order(self, after: Place | None = None) -> AnnotationQuerySet:
        """Order them by time; with ``after`` only those past that place."""
        found = self.order_by("timestamp", "key")
        if after is None:
            return found
        return found.filter(Q(timestamp__gt=after.timestamp) | Q(timestamp=after.timestamp, key__gt=after.key))


class Annotation(models.Model):
    """Something that happened at a moment, or from there to ``end``: a deployment, an incident."""

    key = models.UUIDField(unique=True, default=uuid4, editable=False, help_text="The id in the API, in any database.")
    namespace = models.CharField(max_length=255, validators=[validate_path_segment])
    timestamp = models.DateTimeField()
    end = models.DateTimeField(null=True, blank=True)
    title = models.CharField(max_length=MOST_TITLE_CHARACTERS)
    text = models.TextField(blank=True, max_length=MOST_TEXT_CHARACTERS)
    tag_lines = models.TextField(default="\n", help_text="A line each, between line breaks, so that one can be found.")

    objects = AnnotationQuerySet.as_manager()
    moved_by = ("key",)

    class Meta:
        # Serves the annotations of some namespaces in a window.
        indexes = [models.Index(fields=["namespace", "timestamp"], name="annotation_window")]
        constraints = [
            models.CheckConstraint(
                condition=Q(end__isnull=True) | Q(end__gte=F("timestamp")), name="annotation_ends_after_its_beginning"
            )
        ]
        default_permissions = ("add", "change", "delete")

    @override
    def __str__(self) -> str:
        return f"{self.namespace}: {self.title}"

    @property
    def tags(self) -> list[str]:
        """Return the tags in the order that they were given in."""
        return [tag for tag in self.tag_lines.split("\n") if tag]

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        self.tag_lines = "\n".join(["", *dict.fromkeys(tags), ""])

    @property
    def place(self) -> Place:
        """Return where it stands among all."""
        return Place(self.timestamp, self.key)

    def answered(self) -> dict[str, object]:
        """Write the annotation as the API returns it."""
        return {
            "id": str(self.key),
            "namespace": self.namespace,
            "timestamp": timestamps.to_text(self.timestamp),
            "end": None if self.end is None else timestamps.to_text(self.end),
            "title": self.title,
            "text": self.text,
            "tags": self.tags,
        }
