"""The header by which a reader takes what a replica has, where there is none; test_replica has one."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from events.database import reading, replica
from events.database.replica import Source
from events.worker import pacing
from tracking_api import environment

PATHS = ["/api/events/Shop/order", "/api/events/Shop", "/api/events/"]
POSTGRESQL = {"ENGINE": "events.database.postgresql"}
SQLITE = {"ENGINE": "django.db.backends.sqlite3"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("given", "said"), [(None, None), ("primary", "primary"), ("replica", "primary")])
def test_the_primary_answers_where_there_is_no_replica(client_with_scopes, make_event, path, given, said):
    make_event("Shop", "order")
    client = client_with_scopes("read aggregation")

    answer = client.get(path, headers={"Tracking-Read": given} if given else {})

    assert (answer.status_code, answer.get("Tracking-Read"), len(answer.json())) == (200, said, 1)
    assert "Tracking-Read" in answer["Vary"].split(", ")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("given", ["secondary", "PRIMARY", ""])
def test_it_rejects_a_header_that_names_no_source(client_with_scopes, path, given):
    answer = client_with_scopes("read aggregation").get(path, headers={"Tracking-Read": given})

    expected = {"Tracking-Read": [f"“{given}” is not accepted. Choose one of: primary, replica."]}
    assert (answer.status_code, answer.json()) == (400, expected)
    assert "Tracking-Read" in answer["Vary"].split(", ")


def test_a_replica_is_read_from_its_url(monkeypatch):
    monkeypatch.setenv("DATABASE_REPLICA_URL", "postgres://tracking:secret@standby/tracking")

    found = environment.replica("DATABASE_REPLICA_URL", POSTGRESQL, timeout_seconds=7)

    assert {name: found[name] for name in ("ENGINE", "HOST", "NAME", "CONN_HEALTH_CHECKS", "SESSION_SETTINGS")} == {
        "ENGINE": "events.database.postgresql",
        "HOST": "standby",
        "NAME": "tracking",
        "CONN_HEALTH_CHECKS": True,
        "SESSION_SETTINGS": {"lock_timeout": "7s"},
    }
    assert found["OPTIONS"]["connect_timeout"] == 7


@pytest.mark.parametrize("url", [None, "", " "])
def test_there_is_no_replica_without_a_url(monkeypatch, url):
    monkeypatch.delenv("DATABASE_REPLICA_URL", raising=False)
    if url is not None:
        monkeypatch.setenv("DATABASE_REPLICA_URL", url)

    assert environment.replica("DATABASE_REPLICA_URL", SQLITE, timeout_seconds=5) is None


@pytest.mark.parametrize(
    ("primary", "url", "message"),
    [
        (SQLITE, "postgres://standby/tracking", "needs a DATABASE_URL of PostgreSQL, as SQLite has no replicas."),
        (POSTGRESQL, "sqlite:///x.sqlite3", "must be postgres://user:password@host:port/name, of a standby."),
    ],
)
def test_it_refuses_a_replica_that_can_be_none(monkeypatch, primary, url, message):
    monkeypatch.setenv("DATABASE_REPLICA_URL", url)

    with pytest.raises(ImproperlyConfigured) as refused:
        environment.replica("DATABASE_REPLICA_URL", primary, timeout_seconds=5)

    assert str(refused.value) == f"DATABASE_REPLICA_URL {message}"


@pytest.mark.parametrize("is_of_replica", [False, True])
def test_no_read_of_a_replica_rolls_up(client_with_scopes, make_event, settings, monkeypatch, is_of_replica):
    make_event("Shop", "order")
    settings.ROLLUP_TAIL_EVENTS = 0
    rolled_up = []
    for name in ("catch_up_in_background", "wait_for_catching_up"):
        monkeypatch.setattr(pacing, name, lambda: rolled_up.append(1))
    monkeypatch.setattr(reading, "is_of_replica", lambda: is_of_replica)
    client = client_with_scopes("read aggregation")

    for path in PATHS:
        assert len(client.get(path).json()) == 1
        assert b"".join(client.get(f"{path}?format=csv").streaming_content).count(b"\n") == 2

    assert len(rolled_up) == (0 if is_of_replica else 2 * len(PATHS))


def test_a_replica_that_fails_while_it_is_read_gives_way_to_the_primary(monkeypatch, caplog):
    monkeypatch.setattr(replica, "_rests_until", 0.0)
    monkeypatch.setattr(replica, "_choose", lambda: Source("replica", 0.31))

    def read():
        if reading.is_of_replica():
            raise OperationalError("terminating connection due to conflict with recovery")
        return "of the primary"

    assert replica.read_from("replica", read) == ("of the primary", Source())
    assert caplog.messages == ["The replica is not read for 5 s: terminating connection due to conflict with recovery"]


@pytest.mark.parametrize(
    ("lag", "said"), [(0.0, "replica; lag=0.0"), (0.31, "replica; lag=0.4"), (2.0, "replica; lag=2.0")]
)
def test_the_lag_that_is_said_is_never_too_short(lag, said):
    assert str(Source("replica", lag)) == said


def test_what_is_read_later_is_read_where_it_was_begun_and_nothing_else_is():
    closed = []

    def items():
        try:
            yield reading.is_of_replica()
            yield reading.is_of_replica()
        finally:
            closed.append(reading.is_of_replica())

    with reading.reading("replica"):
        later = reading.kept(items())

    assert (next(later), reading.is_of_replica()) == (True, False)
    later.close()
    assert (closed, reading.is_of_replica()) == ([True], False)
