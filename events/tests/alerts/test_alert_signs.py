"""What tells of alerts elsewhere: the API of firings, probes and metrics."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from rest_framework.test import APIClient

from events.alerts.models import AlertEvaluator, AlertState, Firing
from events.models import Grant
from events.observability import probes
from events.observability.health import check
from events.tests.alerts.conftest import NOON

PATH = "/api/firings/"


@pytest.fixture
def fired(make_alert):
    alert = make_alert(name="CPU", severity="critical")

    def fired(minutes, until=None, namespace="Server-1", **fields):
        return Firing.objects.create(
            alert=alert, namespace=namespace, name="cpu", pending_since=NOON, fired_at=NOON + timedelta(minutes=minutes),
            resolved_at=None if until is None else NOON + timedelta(minutes=until), value=95.5, **fields,
        )  # fmt: skip

    return fired


def listed(client, query=""):
    response = client.get(f"{PATH}?{query}")
    assert response.status_code == 200, response.content
    return [(each["namespace"], each["firedAt"][11:16]) for each in response.json()["firings"]]


def test_it_lists_what_fired(client_with_scopes, fired, django_assert_num_queries):
    firing = fired(0, 5, revised_at=NOON, revised_value=80, would_have_fired=True)
    client = client_with_scopes("read")

    with django_assert_num_queries(5):  # the token; the firings; the alerts, their evaluator, what fires
        response = client.get(PATH)

    assert response.json() == {
        "lagSeconds": None,
        "firings": [{
            "alert": firing.alert.pk, "alertName": "CPU", "severity": "critical", "condition": "avg over 1 min above 90",
            "namespace": "Server-1", "name": "cpu", "firedAt": "2026-11-28T12:00:00Z",
            "resolvedAt": "2026-11-28T12:05:00Z", "value": 95.5,
            "revision": "Events that came late changed the data it fired on: 95.5 is now 80.",
        }],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [0, 2, 10, 20, 30]),
        ("tsMin=2026-11-28T12:05:00", [0, 10, 20, 30]),
        ("tsMin=2026-11-28T12:05:01", [10, 20, 30]),
        ("tsMin=2026-11-28T12:06:00&tsMax=2026-11-28T12:10:00", [10]),
        ("tsMax=2026-11-28T12:09:59", [0, 2]),
        ("series=Server-2/cpu", [10]),
        ("series=Server-2/cpu&series=Server-1/memory&series=Server-3/cpu", [10, 30]),
        ("series=Server-1/cpu&series=Server-2/cpu&tsMax=2026-11-28T12:10:00", [0, 2, 10]),
        ("series=", [0, 2, 10, 20, 30]),
        ("tsMin=2026-11-28&tsMax=2026-11-28", [0, 2, 10, 20, 30]),
    ],
)
def test_it_chooses_by_window_and_series(client_with_scopes, fired, query, found):
    fired(20)
    fired(0, 5)
    fired(2, 4)
    fired(10, 12, namespace="Server-2")
    fired(30, namespace="Server-3")

    assert [int(at[3:]) for _, at in listed(client_with_scopes("read"), query)] == found


@pytest.mark.parametrize(
    ("query", "status", "body"),
    [
        ("series=Shop", 400, {"series": ["Must be the namespace and the name of a series, such as Shop/order."]}),
        (
            "series=Shop/order&series=Shop",
            400,
            {"series": ["Must be the namespace and the name of a series, such as Shop/order."]},
        ),
        ("&".join(["series=a/b"] * 101), 400, {"series": ["Ensure this field has no more than 100 elements."]}),
        ("tsMin=2027&tsMax=x", 400, {"tsMin": None, "tsMax": None}),
        ("tsMin=2026-11-29&tsMax=2026-11-28", 400, {"tsMin": ["Must not be later than tsMax."]}),
        ("page=1", 400, {"page": ["Unknown field. Accepted: tsMin, tsMax, series."]}),
    ],
)
def test_what_is_wrong_is_named(client_with_scopes, query, status, body):
    response = client_with_scopes("read").get(f"{PATH}?{query}")

    assert response.status_code == status
    assert response.json().keys() == body.keys()
    assert all(body[key] in (None, texts) for key, texts in response.json().items())


def test_who_may_ask(client_with_scopes, application, fired):
    fired(0)
    fired(1, namespace="server-1")
    fired(2, namespace="Shop")
    Grant.objects.create(application=application, read_namespaces="Server-*")
    assert APIClient().get(PATH).status_code == 401
    client = client_with_scopes("read")
    assert listed(client) == [("Server-1", "12:00")]
    assert client.get(f"{PATH}?series=Shop/cpu").json() == {
        "namespace": ["The client is not granted the scope read in “Shop”."]
    }
    assert client.get(f"{PATH}?series=Server-1/cpu&series=Shop/cpu").status_code == 403
    user = User.objects.create_user("eve")
    browser = Client()
    browser.force_login(user)
    assert browser.get(PATH).status_code == 403
    user.user_permissions.set(Permission.objects.filter(codename="view_event"))
    assert len(listed(browser)) == 3


def test_the_scope_is_needed(client_with_scopes):
    assert client_with_scopes("write").get(PATH).json() == {"detail": "The access token lacks the scope read."}


@pytest.fixture
def readyz(monkeypatch):
    monkeypatch.setattr(probes, "health_cache", type("Here", (), {"health": staticmethod(check)}))

    def readyz():
        response = Client().get("/readyz")
        return response.status_code, response.json()["checks"].get("alerts")

    return readyz


def test_readyz_shows_how_far_the_evaluation_is_behind_and_stays_ready(readyz, make_alert, time, settings):
    settings.READY_LAG_SECONDS = 0
    assert readyz() == (200, None)
    alert = make_alert()
    assert readyz() == (200, {"ok": False, "lagSeconds": None, "detail": "No worker has evaluated the alerts yet."})
    AlertEvaluator.objects.create(evaluated_at=NOON)
    for seconds, found in [
        (59, {"ok": True, "lagSeconds": 0}),
        (120, {"ok": True, "lagSeconds": 60}),
        (400.06, {"ok": False, "lagSeconds": 340.1, "detail": "An evaluation has been due for 340 s."}),
    ]:
        time.now = NOON + timedelta(seconds=seconds)
        assert readyz() == (200, found)
    alert.is_enabled = False
    alert.save()
    assert readyz() == (200, None)


@pytest.mark.usefixtures("new_metrics")
def test_metrics_have_the_lag_and_how_much_fires(readyz, make_alert, time, settings):
    settings.METRICS_TOKEN = "metrics-token-of-the-test"
    headers = {"Authorization": f"Bearer {settings.METRICS_TOKEN}"}

    def get():
        return Client().get("/metrics", headers=headers).content.decode()

    assert "tracking_alerts" not in get()
    alert = make_alert()
    AlertEvaluator.objects.create(evaluated_at=NOON)
    AlertState.objects.create(alert=alert, namespace="a", name="b", state="firing", since=NOON, evaluated_at=NOON)
    time.forward(seconds=100)

    assert {line for line in get().splitlines() if line.startswith("tracking_alerts")} == {
        "tracking_alerts_firing 1.0", "tracking_alerts_lag_seconds 40.0",
    }  # fmt: skip
