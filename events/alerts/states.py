"""Owns the states of an alert: ok → pending → firing → resolved, and what leads from one to the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from events.alerts.condition import MINUTE, Verdict

OK, PENDING, FIRING, RESOLVED = "ok", "pending", "firing", "resolved"
# For how long it is told of a series that it fired and doesn't any more.
RESOLVED_FOR = timedelta(days=1)


@dataclass(frozen=True)
class Status:
    """The status of an alert for one series: its state, since when, and since when it has been clear while it fires."""

    state: str
    since: datetime
    clear_since: datetime | None = None

    def after(self, at: datetime, verdict: Verdict, for_minutes: int, resolve_minutes: int) -> Status:
        """Return the status at the next minute, for which there is a verdict.

        A breach must hold for ``for_minutes`` before the alert fires, and it must be clear for ``resolve_minutes``
        before it is resolved. A value between both thresholds neither fires nor resolves anything, and neither does a
        minute without a value.
        """
        if self.state == FIRING:
            if verdict is not Verdict.CLEAR:
                return replace(self, clear_since=None)
            clear_since = self.clear_since or at
            if at - clear_since >= resolve_minutes * MINUTE:
                return Status(RESOLVED, at)
            return replace(self, clear_since=clear_since)
        if verdict is Verdict.BREACHED:
            since = self.since if self.state == PENDING else at
            if at - since >= for_minutes * MINUTE:
                return Status(FIRING, at)
            return Status(PENDING, since)
        if self.state == PENDING or (self.state == RESOLVED and at - self.since >= RESOLVED_FOR):
            return Status(OK, at)
        return self
