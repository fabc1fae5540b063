"""Answers what the events of one series within a window are altogether: count, sum, average, least and most value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import fsum

from rest_framework.exceptions import ValidationError

from events.aggregation import windows
from events.aggregation.answer import Answer, widened
from events.aggregation.event_windows import Found
from events.aggregation.question import Question, Window
from events.aggregation.series_state import state_of
from events.calendar.granularity import Granularity
from events.calendar.spans import Span
from events.database.snapshot import snapshot
from events.log.series import SeriesKey
from events.series.models import SeriesSettings

_OF_YEARS = ("count", "min", "max")


@dataclass(frozen=True)
class Statistics:
    """A window of a series as a whole; no value is known where there are no events, no sum where no double holds it."""

    count: int
    sum: float | None
    avg: float | None
    min: float | None
    max: float | None
    description: str
    unit: str
    has_long_tail: bool

    def answered(self) -> dict[str, object]:
        """Write the statistics as the API returns them."""
        names = ("count", "sum", "avg", "min", "max", "description", "unit")
        return {name: getattr(self, name) for name in names}


def statistics(question: Question) -> Statistics:
    """Read the statistics of a question's series and window, and what people say of the series, from one snapshot.

    Raises ValidationError where the window cuts through hours whose events are pruned.
    """
    found: dict[str, list[float]] = {}
    total: Found = None
    average: float | None = None
    with snapshot():
        state = state_of(question.namespace, question.name)
        for aggregation_type in _OF_YEARS:
            answer = Answer(replace(question, granularity=Granularity.YEAR, aggregation_type=aggregation_type), state)
            found[aggregation_type] = [float(item["value"]) for item in answer.items() if item["value"] is not None]
        settings = SeriesSettings.objects.of_series(question.namespace, question.name).first() or SeriesSettings()
        if count := int(fsum(found["count"])):
            total, average = _sum_and_average(question, answer.extent)
    return Statistics(
        count=count,
        sum=None if isinstance(total, ValidationError) else total,
        avg=average,
        min=min(found["min"], default=None),
        max=max(found["max"], default=None),
        description=settings.description,
        unit=settings.unit,
        has_long_tail=answer.has_long_tail,
    )


def _sum_and_average(question: Question, extent: Span | None) -> tuple[Found, float | None]:
    """Read both of the window as a whole, as those of its years are rounded; the sum is an error beyond a double."""
    window = extent and extent.clip(question.ts_min, question.ts_max)
    if extent is None or window is None:
        return None, None
    key, span = SeriesKey(question.namespace, question.name), widened(window, extent)
    of_sum, of_average = (Window(key, aggregation_type, *span) for aggregation_type in ("sum", "avg"))
    found = windows.read([of_sum, of_average])
    average = found[of_average]
    if isinstance(average, ValidationError):
        raise average
    return found[of_sum], average
