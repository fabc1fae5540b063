"""Reads a request to an OAuth2 endpoint as RFC 6749 defines it: a form in UTF-8, each parameter once.

What asks for another reading (a ``charset``, the toolkit's ``encoding`` field) is refused, so that the client that an
attempt is counted for is always the client that the toolkit authenticates.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import unquote_plus

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, QueryDict
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError
from oauthlib.oauth2.rfc6749.errors import InvalidRequestError, OAuth2Error

from events.access.oauth2.errors import UnreadableError, described

# RFC 6749, 2.3.1 and 4.4.2; RFC 7009, 2.1; RFC 7662, 2.1. All others are ignored, as RFC 6749, 3.2 demands; the toolkit
# would make them attributes of the request.
_PARAMETERS = {"grant_type", "scope", "client_id", "client_secret", "token", "token_type_hint"}
_REPEATABLE = "resource"  # RFC 8707, 2
_FORMS = {"application/x-www-form-urlencoded", "multipart/form-data"}
_QUERY_METHODS = {"GET", "HEAD"}
_UTF8 = {"utf-8", "utf8"}
_TWO_SECRETS = "The Authorization header and the form have a secret each, and not the same; send one of them."

Parameters = list[tuple[str, str]]


def parameters_of(request: HttpRequest) -> Parameters:
    """Return the known parameters of a request that aren't empty, as names and values in the order of the form.

    Raises InvalidRequestError for a form that can't be understood: UnreadableError where its encoding is the reason.
    """
    found: Parameters | OAuth2Error | None = getattr(request, "oauth2_parameters", None)
    if found is None:
        try:
            found = _read(request)
        except OAuth2Error as error:
            found = error
        # keep an error too: Django gives an unreadable form as an empty one when it is read again
        request.oauth2_parameters = found  # type: ignore[attr-defined]
    if isinstance(found, OAuth2Error):
        raise found
    return found


def basic_credentials(header: str) -> tuple[str, str] | None:
    """Return the client id and secret of an ``Authorization`` header; None where it has none.

    Raises UnreadableError where the credentials are not UTF-8 in base64.
    """
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(credentials.encode("ascii")).decode()
    except binascii.Error:
        return None
    except UnicodeError:  # of either step
        raise UnreadableError("The client id and secret in the Authorization header must be UTF-8.") from None
    client_id, colon, secret = text.partition(":")
    try:
        named = unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict")
    except UnicodeDecodeError:
        raise UnreadableError("The client id and secret in the Authorization header must be UTF-8.") from None
    return named if colon else None


def credentials_of(request: HttpRequest) -> list[tuple[str, str]]:
    """Return the client ids and secrets that a request has: first the header's, then the form's, two at most.

    Raises what ``parameters_of`` and ``basic_credentials`` raise, and InvalidRequestError where header and form have a
    secret each, of another client or not the same (RFC 6749, 2.3: one method of authentication in a request).
    """
    named = []
    if (basic := basic_credentials(request.META.get("HTTP_AUTHORIZATION", ""))) is not None:
        named.append(basic)
    parameters = dict(parameters_of(request))
    secret = parameters.get("client_secret", "")
    # some libraries send the same twice, which is one attempt
    if basic and basic[1] and secret and basic != (parameters.get("client_id", basic[0]), secret):
        raise InvalidRequestError(_TWO_SECRETS)
    if "client_id" in parameters:
        named.append((parameters["client_id"], secret))
    return named


def _read(request: HttpRequest) -> Parameters:
    if request.content_params and request.content_params.get("charset", "utf-8").lower() not in _UTF8:
        raise UnreadableError("The form must be UTF-8, without another charset in its Content-Type.")
    form = _form_of(request)
    if any(encoding.lower() not in _UTF8 for encoding in form.getlist("encoding") if encoding):
        raise UnreadableError("The request is read as UTF-8; the parameter encoding can't change that.")
    parameters: Parameters = []
    for name, values in form.lists():
        # Django puts this character in the place of bytes that it can't decode
        if any("\ufffd" in text for text in (name, *values)):
            raise UnreadableError("The form must be UTF-8.")
        if any("\0" in text for text in (name, *values)):
            raise InvalidRequestError("Null characters are not allowed.")
        if len(values) > 1 and name != _REPEATABLE:
            raise InvalidRequestError(f"The parameter {described(name)} is given more than once.")
        if name in _PARAMETERS or name == _REPEATABLE:
            sent = map(_single_blanks, values) if name == "scope" else values
            parameters += [(name, value) for value in sent if value]
    return parameters


def _single_blanks(scope: str) -> str:
    return " ".join(filter(None, scope.split(" ")))


def _form_of(request: HttpRequest) -> QueryDict:
    in_query = request.method in _QUERY_METHODS
    if not in_query and request.META.get("QUERY_STRING"):
        raise InvalidRequestError("URL query parameters are not allowed; send them as a form in the body.")
    if not in_query and _has_body(request.META) and request.content_type not in _FORMS:
        sent = described(request.content_type or "") or "a body without Content-Type"
        raise InvalidRequestError(f"Send a form (application/x-www-form-urlencoded), not {sent}.")
    try:
        return request.GET if in_query else request.POST
    except RequestDataTooBig:
        raise InvalidRequestError("The form is too large.", status_code=413) from None
    except (BadRequest, LookupError, MultiPartParserError, SuspiciousOperation, UnreadablePostError, ValueError):
        raise InvalidRequestError("The form can't be read.") from None


def _has_body(meta: Mapping[str, str]) -> bool:
    return meta.get("CONTENT_LENGTH", "") not in {"", "0"} or "HTTP_TRANSFER_ENCODING" in meta
