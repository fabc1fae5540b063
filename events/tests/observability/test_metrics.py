"""``/metrics``, of one process and of several."""

import json
import os
import signal
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse
from prometheus_client.parser import text_string_to_metric_families

from events.observability.health import Health, Lag
from events.observability.metrics import Metrics, endpoint_of
from events.observability.observation import Observation
from events.tests.support import service
from events.tests.support.service import call, fetch_token
from events.tests.support.waiting import wait_until

TOKEN = "a-token-for-the-metrics"


pytestmark = pytest.mark.usefixtures("new_metrics")


def samples(text):
    """The value of each sample by its name and labels in alphabetical order, as Prometheus reads them."""
    families = text_string_to_metric_families(text.decode())
    read = [each for family in families for each in family.samples]
    found = {(each.name, *(each.labels[name] for name in sorted(each.labels))): each.value for each in read}
    assert found
    return found


def test_there_are_none_without_a_token_to_read_them(client):
    assert client.get("/metrics").status_code == 404
    assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 404


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer é"],
)
def test_another_token_does_not_open_them(settings, authorization):
    settings.METRICS_TOKEN = TOKEN

    response = Client().get("/metrics", headers={} if authorization is None else {"Authorization": authorization})

    assert (response.status_code, response.json()) == (401, {"detail": "The bearer token is not METRICS_TOKEN."})
    assert response["WWW-Authenticate"] == 'Bearer realm="metrics"'


def test_a_tracking_token_does_not_open_them(settings, make_token):
    settings.METRICS_TOKEN = TOKEN

    response = Client().get("/metrics", headers={"Authorization": f"Bearer {make_token('read write aggregation')}"})

    assert response.status_code == 401


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/api/track", "track"),
        ("/api/track/", "track"),
        ("/api/events/", "catalogue"),
        ("/api/events/a", "namespace-catalogue"),
        ("/api/events/a/b", "aggregation"),
        ("/o/token", "oauth2_provider:token"),
        ("/o/token/", "oauth2_provider:token"),
        ("/o/applications/7", "oauth2_provider:detail"),
        ("/accounts/login", "login"),
        ("/accounts/login/", "login"),
        ("/accounts/logout", "logout"),
        ("/chart/", "chart"),
        ("/boards", "boards"),
        ("/favicon.ico", "favicon"),
        ("/admin/login/", "admin-login"),
        ("/admin/events/event/", "admin"),
        ("/admin/nowhere/at/all", "admin"),
        ("/healthz", "healthz"),
        ("/static/admin/css/base.css", "other"),
        ("/nowhere", "other"),
        ("/\xff\n", "other"),
    ],
)
def test_there_are_few_endpoints_however_many_paths(path, endpoint):
    assert endpoint_of(path) == endpoint


def patterns_of(resolver):
    """All patterns of paths but the admin's, which count as one endpoint."""
    for each in resolver.url_patterns:
        if isinstance(each, URLPattern):
            yield each
        elif each.app_name != "admin":
            yield from patterns_of(each)


def test_every_endpoint_has_a_name():
    patterns = list(patterns_of(get_resolver()))

    assert len(patterns) > 50
    assert [str(each.pattern) for each in patterns if not each.name] == []


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("oauth2_provider:token", "/o/token/"),
        ("oauth2_provider:list", "/o/applications/"),
        ("login", "/accounts/login/"),
        ("logout", "/accounts/logout/"),
        ("admin-login", "/admin/login/"),
        ("admin:login", "/admin/login/"),
        ("boards", "/boards/"),
        ("chart", "/chart"),
    ],
)
def test_of_two_paths_of_one_name_links_have_one(name, path):
    assert reverse(name) == path


@pytest.mark.parametrize(
    ("path", "times"),
    [
        ("/nowhere/{}/" + "x" * 100, 2_600),
        ("/nowhere/{}/" + "x" * 60_000, 100),
        ("/api/events/{}" + "x" * 60_000, 100),
        ("/api/events/{}/" + "\xff" * 60_000, 100),
        ("/api/events/{}" + "\xff" * 280, 2_600),
    ],
    ids=["nowhere", "long", "long namespace", "long name", "longest that is kept"],
)
def test_what_is_kept_of_paths_is_bounded_in_bytes(path, times):
    """Whoever sends them, as many as they like."""
    endpoint_of("/nowhere")
    tracemalloc.start()
    for number in range(times):
        endpoint_of(path.format(number))
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert kept_bytes < 600_000


def counted(*requests, health=None):
    found = Metrics()
    for seen, seconds in requests:
        found.count(seen, seconds)
    return samples(found.exposition(health or Health(None, lag=Lag(0, 0))))


def track(**fields):
    return Observation("POST", "/api/track/", **fields)


def test_requests_are_counted_by_what_came_of_them():
    found = counted(
        (track(status=201, events=1), 0.001),
        (track(status=201, events=10), 0.002),
        (track(status=201, events=0), 0.002),  # sent again under its key
        (track(status=400, refusal="invalid"), 0.3),
        (track(status=400), 0.3),
        (track(status=503, refusal="unavailable", database_error="away"), 5),
        (Observation("GET", "/api/events/a/b", status=503, refusal="unavailable", database_error="cancelled"), 31),
        (Observation("GET", "/api/events/a/b", status=404, refusal="not_found"), 0.01),
    )

    assert found["tracking_events_accepted_total",] == 11
    assert [found["tracking_batch_events_bucket", le] for le in ("1.0", "10.0", "100.0", "+Inf")] == [1, 2, 2, 2]
    assert found["tracking_batch_events_sum",] == 11
    assert {key[1]: value for key, value in found.items() if key[0] == "tracking_requests_refused_total"} == {
        "invalid": 1, "status_400": 1, "unavailable": 1
    }  # fmt: skip
    assert {key[1]: value for key, value in found.items() if key[0] == "tracking_database_errors_total"} == {
        "away": 1, "cancelled": 1
    }  # fmt: skip
    assert {key[1:]: value for key, value in found.items() if key[0] == "tracking_request_duration_seconds_count"} == {
        ("track", "201"): 3, ("track", "400"): 2, ("track", "503"): 1,
        ("aggregation", "503"): 1, ("aggregation", "404"): 1,
    }  # fmt: skip
    assert found["tracking_request_duration_seconds_bucket", "track", "0.001", "201"] == 1
    assert found["tracking_request_duration_seconds_bucket", "aggregation", "30.0", "503"] == 0


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (
            Health(None, lag=Lag(7, 1.5)),
            {"database_up": 1, "ready": 1, "watermark_lag_events": 7, "watermark_lag_seconds": 1.5},
        ),
        (Health(None, rollups="behind", lag=Lag(7, None)), {"database_up": 1, "ready": 0, "watermark_lag_events": 7}),
        (Health("away"), {"database_up": 0, "ready": 0}),
    ],
)
def test_the_health_is_among_them(health, expected):
    names = ("database_up", "ready", "watermark_lag_events", "watermark_lag_seconds")
    found = counted(health=health)

    assert {name: found[f"tracking_{name}",] for name in names if (f"tracking_{name}",) in found} == expected


@pytest.fixture
def env(prepared, tmp_path):
    with prepared(tmp_path, SERVER_WORKERS=2, SERVER_THREADS=3, METRICS_TOKEN=TOKEN) as env:
        yield env


def read(env):
    status, _, text = call(env, "GET", "/metrics", Authorization=f"Bearer {TOKEN}")
    assert status == 200
    return samples(text)


def send(env, *bodies, **headers):
    headers = {"Authorization": f"Bearer {env['TOKEN']}", "Content_Type": "application/json", **headers}
    return [call(env, "POST", "/api/track/", json.dumps(body), **headers)[0] for body in bodies]


def wait_for(condition):
    def is_so():
        with suppress(OSError):  # what a killed worker had taken
            return condition()

    wait_until(is_so)


def free_connections(env):
    return read(env).get(("tracking_connections", "free"))


EVENT = {"namespace": "n", "name": "m", "timestamp": 1, "value": 1}


@pytest.mark.only_on("sqlite")
def test_any_worker_answers_for_all_of_them_also_for_those_that_are_gone(env):
    with service.served(env):
        env["TOKEN"] = fetch_token(env)
        assert send(env, *[EVENT] * 30, [EVENT] * 20) == [201] * 31
        assert send(env, EVENT, EVENT, Idempotency_Key="k") == [201, 201]
        assert send(env, {**EVENT, "value": 2}, Idempotency_Key="k") == [422]
        assert send(env, {}, "x", Authorization="Bearer x") == [401, 401]
        assert send(env, EVENT, Content_Type="text/csv") == [415]
        assert send(env, {}) == [400]

        found = read(env)
        assert found["tracking_events_accepted_total",] == 51
        assert found["tracking_batch_events_count",] == 32
        assert {key[1]: value for key, value in found.items() if key[0] == "tracking_requests_refused_total"} == {
            "idempotency_key_reused": 1, "authentication_failed": 2, "unsupported_media_type": 1, "invalid": 1
        }  # fmt: skip
        assert found["tracking_request_duration_seconds_count", "track", "201"] == 33
        assert found["tracking_database_up",] == 1
        wait_for(lambda: free_connections(env) == 6)

        [directory] = Path(env["LOCAL_DIR"]).glob("metrics-*")
        worker, _ = (int(file.stem.split("_")[-1]) for file in directory.glob("counter_*.db"))
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: len(list(directory.glob("counter_*.db"))) == 3)
        wait_for(lambda: free_connections(env) == 6)
        assert send(env, *[EVENT] * 10) == [201] * 10
        assert read(env)["tracking_events_accepted_total",] == 61

    with service.served(env):
        assert read(env)["tracking_events_accepted_total",] == 0
        (directory / "counter_99999.db").touch()  # as of a worker that is only just making it
        assert read(env)["tracking_events_accepted_total",] == 0


@pytest.mark.only_on("sqlite")
def test_nowhere_to_count_is_said(env):
    done = service.manage("serve", env={**env, "LOCAL_DIR": "/dev/null/x", "SECRET_KEY": "s" * 50})

    assert done.returncode == 1
    assert done.stderr.startswith(
        "CommandError: LOCAL_DIR must be a directory to write to: [Errno 20] Not a directory: "
    )


def test_database_errors_are_counted(env):
    env |= {"DATABASE_TIMEOUT_SECONDS": "1"}
    with service.served(env):
        env["TOKEN"] = fetch_token(env)
        with service.locked(env["DATABASE_URL"]):
            assert send(env, EVENT) == [503]
        found = read(env)

    assert found["tracking_database_errors_total", "away"] == 1
    assert found["tracking_requests_refused_total", "unavailable"] == 1
    assert found["tracking_events_accepted_total",] == 0
