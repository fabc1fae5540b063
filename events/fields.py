"""Reads single fields of bodies and queries: text, numbers, instants, words, time zones, parts of a path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, tzinfo
from math import isfinite
from typing import Any

from django.conf import settings
from django.http import QueryDict
from rest_framework import serializers
from typing_extensions import override

from events.aggregation.question import NAMED_TYPES, fraction_of
from events.calendar import timestamps, zones
from events.log.models import validate_path_segment

NUMBER_TEXT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")


def _is_text_only(field: serializers.Field[Any, Any, Any, Any]) -> bool:
    """Tell whether the input is a form or a query, where a number can't be told from a text, or is read like one."""
    return isinstance(field.root.initial_data, QueryDict) or getattr(field.root, "reads_text_as_queries", False)


class TextField(serializers.CharField):
    """Text exactly as sent; a number or anything else is refused."""

    @override
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class NumberField(serializers.FloatField):
    """A finite number, or in a form the text of one."""

    default_error_messages = {"quoted": "Must be a JSON number, without quotes."}

    @override
    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, str) and _is_text_only(self) and NUMBER_TEXT.fullmatch(data):
            data = float(data)
        if isinstance(data, str) and NUMBER_TEXT.fullmatch(data):
            self.fail("quoted")
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        try:
            number = float(data)
        except OverflowError:
            self.fail("invalid")
        if not isfinite(number):
            self.fail("invalid")
        return number


class TimestampField(serializers.Field[datetime, Any, str, Any]):
    """An instant: ISO 8601 text or unix time."""

    default_error_messages = {"invalid": f"Must be {timestamps.ACCEPTED}."}

    @override
    def to_internal_value(self, data: Any) -> datetime:
        """Return the instant in UTC. Raises ValidationError."""
        try:
            if isinstance(data, str):
                return timestamps.from_text(data) if _is_text_only(self) else timestamps.from_iso(data)
            if isinstance(data, int | float) and not isinstance(data, bool):
                return timestamps.from_unix(data)
        except timestamps.AmbiguousText as error:
            raise serializers.ValidationError(str(error), code="ambiguous") from None
        except ValueError:
            pass
        self.fail("invalid")

    @override
    def to_representation(self, value: datetime) -> str:
        """Write the instant as ``2020-11-12T11:10:00Z``."""
        return timestamps.to_text(value)


class WindowEndField(TimestampField):
    """An end of a window: an instant, or a date alone, which stands for a whole day of the zone of the query."""

    @override
    def to_internal_value(self, data: Any) -> Any:
        day = timestamps.day_of(data) if isinstance(data, str) else None
        return super().to_internal_value(data) if day is None else day


class NamedChoiceField(serializers.ChoiceField):
    """One of a few words; the error lists all of them."""

    def __init__(self, choices: Sequence[str], **kwargs: Any) -> None:
        message = f"“{{input}}” is not accepted. Choose one of: {', '.join(choices)}."
        super().__init__(list(choices), error_messages={"invalid_choice": message}, **kwargs)

    @override
    def to_internal_value(self, data: Any) -> Any:
        """Return the word. Raises ValidationError, which repeats only the first 50 characters of the input."""
        # JSON's escapes can make a text that no answer could repeat
        return super().to_internal_value(str(data)[:50].encode(errors="backslashreplace").decode())


class AggregationTypeField(NamedChoiceField):
    """A word, or a percentile: the letter p and a number from 0 to 100; the error lists the words."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__([*NAMED_TYPES], **kwargs)
        others = "Another percentile is a “p” and a number from 0 to 100, such as p99.9."
        self.error_messages["invalid_choice"] += f" {others}"

    @override
    def to_internal_value(self, data: Any) -> Any:
        is_percentile = isinstance(data, str) and fraction_of(data) is not None
        return data if is_percentile else super().to_internal_value(data)


class TimeZoneField(serializers.Field[tzinfo, Any, str, Any]):
    """A time zone by its IANA name, as in the package tzdata, on any machine."""

    default_error_messages = {"invalid": "Must be the IANA name of a time zone, such as Europe/Berlin."}

    @override
    def to_internal_value(self, data: Any) -> tzinfo:
        """Return the zone; UTC is ``datetime.UTC``. Raises ValidationError."""
        if not isinstance(data, str):
            self.fail("invalid")
        try:
            return zones.zone_of(data)
        except LookupError:
            self.fail("invalid")

    @override
    def to_representation(self, value: tzinfo) -> str:
        return str(value)


class SegmentField(TextField):
    """A namespace or a name: a segment of a path."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=255, trim_whitespace=False, validators=[validate_path_segment], **kwargs)


class LimitField(serializers.Field[int, Any, int, Any]):
    """How many series to list, up to ``MAX_SERIES``."""

    default_error_messages = {"invalid": "Must be a whole number from 1 to {most}."}

    @override
    def to_internal_value(self, data: Any) -> int:
        number = int(data) if isinstance(data, str) and re.fullmatch(r"[0-9]{1,10}", data) else 0
        if not 1 <= number <= settings.MAX_SERIES:
            self.fail("invalid", most=settings.MAX_SERIES)
        return number


class PageField(serializers.Field[int, Any, int, Any]):
    """The number of a page, from 1."""

    default_error_messages = {"invalid": "Must be a whole number from 1."}

    @override
    def to_internal_value(self, data: Any) -> int:
        number = int(data) if isinstance(data, str) and re.fullmatch(r"[0-9]{1,9}", data) else 0
        if number < 1:
            self.fail("invalid")
        return number


class SeveralField(serializers.ListField):
    """A parameter that may come several times; one left empty counts as not given."""

    @override
    def get_value(self, dictionary: Any) -> Any:
        found = super().get_value(dictionary)
        if isinstance(dictionary, QueryDict) and isinstance(found, list):
            return [each for each in found if each] or serializers.empty
        return found
