"""Who calls, and what the token lets them do."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

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

from events.access.fetch_metadata import check_is_not_from_elsewhere
from events.access.models import Grant
from events.access.usage import usage_meter
from events.observability.observation import current

if TYPE_CHECKING:  # its module loads this one
    from rest_framework.views import APIView

VIEW_EVENTS = "events.view_event"


def _forgotten_at(digest: str, token: AccessToken, now: float) -> float:
    left_seconds = (token.expires - timezone.now()).total_seconds()
    return float(now + min(settings.TOKEN_CACHE_SECONDS, left_seconds))


class TokenMemory:
    """The tokens this process has looked up lately, by their digest, so that most calls need no query for theirs.

    With each is kept who it belongs to, what that client is granted, and whether it is a long-lived one.
    Each is kept for ``TOKEN_CACHE_SECONDS``, and never past its expiry; the least used of too many are dropped.
    """

    most_tokens = 10_000

    def __init__(self) -> None:
        # not the wall clock: set back by an hour, it would keep a token that is revoked elsewhere for so long
        timer = time.monotonic
        self._tokens: TLRUCache[str, AccessToken] = TLRUCache(self.most_tokens, ttu=_forgotten_at, timer=timer)
        self._changes = 0
        self._lock = Lock()

    def get(self, digest: str) -> AccessToken | None:
        """The token with that digest, from memory or from the database; None where there is none."""
        token: AccessToken | None = None
        with self._lock, suppress(KeyError):  # get() looks twice
            token = self._tokens[digest]
        if token is None:
            changes = self._changes
            tokens = AccessToken.objects.select_related("application__client_grant", "user", "long_lived")
            token = tokens.filter(token_checksum=digest).first()
            if token is not None:
                token.client = token.application.client_id if token.application else f"user {token.user_id}"
                token.granted = getattr(token.application, "client_grant", None)
                token.long_lived_id = token.pk if hasattr(token, "long_lived") else None
                with self._lock:
                    if changes == self._changes:  # else it may be what it was before
                        self._tokens[digest] = token
        return token

    def forget(self, digest: str | None = None) -> None:
        """Forget one token, or all."""
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
    """Let a change through the ORM take effect at once in this process."""
    digest = instance.token_checksum if isinstance(instance, AccessToken) else None
    token_memory.forget(digest)
    # and again once others see it, who until then may look up what was
    transaction.on_commit(partial(token_memory.forget, digest), using)


def client_of(token: AccessToken) -> str:
    """What names the client that a token was issued to."""
    client: str = token.client
    return client


def grant_of(token: object) -> Grant | None:
    """What the client of a token is granted; None where it may do everything, as whoever comes without a token may."""
    return token.granted if isinstance(token, AccessToken) else None


class BearerAuthentication(OAuth2Authentication):
    """A bearer token in the ``Authorization`` header (RFC 6750), looked up without going through the body.

    The toolkit's own ``authenticate`` parses the query string and the form, if it is one, before it knows the token.
    """

    def authenticate(self, request: Request) -> tuple[AbstractBaseUser | AnonymousUser, AccessToken] | None:
        """The token and its user, who is anonymous for client credentials; None without a bearer token.

        One query at most. Raises AuthenticationFailed where the token is unknown, expired, or for another resource.
        """
        raw_token = parse_bearer_token(request.META.get("HTTP_AUTHORIZATION", ""))
        if raw_token is None:
            return None
        token = token_memory.get(hashlib.sha256(raw_token.encode()).hexdigest())
        if token is None or not _is_usable(token, request):
            detail = "The access token is unknown or has expired."
            # where the toolkit looks for what WWW-Authenticate says
            request.oauth2_error = {"error": "invalid_token", "error_description": detail}  # type: ignore[attr-defined]
            raise AuthenticationFailed(detail)
        client = current().client = client_of(token)
        usage_meter.count_request(client, token.long_lived_id)
        return AnonymousUser() if token.user_id is None else token.user, token


def _is_usable(token: AccessToken, request: Request) -> bool:
    if token.is_expired():
        return False
    if token.resource and not token.allows_audience(request.build_absolute_uri(request.path)):  # RFC 8707
        return False
    if token.user_id is not None and not token.user.is_active:
        return False
    return token.application_id is None or bool(token.application.is_usable(request))


class BrowserAuthentication(SessionAuthentication):
    """A user who is signed in on this site, where the request names no credentials of its own.

    CSRF is checked on every method but GET, HEAD, OPTIONS and TRACE. An inactive user is nobody.
    """

    def authenticate(self, request: Request) -> tuple[AbstractBaseUser, None] | None:
        """The user; None without one, and for a request with an ``Authorization`` header, whatever that holds.

        Raises PermissionDenied where another site's page has the user's browser ask.
        """
        if "HTTP_AUTHORIZATION" in request.META:
            return None
        found: tuple[AbstractBaseUser, None] | None = super().authenticate(request)
        if found is not None:
            check_is_not_from_elsewhere(request._request)
        return found


class TokenHasScope(BasePermission):
    """Lets a token through that has the scope the view names in ``required_scope``, and whose client is granted it."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether it has; where not, the message says what is missing."""
        required: str = view.required_scope  # type: ignore[attr-defined]
        if not isinstance(request.auth, AccessToken) or required not in request.auth.scope.split():
            self.message = f"The access token lacks the scope {required}."
            return False
        grant = grant_of(request.auth)
        self.message = f"The client is not granted the scope {required}."
        return grant is None or required in grant.scopes


class TokenHasScopeOrUserMayView(TokenHasScope):
    """Lets a token through that has the scope, and a signed-in user who may view events."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether it has, or the user may; where not, the message says what is missing."""
        if request.auth is not None or not request.user.is_authenticated:
            return super().has_permission(request, view)
        self.message = "You lack the permission to view events."
        return request.user.has_perm(VIEW_EVENTS)
