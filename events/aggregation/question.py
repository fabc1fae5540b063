"""Owns the words of a question: what may be asked of a series."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

from rest_framework.exceptions import ValidationError

from events.calendar.granularity import Granularity
from events.log.series import SeriesKey

ROLLED_UP_TYPES = ("avg", "min", "max", "sum", "count")
"""The types that the rollups hold all of."""
ENDS = ("first", "last")
"""The types that are the value of one event."""
AGGREGATION_TYPES = (*ROLLED_UP_TYPES, "rate", *ENDS, "stddev", "median")
"""All types but the percentiles, which are a ``p`` and a number of percent."""
PERCENTILE = r"p(100(\.0{1,10})?|[0-9]{1,2}(\.[0-9]{1,10})?)"
NAMED_TYPES = (*AGGREGATION_TYPES, "p50", "p75", "p90", "p95", "p99")
"""The types that errors and lists name; another percentile may be asked for as well."""
FILLS = ("none", "null", "zero", "previous")
LABELS = ("first", "bucket")


def fraction_of(aggregation_type: str) -> float | None:
    """Return which part of the values lies below a percentile, 0.95 for ``p95``; None for all other types."""
    if aggregation_type == "median":
        return 0.5
    return float(aggregation_type[1:]) / 100 if re.fullmatch(PERCENTILE, aggregation_type) else None


def is_aggregation_type(text: str) -> bool:
    """Tell whether a text is an aggregation type, such as ``avg`` or ``p99.9``."""
    return text in AGGREGATION_TYPES or fraction_of(text) is not None


def reads_all_events(aggregation_type: str) -> bool:
    """Tell whether every event in the window is read to answer a question of this type."""
    return aggregation_type == "stddev" or fraction_of(aggregation_type) is not None


def needs_events(aggregation_type: str) -> bool:
    """Tell whether the rollups alone can't answer a question of this type."""
    return aggregation_type in ENDS or reads_all_events(aggregation_type)


def beyond_a_double(aggregation_type: str) -> ValidationError:
    """Make the error for a bucket whose sum, or standard deviation, is larger than a double can be."""
    what = "standard deviation" if aggregation_type == "stddev" else "sum"
    return ValidationError({"aggregationType": [f"The {what} of a bucket is beyond what a double holds."]})


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of one series; the window [ts_min, ts_max] includes both ends, and None leaves an end open."""

    namespace: str
    name: str
    ts_min: datetime | None = None
    ts_max: datetime | None = None
    granularity: Granularity = Granularity.NONE
    aggregation_type: str = "avg"
    zone: tzinfo = UTC
    fill: str = "none"
    label: str = "first"

    def __post_init__(self) -> None:
        object.__setattr__(self, "granularity", Granularity(self.granularity))  # given by its name too


class Window(NamedTuple):
    """One value that is asked for: an aggregate of a series' events between two instants, both included."""

    series: SeriesKey
    aggregation_type: str
    first: datetime
    last: datetime
