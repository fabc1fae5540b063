"""What a request meets before its view."""

from collections.abc import Callable, Iterator

from django.conf import settings
from django.http import HttpRequest, HttpResponseBadRequest, HttpResponseNotAllowed, QueryDict
from django.http.response import HttpResponseBase

from events.http import csp
from events.http.paths import is_api, is_oauth2_endpoint
from events.observability.probes import PROBES

# blob: is the picture that the dashboard draws to save.
CONTENT_SECURITY_POLICY = csp.policy(img_src="'self' data: blob:", font_src="'self'", form_action="'self'")


class ProbeMiddleware:
    """Answers probes before anything looks at the host or for TLS: a load balancer asks by address and in the clear."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The probe's answer, or that of all else."""
        probe = PROBES.get(request.path_info)
        return self.get_response(request) if probe is None else _with_reason(probe(request))


class ExplainMethodMiddleware:
    """Gives a 405 that has no body one that names the methods there are."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The answer."""
        return _with_reason(self.get_response(request))


class OwnContentMiddleware:
    """Has browsers load and send nothing elsewhere, and run nothing inline, on every page without a policy of its own.

    That is the dashboard, and all of Django's and the toolkit's. Django's debug pages have all inline and are left out.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The answer; a page with the policy."""
        response = self.get_response(request)
        is_debug_page = settings.DEBUG and response.status_code in {400, 404, 500}
        if response.get("Content-Type", "").startswith("text/html") and not is_debug_page:
            response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response


class RefuseNullMiddleware:
    """Answers 400 where a path, query or form holds a NUL, which PostgreSQL can't be asked about.

    The API's own fields say so themselves, and so do the endpoints of OAuth2; this is for the pages of Django and the
    toolkit, which don't look.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The page's answer, or 400."""
        if not is_api(request.path_info) and not is_oauth2_endpoint(request.path_info):
            texts = [request.path_info, *(text for data in (request.GET, request.POST) for text in _texts(data))]
            if any("\0" in text for text in texts):
                return HttpResponseBadRequest("Null characters are not allowed.", content_type="text/plain")
        return self.get_response(request)


def _with_reason(response: HttpResponseBase) -> HttpResponseBase:
    if isinstance(response, HttpResponseNotAllowed) and not response.content:
        response.content = f"This method is not allowed here; there are {response['Allow']}.\n".encode()
        response["Content-Type"] = "text/plain; charset=utf-8"
        response["Content-Length"] = str(len(response.content))
    return response


def _texts(data: QueryDict) -> Iterator[str]:
    for key, values in data.lists():
        yield str(key)
        yield from map(str, values)
