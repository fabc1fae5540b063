"""Who calls, and what the token lets them do."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from oauth2_provider.contrib.rest_framework import OAuth2Authentication
from oauth2_provider.contrib.rest_framework import TokenHasScope as ToolkitTokenHasScope
from oauth2_provider.models import AccessToken
from oauth2_provider.utils import parse_bearer_token
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

if TYPE_CHECKING:  # its module loads this one
    from rest_framework.views import APIView


class BearerAuthentication(OAuth2Authentication):
    """A bearer token in the ``Authorization`` header (RFC 6750), looked up without going through the body.

    The toolkit's own ``authenticate`` parses the query string and the form, if it is one, before it knows the token.
    """

    def authenticate(self, request: Request) -> tuple[AbstractBaseUser | AnonymousUser, AccessToken] | None:
        """The token and its user, who is anonymous for client credentials; None without a bearer token.

        One query. Raises AuthenticationFailed where the token is unknown, expired, or for another resource.
        """
        raw_token = parse_bearer_token(request.META.get("HTTP_AUTHORIZATION", ""))
        if raw_token is None:
            return None
        token = self._usable_token(raw_token, request)
        if token is None:
            detail = "The access token is unknown or has expired."
            # where the toolkit looks for what WWW-Authenticate says
            request.oauth2_error = {"error": "invalid_token", "error_description": detail}  # type: ignore[attr-defined]
            raise AuthenticationFailed(detail)
        return token.user or AnonymousUser(), token

    def _usable_token(self, raw_token: str, request: Request) -> AccessToken | None:
        digest = hashlib.sha256(raw_token.encode()).hexdigest()
        token = AccessToken.objects.select_related("application", "user").filter(token_checksum=digest).first()
        if token is None or token.is_expired():
            return None
        if token.resource and not token.allows_audience(request.build_absolute_uri(request.path)):  # RFC 8707
            return None
        if token.user and not token.user.is_active:
            return None
        if token.application and not token.application.is_usable(request):
            return None
        return token


class TokenHasScope(ToolkitTokenHasScope):
    """Lets a token through that has the scopes the view names in ``required_scopes``."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether it has; where not, the message says what is missing."""
        missing = set(self.get_scopes(request, view)) - set(getattr(request.auth, "scope", "").split())
        self.message: Any = f"The access token lacks the scope {' '.join(sorted(missing))}."
        return bool(super().has_permission(request, view))
