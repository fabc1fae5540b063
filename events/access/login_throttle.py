"""Limits failed attempts to log in: of each name from an address, and of all names from it."""

from __future__ import annotations

import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from functools import wraps
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from threading import Condition

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from events.access.counters import GiveBack, counters
from events.http.error_pages import error_page, wants_page
from events.observability.observation import current

NAMES_AN_ADDRESS = 10
_PATIENCE_SECONDS = 1.0  # how long an attempt waits for undecided ones to be decided before it is refused

# 1.2.3.4:5678, [::1]:80, and [::1], as IPv6 is written where a port may follow
_with_port = re.compile(r"(?:\[(?P<bracketed>[^][]+)\](?::\d{1,5})?|(?P<plain>[^:]+):\d{1,5})", re.ASCII).fullmatch

_View = Callable[..., HttpResponseBase]


class TooManyFailuresError(Exception):
    """Another attempt would be one too many. The exception's text is shown to whoever attempts it."""

    def __init__(self, wait_seconds: int) -> None:
        super().__init__(f"Too many failed attempts; try again in {wait_seconds} s.")
        self.wait_seconds = wait_seconds


def slow_log_ins(view: _View) -> _View:
    """Limit wrong passwords on a log-in page. A failure re-renders the form with status 200."""
    slowed_view = slowed(view, _user_names, {200})

    @wraps(view)
    def answered(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        try:
            return slowed_view(request, *args, **kwargs)
        except TooManyFailuresError as error:
            current().refusal = "slow_down"
            if wants_page(request):
                return error_page(429, "Too many failed attempts", str(error), error.wait_seconds)
            headers = {"Retry-After": str(error.wait_seconds)}
            return HttpResponse(str(error), status=429, content_type="text/plain; charset=utf-8", headers=headers)

    return answered


def client_address(request: HttpRequest) -> IPv4Address | IPv6Address | None:
    """Return the address that a request comes from: the last hop that is none of TRUSTED_PROXIES.

    Returns None where no address is known. Each proxy adds its caller to the end of ``X-Forwarded-For``; what stands
    before that may be invented by the client.
    """
    hops = [*request.META.get("HTTP_X_FORWARDED_FOR", "").split(","), request.META.get("REMOTE_ADDR", "")]
    address = None
    for hop in reversed(hops):
        try:
            address = _address(hop.strip())
        except ValueError:
            break
        address = getattr(address, "ipv4_mapped", None) or address
        if not any(address in network for network in settings.TRUSTED_PROXIES):
            break
    return address


def _address(hop: str) -> IPv4Address | IPv6Address:
    """Parse an address, with or without a port, as some proxies add one. Raises ValueError where it is no address."""
    with_port = _with_port(hop)
    return ip_address(hop if with_port is None else with_port["bracketed"] or with_port["plain"])


def slowed(
    view: _View, names_of: Callable[[HttpRequest], Iterable[str]], failed_statuses: set[int],
    failures: tuple[type[Exception], ...] = (),
) -> _View:  # fmt: skip
    """Make a view take MAX_LOGIN_FAILURES of each name from an address; past them it raises TooManyFailuresError.

    ``names_of`` returns the names that the view may judge of a request, and no others, as each is counted; a request
    that names nobody is no attempt. An attempt has failed where the view answers with a status of ``failed_statuses``,
    or raises one of ``failures``.
    """

    @wraps(view)
    def answered(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        names = set(map(_normal, names_of(request)))
        if not names or not settings.MAX_LOGIN_FAILURES:
            return view(request, *args, **kwargs)
        quotas = _quotas(request, names)
        taken = _undecided.take(quotas, settings.LOGIN_FAILURE_SECONDS)
        failed = False
        try:
            response = view(request, *args, **kwargs)
            failed = response.status_code in failed_statuses
        except failures:
            failed = True
            raise
        finally:
            _undecided.decide(quotas, [] if failed else taken)
        return response

    return answered


class _Undecided:
    """The attempts that a view is deciding; each is counted as a failure until it is known to be none.

    So of many attempts at once, no more are tried than may fail. As some of those may turn out right, an attempt that
    finds no room left waits for them a moment.
    """

    def __init__(self) -> None:
        self._judged_now: Counter[str] = Counter()
        self._decided = Condition()

    def take(self, quotas: dict[str, int], seconds: int) -> list[GiveBack]:
        """Count an attempt as failed, and return what takes that back. Raises TooManyFailuresError past a quota."""
        give_up = time.monotonic() + _PATIENCE_SECONDS
        with self._decided:
            while True:
                taken, full = _lend(quotas, seconds)
                if full is None:
                    self._judged_now.update(quotas.keys())
                    return taken
                left = give_up - time.monotonic()
                if not self._judged_now[full] or left <= 0:
                    break
                self._decided.wait(left)
        raise TooManyFailuresError(max(1, counters().look(full, seconds).wait_seconds(quotas[full], 1)))

    def decide(self, quotas: dict[str, int], given_back: list[GiveBack]) -> None:
        """End an attempt, and call ``given_back``: what ``take`` returned where the attempt was right, else nothing."""
        for give_back in given_back:
            give_back()
        with self._decided:
            self._judged_now -= Counter(quotas.keys())  # subtracting so drops the keys whose count is 0
            self._decided.notify_all()


_undecided = _Undecided()


def _lend(quotas: dict[str, int], seconds: int) -> tuple[list[GiveBack], str | None]:
    """Take one of each quota, and return what gives them back; where one is used up, take none and return its key."""
    taken: list[GiveBack] = []
    for key, quota in quotas.items():
        lent = counters().lend(key, quota, seconds)
        if lent is None:
            for give_back in taken:
                give_back()
            return [], key
        taken.append(lent)
    return taken, None


def _quotas(request: HttpRequest, names: set[str]) -> dict[str, int]:
    """Return how many failures are taken, by key: of each name from this client's network, and of all names from it.

    A name has no quota of its own, whatever network an attempt comes from: anyone could lock its owner out.
    """
    address = client_address(request)
    # whoever has one IPv6 address has its whole /64 network
    client_network = ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address
    quota = settings.MAX_LOGIN_FAILURES
    return {f"failures from {client_network}": quota * NAMES_AN_ADDRESS} | {
        f"failures from {client_network} of {name}": quota for name in names
    }


def _user_names(request: HttpRequest) -> list[str]:
    name = request.POST.get("username", "")  # of several the last one, which is all that the form judges
    return [name] if name.strip() else []


def _normal(name: str) -> str:
    # As the log-in form does it, so that one name has one count. A longer name than users have it refuses as it is: the
    # time to normalize grows with the square of the length.
    name = name.strip()
    longest = User._meta.get_field("username").max_length
    return name if longest and len(name) > longest else unicodedata.normalize("NFKC", name).strip()
