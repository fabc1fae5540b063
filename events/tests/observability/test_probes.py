"""``/healthz`` and ``/readyz``."""

import json
import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone

from events.models import Watermark
from events.observability import health, probes
from events.observability.health import Health, HealthCache, Lag, check
from events.tests.support import originals, service
from events.tests.support.service import call, fetch_token, locked
from events.tests.support.waiting import wait_until
from events.worker import roll_up

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OK = {"ok": True}


@pytest.fixture
def now(monkeypatch):
    """The clock, which a test may set."""
    clock = {"now": NOW}
    monkeypatch.setattr(timezone, "now", lambda: clock["now"])
    return clock


@pytest.fixture
def answers(monkeypatch):
    """What /readyz finds, over this thread's connection."""
    monkeypatch.setattr(probes, "health_cache", type("Here", (), {"health": staticmethod(check)}))

    def get():
        response = Client().get("/readyz")
        return response.status_code, response.json()

    return get


@pytest.mark.parametrize("host", ["testserver", "10.1.2.3", "10.1.2.3:8000", "elsewhere.example", "_"])
@pytest.mark.parametrize("https", [False, True])
def test_it_is_alive_whatever_the_host_and_without_the_database(settings, host, https):
    settings.SECURE_SSL_REDIRECT = https

    response = Client(headers={"Host": host}).get("/healthz")

    assert (response.status_code, response.json()) == (200, {"alive": True})
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
@pytest.mark.parametrize("method", ["post", "put", "delete", "options"])
def test_probes_are_for_reading(path, method):
    response = getattr(Client(), method)(path)

    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")


def test_it_is_ready_where_all_is_well(answers, db, now, django_assert_max_num_queries):
    with django_assert_max_num_queries(7):
        assert answers() == (
            200,
            {
                "ready": True,
                "checks": {"database": OK, "migrations": OK, "rollups": {**OK, "lagEvents": 0, "lagSeconds": 0}},
            },
        )


def test_the_migrations_that_lack_are_named(answers, db):
    MigrationRecorder.Migration.objects.filter(app="events").latest("id").delete()
    [last] = [name for app, name in health._last_migrations() if app == "events"]

    assert answers() == (
        503,
        {
            "ready": False,
            "checks": {
                "database": OK,
                "migrations": {"ok": False, "detail": f"Not applied: events.{last}. Run manage.py migrate."},
                "rollups": {"ok": False, "detail": "Not known before the migrations are applied."},
            },
        },
    )


@pytest.mark.parametrize(
    ("limit", "seconds", "status", "shown", "detail"),
    [
        (60, 0, 200, 0, None),
        (60, 60, 200, 60, None),
        (60, 60.06, 503, 60.1, "2 events behind for 60 s, more than READY_LAG_SECONDS=60 s."),
        (60, 4000, 503, 4000, "2 events behind for 4000 s, more than READY_LAG_SECONDS=60 s."),
        (60, -5, 200, 0, None),
        (0, 4000, 200, 4000, None),
        (60, None, 503, None, "No worker has looked yet. Run manage.py roll_up --watch 1."),
        (0, None, 200, None, None),
    ],
)
def test_the_lag_is_held_against_its_limit(answers, make_event, settings, now, limit, seconds, status, shown, detail):
    settings.READY_LAG_SECONDS = limit
    make_event()
    roll_up.take_step()
    make_event()
    make_event()
    Watermark.objects.update(complete_at=None if seconds is None else NOW - timedelta(seconds=seconds))

    found, body = answers()

    expected = {"ok": detail is None, "lagEvents": 2, "lagSeconds": shown, **({"detail": detail} if detail else {})}
    assert (found, body["ready"], body["checks"]["rollups"]) == (status, status == 200, expected)


def test_there_is_no_lag_without_a_tail_however_long_nobody_looked(make_event, now):
    make_event()
    roll_up.take_step()

    now["now"] += timedelta(days=30)

    assert health.read_lag() == Lag(0, 0)


def test_a_worker_that_is_missing_is_said_though_nothing_lacks(answers, make_event, settings, now):
    make_event()
    roll_up.take_step()
    now["now"] = NOW + timedelta(seconds=300)
    assert answers()[0] == 200
    now["now"] = NOW + timedelta(seconds=301)

    found, body = answers()

    detail = "No worker has looked for 301 s, more than READY_LAG_SECONDS=300 s."
    assert (found, body["checks"]["rollups"]) == (
        503, {"ok": False, "lagEvents": 0, "lagSeconds": 0, "detail": detail}
    )  # fmt: skip
    settings.READY_LAG_SECONDS = 0
    assert answers()[0] == 200


@pytest.mark.one_partition
def test_a_log_that_nobody_ever_rolled_up_has_a_lag_of_unknown_age(make_event):
    Watermark.objects.all().delete()
    event = make_event()

    assert health.read_lag() == Lag(event.pk, None)


@pytest.mark.one_partition
def test_the_roller_knows_since_when_the_rollups_lack_some(make_event, now, monkeypatch):
    monkeypatch.setattr(roll_up, "_STEP_EVENTS", {"postgresql": 2, "sqlite": 2})

    def complete_at():
        return Watermark.objects.get().complete_at

    def after(seconds):
        now["now"] = NOW + timedelta(seconds=seconds)
        return now["now"]

    make_event()
    roll_up.take_step()
    assert complete_at() == NOW
    for _ in range(3):
        make_event()
    after(20)
    roll_up.take_step()
    assert complete_at() == NOW  # a full step leaves some
    assert health.read_lag() == Lag(1, 20)
    later = after(21)
    roll_up.take_step()
    assert complete_at() == later
    after(31)
    assert roll_up.take_step() is None
    assert complete_at() == later  # nothing to do is not worth a write each time
    idle = after(31.001)
    assert roll_up.take_step() is None
    assert complete_at() == idle
    set_back = after(-3_600)
    assert roll_up.take_step() is None
    assert complete_at() == set_back  # or a lag would count from an hour ahead


def counted_looks(monkeypatch, wait=None):
    looks = []

    def counting():
        looks.append(threading.current_thread().name)
        if wait:
            wait.wait(120)
        return Health(None, lag=Lag(0, 0))

    monkeypatch.setattr(health, "check", counting)
    return looks


@pytest.mark.django_db(transaction=True)
def test_many_who_ask_at_once_get_one_look(monkeypatch):
    looks = counted_looks(monkeypatch)
    cache = HealthCache()
    found = []

    threads = [threading.Thread(target=lambda: found.append(cache.health())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert looks == ["health"]
    assert found == [Health(None, lag=Lag(0, 0))] * 20


@pytest.mark.django_db(transaction=True)
def test_it_looks_again_after_a_second(monkeypatch):
    looks = counted_looks(monkeypatch)
    now = 1000.0
    monkeypatch.setattr(health.time, "monotonic", lambda: now)
    cache = HealthCache()

    cache.health()
    now += 0.9
    cache.health()
    assert len(looks) == 1
    now += 0.2
    cache.health()

    assert len(looks) == 2


@pytest.mark.django_db(transaction=True)
def test_a_database_that_says_nothing_is_not_waited_for(monkeypatch, settings):
    settings.DATABASE_TIMEOUT_SECONDS = 0.2
    released = threading.Event()
    looks = counted_looks(monkeypatch, released)
    cache = HealthCache()

    start = time.monotonic()
    found = [cache.health(), cache.health()]
    waited = time.monotonic() - start
    released.set()

    assert waited >= 0.4
    assert [health.database for health in found] == ["The database didn't answer within 0.2 s."] * 2
    assert [health.is_ready for health in found] == [False, False]
    assert len(looks) == 1


SERVER = {"SERVER_THREADS": 1, "DATABASE_TIMEOUT_SECONDS": 60, "METRICS_TOKEN": "x" * 16}
METRICS = {"Authorization": f"Bearer {'x' * 16}"}
IN_USE = b'tracking_connections{state="used"} 1.0\n'


def test_probes_are_answered_while_every_connection_is_in_use(prepared, tmp_path):
    with prepared(tmp_path, **SERVER) as env, service.served(env):
        headers = {"Authorization": f"Bearer {fetch_token(env)}", "Content_Type": "application/json"}
        # in an array, as the loop itself stores an event by itself
        event = json.dumps([{"namespace": "n", "name": "m", "timestamp": 1, "value": 1}])
        assert call(env, "POST", "/api/track/", event, **headers)[0] == 201
        assert service.manage("roll_up", env=env).returncode == 0
        statuses = []
        with locked(env["DATABASE_URL"]):
            waiting = [
                threading.Thread(target=lambda: statuses.append(call(env, "POST", "/api/track/", event, **headers)[0]))
                for _ in range(2)
            ]
            for thread in waiting:
                thread.start()
            wait_until(lambda: IN_USE in call(env, "GET", "/metrics", **METRICS)[2])
            found = [call(env, "GET", path, **METRICS) for path in ("/healthz", "/readyz", "/metrics")]
            assert statuses == []  # which would be 503 after the time a database is waited for
        for thread in waiting:
            thread.join()

    assert statuses == [201, 201]
    assert [status for status, _, _ in found] == [200, 200, 200]
    assert IN_USE in found[2][2]


AWAY, SILENT = "The database can't be reached or is busy.", "The database didn't answer within 1 s."


# whoever waits for the silent one, for the connection or for the answer, gives up after the same second
@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize(("listens", "details"), [(False, {AWAY}), (True, {AWAY, SILENT})])
def test_probes_are_answered_while_the_database_is_away(tmp_path, listens, details):
    more = {"PORT": service.free_port(), "DATABASE_TIMEOUT_SECONDS": 1}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"postgres://ada:s3cret@127.0.0.1:{listener.getsockname()[1]}/none"
        if not listens:
            listener.close()
        env = service.environment(tmp_path, DATABASE_URL=url, **{**SERVER, **more})
        with service.served(env):
            alive, ready, metrics = (call(env, "GET", path, **METRICS) for path in ("/healthz", "/readyz", "/metrics"))

    assert (alive[0], alive[2]) == (200, b'{"alive": true}')
    unknown = {"ok": False, "detail": "Not known without the database."}
    said = json.loads(ready[2])
    database = {"ok": False, "detail": said["checks"]["database"].get("detail")}
    assert database["detail"] in details
    assert (ready[0], said) == (
        503, {"ready": False, "checks": {"database": database, "migrations": unknown, "rollups": unknown}}
    )  # fmt: skip
    assert metrics[0] == 200
    for line in ("tracking_database_up 0.0", "tracking_ready 0.0",
                 'tracking_request_duration_seconds_count{endpoint="readyz",status="503"} 1.0'):  # fmt: skip
        assert f"\n{line}\n".encode() in metrics[2]
    assert b"lag" not in metrics[2]


@pytest.fixture
def env_of_an_empty_database(tmp_path):
    with service.own_database(tmp_path) as url:
        yield service.environment(tmp_path, DATABASE_URL=url, PORT=service.free_port(), READY_LAG_SECONDS=60, **SERVER)


@pytest.mark.only_on("sqlite")
def test_it_becomes_ready_with_the_migrations_and_the_worker(env_of_an_empty_database):
    env = env_of_an_empty_database
    with service.served(env):
        before = json.loads(call(env, "GET", "/readyz")[2])["checks"]["migrations"]
        originals.fill(env["DATABASE_URL"], "prepared")
        time.sleep(1.1)
        between = call(env, "GET", "/readyz")
        assert service.manage("roll_up", env=env).returncode == 0
        time.sleep(1.1)
        after = call(env, "GET", "/readyz")

    assert not before["ok"]
    assert before["detail"].startswith("Not applied: ")
    assert "events.0001_events" not in before["detail"]
    assert between[0] == 503
    assert json.loads(between[2])["checks"]["rollups"]["detail"].startswith("No worker has looked yet.")
    assert after[0] == 200
