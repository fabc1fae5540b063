"""Reads of many series at once what only events or histograms tell of a window: percentiles, deviations, ends.

A series whose rollups tell enough, or whose events may not be read, is answered first; events are read for the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isinf
from typing import Any, cast

from django.conf import settings
from django.db import models
from django.db.models import Count, F, Max, Min, Sum
from rest_framework.exceptions import ValidationError

from events.aggregation import event_bounds, histogram_reader
from events.aggregation.event_sql import Deviation, Percentile, deviation
from events.aggregation.histogram_reader import HistogramReader
from events.aggregation.plan import plan
from events.aggregation.question import ENDS, Question, beyond_a_double, fraction_of
from events.aggregation.series_state import SeriesState, state_of
from events.aggregation.sources import Source, events_of
from events.calendar.granularity import Granularity
from events.calendar.spans import Span
from events.database import partitions, reading
from events.log.models import Event, EventQuerySet
from events.log.series import SeriesKey, among, from_series
from events.rollups.bins import Bin
from events.rollups.models import Histogram, Watermark

# A value, None where there is none, or why it can't be answered.
Found = float | None | ValidationError

# A percentile is read in quarters where the difference of its neighbours may be beyond a double.
_QUARTER = 0.25


@dataclass
class EventWindow:
    """One window of several series of a partition, of which each has a value of the same aggregation type.

    ``found`` has what is known of it without reading events, and ``left`` how many events are to be read of each other
    series. ``moved`` says where the events are of those that are being renamed or merged.
    """

    aggregation_type: str
    span: Span
    partition: int | None
    watermark: Watermark
    found: dict[SeriesKey, Found] = field(default_factory=dict)
    left: dict[SeriesKey, int] = field(default_factory=dict)
    moved: dict[SeriesKey, tuple[Source, ...]] = field(default_factory=dict)

    def look(self, keys: Sequence[SeriesKey], counts: Mapping[SeriesKey, int], pruned: set[SeriesKey]) -> None:
        """Find what needs no events to be read, by the number of events that each series has in the window.

        ``pruned`` are the series of which older events than the end of the window were deleted. Of a series that is
        being renamed or merged, the events of both names are counted here.
        """
        self.moved = {key: state_of(*key).sources for key in keys if self.watermark.move_of(*key)}
        counts = {**counts, **{key: self._events_of(key).count() for key in self.moved if key not in pruned}}
        self.found |= dict.fromkeys((key for key in keys if not counts.get(key)), None)
        asked = {key: counts[key] for key in keys if counts.get(key)}
        whole = {key: count for key, count in asked.items() if key not in pruned}
        self.found |= self._from_histograms({key: count for key, count in whole.items() if key not in self.moved})
        for key in asked:
            if key in pruned or key in self.moved:
                self.found |= self._by_itself(key)
        unknown = {key: count for key, count in asked.items() if key not in self.found}
        if self.aggregation_type in ENDS:
            self.left = dict.fromkeys(unknown, 1)
            return
        for key, count in unknown.items():
            if (
                count <= settings.PERCENTILE_EVENTS
                or (refusal := self._refusal(self._question(key), state_of(*key))) is None
            ):
                self.left[key] = count
            else:
                self.found[key] = refusal

    def read(self) -> dict[SeriesKey, Found]:
        """Read the events that are left to read, by one statement, and return the value of each series."""
        if self.left:
            nothing: dict[SeriesKey, Found] = dict.fromkeys(self.left, None)
            self.found |= nothing
            self.found |= self._from_events()
        return self.found

    def _question(self, key: SeriesKey) -> Question:
        return Question(
            namespace=key.namespace, name=key.name, ts_min=self.span.first, ts_max=self.span.last,
            granularity=Granularity.YEAR, aggregation_type=self.aggregation_type,
        )  # fmt: skip

    def _refusal(self, question: Question, state: SeriesState) -> ValidationError | None:
        try:
            event_bounds.check(question, self.span, state)
        except ValidationError as error:
            return error
        return None

    def _by_itself(self, key: SeriesKey) -> dict[SeriesKey, Found]:
        """Answer for a series that is renamed, or whose events were pruned in part, as far as no events are needed."""
        question, state = self._question(key), state_of(*key)
        if histogram_reader.may_answer(question):
            value = HistogramReader.of(question, self.span, state).read_whole()
            if value is not None:
                return {key: value}
        refusal = self._refusal(question, state)
        return {} if refusal is None else {key: refusal}

    # Histograms.

    def _from_histograms(self, counts: Mapping[SeriesKey, int]) -> dict[SeriesKey, float]:
        """Read the percentiles of the series that have histograms of all their events in the window's whole hours."""
        if fraction_of(self.aggregation_type) is None:
            return {}
        keys = [key for key in counts if key.namespace in settings.ROLLUP_HISTOGRAMS]
        pieces = plan(*self.span, cast(Any, [Histogram.Resolution.DAY, Histogram.Resolution.HOUR]))
        if not keys or not any(piece.resolution for piece in pieces):
            return {}
        events, marks = Event.objects.of_partition(self.partition), self.watermark.marks
        parts: list[models.QuerySet[Any]] = []
        for piece in pieces:
            if piece.resolution is None:
                parts.append(_binned(events.within(piece.first, piece.last).up_to(marks).filter(among(keys))))
            else:
                rows = Histogram.objects.of_partition(self.partition).filter(
                    among(keys), resolution=piece.resolution, bucket__range=(piece.first, piece.last)
                )
                parts.append(_counted(rows.annotate(in_bin=F("bin")), Sum("count")))
        parts.append(_binned(events.after(marks).within(*self.span)))
        bins: defaultdict[SeriesKey, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
        for namespace, name, number, count in (row for part in parts for row in part):
            bins[SeriesKey(namespace, name)][number] += count
        fraction = cast(float, fraction_of(self.aggregation_type))
        # an hour whose bins are not kept would be missed in part
        whole = {key: bins[key] for key in keys if sum(bins[key].values()) == counts[key]}
        return {key: histogram_reader.percentile_of(of_key, fraction) for key, of_key in whole.items()}

    # Events.

    def _from_events(self) -> Mapping[SeriesKey, Found]:
        if self.aggregation_type in ENDS:
            return self._ends()
        if self.aggregation_type == "stddev":
            return self._deviations()
        values = self._percentiles(list(self.left), 1.0)
        overflowing = [key for key, value in values.items() if isinf(value)]
        return values | self._percentiles(overflowing, _QUARTER) if overflowing else values

    def _grouped(self, keys: Sequence[SeriesKey], **columns: Any) -> Iterator[tuple[Any, ...]]:
        events = Event.objects.of_partition(self.partition).within(*self.span)
        if settled := [key for key in keys if key not in self.moved]:
            rows = events.filter(among(settled)).order_by().values("namespace", "name").annotate(**columns)
            yield from rows.values_list("namespace", "name", *columns)
        for key in self.moved.keys() & set(keys):
            yield (*key, *self._events_of(key).aggregate(**columns).values())

    def _events_of(self, key: SeriesKey) -> EventQuerySet:
        """Choose the events of a series that is being renamed or merged, under its old name and its new one."""
        return events_of(self.moved[key]).within(*self.span).order_by()

    def _percentiles(self, keys: Sequence[SeriesKey], scale: float) -> dict[SeriesKey, float]:
        percentile = Percentile("value", cast(float, fraction_of(self.aggregation_type)), scale)
        return {
            SeriesKey(namespace, name): value / scale + 0.0  # no -0.0
            for namespace, name, value in self._grouped(keys, percentile=percentile)
        }

    def _deviations(self) -> dict[SeriesKey, Found]:
        columns = {
            "number": Count("pk"), "least": Min("value"), "most": Max("value"),
            "huge": Deviation("value", Deviation.HUGE), "plain": Deviation("value", Deviation.PLAIN),
            "tiny": Deviation("value", Deviation.TINY),
        }  # fmt: skip
        found: dict[SeriesKey, Found] = {}
        for namespace, name, *row in self._grouped(list(self.left), **columns):
            value = deviation(*row)
            is_beyond = value is not None and isinf(value)
            found[SeriesKey(namespace, name)] = beyond_a_double("stddev") if is_beyond else value
        return found

    def _ends(self) -> dict[SeriesKey, float | None]:
        """Look up the first or last value of each series, which reads an entry of the index for each."""
        is_last = self.aggregation_type == "last"
        found: dict[SeriesKey, float | None] = {}
        for key in self.moved.keys() & self.left.keys():
            ordered = self._events_of(key).order_by("timestamp", "pk").values_list("value", flat=True)
            value = ordered.last() if is_last else ordered.first()
            found[key] = value and value + 0.0
        settled = [key for key in self.left if key not in self.moved]
        return found | self._ends_of(settled, "DESC" if is_last else "ASC") if settled else found

    def _ends_of(self, keys: Sequence[SeriesKey], direction: str) -> dict[SeriesKey, float | None]:
        table, given = from_series(keys)
        sql = f"""
            SELECT series.namespace, series.name, (
                SELECT event.value FROM {Event._meta.db_table} AS event
                WHERE event.namespace = series.namespace AND event.name = series.name
                    AND event.timestamp BETWEEN %s AND %s{partitions.and_within(self.partition, "event")}
                ORDER BY event.timestamp {direction}, event.id {direction} LIMIT 1
            ) {table}
        """  # noqa: S608
        connection = reading.connection()
        span = [connection.ops.adapt_datetimefield_value(end) for end in self.span]
        with connection.cursor() as cursor:
            cursor.execute(sql, [*span, *given])
            rows = cursor.fetchall()
        return {SeriesKey(namespace, name): value and value + 0.0 for namespace, name, value in rows}


def _binned(events: models.QuerySet[Any]) -> models.QuerySet[Any]:
    return _counted(events.annotate(in_bin=Bin(F("value"))), Count("pk"))


def _counted(rows: models.QuerySet[Any], count: models.Aggregate) -> models.QuerySet[Any]:
    grouped = rows.order_by().values("namespace", "name", "in_bin").annotate(number=count)
    counted: models.QuerySet[Any] = grouped.values_list("namespace", "name", "in_bin", "number")
    return counted
