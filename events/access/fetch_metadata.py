"""Tells from a browser's header fields whether a page of another site made it ask (W3C Fetch Metadata)."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from rest_framework.exceptions import PermissionDenied

# “same-origin” is a page of this service; “none” is the address bar, a bookmark or another program.
_OURS = {"same-origin", "none"}


def check_is_not_from_elsewhere(request: HttpRequest) -> None:
    """Raise PermissionDenied where another site's page made the browser send the request.

    The browser sends the cookie when that page's link is followed, so the page could make any signed-in user start work
    here. ``Sec-Fetch-Site`` is sent over HTTPS and to this machine; without it ``Origin`` or ``Referer`` tells, and a
    request with none of them is let through.
    """
    site = request.META.get("HTTP_SEC_FETCH_SITE")
    if site in _OURS or (site is None and not _is_of_another_host(request)):
        return
    raise PermissionDenied("Another site’s page asked for this: go there from the dashboard or by the address itself.")


def _is_of_another_host(request: HttpRequest) -> bool:
    named: str = request.META.get("HTTP_ORIGIN") or request.META.get("HTTP_REFERER") or ""
    return bool(named) and _host_of(named) not in {
        request.get_host().lower(), *map(_host_of, settings.CSRF_TRUSTED_ORIGINS)
    }  # fmt: skip


def _host_of(uri: str) -> str:
    """Return the host of a URI, with its port where it names one; empty where it has none, as the origin ``null``."""
    try:
        return urlsplit(uri).netloc.lower()
    except ValueError:
        return ""
