"""Answers what the events of one series within a window are altogether: count, sum, average, least and most value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum, isfinite

from rest_framework.exceptions import ValidationError

from events.aggregation.answer import Answer
from events.aggregation.items import Item
from events.aggregation.question import Question
from events.aggregation.series_state import SeriesState, state_of
from events.calendar.granularity import Granularity
from events.database.snapshot import snapshot
from events.series.models import SeriesSettings

_TYPES = ("count", "min", "max", "sum")


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

    Years are read and merged, so the cost is that of an answer by year for each statistic. Raises ValidationError where
    the window cuts through hours whose events are pruned.
    """
    found: dict[str, list[float]] = {}
    with snapshot():
        state = state_of(question.namespace, question.name)
        for aggregation_type in _TYPES:
            of_type = replace(question, granularity=Granularity.YEAR, aggregation_type=aggregation_type)
            answer = Answer(of_type, state)
            found[aggregation_type] = _values(answer, of_type)
        settings = SeriesSettings.objects.of_series(question.namespace, question.name).first() or SeriesSettings()
        total = _total(found["sum"], found["count"])
        count = int(fsum(found["count"]))
        average = None
        if count:
            average = total / count if total is not None else _average(question, state, found["count"], count)
    return Statistics(
        count=count,
        sum=total if count else None,
        avg=average,
        min=min(found["min"], default=None),
        max=max(found["max"], default=None),
        description=settings.description,
        unit=settings.unit,
        has_long_tail=answer.has_long_tail,
    )


def _values(answer: Answer, question: Question) -> list[float]:
    try:
        items: Sequence[Item] = answer.items()
    except ValidationError as error:
        # a sum that no double holds; everything else that is refused is refused altogether
        if question.aggregation_type == "sum" and "aggregationType" in error.get_full_details():
            return []
        raise
    return [float(item["value"]) for item in items if item["value"] is not None]


def _total(sums: Sequence[float], counts: Sequence[float]) -> float | None:
    """Add up the sums of the years; None where one is missing, or where the total is beyond a double."""
    if len(sums) != len(counts):
        return None
    try:
        total = fsum(sums)
    except OverflowError:
        return None
    return total if isfinite(total) else None


def _average(question: Question, state: SeriesState, counts: Sequence[float], count: int) -> float:
    """Merge the years' averages by their counts, which no double is too small for."""
    answer = Answer(replace(question, granularity=Granularity.YEAR, aggregation_type="avg"), state)
    averages = [float(item["value"]) for item in answer.items() if item["value"] is not None]
    return fsum(average * (of_year / count) for average, of_year in zip(averages, counts, strict=True))
