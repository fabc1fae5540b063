"""Says how long to wait before the same request is sent again."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# What says that the same request may be well later: too many requests, busy; and what a proxy says of a server that it
# doesn't reach or that takes too long, or a server of a body that came too slowly. No other error is sent again.
RETRIED = frozenset({408, 429, 502, 503, 504})
# nobody means to be left alone for longer, and a date in another century is no time that can be waited for
_LONGEST_RETRY_AFTER_SECONDS = 3_600.0


@dataclass(frozen=True)
class Backoff:
    """Waits of random length within a bound that doubles (exponential backoff with full jitter)."""

    first_seconds: float = 0.5
    most_seconds: float = 60.0

    def seconds(self, failures: int, retry_after: float | None = None) -> float:
        """Return how long to wait after so many failures in a row, at least as long as the service asks for.

        An hour is the most that the service may ask for. What is asked of many clients at once is spread too, so they
        don't all come back at the same moment.
        """
        most = min(self.most_seconds, self.first_seconds * 2 ** min(failures - 1, 30))
        if retry_after is None:
            return random.uniform(0, most)  # noqa: S311 (no secret)
        return min(retry_after, _LONGEST_RETRY_AFTER_SECONDS) + random.uniform(0, min(most, self.first_seconds))  # noqa: S311


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that ``Retry-After`` names, as a number or as a date (RFC 9110, 10.2.3); None without one."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)
