"""How many requests and events a client may send a minute.

What is left is said by the header fields of the IETF's draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from oauth2_provider.models import AccessToken
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from events.authentication import client_of, grant_of
from events.counters import counters
from events.exceptions import RateLimited, RequestTooLarge

if TYPE_CHECKING:  # its module loads this one
    from rest_framework.views import APIView

WINDOW_SECONDS = 60


@dataclass(frozen=True)
class RateLimit:
    """A limit to what a client may send of one unit; its own where it has one, else the setting's, and 0 is none."""

    unit: str
    setting: str
    field: str

    def take(self, request: Request, view: APIView, cost: int) -> None:
        """Count what a client sends, and have the answer say what is left.

        Raises RateLimited where it has to wait, RequestTooLarge where no waiting would help; then nothing is counted.
        """
        quota = self._quota(request)
        if not quota:
            return
        if cost > quota:
            raise RequestTooLarge(f"The request has {cost} {self.unit}; this client may send {quota} a minute.")
        key = f"{self.unit} of {client_of(request.auth)}"
        taken = counters().take(key, quota, WINDOW_SECONDS, cost)
        window = counters().look(key, WINDOW_SECONDS)
        remaining = window.remaining(quota)
        more_in = window.wait_seconds(quota, remaining + 1) if remaining < quota else 0
        _append(view.headers, "RateLimit-Policy", f'"{self.unit}";q={quota};qu="{self.unit}";w={WINDOW_SECONDS}')
        _append(view.headers, "RateLimit", f'"{self.unit}";r={remaining};t={more_in}')
        if not taken:
            # by now it might fit, but it was refused
            raise RateLimited(f"More than {quota} {self.unit} a minute", max(1, window.wait_seconds(quota, cost)))

    def _quota(self, request: Request) -> int:
        if not isinstance(request.auth, AccessToken):
            return 0
        grant = grant_of(request.auth)
        own: int | None = None if grant is None else getattr(grant, self.field)
        quota: int = getattr(settings, self.setting) if own is None else own
        return quota


REQUESTS = RateLimit("requests", "RATE_LIMIT_REQUESTS", "requests_a_minute")
EVENTS = RateLimit("events", "RATE_LIMIT_EVENTS", "events_a_minute")


class RequestThrottle(BaseThrottle):
    """Counts each request of a client whose token opens what it asks for."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        """True, or raises RateLimited."""
        REQUESTS.take(request, view, 1)
        return True


def _append(headers: dict[str, str], name: str, item: str) -> None:
    headers[name] = f"{headers[name]}, {item}" if name in headers else item
