"""The middleware that all requests meet, besides the fast path's (`fast_path`) and compression (`compression`)."""

from collections.abc import Callable, Iterator

from django.conf import settings
from django.http import HttpRequest, HttpResponseBadRequest, HttpResponseNotAllowed, QueryDict
from django.http.response import HttpResponseBase

from events.http import csp
from events.http.paths import is_api, is_oauth2_endpoint
from events.observability.probes import PROBES

# The dashboard draws a picture to be saved, which is a blob:.
CONTENT_SECURITY_POLICY = csp.policy(img_src="'self' data: blob:", font_src="'self'", form_action="'self'")


class ProbeMiddleware:
    """Answers probes before anything checks the host or asks for TLS: load balancers ask by address, without TLS."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer a probe at once; pass every other request on."""
        probe = PROBES.get(request.path_info)
        return self.get_response(request) if probe is None else _with_reason(probe(request))


class ExplainMethodMiddleware:
    """Gives a 405 without a body a body that names the methods that are allowed."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer, and add the body where a 405 has none."""
        return _with_reason(self.get_response(request))


class OwnContentMiddleware:
    """Gives every page without a policy of its own one by which browsers load only this host's files.

    The pages are the dashboard, and all of Django's and the toolkit's. Browsers also send nothing elsewhere from them,
    and run nothing inline. Django's debug pages are left out, as all their scripts and styles are inline.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer, and add the policy where the answer is a page without one."""
        response = self.get_response(request)
        is_debug_page = settings.DEBUG and response.status_code in {400, 404, 500}
        if response.get("Content-Type", "").startswith("text/html") and not is_debug_page:
            response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response


class RefuseNullMiddleware:
    """Answers 400 where a path, query or form has a null character, which PostgreSQL takes in no text.

    The fields of the API and the OAuth2 endpoints refuse it themselves. The pages of Django and the toolkit don't look
    for it, so they are guarded here.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer 400 for a null character; pass every other request on."""
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
