"""Compares rollups with the events they were made from, and rebuilds the ones that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from math import fsum, isclose, isinf
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet, Sum
from typing_extensions import override

from events.calendar import timestamps
from events.calendar.granularity import MICROSECOND
from events.database import partitions
from events.database.snapshot import snapshot
from events.log.models import Event
from events.rollups import histograms, rebuild, statements, sums
from events.rollups.models import Histogram, Resolution, Rollup, Thinned, Watermark

_STRETCH = timedelta(days=31)
_FIELDS = ("bucket", "first_timestamp", "last_timestamp", "count", "sum", "min", "max")
_STORED = (*_FIELDS, "rest", "is_exact")


class Difference(NamedTuple):
    """One rollup that differs from its events.

    ``stored`` is None where the rollup is missing, ``computed`` where it should not be there.
    """

    namespace: str
    name: str
    resolution: Resolution
    bucket: datetime
    stored: dict[str, Any] | None
    computed: dict[str, Any] | None
    is_pruned: bool = False
    is_left_out: bool = False  # as a minute of an hour that is to have none, whose own rollup has its events

    @property
    def lost_events(self) -> int:
        """Count the events that the rollup holds and a rebuilt one would not."""
        if self.is_left_out:
            return 0
        stored, computed = (each["count"] if each else 0 for each in (self.stored, self.computed))
        return max(0, stored - computed)

    @property
    def hour(self) -> datetime:
        """Return the start of the hour that is rebuilt with this bucket; for a whole series, 1970."""
        return self.bucket.replace(minute=0)

    @override
    def __str__(self) -> str:
        source = "finer rollups" if self.is_pruned else "events"
        where = f"{self.namespace}/{self.name}, {self.resolution.label} {timestamps.to_text(self.bucket)}"
        if self.stored is None or self.computed is None:
            return f"{where}: {'missing' if self.stored is None else f'stored without {source}'}"
        texts = [
            f"{field} {_as_text(self.stored[field])} is {_as_text(self.computed[field])} by the {source}"
            for field in _FIELDS
            if self.stored[field] != self.computed[field]
        ]
        if not texts:
            texts = [f"sum {self.stored['sum']!r} lacks its last digits"]
        return f"{where}: {', '.join(texts)}"


class HistogramDifference(NamedTuple):
    """The histogram of an hour or a day that differs from its events, or from those of its hours."""

    namespace: str
    name: str
    resolution: Histogram.Resolution
    bucket: datetime
    stored_events: int
    computed_events: int
    is_pruned: bool = False
    lost_events: int = 0  # as of the rollups, which differ too where rebuilding would lose any

    @property
    def hour(self) -> datetime:
        """Return the start of an hour that the histogram is rebuilt with."""
        return self.bucket

    @override
    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}, histogram of the {self.resolution.label.lower()}"
        counts = f"{self.stored_events} events are in its bins, and {self.computed_events} should be"
        return f"{where} {timestamps.to_text(self.bucket)}: {counts}"


AnyDifference = Difference | HistogramDifference


class Stretch(NamedTuple):
    """A part of a series that is compared at one go: whole days of UTC, both ends included."""

    namespace: str
    name: str
    start: datetime
    end: datetime


def series() -> list[tuple[str, str]]:
    """List every series that has events or rollups, in order, but for those that are being renamed or deleted."""
    rolled_up = Rollup.objects.order_by().values_list("namespace", "name").distinct()
    logged = (
        (namespace, name)
        for events in map(Event.objects.of_partition, partitions.every())
        for namespace in events.namespaces()
        for name in events.names(namespace)
    )
    return sorted({*rolled_up, *logged} - Watermark.objects.moving_series())


def stretches(namespace: str, name: str) -> Iterator[Stretch]:
    """Yield the stretches of a series that hold events or rollups, in order. Two queries for each."""
    events = Event.objects.of_series(namespace, name).order_by("timestamp").values_list("timestamp", flat=True)
    stored = Rollup.objects.of_series(namespace, name).exclude(resolution=Resolution.SERIES)
    buckets = stored.order_by("bucket").values_list("bucket", flat=True)
    after = timestamps.EARLIEST
    while True:
        next_ones = [events.filter(timestamp__gte=after).first(), buckets.filter(bucket__gte=after).first()]
        known = [each for each in next_ones if each is not None]
        if not known:
            return
        start = min(known).replace(hour=0, minute=0, second=0, microsecond=0)
        try:
            after = start + _STRETCH
            end = after - MICROSECOND
        except OverflowError:
            yield Stretch(namespace, name, start, timestamps.LATEST)
            return
        yield Stretch(namespace, name, start, end)


def differences(stretch: Stretch) -> tuple[int, list[Difference]]:
    """Count the events up to the watermark in a stretch, and list its minutes and hours that differ from them.

    Where the stretch is pruned, the finest rollups take the place of the events.
    """
    count = 0
    result: list[Difference] = []
    with snapshot():
        watermark, pruned_before = Watermark.objects.of_series(stretch.namespace, stretch.name)
        if watermark.move_of(stretch.namespace, stretch.name):  # since the series were listed
            return 0, []
        of_series = Rollup.objects.of_series(stretch.namespace, stretch.name)
        partition = partitions.partition_of(stretch.namespace, stretch.name)
        finest, *coarser = watermark.finest_first
        start = max(stretch.start, pruned_before or stretch.start)
        if stretch.start < start:
            within = of_series.filter(bucket__range=(stretch.start, min(stretch.end, start - MICROSECOND)))
            kept = within.filter(resolution=finest)
            count = kept.aggregate(count=Sum("count"))["count"] or 0
            for resolution in coarser:
                computed = _computed(statements.merged(kept, resolution, partition))
                stored = _by_bucket(within.filter(resolution=resolution).values_list(*_STORED))
                result += _compare(stretch, resolution, stored, computed, is_pruned=True)
        thinned = Thinned.objects.span_of(stretch.namespace, stretch.name)
        events = Event.objects.of_series(stretch.namespace, stretch.name).within(start, stretch.end)
        for resolution in (finest, *coarser):
            rows = of_series.filter(resolution=resolution, bucket__range=(start, stretch.end))
            computed = _computed(statements.of_events(events.up_to(watermark.marks), resolution, partition))
            left_out = thinned if resolution == Resolution.MINUTE else None
            if left_out:
                computed = {key: row for key, row in computed.items() if not left_out.contains(key)}
            for each in _compare(stretch, resolution, _by_bucket(rows.values_list(*_STORED)), computed):
                is_left_out = left_out is not None and left_out.contains(each.bucket)
                result.append(each._replace(is_left_out=is_left_out))
        count += sum(aggregate["count"] for aggregate in computed.values())
    return count, result


def histogram_differences(stretch: Stretch) -> list[HistogramDifference]:
    """List the histograms of a stretch that differ from the events up to the watermark, but for pruned hours.

    Those of days are compared with those of their hours, pruned or not. Where ROLLUP_HISTOGRAMS doesn't name the
    namespace there may be none. A query where there are none, and five otherwise.
    """
    stored = Histogram.objects.of_series(stretch.namespace, stretch.name)
    is_wanted = stretch.namespace in settings.ROLLUP_HISTOGRAMS
    if not is_wanted and not stored.exists():
        return []
    found: list[HistogramDifference] = []
    with snapshot():
        watermark, pruned_before = Watermark.objects.of_series(stretch.namespace, stretch.name)
        if watermark.move_of(stretch.namespace, stretch.name):  # since the series were listed
            return []
        partition = partitions.partition_of(stretch.namespace, stretch.name)
        within = stored.filter(bucket__range=(stretch.start, stretch.end))
        hours = _bins(within.filter(resolution=Histogram.Resolution.HOUR))
        start = max(stretch.start, pruned_before or stretch.start)
        computed: dict[datetime, dict[int, int]] = {}
        if is_wanted and start <= stretch.end:
            events = Event.objects.of_series(stretch.namespace, stretch.name).within(start, stretch.end)
            up_to = events.up_to(watermark.marks)
            for row in histograms.of_events(up_to, partition):
                computed.setdefault(row[3], {})[row[4]] = row[5]
        unpruned = {hour: bins for hour, bins in hours.items() if hour >= start}
        found += _compare_bins(stretch, Histogram.Resolution.HOUR, unpruned, computed if is_wanted else unpruned)
        of_days: dict[datetime, dict[int, int]] = {}
        for hour, bins in hours.items():
            day = of_days.setdefault(hour.replace(hour=0), {})
            for number, count in bins.items():
                day[number] = day.get(number, 0) + count
        days = _bins(within.filter(resolution=Histogram.Resolution.DAY))
        found += _compare_bins(stretch, Histogram.Resolution.DAY, days, of_days)
    return found


def _bins(rows: QuerySet[Histogram]) -> dict[datetime, dict[int, int]]:
    found: dict[datetime, dict[int, int]] = {}
    for bucket, number, count in rows.values_list("bucket", "bin", "count"):
        found.setdefault(bucket, {})[number] = count
    return found


def _compare_bins(
    stretch: Stretch,
    resolution: Histogram.Resolution,
    stored: dict[datetime, dict[int, int]],
    computed: dict[datetime, dict[int, int]],
) -> Iterator[HistogramDifference]:
    for bucket in sorted(stored.keys() | computed.keys()):
        a, b = stored.get(bucket, {}), computed.get(bucket, {})
        if a != b:
            events = sum(a.values()), sum(b.values())
            yield HistogramDifference(stretch.namespace, stretch.name, resolution, bucket, *events)


def series_difference(namespace: str, name: str) -> Difference | None:
    """Compare the rollup of a whole series with its coarsest others; return None where they agree."""
    with snapshot():
        partition = partitions.partition_of(namespace, name)
        watermark = Watermark.objects.current(partition)
        if watermark.move_of(namespace, name):
            return None
        of_series = Rollup.objects.of_series(namespace, name)
        coarsest = of_series.filter(resolution=watermark.finest_first[-1])  # they have all events; minutes may not
        stored = _by_bucket(of_series.whole_series().values_list(*_STORED))
        computed = _computed(statements.merged(coarsest, Resolution.SERIES, partition))
        if coarsest.filter(is_exact=False).exists():
            for row in computed.values():
                row["is_exact"] = False
    stretch = Stretch(namespace, name, timestamps.EPOCH, timestamps.EPOCH)
    return next(_compare(stretch, Resolution.SERIES, stored, computed), None)


def lossless(of_series: list[AnyDifference]) -> list[AnyDifference]:
    """Choose the differences of one series in hours whose rebuilding loses no event that the rollups hold."""
    losing = {each.hour for each in of_series if each.lost_events}
    return [each for each in of_series if each.hour not in losing]


def count_lost(of_series: list[AnyDifference]) -> int:
    """Count the events of one series that only the rollups hold, and that rebuilding would lose."""
    by_resolution: Counter[int] = Counter()
    for each in of_series:
        by_resolution[each.resolution] += each.lost_events
    return max(by_resolution.values(), default=0)


def repair(of_series: list[AnyDifference]) -> None:
    """Rebuild the differing buckets of one series from its events, in one transaction.

    Raises PrunedError where one of the buckets is pruned.
    """
    namespace, name = of_series[0].namespace, of_series[0].name
    days = {each.bucket for each in of_series if each.resolution == Histogram.Resolution.DAY}
    hours = {each.hour for each in of_series if each.resolution not in {Resolution.SERIES, Histogram.Resolution.DAY}}
    with transaction.atomic():
        partition = partitions.partition_of(namespace, name)
        watermark = Watermark.objects.locked(partition)
        rebuild.rebuild(Event.objects.all(), watermark, namespace, name, rebuild.ranges_of(hours))
        histograms.rebuild_days(namespace, name, days, partition)
        Watermark.objects.bump_changes(partition)


def _by_bucket(rows: QuerySet[Any, Any]) -> dict[datetime, dict[str, Any]]:
    return {row[0]: dict(zip(_STORED, row, strict=True)) for row in rows}


def _computed(rows: QuerySet[Any, Any]) -> dict[datetime, dict[str, Any]]:
    result = {}
    for _, _, _, bucket, first, last, count, units, least, most, *_ in rows:
        total, rest, is_exact = sums.split(None if units is None else sums.read_units(str(units)))
        result[bucket] = dict(
            zip(_STORED, (bucket, first, last, count, total, least, most, rest, is_exact), strict=True)
        )
    return result


def _compare(
    stretch: Stretch,
    resolution: Resolution,
    stored: dict[datetime, dict[str, Any]],
    computed: dict[datetime, dict[str, Any]],
    *,
    is_pruned: bool = False,
) -> Iterator[Difference]:
    for bucket in sorted(stored.keys() | computed.keys()):
        a, b = stored.get(bucket), computed.get(bucket)
        if a is None or b is None or not _same(a, b, is_pruned):
            yield Difference(stretch.namespace, stretch.name, resolution, bucket, a, b, is_pruned)


def _same(stored: dict[str, Any], computed: dict[str, Any], is_pruned: bool) -> bool:
    if any(stored[field] != computed[field] for field in _FIELDS if field != "sum"):
        return False
    # The last digits of a sum depend on the order of its values where two doubles can't hold it, and where a release
    # that kept a single double stored it.
    if is_pruned or not (stored["is_exact"] and computed["is_exact"]):
        largest = max(abs(computed["min"]), abs(computed["max"]))
        return isclose(stored["sum"], computed["sum"], rel_tol=0, abs_tol=1e-12 * computed["count"] * largest)
    if isinf(stored["sum"]) or isinf(computed["sum"]):
        return bool(stored["sum"] == computed["sum"])
    return fsum([stored["sum"], stored["rest"], -computed["sum"], -computed["rest"]]) == 0


def _as_text(value: Any) -> str:
    return timestamps.to_text(value) if isinstance(value, datetime) else f"{value:.12g}"
