"""Owns the words of a question: what may be asked of a series."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

AGGREGATION_TYPES = ("avg", "min", "max", "sum", "count")
FILLS = ("none", "null", "zero", "previous")
LABELS = ("first", "bucket")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of one series; the window [ts_min, ts_max] includes both ends, and None leaves an end open."""

    namespace: str
    name: str
    ts_min: datetime | None = None
    ts_max: datetime | None = None
    granularity: str = "none"
    aggregation_type: str = "avg"
    zone: tzinfo = UTC
    fill: str = "none"
    label: str = "first"
