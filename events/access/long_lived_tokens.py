"""Makes long-lived tokens, for senders that can't ask for a token themselves, and validates scopes and lifetimes."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, set_token_value
from oauth2_provider.scopes import get_scopes_backend

from events.access.models import Grant, LongLivedToken
from events.calendar.ages import age

LONGEST = timedelta(days=3_650)


def known_scopes() -> dict[str, str]:
    """Return what each scope allows, by scope."""
    scopes: dict[str, str] = get_scopes_backend().get_all_scopes()
    return scopes


def validate_scopes(scopes: Iterable[str], application: Application | None) -> list[str]:
    """Return the scopes in the order of ``known_scopes``, each once. One query.

    Raises ValidationError where there is none, where one doesn't exist, and where the client isn't granted one.
    """
    wanted, known = set(scopes), known_scopes()
    unknown = sorted(wanted - known.keys())
    if unknown:
        raise ValidationError(f"There is no scope {', '.join(unknown)}; there are {', '.join(known)}.")
    if not wanted:
        raise ValidationError(f"Choose one or more of the scopes {', '.join(known)}.")
    grant = Grant.objects.filter(application=application).first() if application else None
    refused = [] if grant is None else sorted(wanted - grant.scopes)
    if refused:
        raise ValidationError(f"The client is not granted the scope {', '.join(refused)}.")
    return [scope for scope in known if scope in wanted]


def validate_lifetime(text: str) -> timedelta:
    """Parse a lifetime such as 365d or 36h. Raises ValidationError."""
    try:
        lifetime = age(text)
    except ValueError as error:
        raise ValidationError(str(error)) from None
    if not timedelta() < lifetime <= LONGEST:
        raise ValidationError(f"Must be from 1h to {LONGEST.days}d.")
    return lifetime


def make(application: Application, name: str, scopes: Iterable[str], lifetime: timedelta) -> str:
    """Make a token of a client and return its text, of which only a digest is stored. One transaction.

    Raises ValidationError for scopes as ``validate_scopes`` does.
    """
    text = secrets.token_urlsafe(32)
    scope = " ".join(validate_scopes(scopes, application))
    token = AccessToken(application=application, scope=scope, expires=timezone.now() + lifetime)
    set_token_value(token, text)
    with transaction.atomic():
        token.save()
        LongLivedToken(token=token, name=name).save()
    return text
