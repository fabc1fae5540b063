"""Tracks events that other programs write, one a line."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tracking_client.complaints import Complaints
from tracking_client.tracker import Tracker


def track_lines(tracker: Tracker, lines: Iterable[str], namespace: str) -> int:
    """Track each line's event until there are no more, and return the status of the process.

    An event is written as in the API; without ``namespace`` it has the one given, without ``timestamp`` it is of now,
    and without ``value`` it is 1. A line that is none is logged and left out, as whoever writes it can't be told.
    """
    complaints = Complaints()
    for line in lines:
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            unknown = sorted(event.keys() - {"namespace", "name", "timestamp", "value"})
            if unknown:
                raise ValueError(f"there is no {', '.join(unknown)} in an event")
            tracker.track(
                event.get("namespace", namespace), event["name"], event.get("value", 1.0), event.get("timestamp")
            )
        except (ValueError, KeyError, AttributeError, RecursionError) as error:
            complaints.say("line", "A line is no event: %s: %s", line.strip()[:200], repr(error))
    tracker.close()
    return 0 if not tracker.counts.refused else 1
