"""A tracker for the tests of applications: it sends nothing, and remembers what was tracked."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import SupportsFloat

from tracking_client.encoding import NoEventError, decode, encode
from tracking_client.tracker import Tracker

_MOST_CHARACTERS = 255
_FORBIDDEN = re.compile("[/\0\ud800-\udfff]")
# The years 1 to 9999 in seconds since 1970; a number of this size or more is one of milliseconds.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_MILLISECONDS_FROM = 10**11


@dataclass(frozen=True)
class TrackedEvent:
    """An event as it was tracked."""

    namespace: str
    name: str
    value: float
    timestamp: datetime | float


@dataclass(frozen=True)
class MadeAnnotation:
    """An annotation as it was made."""

    namespace: str
    title: str
    timestamp: datetime | float
    end: datetime | float | None
    text: str
    tags: tuple[str, ...]


class FakeTracker(Tracker):
    """Takes the place of a Tracker. What the service would refuse raises ValueError here, so that tests find it."""

    def __init__(self) -> None:
        super().__init__(enabled=False)
        self.events: list[TrackedEvent] = []
        self.annotations: list[MadeAnnotation] = []

    def track(
        self, namespace: str, name: str, value: SupportsFloat = 1.0, timestamp: datetime | float | None = None
    ) -> None:
        """Remember the event. Raises ValueError for one that the service would refuse."""
        texts: dict[str, object] = {"namespace": namespace, "name": name}
        for field, text in texts.items():
            if not isinstance(text, str) or not 0 < len(text) <= _MOST_CHARACTERS or not text.strip():
                raise NoEventError(f"{field}: text of 1 to {_MOST_CHARACTERS} characters is required, not {text!r}.")
            if _FORBIDDEN.search(text) or text in (".", ".."):
                raise NoEventError(f"{field}: may not be {text!r}, as this is one segment of a path.")
        event = decode(encode(namespace, name, value, timestamp))
        if timestamp is not None and not _is_instant(timestamp):
            raise NoEventError(f"timestamp: a time within the years 1 to 9999 is required, not {timestamp!r}.")
        if timestamp is None:
            timestamp = datetime.fromtimestamp(event["timestamp"], UTC)
        self.events.append(TrackedEvent(namespace, name, event["value"], timestamp))

    def annotate(
        self,
        namespace: str,
        title: str,
        *,
        timestamp: datetime | float | None = None,
        end: datetime | float | None = None,
        text: str = "",
        tags: Iterable[str] = (),
    ) -> str:
        """Remember the annotation, and return an id that it has here alone."""
        at = datetime.now(UTC) if timestamp is None else timestamp
        self.annotations.append(MadeAnnotation(namespace, title, at, end, text, tuple(tags)))
        return str(uuid.UUID(int=len(self.annotations)))

    def of(self, namespace: str, name: str) -> list[TrackedEvent]:
        """Return the events of a series, in the order in which they were tracked."""
        return [event for event in self.events if (event.namespace, event.name) == (namespace, name)]

    def assert_tracked(self, namespace: str, name: str, value: float | None = None, times: int | None = None) -> None:
        """Raise AssertionError unless such events were tracked: one at least, or exactly as many as ``times``."""
        found = [event for event in self.of(namespace, name) if value is None or event.value == value]
        if len(found) != times if times is not None else not found:
            wanted = "at least once" if times is None else f"{times} times"
            with_value = "" if value is None else f" with the value {value}"
            raise AssertionError(f"{namespace}/{name}{with_value}: wanted {wanted}; tracked was {self.events}.")

    def assert_nothing_tracked(self) -> None:
        """Raise AssertionError where anything was tracked."""
        if self.events:
            raise AssertionError(f"Nothing was to be tracked; tracked was {self.events}.")


def _is_instant(timestamp: object) -> bool:
    """Tell whether the service would take a timestamp: a datetime, or unix time in seconds or in milliseconds."""
    if isinstance(timestamp, datetime):
        try:
            return timestamp.tzinfo is None or bool(timestamp.astimezone(UTC))
        except OverflowError:
            return False
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
        return False
    unit = 1_000 if abs(timestamp) >= _MILLISECONDS_FROM else 1
    return _FIRST_SECOND * unit <= timestamp < (_LAST_SECOND + 1) * unit
