"""Owns what a board may hold: the state of a chart, the range over all, and a board as a document of JSON."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.core.exceptions import ValidationError as DjangoValidationError
from rest_framework import serializers
from rest_framework.validators import ProhibitSurrogateCharactersValidator
from typing_extensions import override

from events.aggregation.question import is_aggregation_type
from events.boards.models import MOST_NAME_CHARACTERS, Board, StoredChart
from events.calendar import timestamps, zones
from events.calendar.granularity import Granularity
from events.fields import TextField
from events.log.models import validate_path_segment
from events.log.series import SeriesKey
from events.serializers import StrictFieldsMixin

FORMAT, VERSION = "Tracking API board", 1
MOST_CHARTS, MOST_SERIES = 24, 6
_MOST_STATE_CHARACTERS = 4_000
_RANGES = ("15m", "1h", "6h", "24h", "7d", "30d", "90d", "1y", "5y")

# as events/static/events/dashboard/formulas.js reads it
_FORMULA = re.compile(r"(?:.{1,60}?\s*=)?\s*[A-F]\s*[-+*/]\s*[A-F]\s*", re.IGNORECASE)

Check = Callable[[str], bool]


def _one_of(*words: str) -> Check:
    return lambda value: value in words


def _is_zone(value: str) -> bool:
    try:
        zones.zone_of(value)
    except LookupError:
        return False
    return True


def _is_instant(value: str) -> bool:
    try:
        timestamps.from_iso(value)
    except ValueError:
        return False
    return True


def _is_series(value: str) -> bool:
    namespace, _, name = value.partition("/")
    try:
        for segment in (namespace, name):
            validate_path_segment(segment)
    except DjangoValidationError:
        return False
    return 0 < len(namespace) <= 255 and 0 < len(name) <= 255 and "\0" not in value


def _is_text(value: str) -> bool:
    return 0 < len(value) <= 511 and value.isprintable()


def _is_formula(value: str) -> bool:
    return _is_text(value) and _FORMULA.fullmatch(value.strip()) is not None


# What links to a chart may have, how often each at most, and what is accepted of it; docs/dashboard.md lists them.
_OF_CHART: dict[str, tuple[int, Check]] = {
    "series": (MOST_SERIES, _is_series),
    "granularity": (1, _one_of("auto", *(each.value for each in Granularity))),
    "type": (1, is_aggregation_type),
    "compare": (1, _one_of("1")),
    "kind": (1, _one_of("line", "bars", "area", "stacked")),
    "gaps": (1, _one_of("auto", "show", "join")),
    "scale": (1, _one_of("linear", "log")),
    "axes": (1, _one_of("one", "two", "own")),
    "formula": (2, _is_formula),
    "hide": (MOST_SERIES + 2, _is_text),
}
_OF_VIEW: dict[str, tuple[int, Check]] = {
    "range": (1, _one_of(*_RANGES)),
    "from": (1, _is_instant),
    "to": (1, _is_instant),
    "timezone": (1, _is_zone),
    "refresh": (1, _one_of("0", "5", "10", "30", "60", "300")),
}
_ELSEWHERE = {"view", "rows"}  # of a chart by itself


def _read(text: str, wanted: dict[str, tuple[int, Check]], others: set[str]) -> str:
    """Return the query with what is wanted, in one form. Raises ValidationError for what is wrong or unknown."""
    ProhibitSurrogateCharactersValidator()(text)
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(text.removeprefix("?")):
        if name in others:
            continue
        if name not in wanted:
            raise serializers.ValidationError(f"“{name[:50]}” is unknown. Accepted: {', '.join(wanted)}.")
        most, is_right = wanted[name]
        values = found.setdefault(name, [])
        if value not in values:
            values.append(value)
        if not is_right(value) or len(values) > most:
            raise serializers.ValidationError(f"“{value[:50]}” is not accepted as {name}.")
    return urlencode([(name, value) for name in wanted for value in found.get(name, ())])


class StateField(TextField):
    """The state of a chart, as links to a chart have it, without the range and the zone, which are the board's."""

    @override
    def to_internal_value(self, data: Any) -> str:
        state = _read(super().to_internal_value(data), _OF_CHART, {*_OF_VIEW, *_ELSEWHERE})
        if "series=" not in f"&{state}":
            raise serializers.ValidationError("A chart needs a series.")
        return state


class ViewField(TextField):
    """Range or from and to, zone and refresh, as links to a chart have them."""

    @override
    def to_internal_value(self, data: Any) -> str:
        return _read(super().to_internal_value(data), _OF_VIEW, {*_OF_CHART, *_ELSEWHERE})


class ChartSerializer(StrictFieldsMixin, serializers.Serializer[Any]):
    """A chart of a board."""

    title = TextField(max_length=MOST_NAME_CHARACTERS, allow_blank=True, default="")
    state = StateField(max_length=_MOST_STATE_CHARACTERS)

    def stored(self) -> StoredChart:
        """Return the valid chart as boards hold it."""
        return stored_chart(self.validated_data)


class BoardSerializer(StrictFieldsMixin, serializers.Serializer[Any]):
    """A board as a document, as it is exported and imported."""

    format = serializers.ChoiceField([FORMAT])
    version = serializers.ChoiceField([VERSION])
    name = TextField(max_length=MOST_NAME_CHARACTERS)
    view = ViewField(max_length=500, allow_blank=True, default="")
    charts = serializers.ListField(child=ChartSerializer(), max_length=MOST_CHARTS)

    def made(self) -> Board:
        """Return the board of the valid document, not stored yet and of no owner."""
        charts = [stored_chart(each) for each in self.validated_data["charts"]]
        return Board(name=self.validated_data["name"], view=self.validated_data["view"], charts=charts)


def stored_chart(chart: dict[str, Any]) -> StoredChart:
    """Give a chart the id by which forms know it."""
    return StoredChart(id=secrets.token_hex(4), title=chart["title"], state=chart["state"])


def document_of(board: Board) -> str:
    """Write a board down, without whom it belongs to and who may see it."""
    charts = [{"title": each["title"], "state": each["state"]} for each in board.charts]
    document = {"format": FORMAT, "version": VERSION, "name": board.name, "view": board.view, "charts": charts}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def demo_board() -> Board:
    """Return a board of the demo data, not stored yet and of no owner."""
    serializer = BoardSerializer(data=json.loads(Path(__file__).with_name("demo.json").read_bytes()))
    serializer.is_valid(raise_exception=True)
    return serializer.made()


def series_of(board: Board) -> set[SeriesKey]:
    """Return the series that a board shows."""
    names = [value for chart in board.charts for name, value in parse_qsl(chart["state"]) if name == "series"]
    return {SeriesKey(*each.split("/", 1)) for each in names}
