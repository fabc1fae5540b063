"""The catalogue: which series there are, from the rollups and the tail."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, TypedDict, cast

from django.db.models import Count, Max, Min, Value
from django.db.models.functions import Concat

from events import rollups
from events.models import Event, Rollup
from events.snapshot import snapshot


class Series(TypedDict):
    """One line of the catalogue: all events of one namespace and name."""

    namespace: str
    name: str
    count: int
    first_timestamp: datetime
    last_timestamp: datetime


def catalogue(**chosen: str) -> list[Series]:
    """Every series, of one namespace where one is chosen, ordered by namespace and name.

    Three queries on one snapshot: the watermark, the rollup of each series, and the tail.
    """
    columns = ("namespace", "name", "count", "first_timestamp", "last_timestamp")
    with snapshot():
        mark = rollups.watermark()
        rolled_up = list(Rollup.objects.whole_series().filter(**chosen).values(*columns))
        found = {(row["namespace"], row["name"]): cast(Series, row) for row in rolled_up}
        for row in _tail(mark.event_id, chosen):
            known = found.get((row["namespace"], row["name"]))
            if known is None:
                found[row["namespace"], row["name"]] = cast(Series, row)
            else:
                known["count"] += row["count"]
                known["first_timestamp"] = min(known["first_timestamp"], row["first_timestamp"])
                known["last_timestamp"] = max(known["last_timestamp"], row["last_timestamp"])
    return [found[key] for key in sorted(found)]  # by code point: a database sorts by its own collation


def _tail(event_id: int, chosen: dict[str, str]) -> Iterator[dict[str, Any]]:
    # By a text that no index has, or SQLite would go through the whole of the index for a few new events.
    texts = {f"{field}_text": Concat(field, Value("")) for field in ("namespace", "name")}
    tail = Event.objects.after(event_id).order_by().annotate(**texts)
    rows = tail.filter(**{f"{field}_text": value for field, value in chosen.items()}).values(*texts).annotate(
        count=Count("pk"), first_timestamp=Min("timestamp"), last_timestamp=Max("timestamp")
    )  # fmt: skip
    return ({field.removesuffix("_text"): value for field, value in row.items()} for row in rows)
