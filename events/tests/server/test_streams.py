"""Long answers of a served process: to clients that take their time or go away, and where something breaks."""

import json
import socket
import sqlite3
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from events.http.exceptions import RateLimited, ServiceUnavailable
from events.tests.support import service
from events.tests.support.service import call, fetch_token
from events.tests.support.waiting import ask_until, wait_until
from tracking_api.server.budget import Budget
from tracking_api.server.streams import Streams

# An answer that is more than what the sockets of a connection hold, and one that takes more than a second to make.
EVENTS, MANY_EVENTS = 100_000, 400_000
FIRST = 1_704_067_200
STATEMENT_SECONDS = 3  # for each statement, a tenth of which is enough on a quiet machine
PATH, LONG_PATH = "/api/events/a/b", "/api/events/a/long"


@pytest.fixture(scope="module")
def running(prepared, tmp_path_factory):
    """A service with one worker and two long series, which may work on any statement for some seconds."""
    limits = {
        "STATEMENT_TIMEOUT_SECONDS": STATEMENT_SECONDS,
        "ROLLUP_TAIL_EVENTS": 1_000_000_000,
        "RETRY_AFTER_SECONDS": 7,
    }
    with prepared(tmp_path_factory.mktemp("streams"), SERVER_THREADS=2, **limits) as env:
        url = env["DATABASE_URL"]
        with service.served(env) as process:
            env["TOKEN"] = fetch_token(env)
            for name, count in (("b", EVENTS), ("long", MANY_EVENTS)):
                service.insert_events(env, name, count, namespace="a", first=FIRST)
            if url.startswith("postgres"):
                service.query(env, "ANALYZE events_event")
            assert service.call(env, "GET", "/healthz")[0] == 200  # so there is a process that answers
            [worker] = service.children(process.pid)
            yield {**env, "WORKER": str(worker)}


@contextmanager
def database(url):
    if url.startswith("postgres"):
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            yield connection.cursor()
    else:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            yield connection.cursor()


def get(env, path=PATH, method="GET"):
    """The answer; asked for again where a machine is so slow that one statement took its seconds."""

    def is_no_matter_of_time(answer):
        status, _, body = answer
        return status != 503 or (method != "HEAD" and f"Cancelled after {STATEMENT_SECONDS} s".encode() not in body)

    return ask_until(lambda: call(env, method, path, Authorization=f"Bearer {env['TOKEN']}"), is_no_matter_of_time)


@contextmanager
def slow_client(env):
    """Has asked for the whole series, and read nothing but the head of the answer."""
    for _ in range(20):
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            connection.settimeout(120)
            connection.connect(("127.0.0.1", int(env["PORT"])))
            connection.sendall(
                f"GET {PATH}?format=ndjson HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                f"Authorization: Bearer {env['TOKEN']}\r\n\r\n".encode()
            )
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(1)
                assert piece, head
                head += piece
            if not head.startswith(b"HTTP/1.1 503 "):  # as in get()
                yield connection, head.decode().lower()
                return
    raise AssertionError(head)


def snapshots(env):
    """How many readers hold the database to what it was when they began."""
    with database(env["DATABASE_URL"]) as cursor:
        if env["DATABASE_URL"].startswith("postgres"):
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND state <> 'idle'"
            )
            return cursor.fetchone()[0]
        # what was written meanwhile can't all go to the database's own file
        cursor.execute(
            "INSERT INTO events_event (namespace, name, timestamp, value) VALUES ('c', 'd', '2024-01-01', 1)"
        )
        cursor.execute("PRAGMA busy_timeout = 0")  # or a checkpoint that waits keeps writers waiting meanwhile
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return cursor.fetchone()[0]


def files(env):
    """How many files without a name the worker has open."""
    return service.files_without_a_name(env["WORKER"])


def test_a_long_answer_is_whole_and_says_how_long_it_is(running):
    status, headers, body = get(running, f"{PATH}?format=ndjson")

    lines = body.splitlines()
    assert (status, headers["Content-Length"], headers["Transfer-Encoding"]) == (200, str(len(body)), None)
    assert len(lines) == EVENTS
    assert json.loads(lines[-1])["value"] == EVENTS - 1


def test_a_client_that_takes_its_time_is_served_and_holds_no_snapshot(running):
    with slow_client(running) as (connection, head):
        assert head.startswith("http/1.1 200 ok")
        wait_until(
            lambda: snapshots(running) == 0, explain=Path("/proc/locks").read_text
        )  # what the service writes of itself takes but a moment
        time.sleep(STATEMENT_SECONDS + 0.5)  # longer than any statement may take
        wait_until(lambda: snapshots(running) == 0, explain=Path("/proc/locks").read_text)
        received = 0
        while piece := connection.recv(1 << 20):
            received += len(piece)

    assert f"content-length: {received}\r\n" in head


def test_of_a_client_that_goes_away_nothing_is_left(running):
    wait_until(lambda: files(running) == 0)  # those of another test's clients may be just going
    with slow_client(running):
        assert files(running) == 1

    wait_until(lambda: files(running) == 0)
    wait_until(lambda: snapshots(running) == 0, explain=Path("/proc/locks").read_text)


def test_slow_clients_keep_nobody_waiting(running):
    with ExitStack() as clients:
        for _ in range(3):  # one more than are made at a time
            clients.enter_context(slow_client(running))
        status, _, body = get(running, f"{PATH}?format=csv&tsMax={FIRST + 9}")

    assert (status, len(body.splitlines())) == (200, 11)


def test_a_head_request_is_answered_without_a_length(running):
    status, headers, body = get(running, f"{PATH}?format=ndjson", "HEAD")

    assert (status, headers["Content-Type"], body) == (200, "application/x-ndjson; charset=utf-8", b"")
    assert headers["Content-Length"] is None


@contextmanager
def breaking(env):
    """In the middle of the answer its connection is lost on PostgreSQL, and a value found that is no number on SQLite."""
    url = env["DATABASE_URL"]
    with database(url) as cursor:
        if url.startswith("sqlite"):
            cursor.execute("PRAGMA ignore_check_constraints = ON")
            middle = "namespace = 'a' AND name = 'b' AND timestamp = datetime(?, 'unixepoch')"
            cursor.execute(f"UPDATE events_event SET value = 'x' WHERE {middle}", [FIRST + EVENTS // 2])
            yield (500, None)
            cursor.execute(f"UPDATE events_event SET value = 1 WHERE {middle}", [FIRST + EVENTS // 2])
            return

        cursor.execute("ALTER TABLE events_event RENAME TO kept")
        cursor.execute(
            "CREATE VIEW events_event AS SELECT id, namespace, name, timestamp, CASE WHEN"
            f" timestamp = to_timestamp({FIRST + EVENTS // 2}) AND pg_terminate_backend(pg_backend_pid())"
            " THEN 1 ELSE value END AS value FROM kept"
        )
        try:
            yield (503, "7")
        finally:
            cursor.execute("DROP VIEW events_event")
            cursor.execute("ALTER TABLE kept RENAME TO events_event")


def test_what_breaks_an_answer_is_never_taken_for_its_end(running):
    with breaking(running) as expected:
        status, headers, body = get(running, f"{PATH}?format=csv&aggregationType=min")

    assert (status, headers["Retry-After"]) == expected
    assert not body.startswith(b"aggregatedTimestamp")
    assert headers["ETag"] is None
    assert get(running, f"{PATH}?format=csv&aggregationType=min")[0] == 200


@contextmanager
def without_room(running, directory):
    """Another server of the same data, which has room for four MiB of an answer on the disk."""
    env = {**running, "HOME": str(directory), "PORT": str(service.free_port()), "STATEMENT_TIMEOUT_SECONDS": "30"}
    limited = ["bash", "-c", 'ulimit -f 4096; exec "$0" manage.py serve', sys.executable]
    with service.served(env, command=limited, cwd=service.PROJECT_DIR):
        yield env


@pytest.mark.only_on("sqlite")
def test_without_room_for_an_answer_it_is_a_503(running, tmp_path):
    with without_room(running, tmp_path) as env:
        status, headers, body = get(env, f"{LONG_PATH}?format=ndjson")

        assert (status, headers["Retry-After"]) == (503, "7")
        assert json.loads(body) == {"detail": "There is no room to write the answer down; ask for less, or try again."}
        assert get(env, f"{PATH}?format=ndjson&tsMax={FIRST + 9}")[0] == 200
        assert get(env, f"{LONG_PATH}?format=ndjson", "HEAD")[0] == 200  # for which none is made


@pytest.mark.only_on("sqlite")
def test_without_room_an_answer_that_was_made_is_sent_from_memory(running, tmp_path):
    """With much more than there is room for, and with little more, which is left in a buffer when the file is closed."""
    paths = {"much": PATH, "little": f"{PATH}?tsMax={FIRST + 66_815}"}
    expected = {name: get(running, path) for name, path in paths.items()}
    assert 0 < len(expected["little"][2]) - (4 << 20) < 8 << 10 < len(expected["much"][2]) - (4 << 20)

    with without_room(running, tmp_path) as env:
        authorization = f"Bearer {env['TOKEN']}"
        for name, path in paths.items():
            status, headers, body = call(env, "GET", path, Authorization=authorization, X_Request_ID=name)
            assert (status, headers["Content-Length"], body) == (200, str(len(body)), expected[name][2])
    log = (tmp_path / "server.log").read_text()

    for name in paths:
        [line] = [line for line in log.splitlines() if line.endswith(f" request={name}")]
        assert f" GET {PATH} 200 " in line
    assert "A job failed." not in log


# Many of them.


def test_a_client_has_only_some_at_a_time_and_no_more_wait_than_are_made(settings):
    settings.SERVER_STREAMS, settings.RETRY_AFTER_SECONDS = 4, 7
    streams = Streams()
    for client in ("a", "a", "b", "b", "c", "c", "d"):
        streams.admit(client, 8)

    with pytest.raises(RateLimited) as limited:
        streams.admit("a", 8)
    assert (limited.value.detail, limited.value.wait) == (
        "More than 2 long answers of a client at a time; try again in 1 s.", 1
    )  # fmt: skip
    streams.admit("d", 8)
    with pytest.raises(ServiceUnavailable) as refused:
        streams.admit("e", 8)
    assert (refused.value.detail, refused.value.wait) == ("Too many long answers are being made; try again.", 7)
    streams.release("a")
    streams.admit("e", 8)


def test_room_on_the_disk_is_shared_and_given_back():
    budget = Budget(100, 60)

    assert [budget.take("a", 50), budget.take("a", 11), budget.take("b", 50), budget.take("c", 1)] == [
        True, False, True, False
    ]  # fmt: skip
    budget.give_back("a", 50)
    assert [budget.take("b", 11), budget.take(None, 40), budget.take(None, 11)] == [False, True, False]


@contextmanager
def asked(env, query="format=csv"):
    """A client that has asked, and doesn't read."""
    with socket.create_connection(("127.0.0.1", int(env["PORT"]))) as connection:
        connection.settimeout(120)
        head = f"GET {LONG_PATH}?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {env['TOKEN']}\r\n"
        connection.sendall(f"{head}X-Request-ID: {query}\r\nConnection: close\r\n\r\n".encode())
        yield connection


@pytest.fixture(scope="module")
def patient(running, tmp_path_factory):
    """Another server of the same data, whose statements may take their time."""
    home = str(tmp_path_factory.mktemp("patient"))
    env = {**running, "HOME": home, "PORT": str(service.free_port()), "STATEMENT_TIMEOUT_SECONDS": "300"}
    with service.served(env) as process:
        assert service.call(env, "GET", "/healthz")[0] == 200  # so there is a process that answers
        [worker] = service.children(process.pid)
        yield {**env, "WORKER": str(worker)}


def test_beside_long_answers_small_ones_come_and_more_are_refused(patient):
    wait_until(lambda: files(patient) == 0)
    with asked(patient), asked(patient):
        wait_until(lambda: files(patient) == 2)  # both are being made
        status, headers, body = call(
            patient, "GET", f"{LONG_PATH}?format=csv", Authorization=f"Bearer {patient['TOKEN']}"
        )
        small = call(patient, "GET", f"{PATH}?tsMax={FIRST + 9}", Authorization=f"Bearer {patient['TOKEN']}")

    assert (status, headers["Retry-After"]) == (429, "1")
    assert json.loads(body) == {"detail": "More than 2 long answers of a client at a time; try again in 1 s."}
    assert (small[0], len(json.loads(small[2]))) == (200, 10)


def test_what_nobody_waits_for_is_not_made(patient):
    log = Path(patient["HOME"], "server.log")
    query = "format=ndjson&granularity=none"
    wait_until(lambda: files(patient) == 0)
    with asked(patient, query):
        wait_until(lambda: files(patient) == 1)  # it is being made

    wait_until(lambda: f" request={query} " in log.read_text())
    [line] = [line for line in log.read_text().splitlines() if f" request={query} " in line]
    assert f" GET {LONG_PATH} 499 " in line
    assert line.endswith(" refusal=client_gone")
    wait_until(lambda: files(patient) == 0)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        pytest.param(
            {"STREAM_BYTES": 1_000_000},
            (
                400, None,
                {"granularity": ["The answer has more than 1000000 bytes; choose a shorter window or a coarser granularity."]},
            ),
            marks=pytest.mark.only_on("sqlite"),
        ),
        ({"STREAM_SECONDS": 1}, (503, "7", {"detail": "Cancelled after 1 s; ask for less, or try again."})),
    ],
)  # fmt: skip
def test_a_long_answer_has_limits(running, limit, expected):
    env = {**running, "PORT": str(service.free_port()), "STATEMENT_TIMEOUT_SECONDS": "300"}
    env |= {name: str(value) for name, value in limit.items()}
    with service.served(env):
        status, headers, body = call(
            env, "GET", f"{LONG_PATH}?format=ndjson&aggregationType=sum", Authorization=f"Bearer {env['TOKEN']}"
        )

    assert (status, headers["Retry-After"], json.loads(body)) == expected
