"""The catalogue: which series there are, from the rollups and the tail."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict, cast

from django.db.models import Count, Max, Min

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
        tail = Event.objects.filter(**chosen).after(mark.event_id).order_by().values("namespace", "name").annotate(
            count=Count("pk"), first_timestamp=Min("timestamp"), last_timestamp=Max("timestamp")
        )  # fmt: skip
        found = {(row["namespace"], row["name"]): cast(Series, row) for row in rolled_up}
        for row in tail:
            known = found.get((row["namespace"], row["name"]))
            if known is None:
                found[row["namespace"], row["name"]] = cast(Series, row)
            else:
                known["count"] += row["count"]
                known["first_timestamp"] = min(known["first_timestamp"], row["first_timestamp"])
                known["last_timestamp"] = max(known["last_timestamp"], row["last_timestamp"])
    return [found[key] for key in sorted(found)]  # by code point: a database sorts by its own collation
