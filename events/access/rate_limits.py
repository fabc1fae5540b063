"""Limits how many requests and events a client may send a minute, and how many series it may start a day.

Answers say what is left in the header fields of the IETF's draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from typing_extensions import override

from events.access.counters import GiveBack, Window, counters
from events.access.tokens import KnownToken, known_token
from events.http.exceptions import RateLimited, RequestTooLarge

if TYPE_CHECKING:  # at run time REST framework's views load this module
    from rest_framework.views import APIView


@dataclass(frozen=True)
class RateLimit:
    """A limit of one unit for each client: the one in its grant, or where that has none the setting; 0 is no limit."""

    unit: str
    setting: str
    field: str
    what: str = "send"
    span: str = "a minute"
    seconds: int = 60

    def take(self, request: Request, view: APIView, cost: int, *, called: str | None = None) -> GiveBack:
        """Count what a client sends, and add header fields to the view's answer that say what is left.

        Returns a function that takes the count back, for a request that is refused after it.

        ``called`` names what counts as the unit, where that is something else.

        Raises RateLimited where the client has to wait, and RequestTooLarge where waiting wouldn't help; nothing is
        counted then.
        """
        known = known_token(request)
        quota = self.quota(known)
        if known is None or not quota:
            return _nothing
        if cost > quota:
            allowed = f"this client may {self.what} {f'{quota} {self.unit}' if called else quota} {self.span}"
            raise RequestTooLarge(f"The request has {cost} {called or self.unit}; {allowed}.")
        key = f"{self.unit} of {known.client}"
        release = counters().lend(key, quota, self.seconds, cost)
        window = counters().look(key, self.seconds)
        left = self._left(window, quota)
        _append(view.headers, "RateLimit-Policy", f'"{self.unit}";q={quota};qu="{self.unit}";w={self.seconds}')
        _append(view.headers, "RateLimit", left)
        if release is None:
            # a second at least: by now the request might fit, but it was refused
            raise RateLimited(f"More than {quota} {self.unit} {self.span}", max(1, window.wait_seconds(quota, cost)))

        def give_back() -> None:
            release()
            now = self._left(counters().look(key, self.seconds), quota)
            view.headers["RateLimit"] = view.headers["RateLimit"].replace(left, now)

        return give_back

    def _left(self, window: Window, quota: int) -> str:
        remaining = window.remaining(quota)
        more_in = window.wait_seconds(quota, remaining + 1) if remaining < quota else 0
        return f'"{self.unit}";r={remaining};t={more_in}'

    def quota(self, known: KnownToken | None) -> int:
        """Return how much a token's client may send; 0 for no limit, as for whoever comes without a token."""
        if known is None:
            return 0
        own: int | None = None if known.grant is None else getattr(known.grant, self.field)
        quota: int = getattr(settings, self.setting) if own is None else own
        return quota


REQUESTS = RateLimit("requests", "RATE_LIMIT_REQUESTS", "requests_a_minute")
EVENTS = RateLimit("events", "RATE_LIMIT_EVENTS", "events_a_minute")
NEW_SERIES = RateLimit("new series", "RATE_LIMIT_NEW_SERIES", "new_series_a_day", "start", "a day", 86_400)


class RequestThrottle(BaseThrottle):
    """Counts each request of a client that is authenticated and has the view's permissions."""

    @override
    def allow_request(self, request: Request, view: APIView) -> bool:
        REQUESTS.take(request, view, 1)
        return True


def _nothing() -> None:
    """Take nothing back, as nothing was counted."""


def _append(headers: dict[str, str], name: str, item: str) -> None:
    headers[name] = f"{headers[name]}, {item}" if name in headers else item
