"""Owns the contract of annotations: what a body and a query may hold, and how the rest is refused."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from django.core.validators import RegexValidator
from rest_framework import serializers
from typing_extensions import override

from events.annotations.models import (
    MOST_TAG_CHARACTERS,
    MOST_TAGS,
    MOST_TEXT_CHARACTERS,
    MOST_TITLE_CHARACTERS,
    Annotation,
    Place,
)
from events.calendar import timestamps
from events.fields import SegmentField, SeveralField, TextField, TimestampField
from events.serializers import StatisticsQuerySerializer, StrictFieldsMixin

MOST_LISTED = 1_000
_ONE_LINE = RegexValidator(r"\A[^\x00-\x1f\x7f]*\Z", "Must be one line, without control characters.")


class LineField(TextField):
    """A text of one line, which is more than white space."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(validators=[_ONE_LINE], **kwargs)


class AnnotationSerializer(StrictFieldsMixin, serializers.Serializer[Annotation]):
    """An annotation as it is sent."""

    namespace = SegmentField(help_text="On whose charts it is drawn; nothing need have been tracked there.")
    timestamp = TimestampField(help_text="When it happened, or began.")
    end = TimestampField(default=None, allow_null=True, help_text="When it ended; without it, it is a moment.")
    title = LineField(max_length=MOST_TITLE_CHARACTERS)
    text = TextField(max_length=MOST_TEXT_CHARACTERS, allow_blank=True, trim_whitespace=False, default="")
    tags = serializers.ListField(child=LineField(max_length=MOST_TAG_CHARACTERS), max_length=MOST_TAGS, default=list)

    @override
    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse an end before the beginning, also where only one of them is given."""
        timestamp, end = (attrs.get(name, getattr(self.instance, name, None)) for name in ("timestamp", "end"))
        if timestamp is not None and end is not None and end < timestamp:
            raise serializers.ValidationError({"end": ["Must not be earlier than timestamp."]})
        return attrs

    def changed(self) -> Annotation:
        """Return the annotation with the validated fields, not stored yet."""
        annotation = self.instance or Annotation()
        for name, value in self.validated_data.items():
            setattr(annotation, name, value)
        return annotation


class PlaceField(serializers.Field[Place, Any, str, Any]):
    """The place of an annotation among all, as the link to the next page has it."""

    default_error_messages = {"invalid": "Must be the timestamp and the id of an annotation, with a slash between."}

    @override
    def to_internal_value(self, data: Any) -> Place:
        text, _, key = str(data).partition("/")
        try:
            return Place(timestamps.from_iso(text), UUID(key))
        except ValueError:
            self.fail("invalid")

    @staticmethod
    def text_of(place: Place) -> str:
        """Write a place."""
        return f"{timestamps.to_text(place.timestamp)}/{place.key}"


class ListLimitField(serializers.Field[int, Any, int, Any]):
    """How many annotations to list."""

    default_error_messages = {"invalid": f"Must be a whole number from 1 to {MOST_LISTED}."}

    @override
    def to_internal_value(self, data: Any) -> int:
        number = int(data) if isinstance(data, str) and re.fullmatch(r"[0-9]{1,9}", data) else 0
        if not 1 <= number <= MOST_LISTED:
            self.fail("invalid")
        return number


class AnnotationListSerializer(StatisticsQuerySerializer):
    """The query of the list; a parameter left empty counts as not given."""

    namespace = SeveralField(
        child=SegmentField(),
        max_length=100,
        required=False,
        help_text="Only those of this namespace; given several times, of any of them.",
    )
    tag = SeveralField(
        child=LineField(max_length=MOST_TAG_CHARACTERS),
        max_length=MOST_TAGS,
        required=False,
        help_text="Only those with this tag; given several times, with all of them.",
    )
    limit = ListLimitField(default=MOST_LISTED, help_text="How many, at most.")
    after = PlaceField(
        default=None, help_text="`timestamp/id`: only those past this one, which need not be there any more."
    )
