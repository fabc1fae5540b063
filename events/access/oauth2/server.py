"""Adapts the toolkit's OAuth2 server: how a client is authenticated, which scopes it gets, and how many tokens."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from oauth2_provider.models import Application
from oauth2_provider.oauth2_backends import OAuthLibCore
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauth2_provider.scopes import SettingsScopes, get_scopes_backend
from oauthlib.common import Request
from oauthlib.common import urlencode as form_encoded
from oauthlib.oauth2 import BackendApplicationServer
from oauthlib.oauth2.rfc6749.errors import CustomOAuth2Error, InvalidScopeError
from typing_extensions import override

from events.access.counters import counters
from events.access.models import Grant
from events.access.oauth2.client_secrets import ClientSecretHasher, is_hashed, is_strong
from events.access.oauth2.errors import SlowDownError, described
from events.access.oauth2.forms import basic_credentials, parameters_of
from events.observability.observation import current

_MOST_NAMED_SCOPES = 10
_WINDOW_SECONDS = 60


class GrantedScopes(SettingsScopes):
    """The scopes that clients may ask for, narrowed to those in their grants."""

    @override
    def get_available_scopes(self, application: Application | None = None, *args: Any, **kwargs: Any) -> list[str]:
        return self._granted(super().get_available_scopes(), application)

    @override
    def get_default_scopes(self, application: Application | None = None, *args: Any, **kwargs: Any) -> list[str]:
        default: list[str] = super().get_default_scopes()
        # a client that is granted none of the default scopes is given all, so that they are refused by their names
        return self._granted(default, application) or default

    def _granted(self, scopes: list[str], application: Application | None) -> list[str]:
        grant = Grant.objects.filter(application=application).first()
        return scopes if grant is None else [scope for scope in scopes if scope in grant.scopes]


class KnownParameters(OAuthLibCore):
    """Gives oauthlib the parameters that ``parameters_of`` finds, and nothing else of the query or the form."""

    @override
    def _extract_params(self, request: HttpRequest) -> tuple[str, str | None, str, dict[str, Any]]:
        return request.path, request.method, form_encoded(parameters_of(request)), self.extract_headers(request)


class ClientValidator(OAuth2Validator):
    """Authenticates clients by their secrets, and allows the scopes of their grants."""

    @override
    def authenticate_client(self, request: Request, *args: Any, **kwargs: Any) -> bool:
        basic = basic_credentials(request.headers.get("HTTP_AUTHORIZATION", ""))
        form = (request.client_id, request.client_secret) if request.client_id else None
        # one secret at most, as a request is one attempt; `credentials_of` has refused it where there are two
        named = basic if basic and basic[1] else form
        return named is not None and self._knows(request, *named)

    @override
    def validate_scopes(
        self, client_id: str, scopes: list[str], client: Application, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        backend = get_scopes_backend()
        all_scopes = list(backend.get_all_scopes())
        granted = backend.get_available_scopes(application=client, request=request)
        if unknown := [scope for scope in scopes if scope not in all_scopes]:
            known = f"there are {_listed(granted)}" if granted == all_scopes else _may_ask_for("this client", granted)
            raise InvalidScopeError(f"{_named(unknown)} not known; {known}.", request=request)
        if refused := [scope for scope in scopes if scope not in granted]:
            allowed = _may_ask_for("it", granted)
            raise InvalidScopeError(f"{_named(refused)} not granted to this client; {allowed}.", request=request)
        return True

    @override
    def _extract_basic_auth(self, request: Request) -> str | None:
        # the toolkit accepts “Basic” only; the scheme may be in any case (RFC 9110, 11.1)
        scheme, _, credentials = request.headers.get("HTTP_AUTHORIZATION", "").partition(" ")
        return credentials if credentials and scheme.lower() == "basic" else None

    @override
    def _validate_resource_uris(self, request: Request, resources: list[str]) -> None:
        for resource in resources:
            try:
                super()._validate_resource_uris(request, [resource])
            except ValueError:  # of a host that urlsplit can't read, which the toolkit doesn't catch
                description = f"The resource '{described(resource)}' has no host that can be read."
                raise CustomOAuth2Error("invalid_target", description, request=request) from None

    def _knows(self, request: Request, client_id: str, secret: str | None) -> bool:
        application = self._load_application(client_id, request)
        if application is None or not secret or not _is_secret_of(application, secret):
            return False
        current().client = client_id
        return True


class ClientCredentialsServer(BackendApplicationServer):
    """Issues tokens for client credentials, RATE_LIMIT_TOKENS a minute at most to each client."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.credentials_grant.custom_validators.post_token.append(_limit_tokens)


def _is_secret_of(application: Application, secret: str) -> bool:
    """Tell whether a secret is the application's; if so, store its hash anew where the stored one is out of date."""
    hasher = ClientSecretHasher.algorithm if is_strong(secret) else "default"

    def renew(right: str) -> None:
        stored = {"client_secret": make_password(right, hasher=hasher), "hash_client_secret": True}
        # only where the secret is still the one compared, as somebody may have changed it meanwhile
        Application.objects.filter(pk=application.pk, client_secret=application.client_secret).update(**stored)

    if is_hashed(application.client_secret):
        return check_password(secret, application.client_secret, setter=renew, preferred=hasher)
    if not constant_time_compare(secret, application.client_secret):
        return False
    renew(secret)
    return True


def _limit_tokens(request: Request) -> None:
    quota = settings.RATE_LIMIT_TOKENS
    key = f"tokens of {request.client.client_id}"
    if quota and not counters().take(key, quota, _WINDOW_SECONDS):
        wait = max(1, counters().look(key, _WINDOW_SECONDS).wait_seconds(quota, 1))
        raise SlowDownError(f"A client may have {quota} tokens a minute, each for many requests.", wait)


def _may_ask_for(who: str, granted: list[str]) -> str:
    return f"{who} may ask for {_listed(granted) or 'none'}"


def _named(scopes: list[str]) -> str:
    return f"The scope{'s' if len(scopes) > 1 else ''} {_listed(scopes)} {'are' if len(scopes) > 1 else 'is'}"


def _listed(scopes: list[str]) -> str:
    listed = ", ".join(map(described, scopes[:_MOST_NAMED_SCOPES]))
    return listed if len(scopes) <= _MOST_NAMED_SCOPES else f"{listed} and others"
