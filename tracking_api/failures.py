"""Slows down who tries passwords or client secrets."""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import wraps
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import unquote_plus

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase

from events.counters import counters

NAMES_AN_ADDRESS = 10

_View = Callable[..., HttpResponseBase]


def slow_log_ins(view: _View) -> _View:
    """A log-in page that takes so many wrong passwords; it shows its form again for one."""
    return _slowed(view, _user_names, {200})


def slow_clients(view: _View) -> _View:
    """A page that takes a client's id and secret, and so many wrong ones."""
    return _slowed(view, _client_ids, {401, 403})


def client_address(request: HttpRequest) -> IPv4Address | IPv6Address | None:
    """Where a request comes from: the last address that is none of TRUSTED_PROXIES; None where there is none.

    Each proxy adds to the end of ``X-Forwarded-For`` who called it; what stands before may be invented.
    """
    hops = [*request.META.get("HTTP_X_FORWARDED_FOR", "").split(","), request.META.get("REMOTE_ADDR", "")]
    address = None
    for hop in reversed(hops):
        try:
            address = ip_address(hop.strip())
        except ValueError:
            break
        address = getattr(address, "ipv4_mapped", None) or address
        if not any(address in network for network in settings.TRUSTED_PROXIES):
            break
    return address


def _slowed(view: _View, names_of: Callable[[HttpRequest], Iterable[str]], failed: Collection[int]) -> _View:
    @wraps(view)
    def slowed(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        names = set(filter(None, map(_normal, names_of(request))))
        if not names or not settings.MAX_LOGIN_FAILURES:
            return view(request, *args, **kwargs)
        quotas = _quotas(request, names)
        seconds = settings.LOGIN_FAILURE_SECONDS
        wait = max(counters().look(key, seconds).wait_seconds(quota, 1) for key, quota in quotas.items())
        if wait:
            return _refusal(request, wait)
        response = view(request, *args, **kwargs)
        if response.status_code in failed:
            for key, quota in quotas.items():
                counters().take(key, quota, seconds)
        return response

    return slowed


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
    return request.POST.getlist("username")


def _client_ids(request: HttpRequest) -> list[str]:
    """Wherever they are taken from: the toolkit goes on to the form where the header is wrong."""
    ids = request.GET.getlist("client_id") + request.POST.getlist("client_id")
    scheme, _, credentials = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "basic":
        with suppress(binascii.Error, UnicodeDecodeError):
            ids.append(unquote_plus(base64.b64decode(credentials).decode().partition(":")[0]))
    return ids


def _normal(name: str) -> str:
    # as the log-in form does, so that one name has one count
    return unicodedata.normalize("NFKC", name).strip()


def _refusal(request: HttpRequest, wait_seconds: int) -> HttpResponse:
    detail = f"Too many failed attempts; try again in {wait_seconds} s."
    headers = {"Retry-After": str(wait_seconds)}
    if request.path.startswith("/o/"):
        return JsonResponse({"detail": detail}, status=429, headers=headers)
    return HttpResponse(detail, status=429, content_type="text/plain; charset=utf-8", headers=headers)
