"""What load balancers and Prometheus ask: answered to any host name, and without a place in the queue."""

from __future__ import annotations

from collections.abc import Callable
from secrets import compare_digest

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from events.observability.health import lookout
from events.observability.recorder import metrics


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while the process can answer at all."""
    return JsonResponse({"alive": True})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """200 where requests can be worked on, else 503; either way with each check by its name."""
    health = lookout.health()
    return JsonResponse(health.report(), status=200 if health.is_ready else 503)


@never_cache
@require_safe
def prometheus(request: HttpRequest) -> HttpResponse:
    """The metrics, for who has METRICS_TOKEN as a bearer token. Raises Http404 where there is none."""
    counted = metrics()
    if counted is None:
        raise Http404
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not compare_digest(token.strip().encode(), settings.METRICS_TOKEN.encode()):
        detail = "The bearer token is not METRICS_TOKEN."
        return JsonResponse({"detail": detail}, status=401, headers={"WWW-Authenticate": 'Bearer realm="metrics"'})
    content_type = "text/plain; version=0.0.4; charset=utf-8"
    return HttpResponse(counted.exposition(lookout.health()), content_type=content_type)


PROBES: dict[str, Callable[[HttpRequest], HttpResponseBase]] = {
    "/healthz": healthz,
    "/readyz": readyz,
    "/metrics": prometheus,
}


def is_probe(path: str) -> bool:
    """Tell whether a path is a probe's, which is answered without a place in the queue."""
    return path in PROBES


def is_instant(path: str) -> bool:
    """Tell whether a path is that of the probe which asks nobody, and so needs no thread."""
    return PROBES.get(path) is healthz
