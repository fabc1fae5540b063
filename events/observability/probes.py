"""Answers load balancers and Prometheus, by any host name and without a place in the queue of requests."""

from __future__ import annotations

from collections.abc import Callable
from secrets import compare_digest

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from events.observability.health import health_cache
from events.observability.recorder import metrics


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 as long as the process can answer at all."""
    return JsonResponse({"alive": True})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 where requests can be worked on, else 503; the body has each check by its name."""
    health = health_cache.health()
    return JsonResponse(health.report(), status=200 if health.is_ready else 503)


@never_cache
@require_safe
def prometheus(request: HttpRequest) -> HttpResponse:
    """Answer the metrics to whoever has METRICS_TOKEN as a bearer token. Raises Http404 where none is set."""
    counted = metrics()
    if counted is None:
        raise Http404
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not compare_digest(token.strip().encode(), settings.METRICS_TOKEN.encode()):
        detail = "The bearer token is not METRICS_TOKEN."
        return JsonResponse({"detail": detail}, status=401, headers={"WWW-Authenticate": 'Bearer realm="metrics"'})
    content_type = "text/plain; version=0.0.4; charset=utf-8"
    return HttpResponse(counted.exposition(health_cache.health()), content_type=content_type)


PROBES: dict[str, Callable[[HttpRequest], HttpResponseBase]] = {
    "/healthz": healthz,
    "/readyz": readyz,
    "/metrics": prometheus,
}


def is_probe(path: str) -> bool:
    """Tell whether a path is a probe's, which is answered outside the queue of requests."""
    return path in PROBES


def is_instant(path: str) -> bool:
    """Tell whether a path is the probe's that asks neither the database nor another process, so needs no thread."""
    return PROBES.get(path) is healthz
