"""Asks for aggregates and the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from tracking_client.calling import Caller
from tracking_client.errors import RequestRefused
from tracking_client.transport import Answer

if TYPE_CHECKING:
    import pandas as pd

Time = datetime | date | float | str
_PAGE_SERIES = 1_000


class Aggregate(list[tuple[datetime, float | None]]):
    """The items of an aggregate, ordered by time: (timestamp, value), with None where an empty bucket is filled so."""

    def to_pandas(self) -> pd.Series[float]:
        """Return the items as a pandas Series whose index has the timestamps. Raises ImportError without pandas."""
        import pandas as pd

        index = pd.DatetimeIndex([timestamp for timestamp, _ in self], tz="UTC")
        return pd.Series([value for _, value in self], index=index, dtype="float64")


@dataclass(frozen=True)
class Series:
    """A series of the catalogue."""

    namespace: str
    name: str
    count: int
    first_timestamp: datetime
    last_timestamp: datetime


class Reader:
    """Reads aggregates and the catalogue."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def aggregate(self, namespace: str, name: str, parameters: Mapping[str, Time | None]) -> Aggregate:
        """Return the aggregate of a series. Raises TrackingError."""
        path = f"/api/events/{quote(namespace, safe='')}/{quote(name, safe='')}"
        items = _items(self._caller.call("GET", path + _query(parameters), "aggregation"))
        return Aggregate((datetime.fromisoformat(item["aggregatedTimestamp"]), item["value"]) for item in items)

    def catalogue(self, namespace: str | None, search: str | None) -> list[Series]:
        """Return all series, page by page. Raises TrackingError."""
        path = "/api/events/" if namespace is None else f"/api/events/{quote(namespace, safe='')}"
        found: list[Series] = []
        after: str | None = None
        while True:
            query = _query({"limit": _PAGE_SERIES, "search": search, "after": after})
            answer = self._caller.call("GET", path + query, "read")
            page = [_series(item) for item in _items(answer)]
            found += page
            if not page or 'rel="next"' not in answer.headers.get("Link", ""):
                return found
            after = f"{page[-1].namespace}/{page[-1].name}"


def _items(answer: Answer) -> list[dict[str, Any]]:
    items = answer.json()
    if not isinstance(items, list):  # something on the way answers in place of the service
        raise RequestRefused(answer.status, answer.text)
    return items


def _query(parameters: Mapping[str, Time | None]) -> str:
    given = {
        key: value.isoformat() if isinstance(value, date) else str(value)
        for key, value in parameters.items()
        if value is not None
    }
    return "?" + urlencode(given) if given else ""


def _series(item: dict[str, Any]) -> Series:
    return Series(
        item["namespace"],
        item["name"],
        item["count"],
        datetime.fromisoformat(item["firstTimestamp"]),
        datetime.fromisoformat(item["lastTimestamp"]),
    )
