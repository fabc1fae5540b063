"""Tells from a path alone what kind of request it is, before the path is resolved."""

import re

from django.conf import settings

_API = "/api/"

is_oauth2_endpoint = re.compile(r"/o/(?:token|revoke_token|introspect)/?").fullmatch
"""Tell whether a path is an OAuth2 endpoint; its form must not be read before the endpoint reads it."""


def is_api(path: str) -> bool:
    """Tell whether a path belongs to the API, where programs ask and errors are JSON."""
    return path.startswith(_API)


def most_body_bytes(path: str) -> int:
    """Return how many bytes a body may have: the API takes batches of events, all other paths only forms."""
    most: int = settings.MAX_BODY_BYTES if is_api(path) else settings.MAX_FORM_BYTES
    return most
