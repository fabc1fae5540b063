"""Builds the rows that buckets are merged from: how events and rollups are grouped, and into which columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import Any

from django.db import models
from django.db.models import BigIntegerField, Case, Count, F, Max, Min, Sum, Value, When
from django.db.models.functions import Cast, NullIf

from events.aggregation.columns import InstantText, KeyNumber, KeyText, Nothing
from events.calendar.granularity import Granularity
from events.database.trunc_clock import Rules, bucket_start
from events.log.models import EventQuerySet
from events.rollups import sums_sql
from events.rollups.models import Rollup

_COLUMNS = {
    "avg": ("total", "missed", "units", "number"),
    "sum": ("total", "missed", "units"),
    "count": ("number",),
    "min": ("least",),
    "max": ("most",),
}
# Which other columns the expression of a column may name.
_MADE_OF = {"total": ("number", "least"), "units": ("number", "inexact")}

_NO_DOUBLE = Nothing(models.FloatField())
_INEXACT = Max(Case(When(is_exact=False, then=1), default=0))
_NO_TEXT = Nothing(models.TextField())


@dataclass(frozen=True)
class BucketRows:
    """Groups what is chosen by whoever asks: nothing here depends on a series or on the ends of a window.

    So two of them that are equal build equal statements from the same events or rollups.
    """

    granularity: Granularity
    aggregation_type: str
    rules: Rules
    aligned: bool
    """Whether the buckets are minutes or hours of UTC, so that a timestamp's text is enough to group by."""
    bounds: bool = False
    """Whether the least and the most value of each bucket are needed too."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the columns: the first timestamp, the bucket's key where there is need of one, and the rest."""
        return ("first", *([] if self.aligned else ["key"]), *self._value_names)

    @property
    def _value_names(self) -> Sequence[str]:
        return (*_COLUMNS[self.aggregation_type], *(("least", "most") if self.bounds else ()))

    def stored(self, rollups: models.QuerySet[Rollup]) -> models.QuerySet[Any]:
        """Make a row of each rollup, which is a bucket as it is asked for."""
        columns = {
            "total": Case(When(is_exact=True, then=F("sum")), default=Value(inf)),
            "missed": NullIf("rest", Value(0.0)), "units": _NO_TEXT,
            "number": F("count"), "least": F("min"), "most": F("max"),
        }  # fmt: skip
        return rollups.annotate(**columns, first=InstantText("first_timestamp")).values_list(*self.names)

    def of_rollups(
        self, rollups: models.QuerySet[Rollup], time: str = "bucket", *, only_exact: bool = True
    ) -> models.QuerySet[Any]:
        """Group rollups by a column that tells when they are."""
        units: models.expressions.Combinable = _text_of(sums_sql.Units("sum", "rest", peak=inf))
        if only_exact:
            units = Case(When(inexact=1, then=_NO_TEXT), default=units)
        return self._grouped(
            rollups, time,
            inexact=_INEXACT, total=_NO_DOUBLE, missed=_NO_DOUBLE, units=units,
            first=InstantText(Min("first_timestamp")), number=Cast(Sum("count"), BigIntegerField()),
            least=Min("min"), most=Max("max"),
        )  # fmt: skip

    def of_events(self, events: EventQuerySet, units: sums_sql.Units | None = None) -> models.QuerySet[Any]:
        """Group events; the value of an event that is alone in its bucket is the sum, without adding up."""
        return self._grouped(
            events, "timestamp",
            total=Case(When(number=1, then=F("least")), default=_NO_DOUBLE),
            missed=_NO_DOUBLE,
            units=Case(When(number=1, then=_NO_TEXT), default=_text_of(units or sums_sql.Units("value"))),
        )  # fmt: skip

    def start(self, time: str) -> models.F | models.Func:
        """Build the start of the bucket that a column's instant lies in."""
        if self.granularity == "none":
            return F(time)
        return bucket_start(time, self.rules)

    def _grouped(self, rows: models.QuerySet[Any], time: str, **aggregates: Any) -> models.QuerySet[Any]:
        of_events = {
            "first": InstantText(Min("timestamp")), "number": Count("pk"), "least": Min("value"), "most": Max("value")
        }  # fmt: skip
        # Django takes long to build what is not selected, too
        wanted = {"key", *self.names, *chain.from_iterable(_MADE_OF.get(name, ()) for name in self.names)}
        key = KeyText() if self.granularity == "none" else KeyNumber()
        columns = {"key": key, **(of_events if time == "timestamp" else {}), **aggregates}
        grouped: models.QuerySet[Any] = (
            rows.order_by()
            .annotate(start=self.start(time))
            .values("start")
            .annotate(**{name: column for name, column in columns.items() if name in wanted})
            .values_list(*self.names)
        )
        return grouped


def _text_of(units: sums_sql.Units) -> Cast:
    return Cast(units, models.TextField())
