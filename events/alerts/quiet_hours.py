"""Tells when the quiet hours of an alert are, by the clocks of a time zone."""

from __future__ import annotations

from datetime import datetime, time, tzinfo


def is_quiet(now: datetime, start: time | None, end: time | None, zone: tzinfo) -> bool:
    """Tell whether an instant lies in the quiet hours [start, end), which may go over midnight; none where one is None.

    The clocks' time is compared, so where they go back over an hour, both of its turns count.
    """
    if start is None or end is None or start == end:
        return False
    shown = now.astimezone(zone).time()
    return start <= shown < end if start < end else shown >= start or shown < end
