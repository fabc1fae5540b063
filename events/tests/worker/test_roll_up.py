"""``manage.py roll_up``, and the worker that runs beside the server."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, nullcontext
from io import StringIO
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection

from events.management.commands import roll_up as roll_up_command
from events.models import Event, Rollup
from events.tests.support import service
from events.tests.support.examples import IS_THOROUGH
from events.tests.support.service import PROJECT_DIR, call, fetch_token
from events.tests.support.waiting import wait_until
from events.worker import pacing, roll_up
from events.worker.roll_up import Step


@pytest.fixture(autouse=True)
def no_alerts(monkeypatch):
    """A worker within this process evaluates none, as its threads would not see the test's transaction."""
    turns = []
    runner = SimpleNamespace(start=lambda: turns.append("start"), stop=lambda: turns.append("stop"))
    monkeypatch.setattr(roll_up_command, "AlertRunner", lambda: runner)
    return turns


def run(*arguments):
    output = StringIO()
    call_command("roll_up", *arguments, stdout=output)
    return output.getvalue()


def test_it_says_what_it_did(make_event):
    last = [make_event() for _ in range(3)][-1].pk

    assert run() == f"Rolled up 3 events in 1 steps; the watermark is at {last}.\n"
    assert run() == f"Rolled up 0 events in 0 steps; the watermark is at {last}.\n"
    assert run("--rebuild") == f"Rolled up 3 events in 1 steps; the watermark is at {last}.\n"
    assert Rollup.objects.get(resolution=0).count == 3


@pytest.mark.parametrize(
    ("worked", "rests"),
    [([], [1]), ([0.25], [1]), ([0.25, 0.25], [1, 0.5]), ([1], [1, 1, 1]), ([60], [1] * 8)],
)
def test_a_worker_rests_three_times_as_long_as_its_steps_took(db, monkeypatch, worked, rests):
    """And goes on pruning meanwhile."""
    done = []

    class Stopping(threading.Event):
        def wait(self, timeout=None):
            done.append(timeout)

    def catch_up(*arguments):
        done.append("catch up")
        if done.count("catch up") == 2:
            command.stopping.set()
        return (Step(1, 1, False, seconds) for seconds in worked)

    monkeypatch.setattr(
        roll_up_command, "threading", SimpleNamespace(Event=Stopping, TIMEOUT_MAX=threading.TIMEOUT_MAX)
    )
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(pacing.Roller, "catch_up", catch_up)
    monkeypatch.setattr(roll_up_command.Command, "_prune", lambda self: done.append("prune"))
    command = roll_up_command.Command(stdout=StringIO())

    call_command(command, "--watch", "1")

    expected = ["catch up", *chain.from_iterable(("prune", rest) for rest in rests), "catch up"]
    assert done == expected


@pytest.mark.parametrize("error", [None, RuntimeError("a fault of ours")])
def test_a_worker_has_alerts_evaluated_until_it_ends(db, monkeypatch, no_alerts, error):
    def catch_up(*arguments):
        assert no_alerts == ["start"]
        command.stopping.set()
        if error:
            raise error
        return iter(())

    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(pacing.Roller, "catch_up", catch_up)
    command = roll_up_command.Command(stdout=StringIO())

    with pytest.raises(RuntimeError) if error else nullcontext():
        call_command(command, "--watch", "1")

    assert no_alerts == ["start", "stop"]


def test_what_comes_meanwhile_is_left_for_the_next_look(make_event, monkeypatch):
    """Or a busy worker would make a step for every handful of events, each of which writes the same rollups."""
    one_step = roll_up.take_step

    def roll_up_while_events_come(*arguments):
        step = one_step(*arguments)
        if Event.objects.count() < 10:
            make_event()
        return step

    first = make_event().pk
    monkeypatch.setattr(roll_up, "take_step", roll_up_while_events_come)

    assert run() == f"Rolled up 1 events in 1 steps; the watermark is at {first}.\n"
    assert run() == f"Rolled up 1 events in 1 steps; the watermark is at {first + 1}.\n"


@pytest.mark.parametrize(
    ("events", "is_full", "hold", "most"),
    [
        (1000, True, 0.25, 2000),  # twice as many at most: the next events may be others
        (1000, True, 0.8, 1250),
        (1000, True, 2, 500),
        (1000, True, 99, 250),
        (10, True, 0.8, 1250),  # of ids that are missing there may be as many again
        (800, False, 2, 400),
        (3, False, 0.9, 1000),  # tells nothing
    ],
)
def test_a_step_is_as_large_as_others_can_wait_for(monkeypatch, events, is_full, hold, most):
    pace = pacing._Pace(250, 2000, 1.0, 0)
    monkeypatch.setattr(pacing, "_PACES", {"postgresql": pace, "sqlite": pace})
    monkeypatch.setattr(roll_up, "_STEP_EVENTS", {"postgresql": 1000, "sqlite": 1000})
    monkeypatch.setattr(roll_up, "take_step", lambda *_: Step(events, 1, is_full, hold))
    one = pacing.Roller()

    next(one.catch_up(lambda: True, time.sleep))

    assert one.most_events == most


@pytest.mark.parametrize(("patience", "most"), [(1, 250), (5, 1250), (60, 1500)])
def test_a_step_is_to_last_half_as_long_as_others_wait_for_its_lock_at_most(monkeypatch, settings, patience, most):
    settings.DATABASE_TIMEOUT_SECONDS = patience
    pace = pacing._Pace(100, 2000, 3.0, 0)
    monkeypatch.setattr(pacing, "_PACES", {"postgresql": pace, "sqlite": pace})
    monkeypatch.setattr(roll_up, "_STEP_EVENTS", {"postgresql": 1000, "sqlite": 1000})
    monkeypatch.setattr(roll_up, "take_step", lambda *_: Step(1000, 1, True, 2.0))
    one = pacing.Roller()

    next(one.catch_up(lambda: True, time.sleep))

    assert one.most_events == most


def test_after_a_step_that_failed_comes_a_small_one(monkeypatch):
    def fail(*_):
        raise DatabaseError

    monkeypatch.setattr(roll_up, "take_step", fail)
    one = pacing.Roller()

    with pytest.raises(DatabaseError):
        next(one.catch_up(lambda: True, time.sleep))

    assert one.most_events == {"postgresql": 4_000, "sqlite": 150}[connection.vendor]


@pytest.mark.only_on("postgresql")
def test_a_step_that_others_could_not_wait_for_is_cancelled_for_a_small_one(make_event, monkeypatch, settings):
    """As where events of the same minutes are followed by some of which each makes rollups of its own."""
    ids = [make_event().pk for _ in range(5)]
    settings.DATABASE_TIMEOUT_SECONDS = 1
    pace = pacing._Pace(2, 100, 4.0, 0)
    monkeypatch.setattr(pacing, "_PACES", {"postgresql": pace, "sqlite": pace})
    fill_step = roll_up.fill_step

    def fill_slowly(events, *arguments):
        if (count := events.count()) > 2:
            with connection.cursor() as cursor:
                for _ in range(count):
                    cursor.execute("SELECT pg_sleep(0.4)")  # each in time, and not all of them
        return fill_step(events, *arguments)

    monkeypatch.setattr(roll_up, "fill_step", fill_slowly)
    start = time.monotonic()
    steps = [step[:3] for step in pacing.Roller().catch_up(lambda: True, time.sleep)]

    assert steps == [(2, ids[1], True), (2, ids[3], True), (1, ids[4], False)]
    assert 1.8 < time.monotonic() - start < 3


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e300"])
def test_it_needs_some_time_between_looks(seconds, db):
    with pytest.raises(CommandError, match="--watch takes a number of seconds above 0"):
        run(f"--watch={seconds}")


@pytest.fixture
def env(prepared, tmp_path):
    with prepared(tmp_path) as env:
        yield env


def counts(env):
    """How many events there are, and how many of them are in the rollups."""
    [(events,)] = service.query(env, "SELECT count(*) FROM events_event")
    [(rolled_up,)] = service.query(env, "SELECT coalesce(sum(count), 0) FROM events_rollup WHERE resolution = 0")
    return events, rolled_up


@contextmanager
def worker(env, *arguments):
    command = [sys.executable, str(PROJECT_DIR / "manage.py"), "roll_up", "--watch", "0.2", *arguments]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def insert(env, count):
    values = ", ".join(f"('S', 'n', '2020-01-01 00:{number % 60:02}:00', {number})" for number in range(count))
    service.query(env, f"INSERT INTO events_event (namespace, name, timestamp, value) VALUES {values}")


def batch(count, start):
    return json.dumps(
        [{"namespace": "S", "name": "n", "timestamp": start + 20 * number, "value": number} for number in range(count)]
    ).encode()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.thorough)])
def test_the_worker_keeps_up_and_ends_when_told(env, number):
    [(before, _)] = [counts(env)]
    with worker(env) as process:
        wait_until(lambda: counts(env) == (before, before))
        insert(env, 10)
        wait_until(lambda: counts(env) == (before + 10, before + 10))
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    [(watermark,)] = service.query(env, "SELECT max(id) FROM events_event")
    assert output.startswith(f"Rolled up {before + 10} events in ")
    assert output.endswith(f" steps; the watermark is at {watermark}.\n")


def test_two_workers_killed_and_started_under_load_count_every_event_once(env):
    [(before, _)] = [counts(env)]
    with service.served(env):
        headers = {"Authorization": f"Bearer {fetch_token(env)}", "Content_Type": "application/json"}
        sent = 0
        for turn in range(4 if IS_THOROUGH else 2):
            with worker(env) as first, worker(env) as second:
                for number in range(12):
                    status, _, body = call(env, "POST", "/api/track/", batch(50, 1_600_000_000 + 7 * number), **headers)
                    assert status == 201, body
                    sent += 50
                    time.sleep(0.04)
                (first if turn % 2 else second).send_signal(signal.SIGKILL)

    assert service.manage("roll_up", env=env).returncode == 0
    assert counts(env) == (before + sent, before + sent)
    done = service.manage("verify_rollups", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    [(series,)] = service.query(
        env, "SELECT count(*) FROM (SELECT DISTINCT namespace, name FROM events_event) AS series"
    )
    assert done.stdout == f"All rollups of {series} series are right.\n"


def test_the_worker_goes_on_after_the_database_was_away(env):
    [(before, _)] = [counts(env)]
    if not env["DATABASE_URL"].startswith("sqlite"):
        with worker(env) as process:
            wait_until(lambda: counts(env) == (before, before))
            service.query(
                env,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND datname = current_database()",
            )
            insert(env, 1)
            wait_until(lambda: counts(env) == (before + 1, before + 1))
            assert process.poll() is None
    else:
        with closing(sqlite3.connect(urlsplit(env["DATABASE_URL"]).path, isolation_level=None)) as locking:
            locking.execute("BEGIN IMMEDIATE")
            with worker({**env, "DATABASE_TIMEOUT_SECONDS": "1"}) as process:
                time.sleep(4)
                assert process.poll() is None
                locking.execute("ROLLBACK")
                wait_until(lambda: counts(env) == (before, before))


@pytest.mark.only_on("sqlite")
def test_the_worker_carries_out_the_retention_policy(env):
    [(before, _)] = [counts(env)]
    insert(env, 2_000)

    with worker({**env, "RETENTION": "S=1d,*=keep"}) as process:
        wait_until(lambda: counts(env) == (before, before + 2_000))
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)

    assert output.startswith("Pruned 2000 events.\n")
    done = service.manage("verify_rollups", env=env)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.only_on("sqlite")
def test_the_worker_leaves_out_minutes_that_hold_one_event(env):
    minutes = "SELECT count(*) FROM events_rollup WHERE name = 'sparse' AND resolution = 60"
    values = ", ".join(f"('S', 'sparse', '2020-01-02 {n // 60:02}:{n % 60:02}:00', {n})" for n in range(300))
    service.query(env, f"INSERT INTO events_event (namespace, name, timestamp, value) VALUES {values}")
    assert service.manage("roll_up", env=env).returncode == 0
    assert service.query(env, minutes) == [(300,)]

    with worker(env):
        wait_until(lambda: service.query(env, minutes) == [(0,)])

    assert service.query(env, "SELECT count(*) FROM events_rollup WHERE name = 'sparse'") == [(6,)]


def is_running(pid):
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


@pytest.mark.only_on("sqlite")
def test_the_servers_worker_ends_with_it(env):
    """``test_serve`` has it killed."""
    [(before, _)] = [counts(env)]
    with service.served(env, "--worker") as process:
        wait_until(lambda: counts(env) == (before, before))
        [beside] = [
            pid for pid in service.children(process.pid) if "roll_up" in Path(f"/proc/{pid}/cmdline").read_text()
        ]
        process.send_signal(signal.SIGTERM)
        process.wait(120)
        wait_until(lambda: not is_running(beside))
    assert process.log.read_text().count("Rolled up") == 0


def test_a_rebuild_answers_rightly_meanwhile(make_event, client_with_scopes, monkeypatch):
    monkeypatch.setattr(roll_up, "_STEP_EVENTS", {"postgresql": 2, "sqlite": 2})
    for minute in range(10):
        make_event(timestamp=f"2024-01-01T00:{minute * 6:02}:00", value=minute)
    run()
    client = client_with_scopes("aggregation")
    path = "/api/events/Frontend/pageView?granularity=day&aggregationType=sum"
    answers = [client.get(path).json()]

    roll_up.start_over()
    answers.append(client.get(path).json())
    while roll_up.take_step():
        answers.append(client.get(path).json())

    assert answers == [[{"aggregatedTimestamp": "2024-01-01T00:00:00Z", "value": 45.0}]] * 7
    assert Event.objects.count() == Rollup.objects.event_count() == 10
