"""Draws a preview: the places of lines and bands in a picture of 1,000 by 200, of which a template makes an SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from events.alerts.condition import ABOVE, BELOW, CHANGE, MINUTE, SILENCE
from events.alerts.models import Alert
from events.alerts.preview import Preview

WIDTH, HEIGHT, _MARGIN = 1_000, 200, 8


@dataclass(frozen=True)
class Picture:
    """What is drawn: a path of the values, lines at the thresholds, and bands where the alert would have fired."""

    path: str
    thresholds: list[str]  # heights
    bands: list[tuple[str, str]]  # left ends and widths
    low: float
    high: float


def picture(alert: Alert, found: Preview) -> Picture | None:
    """Place the values of a preview; None where there are none."""
    known = [value for value in found.values if value is not None]
    if not known:
        return None
    thresholds = _thresholds(alert)
    low, high = min([*known, *thresholds]), max([*known, *thresholds])
    count = len(found.values)

    def height(value: float) -> str:
        # halves, as doubles end somewhere; of the least double it is zero
        share = (value / 2 - low / 2) / (high / 2 - low / 2) if high / 2 > low / 2 else 0.5
        return f"{HEIGHT - _MARGIN - share * (HEIGHT - 2 * _MARGIN):.1f}"

    def place(at: datetime) -> float:
        return (at - found.first) / MINUTE / max(1, count - 1) * WIDTH

    bands = [(place(start), place(end or found.last)) for start, end in found.firings]
    return Picture(
        path=" ".join(_path(found.values, height)),
        thresholds=[height(each) for each in thresholds],
        bands=[(f"{left:.1f}", f"{max(right - left, 1.5):.1f}") for left, right in bands],
        low=low,
        high=high,
    )


def _thresholds(alert: Alert) -> list[float]:
    if alert.kind == SILENCE:
        return []
    found = [alert.threshold, *([] if alert.clear_threshold is None else [alert.clear_threshold])]
    if alert.kind != CHANGE or alert.comparison == ABOVE:
        return found
    return [-each for each in found] if alert.comparison == BELOW else [*found, *(-each for each in found)]


def _path(values: Sequence[float | None], height: Callable[[float], str]) -> Iterator[str]:
    """Write the path: for each of the picture's columns the least and the most value, with gaps where there is none."""
    count = len(values)
    is_joined = False
    for column in range(WIDTH):
        part = values[column * count // WIDTH : max((column + 1) * count // WIDTH, column * count // WIDTH + 1)]
        known = [value for value in part if value is not None]
        if not known:
            is_joined = False
            continue
        low, high = min(known), max(known)
        yield f"{'L' if is_joined else 'M'}{column} {height(low)}"
        yield f"L{column} {height(high)}" if high > low else "h0.5"
        is_joined = True
