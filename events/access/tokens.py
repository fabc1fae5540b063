"""Authenticates requests, by a token or a browser's session, and checks what they may do."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from cachetools import TLRUCache
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from django.utils import timezone
from oauth2_provider.contrib.rest_framework import OAuth2Authentication
from oauth2_provider.models import AccessToken, Application
from oauth2_provider.utils import parse_bearer_token
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from typing_extensions import override

from events.access.fetch_metadata import check_is_not_from_elsewhere
from events.access.models import Grant
from events.access.usage import usage_meter
from events.observability.observation import current

if TYPE_CHECKING:  # at run time REST framework's views load this module
    from rest_framework.views import APIView

VIEW_EVENTS = "events.view_event"


@dataclass(frozen=True, slots=True)
class KnownToken:
    """An access token, and what each request with it asks for; REST framework has it as ``request.auth``."""

    token: AccessToken
    client: str
    """The id of the client that the token was issued to; “user” and a number where it was issued to a user."""
    grant: Grant | None
    """What the client may do; None where it may do everything."""
    scopes: frozenset[str]
    long_lived_id: int | None
    """The token's id where it is long-lived."""

    @classmethod
    def of(cls, token: AccessToken) -> KnownToken:
        """Make it of a token that is read together with its application, grant, user and long-lived token."""
        return cls(
            token,
            client=token.application.client_id if token.application else f"user {token.user_id}",
            grant=getattr(token.application, "client_grant", None),
            scopes=frozenset(token.scope.split()),
            long_lived_id=token.pk if hasattr(token, "long_lived") else None,
        )

    def may(self, scope: str) -> bool:
        """Tell whether the token has a scope, and its client is granted it."""
        return scope in self.scopes and (self.grant is None or scope in self.grant.scopes)


def _forgotten_at(digest: str, known: KnownToken, now: float) -> float:
    left_seconds = (known.token.expires - timezone.now()).total_seconds()
    return float(now + min(settings.TOKEN_CACHE_SECONDS, left_seconds))


class TokenMemory:
    """The tokens that this process has looked up lately, by digest, so that most requests need no query for theirs.

    A token is kept for ``TOKEN_CACHE_SECONDS``, and never past its expiry. Where there are too many, the least recently
    used are dropped.
    """

    most_tokens = 10_000

    def __init__(self) -> None:
        # not the wall clock: set back by an hour, it would keep a token that another process revoked for an hour more
        timer = time.monotonic
        self._tokens: TLRUCache[str, KnownToken] = TLRUCache(self.most_tokens, ttu=_forgotten_at, timer=timer)
        self._changes = 0
        self._lock = Lock()

    def remembered(self, digest: str) -> KnownToken | None:
        """Return the token with a digest where it is in memory."""
        with self._lock, suppress(KeyError):  # get() would look twice
            return self._tokens[digest]
        return None

    def get(self, digest: str) -> KnownToken | None:
        """Return the token with a digest, from memory or by one query; None where there is none."""
        known = self.remembered(digest)
        if known is not None:
            return known
        changes = self._changes
        tokens = AccessToken.objects.select_related("application__client_grant", "user", "long_lived")
        token = tokens.filter(token_checksum=digest).first()
        if token is None:
            return None
        known = KnownToken.of(token)
        with self._lock:
            if changes == self._changes:  # otherwise the row may have been read before the change
                self._tokens[digest] = known
        return known

    def forget(self, digest: str | None = None) -> None:
        """Forget the token with a digest, or all tokens."""
        with self._lock:
            self._changes += 1
            if digest is None:
                self._tokens.clear()
            else:
                self._tokens.pop(digest, None)


token_memory = TokenMemory()


@receiver([post_save, post_delete], sender=AccessToken)
@receiver([post_save, post_delete], sender=Application)
@receiver([post_save, post_delete], sender=User)
@receiver([post_save, post_delete], sender=Grant)
def forget_changed_tokens(sender: type[Model], instance: Model, using: str, **kwargs: Any) -> None:
    """Forget remembered tokens on a change through the ORM, so that it takes effect at once in this process."""
    digest = instance.token_checksum if isinstance(instance, AccessToken) else None
    token_memory.forget(digest)
    # and again after the commit, as until then another thread may look up and keep the old row
    transaction.on_commit(partial(token_memory.forget, digest), using)


def known_token(request: Request) -> KnownToken | None:
    """Return the token that a request came with; None where it came without one."""
    return cast("KnownToken | None", request.auth)  # a text, as it would be made anew by each call


def remembered_token(authorization: str) -> KnownToken | None:
    """Return the token of an ``Authorization`` header where it is in memory, and may be used for any request now."""
    text = parse_bearer_token(authorization)
    known = None if text is None else token_memory.remembered(_digest(text))
    return known if known is not None and _is_usable(known.token, None) else None


def grant_of(request: Request) -> Grant | None:
    """Return the grant of a request's client; None where it may do everything, as may whoever comes without a token."""
    known = known_token(request)
    return None if known is None else known.grant


class BearerAuthentication(OAuth2Authentication):
    """Authenticates by a bearer token in the ``Authorization`` header (RFC 6750), without reading the body.

    The toolkit's own ``authenticate`` parses the query string and, where the body is a form, the body first.
    """

    @override
    def authenticate(self, request: Request) -> tuple[AbstractBaseUser | AnonymousUser, KnownToken] | None:
        """Return the token's user, who is anonymous for client credentials, and the token; None without a bearer token.

        One query at most. Raises AuthenticationFailed where the token is unknown, expired, or for another resource.
        """
        raw_token = parse_bearer_token(request.META.get("HTTP_AUTHORIZATION", ""))
        if raw_token is None:
            return None
        known = token_memory.get(_digest(raw_token))
        if known is None or not _is_usable(known.token, request):
            detail = "The access token is unknown or has expired."
            # the toolkit makes WWW-Authenticate of this
            request.oauth2_error = {"error": "invalid_token", "error_description": detail}  # type: ignore[attr-defined]
            raise AuthenticationFailed(detail)
        current().client = known.client
        usage_meter.count_request(known.client, known.long_lived_id)
        return AnonymousUser() if known.token.user_id is None else known.token.user, known


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _is_usable(token: AccessToken, request: Request | None) -> bool:
    """Tell whether a token may be used now for a request; None stands for any request."""
    if token.is_expired():
        return False
    if token.resource and (request is None or not token.allows_audience(request.build_absolute_uri(request.path))):
        return False  # RFC 8707
    if token.user_id is not None and not token.user.is_active:
        return False
    return token.application_id is None or bool(token.application.is_usable(request))


class BrowserAuthentication(SessionAuthentication):
    """Authenticates a user by the session of a browser, where the request has no ``Authorization`` header.

    CSRF is checked on every method but GET, HEAD, OPTIONS and TRACE. An inactive user is not authenticated.
    """

    @override
    def authenticate(self, request: Request) -> tuple[AbstractBaseUser, None] | None:
        """Return the user and None; only None without a user, and for any ``Authorization`` header.

        Raises PermissionDenied where another site's page made the browser send the request.
        """
        if "HTTP_AUTHORIZATION" in request.META:
            return None
        found: tuple[AbstractBaseUser, None] | None = super().authenticate(request)
        if found is not None:
            check_is_not_from_elsewhere(request._request)
        return found


class TokenHasScope(BasePermission):
    """Allows a token with the scope in the view's ``required_scope``, where the token's client is granted it."""

    @override
    def has_permission(self, request: Request, view: APIView) -> bool:
        required: str = view.required_scope  # type: ignore[attr-defined]
        known = known_token(request)
        if known is None or required not in known.scopes:
            self.message = f"The access token lacks the scope {required}."
            return False
        self.message = f"The client is not granted the scope {required}."
        return known.may(required)


class TokenHasScopeOrUserMayView(TokenHasScope):
    """Allows a token as ``TokenHasScope`` does, and a signed-in user who may view events."""

    @override
    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.auth is not None or not request.user.is_authenticated:
            return super().has_permission(request, view)
        self.message = "You lack the permission to view events."
        return request.user.has_perm(VIEW_EVENTS)
