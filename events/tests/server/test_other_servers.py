"""The service under the other WSGI servers of docs/deployment.md, by the commands that it gives."""

import json
import re
import shlex
import shutil
import socket
from pathlib import Path

import psycopg2
import pytest

from events.tests.support import service
from events.tests.support.bodies import ORDER as EVENT
from events.tests.support.service import PROJECT_DIR, call, fetch_token

DOCUMENT = (PROJECT_DIR / "docs/deployment.md").read_text()
COMMANDS = {Path(line.split()[0]).name: line for line in re.findall(r"^\.venv/bin/.*$", DOCUMENT, re.MULTILINE)}
TABLE = {
    cells[0]: dict(zip(("gunicorn", "waitress-serve", "uwsgi"), cells[1:], strict=True))
    for line in re.findall(r"^\| (.*) \|$", DOCUMENT.partition("## Other servers")[2], re.MULTILINE)
    if len(cells := line.split(" | ")) == 4
}


def installed(program):
    return pytest.param(program, marks=pytest.mark.skipif(not shutil.which(program), reason="requirements-dev.txt"))


@pytest.fixture(scope="module", params=[installed(program) for program in COMMANDS])
def server(request, prepared, tmp_path_factory):
    """A service under another server: its environment and that one's name."""
    directory = tmp_path_factory.mktemp("server")
    with prepared(directory, PYTHONPATH=PROJECT_DIR, TRUSTED_PROXIES="127.0.0.1", MAX_LOGIN_FAILURES=1) as env:
        command = COMMANDS[request.param].replace("127.0.0.1:8000", f"127.0.0.1:{env['PORT']}")
        program, *arguments = shlex.split(command)
        with service.served(env, command=[shutil.which(Path(program).name), *arguments], cwd=PROJECT_DIR):
            env["TOKEN"] = fetch_token(env)
            yield env, request.param


def send(env, data):
    """What comes back for bytes after which nothing more comes."""
    with socket.create_connection(("127.0.0.1", int(env["PORT"])), timeout=60) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        try:
            return connection.recv(65536)
        except ConnectionResetError:
            return b""


def test_the_api_is_the_same(server):
    env, name = server
    headers = {"Authorization": f"Bearer {env['TOKEN']}", "Content_Type": "application/json"}
    body = json.dumps(EVENT).encode()

    def track(body, **more):
        status, _, answer = call(env, "POST", "/api/track/", body, **headers, **more)
        return status, json.loads(answer)

    def get(path, method="GET", **more):
        status, found, answer = call(env, method, path, Authorization=headers["Authorization"], **more)
        return status, found, answer.decode()

    def count():
        return json.loads(get("/api/events/Shop/order?aggregationType=count&granularity=year")[2])[0]["value"]

    assert track(body) == (201, EVENT)
    assert track(json.dumps([EVENT] * 1_000)) == (201, {"accepted": 1_000})
    assert track(b'{"namespace": "Shop"}')[0] == 400
    assert count() == 1_001
    assert call(env, "GET", "/api/events/")[0] == 401
    status, found, lines = get("/api/events/Frontend/pageView?format=csv")
    assert (status, len(lines.split()), found["Content-Length"]) == (200, 373, str(len(lines)))
    assert get("/api/events/Frontend/pageView?format=csv", "HEAD")[::2] == (200, "")
    etag = get("/api/events/Shop/order")[1]["ETag"]
    assert get("/api/events/Shop/order", If_None_Match=etag)[::2] == (304, "")
    assert get("/readyz")[0] in {200, 503}
    assert get("/healthz")[::2] == (200, '{"alive": true}')
    assert get("/nowhere")[0] == 404
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    assert call(env, "POST", "/o/token/", b"a" * 65_537, **form)[0] == 413

    head = "POST /api/track/ HTTP/1.1\r\nHost: 127.0.0.1\r\n" + "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items())  # fmt: skip
    is_taken = TABLE["chunked bodies"][name] == "taken"
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(body), body)
    assert send(env, head.encode() + chunked + b"0\r\n\r\n").split()[1] == (b"201" if is_taken else b"411")
    assert count() == 1_001 + is_taken
    for broken in (
        chunked,
        chunked.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n",
        b"Content-Length: %d\r\n\r\n%s" % (len(body) + 1, body),
    ):
        assert b" 201 " not in send(env, head.encode() + broken)
    assert count() == 1_001 + is_taken

    with psycopg2.connect(env["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()")
        assert cursor.fetchone()[0] <= 16
    connection.close()


def test_what_is_believed_of_a_client(server):
    """By the limit of wrong secrets, which never comes for whoever is taken for another address each time."""
    env, name = server
    form = b"grant_type=client_credentials&client_id=shop&client_secret=wrong"
    head = b"POST /o/token/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    answers = [
        send(env, head + b"X_Forwarded_For: 192.0.2.%d\r\nContent-Length: %d\r\n\r\n%s" % (number, len(form), form))
        for number in range(6)
    ]

    is_believed = not any(b" 429 " in answer for answer in answers)
    assert answers[0].split()[1] == b"401"
    assert is_believed == (TABLE["`X_Forwarded_For` and others with underscores"][name] != "dropped")


@pytest.mark.parametrize("length", [b"abc", b"1 1", b"1_0", b"-1", "²".encode()])
def test_a_length_that_is_no_number_is_refused(server, length):
    env, _ = server

    answer = send(env, b"POST /api/track/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: " + length + b"\r\n\r\n{}")

    assert answer.split()[1:2] == [b"400"]
