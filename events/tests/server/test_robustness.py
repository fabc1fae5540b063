"""A served process against what no well-behaved client sends, and without its database."""

import json
import random
import socket
import sqlite3
import time
from contextlib import closing, contextmanager

import psycopg2
import pytest

from events.tests.support import service
from events.tests.support.service import call, fetch_token, locked
from events.tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def running(prepared, tmp_path_factory):
    """A prepared and served service: its environment and a token for everything."""
    directory = tmp_path_factory.mktemp("service")
    with prepared(directory, DATABASE_TIMEOUT_SECONDS=5, RETRY_AFTER_SECONDS=7) as env, service.served(env):
        yield {**env, "TOKEN": fetch_token(env)}


def raw(env, data, then_close=False):
    """Send bytes as they are; the status line's code, or 0 where the server hangs up."""
    with socket.create_connection(("127.0.0.1", int(env["PORT"])), timeout=120) as connection:
        connection.sendall(data)
        if then_close:
            connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    return int(answer.split(b" ")[1]) if answer else 0


def request(env, line, *headers, body=b""):
    lines = [
        line,
        b"Host: 127.0.0.1",
        b"Authorization: Bearer " + env["TOKEN"].encode(),
        b"Connection: close",
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


JSON = b"Content-Type: application/json"


@pytest.mark.parametrize(
    ("line", "headers", "body", "expected"),
    [
        (b"GET /api/events/a%00b/c HTTP/1.1", [], b"", {400}),
        (b"GET /api/events/a/b%2Fc HTTP/1.1", [], b"", {404}),
        (b"GET /api/events/%2E%2E/b HTTP/1.1", [], b"", {400}),
        (b"GET /api/events/\xff\xfe/b HTTP/1.1", [], b"", {200, 400}),
        (b"GET /api/events/%FF/%ED%A0%80 HTTP/1.1", [], b"", {200}),
        (b"GET /api/events/a/b?tsMin=nan HTTP/1.1", [], b"", {400}),
        (b"GET /api/events/a/b?granularity=day HTTP/1.1", [b"Content-Type: text/plain; charset=hex"], b"", {200}),
        (b"GET /accounts/login/?next=/ HTTP/1.1", [b"Content-Type: text/plain; charset=zlib"], b"", {200}),
        (b"POST /accounts/login/ HTTP/1.1", [b"Content-Type: multipart/form-data; boundary=x; charset=hex",
         b"Content-Length: 61"], b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n'.ljust(61), {403}),
        *((b"POST " + path + b" HTTP/1.1", [b"Content-Type: multipart/form-data; boundary=x", b"Content-Length: 67"],
           b"--x\r\nContent-Disposition: form-data; a*=1; a*0=2\r\n\r\nb\r\n--x--\r\n".ljust(67), {400})
          for path in (b"/accounts/login/", b"/admin/login/", b"/o/token/", b"/o/revoke_token/", b"/api/track/")),
        (b"GET /api/events/a/b?tsMin=" + b"9" * 400 + b" HTTP/1.1", [], b"", {400}),
        (b"GET /api/events/a/b?%ED%A0%80=1 HTTP/1.1", [], b"", {400}),
        (b"GET /api/events/a/b?" + b"a=1&" * 2000 + b" HTTP/1.1", [], b"", {400}),
        (b"GET /api/events/" + b"a" * 20_000 + b"/b HTTP/1.1", [], b"", {400, 414}),
        (b"GET /api/events/ HTTP/1.1", [b"Accept: " + b"x" * 5000], b"", {200}),
        (b"GET /api/events/ HTTP/1.1", [b"Cookie: sessionid=\xff; csrftoken=\x01"], b"", {200, 400}),
        (b"GET /admin/ HTTP/1.1", [b"Cookie: sessionid=" + b"x" * 5000], b"", {302}),
        (b"GET /accounts/login/?next=%00 HTTP/1.1", [], b"", {400}),
        (b"POST /api/track/ HTTP/1.1", [JSON, b"Content-Length: 4"], b"\xff\xfe\xfd\xfc", {400}),
        (b"POST /api/track/ HTTP/1.1", [JSON, b"Content-Length: -1"], b"", {0, 400}),
        (b"POST /api/track/ HTTP/1.1", [JSON, b"Content-Length: 9999999999999999999999"], b"", {0, 400, 413}),
        (b"POST /api/track/ HTTP/1.1", [JSON, b"Content-Length: 100000"], b"[" * 100_000, {400}),
        (b"POST /api/track/ HTTP/1.1", [JSON, b"Content-Length: 0"], b"", {400}),
        (b"POST /api/track/ HTTP/1.1", [b"Content-Type: multipart/form-data", b"Content-Length: 3"], b"abc", {400}),
        (b"POST /api/track/ HTTP/1.1", [b"Content-Type: \xff/\xff", b"Content-Length: 3"], b"abc", {400, 415}),
        *((line + b" HTTP/1.1", [b"Content-Type: a/b; x*" + value], b"", {400}) for line in (b"GET /", b"GET /healthz")
          for value in (b"=nosuch''a", b"=;x*0*=")),
        (b"POST /o/token/ HTTP/1.1", [b"Content-Type: application/x-www-form-urlencoded", b"Content-Length: 22"],
         b"client_id=%00&scope=%FF", {400, 401}),
        *((b"POST " + path + b" HTTP/1.1", [b"Content-Type: multipart/form-data; boundary=b", b"Content-Length: 11000000"],
           b"--b\r\n", {413}) for path in (b"/accounts/login/", b"/o/token/", b"/admin/", b"/nowhere")),  # and unread
        (b"BREW /api/track/ HTTP/1.1", [], b"", {400}),
        (b"PURGE /api/track/ HTTP/1.1", [], b"", {405}),
        (b"TRACE / HTTP/1.1", [], b"", {302, 405}),
        (b"\x16\x03\x01\x02\x00\x01\x00", [], b"", {0, 400}),
    ],
)  # fmt: skip
def test_no_request_is_an_error_of_the_server(running, line, headers, body, expected):
    assert raw(running, request(running, line, *headers, body=body)) in expected


def test_a_body_cut_short_stores_nothing(running):
    body = b'{"namespace": "cut", "name": "a", "timestamp": 1, "value": 1}'
    data = request(running, b"POST /api/track/ HTTP/1.1", JSON, b"Content-Length: 1000", body=body)

    assert raw(running, data, then_close=True) in {0, 400}

    assert get(running, "/api/events/cut")[2] == b"[]"


def get(env, path):
    return call(env, "GET", path, Authorization=f"Bearer {env['TOKEN']}")


def test_garbage_never_makes_a_500(running):
    chance = random.Random(7)
    alphabet = [b"{", b"}", b"[", b"]", b'"', b":", b",", b"1", b"-", b".", b"e", b"\\u", b"d800", b"\\", b"\0", b"\xff",
                b"null", b"true", b"NaN", b"namespace", b"timestamp", b"value", b"name", b"&", b"=", b"%", b"--b", b"\r\n"]  # fmt: skip
    types = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "a/b", ""]
    for _ in range(400):
        body = b"".join(chance.choices(alphabet, k=chance.randrange(1, 30)))
        path = chance.choice(["/api/track/", "/api/track", "/o/token/"])
        headers = {"Authorization": f"Bearer {running['TOKEN']}", "Content_Type": chance.choice(types)}

        status, _, answer = call(running, "POST", path, body, **headers)

        assert status in {400, 401, 415}, (body, headers, answer)


def test_an_unreachable_database_is_a_503_everywhere(running, tmp_path):
    nowhere = f"postgres://ada@127.0.0.1:{service.free_port()}/none"
    env = service.environment(tmp_path, DATABASE_URL=nowhere, PORT=service.free_port(), RETRY_AFTER_SECONDS=7)
    description = "The database can't be reached or is busy; try again."
    said = {"detail": description}
    of_oauth2 = {"error": "temporarily_unavailable", "error_description": description}
    token = {"Authorization": "Bearer some-token"}
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    with service.served(env):
        for method, path, body, headers, expected in [
            ("POST", "/api/track/", "{}", {**token, "Content_Type": "application/json"}, said),
            ("GET", "/api/events/a/b", None, token, said),
            ("GET", "/api/events/", None, token, said),
            ("POST", "/o/token/", "grant_type=client_credentials&client_id=a&client_secret=b", form, of_oauth2),
            ("GET", "/admin/", None, {"Cookie": f"sessionid={'a' * 32}"}, said),
        ]:
            status, answer_headers, answer = call(env, method, path, body, **headers)

            assert (status, answer_headers["Retry-After"], json.loads(answer)) == (503, "7", expected), path
        assert call(env, "GET", "/accounts/login/")[0] == 200


def test_a_locked_database_is_waited_for_and_then_a_503(running):
    headers = {"Authorization": f"Bearer {running['TOKEN']}", "Content_Type": "application/json"}
    event = json.dumps({"namespace": "locked", "name": "a", "timestamp": 1, "value": 1})
    with locked(running["DATABASE_URL"]):
        start = time.monotonic()
        status, answer_headers, _ = call(running, "POST", "/api/track/", event, **headers)
        waited = time.monotonic() - start

    assert (status, answer_headers["Retry-After"]) == (503, "7")
    assert waited >= 5
    assert get(running, "/api/events/locked")[2] == b"[]"
    assert call(running, "POST", "/api/track/", event, **headers)[0] == 201


def test_a_missing_table_is_our_mistake_and_logged(running, tmp_path):
    with service.own_database(tmp_path) as url:
        env = service.environment(tmp_path, DATABASE_URL=url, PORT=service.free_port())
        with service.served(env) as process:
            status, _, _ = call(env, "GET", "/api/events/", Authorization="Bearer x")

        assert status == 500
        log = process.log.read_text()
        assert "ERROR django.request: Internal Server Error: /api/events/" in log
        assert "oauth2_provider_accesstoken" in log


@contextmanager
def slow(url):
    """Questions about the series a/b take seconds: it has many events on SQLite, on PostgreSQL they are locked."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute(
                "INSERT INTO events_event (namespace, name, timestamp, value) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL"
                " SELECT i + 1 FROM n WHERE i < 400000) SELECT 'a', 'b', datetime(i, 'unixepoch'), i FROM n"
            )
            connection.commit()
        yield
    else:
        with closing(psycopg2.connect(url)) as connection:
            connection.cursor().execute("INSERT INTO events_event VALUES (DEFAULT, 'a', 'b', '1970-01-01 12:00', 1)")
            connection.commit()
            connection.cursor().execute("LOCK TABLE events_event IN ACCESS EXCLUSIVE MODE")
            yield


def test_a_statement_that_takes_too_long_is_cancelled_and_a_503(prepared, tmp_path):
    limits = {"STATEMENT_TIMEOUT_SECONDS": 1, "ROLLUP_TAIL_EVENTS": 1_000_000_000, "RETRY_AFTER_SECONDS": 7}
    with prepared(tmp_path, **limits) as env:
        with service.served(env):
            env["TOKEN"] = fetch_token(env)
            with slow(env["DATABASE_URL"]):
                status, headers, answer = get(env, "/api/events/a/b?granularity=day&aggregationType=sum")

            assert (status, headers["Retry-After"]) == (503, "7")
            assert json.loads(answer) == {"detail": "Cancelled after 1 s; ask for less, or try again."}
            answers = [answer]
            less = "/api/events/a/b?granularity=day&tsMin=%2B43100&tsMax=%2B43200&aggregationType=max"
            wait_until(lambda: answers.append(get(env, less)[2]) or answers[-1] != answer)  # a slow machine needs a few
            assert [list(item) for item in json.loads(answers[-1])] == [["aggregatedTimestamp", "value"]]
        log = (tmp_path / "server.log").read_text()
        assert log.count("ERROR events.http.error_handlers: OperationalError: ") == answers.count(answer)
