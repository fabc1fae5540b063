"""Owns the contract of bodies, paths and query parameters: what is accepted, and how the rest is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from datetime import UTC, date, datetime, tzinfo
from typing import Any, cast

from django.http import QueryDict
from rest_framework import serializers
from typing_extensions import override

from events.aggregation.question import FILLS, LABELS
from events.calendar.granularity import Granularity, first_of_day, last_of_day
from events.calendar.timestamps import WrittenFloat
from events.fields import (
    AggregationTypeField,
    LimitField,
    NamedChoiceField,
    NumberField,
    PageField,
    SegmentField,
    SeveralField,
    TextField,
    TimestampField,
    TimeZoneField,
    WindowEndField,
)
from events.log.series import SeriesKey
from events.series.orders import ORDERS

MOST_SERIES_ASKED = 100
FORMATS = ("json", "csv", "ndjson")

MOST_SEARCHED_CHARACTERS = 511  # as many as a namespace, a slash and a name may have


class JSONObject(dict[str, Any]):
    """An object of JSON that knows which of its keys were given more than once."""

    repeated: Sequence[str] = ()

    @classmethod
    def of_pairs(cls, pairs: list[tuple[str, Any]]) -> JSONObject:
        """Make an object of keys and values; a repeated key gets the last of its values."""
        result = cls(pairs)
        if len(result) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            result.repeated = [key for key, count in counts.items() if count > 1]
        return result


class PlainSerializer(serializers.Serializer[Any]):
    """A serializer whose fields are copied for each request, where REST framework would make each of them anew."""

    @override
    def get_fields(self) -> dict[str, Any]:
        declared = self._declared_fields.items()
        return {name: (deepcopy if _has_fields_within(field) else copy)(field) for name, field in declared}


class StrictFieldsMixin(PlainSerializer):
    """Refuses unknown fields and fields given twice, as input that is not used must not be accepted."""

    @override
    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Validate the fields, and name unknown and repeated ones among the errors."""
        errors: dict[str, Any] = {}
        data = float(data) if isinstance(data, WrittenFloat) else data  # the error names the type
        if isinstance(data, Mapping):
            unknown = sorted(set(data) - set(self.fields))
            accepted = ", ".join(self.fields) or "none"
            errors = {_printable(key): [f"Unknown field. Accepted: {accepted}."] for key in unknown[:20]}
            errors |= {key: ["This field may be given only once."] for key in self._repeated(data)}
        validated: dict[str, Any] = {}
        try:
            validated = super().to_internal_value(data)
        except serializers.ValidationError as error:
            errors = {**cast(dict[str, Any], error.detail), **errors}
        if errors:
            raise serializers.ValidationError(errors)
        return validated

    def _repeated(self, data: Mapping[str, Any]) -> list[str]:
        """Return the fields that were given more than once, except those of a query that are lists."""
        may_repeat = serializers.ListField if isinstance(data, QueryDict) else ()
        return [key for key in _repeated(data) if key in self.fields and not isinstance(self.fields[key], may_repeat)]


class EventSerializer(StrictFieldsMixin, serializers.Serializer[Any]):
    """One event as it is sent: the contract of every body, however it is decoded."""

    namespace = SegmentField()
    name = SegmentField()
    timestamp = TimestampField()
    value = NumberField()


class NamespaceSerializer(PlainSerializer):
    """The path of one namespace's catalogue."""

    namespace = SegmentField()


class SeriesPathSerializer(NamespaceSerializer):
    """The path of a series."""

    name = SegmentField()


class AggregationQuerySerializer(StrictFieldsMixin, serializers.Serializer[Any]):
    """The query of the aggregation endpoint; a parameter left empty counts as not given."""

    tsMin = WindowEndField(
        source="ts_min",
        default=None,
        help_text="Where the window starts, itself included: ISO 8601 or unix time, as in an event; a date alone is "
        "the start of that day in `timezone`. Open where not given.",
    )
    tsMax = WindowEndField(
        source="ts_max",
        default=None,
        help_text="Where the window ends, itself included; a date alone is the end of that day in `timezone`.",
    )
    granularity = NamedChoiceField(
        choices=[each.value for each in Granularity],
        default="none",
        help_text="The calendar unit that events are grouped by; `week` starts on Monday, `none` groups equal "
        "timestamps only and is never filled.",
    )
    aggregationType = AggregationTypeField(
        source="aggregation_type",
        default="avg",
        help_text="How the values of a bucket become one: `avg`, `min`, `max`, `sum`, `count`; `rate`, the sum by the "
        "second; `first`, `last`; `stddev`, that of a sample; a percentile, which is a `p` and a number from 0 to 100 "
        "such as `p95` or `p99.9`; `median`, which is `p50`.",
    )
    timezone = TimeZoneField(
        source="zone",
        default=UTC,
        help_text="The IANA name of the zone whose calendar the buckets follow, summer time included, such as "
        "`Europe/Berlin`.",
    )
    fill = NamedChoiceField(
        choices=FILLS,
        default="none",
        help_text="What an empty bucket within the window gives: nothing, `null`, `zero`, or the `previous` value, "
        "which for the first ones is that of the last bucket before the window. A window with both ends given is "
        "filled for a series that never was sent, too.",
    )
    timestamp = NamedChoiceField(
        choices=LABELS,
        source="label",
        default="first",
        help_text="What a bucket is named by: the `first` timestamp of its events, or the start of the `bucket`.",
    )
    format = NamedChoiceField(
        choices=FORMATS,
        default=FORMATS[0],
        help_text="What the answer is written in; `Accept` may say it too. `csv` and `ndjson` have no limit to "
        "stored items.",
    )

    @override
    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Turn days into their first and last instants, and refuse a window that ends before it starts."""
        read_window(attrs, attrs["zone"])
        attrs.pop("format", None)  # the content negotiation reads it
        return attrs


class SeriesKeyField(serializers.Field[SeriesKey, Any, str, Any]):
    """A series by its namespace and name, as in the path of its aggregates."""

    default_error_messages = {"invalid": "Must be the namespace and the name of a series, such as Shop/order."}

    @override
    def to_internal_value(self, data: Any) -> SeriesKey:
        namespace, _, name = str(data).partition("/")
        path = SeriesPathSerializer(data={"namespace": namespace, "name": name})
        if not path.is_valid():
            self.fail("invalid")
        return SeriesKey(**path.validated_data)


class SeriesKeysField(SeveralField):
    """Series by their namespaces and names."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(child=SeriesKeyField(), **kwargs)

    @override
    def run_child_validation(self, data: Any) -> list[Any]:
        """Return the keys. Raises ValidationError, which says once what is wrong with any of them."""
        try:
            return super().run_child_validation(data)
        except serializers.ValidationError:
            raise serializers.ValidationError(SeriesKeyField.default_error_messages["invalid"]) from None


class CatalogueQuerySerializer(StrictFieldsMixin, serializers.Serializer[Any]):
    """The query of the catalogue; a parameter left empty counts as not given."""

    limit = LimitField(default=None, help_text="How many series, at most.")
    after = SeriesKeyField(
        default=None,
        help_text="`namespace/name`, such as `Shop/order`: only series past this one, which need not be there.",
    )
    search = TextField(
        max_length=MOST_SEARCHED_CHARACTERS,
        trim_whitespace=False,
        required=False,
        help_text="Only series with this text in their `namespace/name`, in any case.",
    )
    format = NamedChoiceField(
        choices=FORMATS, default=FORMATS[0], help_text="What the answer is written in; `Accept` may say it too."
    )


class OverviewQuerySerializer(StrictFieldsMixin, serializers.Serializer[Any]):
    """The query of the overview; a parameter left empty counts as not given."""

    search = TextField(
        max_length=MOST_SEARCHED_CHARACTERS,
        trim_whitespace=False,
        required=False,
        help_text="Only series with this text in their `namespace/name`, in any case.",
    )
    order = NamedChoiceField(
        choices=[f"{sign}{each}" for each in ORDERS for sign in ("", "-")],
        default=ORDERS[0],
        help_text="What the series are sorted by; after a `-` the other way round. Those without it come last.",
    )
    page = PageField(default=1, help_text="Which page, from 1; past the last one it is the last one.")
    hidden = NamedChoiceField(
        choices=("no", "yes"), default="no", help_text="Whether series that somebody hid are listed too."
    )


class StatisticsQuerySerializer(StrictFieldsMixin, serializers.Serializer[Any]):
    """The query of a series' statistics; a parameter left empty counts as not given."""

    tsMin = WindowEndField(
        source="ts_min",
        default=None,
        help_text="Where the window starts, itself included, as for aggregates; open where not given.",
    )
    tsMax = WindowEndField(
        source="ts_max", default=None, help_text="Where the window ends, itself included; a date alone is its end."
    )

    @override
    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Turn days of UTC into their first and last instants, and refuse a window that ends before it starts."""
        read_window(attrs, UTC)
        return attrs


class FiringsQuerySerializer(StatisticsQuerySerializer):
    """The query of what alerts fired; a parameter left empty counts as not given."""

    series = SeriesKeysField(
        max_length=MOST_SERIES_ASKED,
        required=False,
        help_text="`namespace/name`, such as `Shop/order`: only of this series; given several times, of any of them. "
        "All series where not given.",
    )


def _has_fields_within(field: object) -> bool:
    """Tell whether a field has fields of its own; these refer to it, so they must be copied with it."""
    return hasattr(field, "child") or isinstance(field, serializers.BaseSerializer)


def _repeated(data: Mapping[str, Any]) -> Sequence[str]:
    if isinstance(data, QueryDict):
        return [key for key, values in data.lists() if len(values) > 1]
    return data.repeated if isinstance(data, JSONObject) else ()


def read_window(attrs: dict[str, Any], zone: tzinfo) -> None:
    """Turn days of a zone into their first and last instants. Raises ValidationError where the window is reversed."""
    first, last = attrs["ts_min"], attrs["ts_max"]
    attrs["ts_min"] = first_of_day(first, zone) if _is_day(first) else first
    attrs["ts_max"] = last_of_day(last, zone) if _is_day(last) else last
    # days are compared as days: one that a zone leaves out would seem to end before it starts
    start, end = (first, last) if _is_day(first) and _is_day(last) else (attrs["ts_min"], attrs["ts_max"])
    if start and end and start > end:
        raise serializers.ValidationError({"tsMin": ["Must not be later than tsMax."]})


def _is_day(end: datetime | date | None) -> bool:
    return isinstance(end, date) and not isinstance(end, datetime)


def _printable(key: object) -> str:
    """Turn a key into text that can stand in an answer: 100 characters at most, lone surrogates escaped."""
    return str(key)[:100].encode(errors="backslashreplace").decode()
