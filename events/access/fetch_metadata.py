"""Where a browser was when it asked, by what it says of that itself (W3C Fetch Metadata)."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from rest_framework.exceptions import PermissionDenied

# Of a page of ours, and of the address bar, a bookmark or another program.
_OURS = {"same-origin", "none"}


def check_is_not_from_elsewhere(request: HttpRequest) -> None:
    """Raises PermissionDenied where another site's page has the browser ask.

    A cookie comes along when its link is followed, so that it could have anybody who is signed in start work.
    ``Sec-Fetch-Site`` tells by HTTPS and on this machine; elsewhere ``Origin`` and ``Referer`` do, if they are there.
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
    """Host and port, where there is one; empty where it can't be told, as of the origin ``null``."""
    try:
        return urlsplit(uri).netloc.lower()
    except ValueError:
        return ""
