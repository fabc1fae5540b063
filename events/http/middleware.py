"""What a request meets before its view."""

from collections.abc import Callable, Iterator
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseNotAllowed, QueryDict
from django.http.request import split_domain_port, validate_host
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.urls import ResolverMatch, resolve

from events.http import csp
from events.http.paths import is_api, is_oauth2_endpoint
from events.observability.probes import PROBES

# Anybody may send these: what is longer isn't kept, nor a path that leads nowhere, and so 6 MB at most.
_PATH_CHARACTERS = 300
_HOST_CHARACTERS = 300  # a name and its port

# blob: is the picture that the dashboard draws to save.
CONTENT_SECURITY_POLICY = csp.policy(img_src="'self' data: blob:", font_src="'self'", form_action="'self'")


@lru_cache(maxsize=1_000)
def _resolved(path: str) -> ResolverMatch:
    return resolve(path)


@lru_cache(maxsize=1_000)
def _is_our_host(host: str) -> bool:
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


def match_of(path: str) -> ResolverMatch:
    """What a path leads to. Raises Resolver404."""
    return (_resolved if len(path) <= _PATH_CHARACTERS else resolve)(path)


def is_our_host(host: str) -> bool:
    """Whether a ``Host`` header names this service."""
    return (_is_our_host if len(host) <= _HOST_CHARACTERS else _is_our_host.__wrapped__)(host)


class ProbeMiddleware:
    """Answers probes before anything looks at the host or for TLS: a load balancer asks by address and in the clear."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The probe's answer, or that of all else."""
        probe = PROBES.get(request.path_info)
        return self.get_response(request) if probe is None else _with_reason(probe(request))


class BearerMiddleware:
    """Calls the API's view at once where the request names its own credentials.

    Such a request has no use for the middleware behind this one: redirects, sessions, the log-in, messages, CSRF and
    framing are about browsers. Views are REST framework's and so exempt from CSRF checks anyway.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The view's answer, or that of all middleware and the view."""
        if "HTTP_AUTHORIZATION" not in request.META or not is_api(request.path_info):
            return self.get_response(request)
        if settings.SECURE_SSL_REDIRECT and not request.is_secure():
            return self.get_response(request)  # to be sent away
        if not is_our_host(request.META.get("HTTP_HOST", "")):
            request.get_host()  # refuses one that is not ours, as CommonMiddleware does
        match = request.resolver_match = match_of(request.path_info)
        response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
        if isinstance(response, SimpleTemplateResponse):
            response.render()
        if isinstance(response, HttpResponse):
            response.headers["Content-Length"] = str(len(response.content))
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


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
