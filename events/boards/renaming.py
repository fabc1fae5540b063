"""Lets the charts of boards go with a series that gets another name."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode

from events.boards.models import Board
from events.rollups.moves import Move

_LETTERS = "ABCDEF"  # of the series of a chart, in its formulas
_WRITTEN = re.compile(r"\s*[A-F]\s*[-+*/]\s*[A-F]\s*", re.IGNORECASE)


def follow(move: Move) -> None:
    """Let every chart that shows a series show it under its new name; those of a deleted one stay as they are.

    To be called in a transaction.
    """
    if move.into is None:
        return
    before, after = "/".join(move.old), "/".join(move.into)
    for board in Board.objects.select_for_update().order_by("pk"):
        charts = [{**chart, "state": renamed(chart["state"], before, after)} for chart in board.charts]
        if charts != board.charts:
            Board.objects.filter(pk=board.pk).update(charts=charts)


def renamed(state: str, before: str, after: str) -> str:
    """Return the state of a chart with the new name of a series; one that it has already is not there twice.

    The letters of formulas then mean the same series as before.
    """
    pairs = parse_qsl(state)
    shown = [value for name, value in pairs if name == "series"]
    if before not in shown:
        return state
    kept = list(dict.fromkeys(after if value == before else value for value in shown))
    letters = {
        letter: _LETTERS[kept.index(after if value == before else value)]
        for letter, value in zip(_LETTERS, shown, strict=False)
    }

    def changed(name: str, value: str) -> str:
        if name in {"series", "hide"} and value in shown:
            return after if value == before else value
        if name in {"formula", "hide"}:
            label, equals, written = value.rpartition("=")
            if _WRITTEN.fullmatch(written):
                return label + equals + re.sub("[A-F]", lambda match: letters.get(match[0], match[0]), written.upper())
        return value

    return urlencode(list(dict.fromkeys((name, changed(name, value)) for name, value in pairs)))
