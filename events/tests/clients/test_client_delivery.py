"""The Python client, and the agent, against a real service: whatever happens between them, each event is stored once."""

import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest
from tracking_client import Counts, CredentialsRefused, RequestRefused, Tracker
from tracking_client.agent.__main__ import main

from events.tests.clients.conftest import credentials
from events.tests.clients.environment import client_environment, client_url, keys_of
from events.tests.support import service
from events.tests.support.errors import NO_TIMESTAMP
from events.tests.support.examples import IS_THOROUGH
from events.tests.support.waiting import wait_until


def test_events_are_stored_as_they_were_tracked(make_tracker, namespace, env):
    tracker = make_tracker()
    tracker.track(namespace, "Größe „1“\\", 12.5, datetime(2020, 11, 12, 11, 10, tzinfo=UTC))
    tracker.track(namespace, "unix", 3, 1605179400.25)
    tracker.track(namespace, "milliseconds", 0.1, 1605179400123)
    tracker.track(namespace, "zoneless", -1e300, datetime(2020, 11, 12, 11, 10))
    before = time.time()
    tracker.track(namespace, "now")
    after = time.time()

    assert tracker.flush(60)
    rows = service.query(
        env, f"SELECT name, timestamp, value FROM events_event WHERE namespace = '{namespace}' ORDER BY id"
    )
    found = {name: (datetime.fromisoformat(str(at)).replace(tzinfo=UTC), value) for name, at, value in rows}
    now, value = found.pop("now")
    assert found == {
        "Größe „1“\\": (datetime(2020, 11, 12, 11, 10, tzinfo=UTC), 12.5),
        "unix": (datetime(2020, 11, 12, 11, 10, 0, 250000, tzinfo=UTC), 3.0),
        "milliseconds": (datetime(2020, 11, 12, 11, 10, 0, 123000, tzinfo=UTC), 0.1),
        "zoneless": (datetime(2020, 11, 12, 11, 10, tzinfo=UTC), -1e300),
    }
    assert value == 1.0
    assert before - 0.00001 <= now.timestamp() <= after
    assert tracker.counts == Counts(taken=5, stored=5)


def test_a_thousand_events_are_a_batch_of_packed_ndjson(make_tracker, namespace, way, stored):
    tracker = make_tracker(batch_seconds=60)
    for value in range(1_000):
        tracker.track(namespace, "value", value)
    wait_until(lambda: tracker.counts.stored == 1_000)
    tracker.track(namespace, "value", 1_000)
    time.sleep(0.2)

    assert len(way.requests) == 1
    assert "Content-Type: application/x-ndjson\r\nContent-Encoding: gzip\r\nIdempotency-Key: " in way.requests[0]
    assert stored() == [*range(1_000)]
    assert tracker.waiting == 1

    tracker.close()
    assert stored() == [*range(1_001)]


@pytest.mark.parametrize("spool", [False, True])
def test_an_answer_that_is_lost_stores_nothing_twice(make_tracker, namespace, way, stored, spool, tmp_path):
    tracker = make_tracker(spool=tmp_path / "spool" if spool else None, batch_events=10)
    way.answers_to_lose = 3
    for value in range(30):
        tracker.track(namespace, "value", value)

    assert tracker.flush(60)
    assert way.lost == 3
    assert stored() == [*range(30)]
    counted = Counter(keys_of(way))
    assert sum(counted.values()) == len(counted) + 3
    assert tracker.counts == Counts(taken=30, stored=30)


def test_a_batch_keeps_its_key_through_a_restart(make_tracker, namespace, way, stored, tmp_path):
    """The service stores it, the client never hears of that and ends."""
    way.answers_to_lose = 1_000
    first = make_tracker(spool=tmp_path / "spool", batch_events=10)
    for value in range(25):
        first.track(namespace, "value", value)
    wait_until(lambda: way.lost >= 2)
    first.close(0)
    assert stored() == [*range(10)]
    [key] = set(keys_of(way))

    way.answers_to_lose = 0
    second = make_tracker(spool=tmp_path / "spool", batch_events=10)
    wait_until(lambda: second.counts == Counts(taken=25, stored=25), explain=lambda: str(second.counts))
    assert stored() == [*range(25)]
    assert keys_of(way).count(key) > 2
    assert len(set(keys_of(way))) == 3


def test_a_network_that_is_cut_delays_events(make_tracker, namespace, way, stored):
    tracker = make_tracker()
    tracker.track(namespace, "value", 0)
    assert tracker.flush(60)

    way.cut()
    tracker.track(namespace, "value", 1)
    assert not tracker.flush(0.3)
    assert stored() == [0]

    way.mend()
    assert tracker.flush(60)
    assert stored() == [0, 1]


def test_revoked_tokens_are_replaced(make_tracker, namespace, env, way, stored):
    tracker = make_tracker()
    for value in range(3):
        tracker.track(namespace, "value", value)
        assert tracker.flush(60)
        service.query(env, "DELETE FROM oauth2_provider_accesstoken")

    assert stored() == [0, 1, 2]
    assert tracker.counts == Counts(taken=3, stored=3)
    assert len(way.requests) == 5  # each but the first once with the revoked token


def test_a_clock_that_is_moved_changes_nothing_but_timestamps(make_tracker, namespace, stored, monkeypatch):
    tracker = make_tracker()
    moved = time.time_ns
    for value, days in enumerate((0, 400, -400)):
        monkeypatch.setattr(time, "time_ns", lambda days=days: moved() + days * 86_400 * 10**9)
        monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9)
        tracker.track(namespace, "value", value)
        assert tracker.flush(60)

    assert stored() == [0, 1, 2]


def test_wrong_credentials_lose_nothing(make_tracker, namespace, caplog):
    tracker = make_tracker(client_secret="wrong")
    tracker.track(namespace, "value", 1)

    wait_until(lambda: "invalid_client" in caplog.text)
    assert not tracker.flush(0.1)
    assert tracker.counts == Counts(taken=1)
    with pytest.raises(CredentialsRefused, match=r"401.*invalid_client"):
        tracker.aggregate(namespace, "value")


def test_what_is_refused_is_dropped_alone_and_told(make_tracker, namespace, way, stored):
    told = []
    tracker = make_tracker(batch_events=7, on_refused=told.append)
    tracker.track(namespace, "value", 0)
    tracker.track(namespace, "a/b", 1)
    tracker.track(namespace, "value", 2, "not a time")
    tracker.track(namespace, "value", float("nan"))
    tracker.track(namespace, "value", True)
    tracker.track(namespace, "", 3)
    tracker.track(None, "value", 4)
    tracker.track(namespace, "value", 5)
    tracker.track(namespace, "\ud800", 6)

    assert tracker.flush(60)
    assert stored() == [0, 5]
    assert tracker.counts == Counts(taken=9, stored=2, refused=7)
    by_value = {str(each.event["value"]): each.reason for each in told}
    assert by_value == {
        "nan": "value: A finite number is required.",
        "True": "value: A valid number is required.",
        "1.0": "name: This field may not contain “/” nor be “.” or “..”.",
        "2.0": f"timestamp: {NO_TIMESTAMP}",
        "3.0": "name: This field may not be blank.",
        "4.0": "namespace: This field may not be null.",
        "6.0": "name: Surrogate characters are not allowed: U+D800.",
    }
    assert len(set(keys_of(way))) == len(keys_of(way)) == 2


def test_more_refused_events_than_an_answer_names(make_tracker, namespace, stored):
    tracker = make_tracker(batch_events=300)
    for value in range(300):
        tracker.track(namespace, "value" if value % 2 else "a/b", value)

    assert tracker.flush(60)
    assert stored() == [*range(1, 300, 2)]
    assert tracker.counts == Counts(taken=300, stored=150, refused=150)


@pytest.mark.parametrize("spool", [False, True])
def test_a_batch_that_is_too_large_is_halved(make_tracker, namespace, way, stored, spool, tmp_path):
    """The service takes 1,000 events a request."""
    tracker = make_tracker(batch_events=2_500, batch_seconds=60, spool=tmp_path / "spool" if spool else None)
    for value in range(2_500):
        tracker.track(namespace, "value", value)

    assert tracker.flush(60)
    assert stored() == [*range(2_500)]
    assert len(set(keys_of(way))) == len(keys_of(way)) == 7
    assert tracker.counts == Counts(taken=2_500, stored=2_500)


def test_aggregates_are_read(make_tracker, namespace):
    tracker = make_tracker()
    for hour, value in ((10, 1), (10, 2), (11, 5)):
        tracker.track(namespace, "page view", value, datetime(2020, 11, 12, hour, 10, tzinfo=UTC))
    tracker.flush(60)

    at = datetime(2020, 11, 12, 10, 10, tzinfo=UTC)
    hours = tracker.aggregate(
        namespace, "page view", granularity="hour", aggregation_type="avg", ts_min=at, fill="null", ts_max="2020-11-12T12:00:00Z",
        timestamp="bucket",
    )  # fmt: skip
    assert hours == [
        (at.replace(minute=0), 1.5),
        (at.replace(hour=11, minute=0), 5.0),
        (at.replace(hour=12, minute=0), None),
    ]
    [series] = tracker.catalogue(namespace)
    assert (series.name, series.count, series.first_timestamp, series.last_timestamp) == (
        "page view", 3, at, at.replace(hour=11),
    )  # fmt: skip
    assert tracker.catalogue(search="page view") == [series]
    assert tracker.aggregate(namespace, "nothing") == []


def test_a_deployment_is_annotated(make_tracker, namespace, env):
    tracker = make_tracker()
    at = datetime(2020, 11, 12, 10, 10, tzinfo=UTC)

    found = tracker.annotate(namespace, "Release 4.2", timestamp=at, end=at, text="a\nb", tags=["deployment"])

    rows = service.query(env, f"SELECT title, text FROM events_annotation WHERE namespace = '{namespace}'")
    assert [tuple(row) for row in rows] == [("Release 4.2", "a\nb")]
    assert str(UUID(found)) == found
    with pytest.raises(RequestRefused, match="Must not be earlier than timestamp"):
        tracker.annotate(namespace, "Release", timestamp=at, end=at.replace(hour=9))


def test_the_catalogue_is_read_page_by_page(make_tracker, namespace, monkeypatch):
    monkeypatch.setattr("tracking_client.reading._PAGE_SERIES", 2)
    tracker = make_tracker()
    for number in range(5):
        tracker.track(namespace, f"name {number}/"[:-1], number)
    tracker.flush(60)

    assert [series.name for series in tracker.catalogue(namespace)] == [f"name {number}" for number in range(5)]


FORKS = """
import multiprocessing, os, sys
from tracking_client import Tracker
namespace, spool = sys.argv[1:]
tracker = Tracker(spool=spool or None)
tracker.track(namespace, "value", 0)
children = []
for number in range(1, 4):
    pid = os.fork()
    if not pid:
        for turn in range(50):
            tracker.track(namespace, "value", number * 1000 + turn)
        sys.exit()  # as gunicorn's workers do
    children.append(pid)
    tracker.track(namespace, "value", number)
def work():
    tracker.track(namespace, "value", 5000)
process = multiprocessing.get_context("fork").Process(target=work)
process.start()
tracker.track(namespace, "value", 6000)
process.join()
for pid in children:
    os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("spool", [False, True])
def test_forked_processes_send_what_they_track(env, namespace, stored, spool, tmp_path):
    run_script(env, FORKS, namespace, str(tmp_path / "spool") if spool else "")

    expected = [*range(4), 5000, 6000, *(number * 1000 + turn for number in range(1, 4) for turn in range(50))]
    if spool:
        wait_for_spools(env, tmp_path / "spool")
    assert Counter(stored()) == Counter(expected)


def wait_for_spools(env, spool):
    """Whatever other processes left in their files is sent by the next one."""
    with Tracker(client_url(env), *credentials(env), spool=spool) as tracker:
        wait_until(lambda: tracker.waiting == 0)
        assert tracker.flush(60)


def run_script(env, script, *arguments):
    # a connection that was in use at a fork ends in the child unclosed
    command = [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c", script, *arguments]
    done = subprocess.run(command, env=client_environment(env), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_waits_is_sent_at_the_end_of_the_program(env, namespace, stored):
    run_script(
        env,
        """
import sys
from tracking_client import Tracker
tracker = Tracker(batch_seconds=60)
for value in range(1_500):
    tracker.track(sys.argv[1], "value", value)
""",
        namespace,
    )

    assert stored() == [*range(1_500)]


def test_the_service_is_killed_and_started_again(server, make_tracker, namespace, stored, tmp_path):
    """Between two events, again and again."""
    tracker = make_tracker(batch_seconds=0.01, spool=tmp_path / "spool")
    tracked = 0
    deadline = time.monotonic() + 300
    for _ in range(2 if IS_THOROUGH else 1):
        settled = tracker.counts.stored
        while tracker.counts.stored < settled + 300:
            assert time.monotonic() < deadline, str(tracker.counts)
            tracker.track(namespace, "value", tracked)
            tracked += 1
            time.sleep(0.001)
        server.kill()
        tracker.track(namespace, "value", tracked)
        tracked += 1
        assert not tracker.flush(0.1)
        server.start()

    assert tracker.flush(60)
    assert stored() == [*range(tracked)]


# The agent.


def agent(env, *arguments):
    command = [sys.executable, "-m", "tracking_client.agent", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def test_once_sends_prints_and_ends(env, tmp_path):
    variables = client_environment(
        env, TRACKING_AGENT_SPOOL=str(tmp_path / "state/spool"), TRACKING_AGENT_NAMESPACE="once"
    )
    done = agent(variables, "--once")

    assert (done.returncode, done.stderr) == (0, "")
    rows = service.query(env, "SELECT name FROM events_event WHERE namespace = 'once' ORDER BY id")
    assert [name for (name,) in rows] == [line.split()[1] for line in done.stdout.splitlines()]
    assert len(rows) > 20
    assert len(service.query(env, "SELECT DISTINCT timestamp FROM events_event WHERE namespace = 'once'")) == 1


def test_once_says_where_nothing_arrives(env, tmp_path, monkeypatch, capsys, caplog):
    variables = client_environment(env, TRACKING_AGENT_SPOOL=str(tmp_path / "spool"), TRACKING_AGENT_NAMESPACE="a/b")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert main(["--once"]) == 1
    assert "events were refused, 0 wait." in capsys.readouterr().err
    assert "This field may not contain “/”" in caplog.text


def test_it_goes_on_until_it_is_told_to_end(env, tmp_path):
    variables = client_environment(
        env,
        TRACKING_AGENT_SPOOL=str(tmp_path / "spool"),
        TRACKING_AGENT_NAMESPACE="on",
        TRACKING_AGENT_INTERVAL_SECONDS="0.3",
    )
    process = subprocess.Popen([sys.executable, "-m", "tracking_client.agent"], env=variables)
    turns = "SELECT count(*) FROM events_event WHERE namespace = 'on' AND name = 'load.1m'"
    wait_until(lambda: service.query(env, turns)[0][0] >= 3)
    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == 0
    [(first,)] = service.query(env, "SELECT count(*) FROM events_event WHERE namespace = 'on' AND name = 'cpu.percent'")
    assert first == service.query(env, turns)[0][0] - 1  # from the second turn on


def test_the_script_tracks_this_machine_until_the_service_ends(env, tmp_path):
    server = subprocess.Popen(["sleep", "1000"])
    script = [sys.executable, str(service.PROJECT_DIR / "script/agent"), str(server.pid)]
    process = subprocess.Popen(script, env=env, stdout=subprocess.PIPE, text=True)
    sql = f"SELECT count(*) FROM events_event WHERE namespace = '{socket.gethostname()}'"
    wait_until(lambda: service.query(env, sql)[0][0] > 10)
    server.kill()
    server.wait()

    assert process.communicate(timeout=30)[0] == f"Tracking this machine's health under “{socket.gethostname()}”.\n"
    assert process.returncode == 0
