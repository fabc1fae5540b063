"""Slows down who tries passwords or client secrets."""

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
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from events.access.counters import GiveBack, counters
from events.observability.observation import current

NAMES_AN_ADDRESS = 10
_PATIENCE_SECONDS = 1.0  # for others to be judged, before one more of their kind is refused

# 1.2.3.4:5678, [::1]:80, and [::1], which is how IPv6 stands beside a port
_with_port = re.compile(r"(?:\[(?P<bracketed>[^][]+)\](?::\d{1,5})?|(?P<plain>[^:]+):\d{1,5})", re.ASCII).fullmatch

_View = Callable[..., HttpResponseBase]


class TooManyFailuresError(Exception):
    """Another attempt would be one too many. Its text is for who attempts."""

    def __init__(self, wait_seconds: int) -> None:
        super().__init__(f"Too many failed attempts; try again in {wait_seconds} s.")
        self.wait_seconds = wait_seconds


def slow_log_ins(view: _View) -> _View:
    """Limit wrong passwords on a log-in page. A failure renders its form again, with status 200."""
    slowed_view = slowed(view, _user_names, {200})

    @wraps(view)
    def answered(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        try:
            return slowed_view(request, *args, **kwargs)
        except TooManyFailuresError as error:
            current().refusal = "slow_down"
            headers = {"Retry-After": str(error.wait_seconds)}
            return HttpResponse(str(error), status=429, content_type="text/plain; charset=utf-8", headers=headers)

    return answered


def client_address(request: HttpRequest) -> IPv4Address | IPv6Address | None:
    """Tell where a request comes from: the last address that is none of TRUSTED_PROXIES; None where there is none.

    Each proxy adds to the end of ``X-Forwarded-For`` who called it; what stands before may be invented.
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
    """Read an address, with or without a port, as some proxies add one. Raises ValueError where it is none."""
    with_port = _with_port(hop)
    return ip_address(hop if with_port is None else with_port["bracketed"] or with_port["plain"])


def slowed(
    view: _View, names_of: Callable[[HttpRequest], Iterable[str]], failed_statuses: set[int],
    failures: tuple[type[Exception], ...] = (),
) -> _View:  # fmt: skip
    """Make a view take so many failed attempts of each name from an address; past them it raises TooManyFailuresError.

    A request that names nobody is no attempt. One has failed where the view answers with a status of
    ``failed_statuses``, or raises one of ``failures``.
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
    """The attempts that are being judged; each is counted as a failure until it is known to be none.

    So of many at once no more are judged than may fail. As some of those may turn out right, who finds no room left
    waits for them a moment.
    """

    def __init__(self) -> None:
        self._judged_now: Counter[str] = Counter()
        self._decided = Condition()

    def take(self, quotas: dict[str, int], seconds: int) -> list[GiveBack]:
        """Count an attempt. Raises TooManyFailuresError where it would be one too many."""
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
        """Take what ``take`` gave as what it was: a failure, or not, and then it is given back."""
        for give_back in given_back:
            give_back()
        with self._decided:
            self._judged_now -= Counter(quotas.keys())  # without those that are none now
            self._decided.notify_all()


_undecided = _Undecided()


def _lend(quotas: dict[str, int], seconds: int) -> tuple[list[GiveBack], str | None]:
    """Take one of each quota; nothing, and the one that is used up, where one is."""
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
    """How many failures are taken of each name from this address, and of all names from it.

    Never of a name from everywhere: anyone could lock its owner out.
    """
    address = client_address(request)
    # who has one address of IPv6 has its network
    place = ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address
    quota = settings.MAX_LOGIN_FAILURES
    return {f"failures from {place}": quota * NAMES_AN_ADDRESS} | {
        f"failures from {place} of {name}": quota for name in names
    }


def _user_names(request: HttpRequest) -> list[str]:
    return [name for name in request.POST.getlist("username") if name.strip()]


def _normal(name: str) -> str:
    # as the log-in form does, so that one name has one count
    return unicodedata.normalize("NFKC", name).strip()
