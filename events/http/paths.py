"""What a path alone tells of a request, before anybody looks where it leads."""

import re

from django.conf import settings

_API = "/api/"

is_oauth2_endpoint = re.compile(r"/o/(?:token|revoke_token|introspect)/?").fullmatch
"""Tell whether a path is an OAuth2 endpoint, whose form is read there and by nothing before."""


def is_api(path: str) -> bool:
    """Tell whether a path is one of the API's, where programs ask and are answered in JSON."""
    return path.startswith(_API)


def most_body_bytes(path: str) -> int:
    """Return how large a body may be: events may be many, and what else is sent is a form."""
    most: int = settings.MAX_BODY_BYTES if is_api(path) else settings.MAX_FORM_BYTES
    return most
