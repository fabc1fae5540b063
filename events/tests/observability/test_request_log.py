"""A line of log for each request, and its id."""

import json
import logging
import os
import re
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from django.db import OperationalError, connection
from django.test import Client

from events.observability import observation, request_log
from events.observability.log_lines import JSONFormatter, LineFormatter
from events.observability.observation import Observation, current
from events.observability.recorder import observe
from events.tests.support import service
from events.tests.support.service import call, fetch_token, locked

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def request(answer, method="GET", path="/x", **environ):
    """Observes a request; gives the response and the headers it was started with."""
    started = []
    response = observe(
        {"REQUEST_METHOD": method, "PATH_INFO": path, **environ},
        lambda status, headers, *exc_info: started.append((status, dict(headers))),
        answer,
    )
    return response, started[0][1] if started else None


def say(body=b"said", status="200 OK"):
    def answer(environ, start_response):
        start_response(status, [("Content-Type", "text/plain")])
        return [body]

    return answer


@pytest.mark.parametrize("given", ["a", "x" * 128, '!"~\\', "4f0c-11"])
def test_a_sane_request_id_is_kept(given, capfd):
    _, headers = request(say(), HTTP_X_REQUEST_ID=given)

    assert headers == {"Content-Type": "text/plain", "X-Request-ID": given}
    assert capfd.readouterr().err.endswith(f" request={given}\n")


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "é", "a\nb", "a\x7f"])
def test_any_other_is_replaced(given, capfd):
    _, headers = request(say(), HTTP_X_REQUEST_ID=given)

    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-ID"])
    assert capfd.readouterr().err.endswith(f" request={headers['X-Request-ID']}\n")


def test_each_request_has_an_id_of_its_own():
    assert len({request(say())[1]["X-Request-ID"] for _ in range(100)}) == 100


def note(environ, start_response):
    """Answers as a refused request to store would be."""
    seen = current()
    seen.client, seen.events, seen.refusal = "shop", 3, "invalid"
    return say(status="400 Bad Request")(environ, start_response)


def test_the_line_as_text(capfd):
    request(
        note, "POST", "/api/track/", HTTP_X_REQUEST_ID="r", HTTP_AUTHORIZATION="Bearer s3cret", QUERY_STRING="t=s3cret"
    )

    line = capfd.readouterr().err
    assert re.fullmatch(
        rf"{TIME} INFO request: POST /api/track/ 400 ms=\d+\.\d\d bytes=4 events=3 client=shop request=r refusal=invalid\n",
        line,
    )


def test_the_line_as_json(capfd, settings):
    settings.LOG_FORMAT = "json"

    request(
        note, "POST", "/api/track/", HTTP_X_REQUEST_ID="r", HTTP_AUTHORIZATION="Bearer s3cret", QUERY_STRING="t=s3cret"
    )

    line = json.loads(capfd.readouterr().err)
    assert re.fullmatch(TIME, line.pop("time"))
    assert line.pop("milliseconds") > 0
    assert line == {
        "level": "INFO", "logger": "request", "method": "POST", "path": "/api/track/", "status": 400, "bytes": 4,
        "events": 3, "client_id": "shop", "request_id": "r", "refusal": "invalid", "field": None, "reason": None,
    }  # fmt: skip


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/a\n2026-11-24 INFO request: GET /forged 200", "/a%0A2026-11-24%20INFO%20request:%20GET%20/forged%20200"),
        ("/a\r\x1b[31m\x00\x85", "/a%0D%1B%5B31m%00%85"),
        ("/\xe2\x82\xac\xff", "/%E2%82%AC%FF"),  # € in UTF-8 and a stray byte, as WSGI gives them
        ("/100%?token=x", "/100%25%3Ftoken=x"),
        ("/plain-path_1.2~/:@!$&'()*+,;=", "/plain-path_1.2~/:@!$&'()*+,;="),
    ],
)
def test_a_request_is_one_line_whatever_its_path(capfd, settings, log_format, path, shown):
    settings.LOG_FORMAT = log_format

    request(say(), path=path)

    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert (json.loads(lines[0])["path"] if log_format == "json" else lines[0].split(" ")[4]) == shown


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/boards/public/s3cret/", "/boards/public/***/"),
        ("/api/boards/s3cret/query", "/api/boards/***/query"),
        ("/boards/abc/", "/boards/abc/"),
        (f"/boards/public/{'s3cret' * 1000}", "/boards/public/***"),
    ],
)
def test_the_token_of_a_board_is_not_written_down(capfd, path, shown):
    request(say(), path=path)

    line = capfd.readouterr().err
    assert f" GET {shown} 200 " in line
    assert "s3cret" not in line


def test_a_client_is_one_word_whatever_its_id(capfd):
    def answer(environ, start_response):
        current().client = "a b\nc€"
        return say()(environ, start_response)

    request(answer)

    assert " client=a%20b%0Ac%E2%82%AC request=" in capfd.readouterr().err


@pytest.mark.parametrize("path", ["/" + "a" * 100_000, "/" + "\xff" * 100_000])
def test_a_line_fits_what_a_pipe_takes_at_once(capfd, path):
    request(say(), path=path)

    line = capfd.readouterr().err
    assert len(line.encode()) < 2_000
    assert "… 200 " in line


def test_a_head_request_has_no_bytes(capfd):
    request(say(), "HEAD")

    assert " bytes=0 " in capfd.readouterr().err


class Pieces:
    streaming = True
    closed = False

    def __iter__(self):
        yield b"one"
        current().client = "late"
        yield b"two"

    def close(self):
        self.closed = True


@pytest.mark.parametrize(("most", "size", "client"), [(None, 6, "late"), (1, 3, "-")])
def test_a_stream_is_written_down_when_it_is_closed(capfd, most, size, client):
    pieces = Pieces()

    def answer(environ, start_response):
        start_response("200 OK", [])
        return pieces

    response, _ = request(answer)
    assert list(islice(response, most)) == [b"one", b"two"][:most]
    assert capfd.readouterr().err == ""
    response.close()

    assert f" bytes={size} events=0 client={client} " in capfd.readouterr().err
    assert pieces.closed
    assert current().client == ""


def test_an_answer_that_fails_is_written_down_as_a_500(capfd):
    def answer(environ, start_response):
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        request(answer)

    assert " GET /x 500 " in capfd.readouterr().err
    assert current().request_id == ""


def test_the_log_of_requests_can_be_turned_off(capfd, settings):
    settings.REQUEST_LOG = False

    _, headers = request(say())

    assert len(headers["X-Request-ID"]) == 32
    assert capfd.readouterr().err == ""


def test_a_request_is_answered_where_nobody_reads_the_log(monkeypatch):
    def broken_pipe(*args):
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", broken_pipe)

    assert request(say())[0] == [b"said"]


def record(message, **fields):
    return logging.makeLogRecord(
        {"name": "events.x", "levelname": "ERROR", "msg": message, "created": 1_605_179_400.5, **fields}
    )


def failed(reason="first\nsecond"):
    try:
        raise ValueError(reason)
    except ValueError:
        return sys.exc_info()


def test_a_message_is_one_line_with_the_id_of_its_request():
    lines = [LineFormatter().format(record("a\nb\x1b[0m é"))]

    def answer(environ, start_response):
        lines.append(LineFormatter().format(record("%s", args=("c",))))
        return say()(environ, start_response)

    request(answer, HTTP_X_REQUEST_ID="r")

    assert lines == [
        r"2020-11-12T11:10:00.500Z ERROR events.x: a\nb\x1b[0m é",
        "2020-11-12T11:10:00.500Z ERROR events.x: c request=r",
    ]


def test_a_message_as_json_holds_its_traceback():
    lines = [JSONFormatter().format(record("a\nb"))]

    def answer(environ, start_response):
        lines.append(JSONFormatter().format(record("c", exc_info=failed())))
        return say()(environ, start_response)

    request(answer, HTTP_X_REQUEST_ID="r")

    plain, traced = map(json.loads, lines)
    assert plain == {"time": "2020-11-12T11:10:00.500Z", "level": "ERROR", "logger": "events.x", "message": "a\nb"}
    assert traced.pop("exception").endswith("ValueError: first\nsecond")
    assert traced == {**plain, "message": "c", "request_id": "r"}
    assert not any("\n" in line for line in lines)


FORMATTERS = [LineFormatter, JSONFormatter]


@pytest.mark.parametrize("formatter", FORMATTERS)
@pytest.mark.parametrize(
    ("method", "path", "shown"),
    [
        ("GET", "/boards/public/s3cret/", "/boards/public/***/"),
        ("POST", "/api/boards/s3cret/query/", "/api/boards/***/query/"),
        ("POST", "/api/boards/s3cret/query", "/api/boards/***/query"),
    ],
)
def test_what_is_said_of_a_failure_has_no_token_of_a_board(db, caplog, formatter, method, path, shown):
    def is_away(execute, sql, *arguments):
        raise OperationalError("the database is away")

    with connection.execute_wrapper(is_away):
        response = Client(raise_request_exception=False).generic(method, path, "{}", content_type="application/json")

    assert response.status_code == 503
    lines = [formatter().format(record) for record in caplog.records]
    assert f"Service Unavailable: {shown}" in "".join(lines)
    assert not any("s3cret" in line for line in lines)


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_a_traceback_has_no_token_of_a_board_and_is_whole(formatter):
    reason = "no /api/boards/s3cret/query\n/boards/public/s3cret\nand so on"
    failure = record("Server Error: %s", args=("/boards/public/s3cret",), exc_info=failed(reason))
    lines = []

    def answer(environ, start_response):
        lines.append(formatter().format(failure))
        return say()(environ, start_response)

    request(answer, HTTP_X_REQUEST_ID="r")

    [line] = [each.replace("\\n", "\n") for each in lines]
    assert "s3cret" not in line
    assert "ValueError: no /api/boards/***/query\n/boards/public/***\nand so on" in line
    assert "Server Error: /boards/public/*** request=r\n" in line or '"request_id":"r"' in line


@pytest.fixture
def running(prepared, tmp_path):
    """A served service that logs JSON: its environment, with a token for everything."""
    more = {"LOG_FORMAT": "json"}
    with prepared(tmp_path, **more) as env, service.served(env) as process:
        env["TOKEN"], env["LOG"] = fetch_token(env), str(process.log)
        yield env


def lines_about(env, *request_ids):
    text = Path(env["LOG"]).read_text().split("Ctrl+C.\n")[1]
    client = json.loads(Path(env["LOCAL_DIR"], "credentials.json").read_text())
    for secret in (env["TOKEN"], client["client_secret"], "s3cret"):
        assert secret not in text
    lines = list(map(json.loads, text.splitlines()))
    found = [[line for line in lines if line["request_id"] == request_id] for request_id in request_ids]
    return found, client["client_id"]


def send(env, request_id, body):
    headers = {"Authorization": f"Bearer {env['TOKEN']}", "Content_Type": "application/json"}
    answer = call(env, "POST", "/api/track/?token=s3cret", json.dumps(body), X_Request_ID=request_id, **headers)
    assert answer[1]["X-Request-ID"] == request_id
    return answer


EVENT = {"namespace": "n", "name": "s3cret", "timestamp": 1, "value": 1}


def test_a_served_request_has_one_line_without_a_secret(running):
    send(running, "one", EVENT)
    send(running, "three", [EVENT] * 3)
    send(running, "invalid", {**EVENT, "value": "s3cret"})
    call(running, "GET", "/api/events/n/m?a=s3cret", Authorization="Bearer s3cret", X_Request_ID="unknown")
    with socket.create_connection(("127.0.0.1", int(running["PORT"]))) as sender:
        head = b"POST /o/token HTTP/1.1\r\nHost: a\r\nX-Request-ID: large\r\nContent-Length: 100000\r\n\r\n"
        sender.sendall(head)
        assert b"X-Request-ID: large" in sender.recv(1000)

    lines, client = lines_about(running, "one", "three", "invalid", "unknown", "large")

    keys = ("method", "path", "status", "events", "client_id", "refusal")
    assert [[tuple(line[key] for key in keys) for line in about] for about in lines] == [
        [("POST", "/api/track/", 201, 1, client, None)],
        [("POST", "/api/track/", 201, 3, client, None)],
        [("POST", "/api/track/", 400, 0, client, "invalid")],
        [("GET", "/api/events/n/m", 401, 0, None, "authentication_failed")],
        [("POST", "/o/token", 413, 0, None, "request_entity_too_large")],
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({**EVENT, "value": "17.5"}, ("value", "quoted")),
        ({**EVENT, "value": "s3cret"}, ("value", "invalid")),
        ({**EVENT, "name": "s3cret/", "value": "s3cret"}, ("name", "path_segment")),
        ({"namespace": "n"}, ("name", "required")),
        ([EVENT, {**EVENT, "timestamp": "s3cret"}], ("1.timestamp", "invalid")),
        ({**EVENT, "a\nb " + "x" * 100: "s3cret"}, ("a%0Ab%20" + "x" * 56, "invalid")),
        ([7], ("0.non_field_errors", "invalid")),
    ],
)
def test_the_first_field_and_reason_are_named_and_never_a_value(client_with_scopes, body, said):
    client = client_with_scopes("write")
    seen = Observation()
    token = observation._current.set(seen)
    try:
        assert client.post("/api/track/", body).status_code == 400
    finally:
        observation._current.reset(token)

    line = request_log._text_line(seen, 0.001).decode()
    assert line.endswith(f" refusal=invalid field={said[0]} reason={said[1]}\n")
    assert "s3cret" not in line
    found = json.loads(request_log._json_line(seen, 0.001))
    assert (found["field"], found["reason"]) == said


def test_what_the_database_says_has_the_id_of_its_request_and_nothing_of_its_body(running):
    with locked(running["DATABASE_URL"]):
        assert send(running, "locked", EVENT)[0] == 503

    [[cause, consequence, line]], client = lines_about(running, "locked")
    assert cause["logger"] == "events.http.error_handlers"
    assert cause["message"] in {
        "OperationalError: canceling statement due to lock timeout", "OperationalError: database is locked"
    }  # fmt: skip
    assert consequence["message"] == "Service Unavailable: /api/track/"
    assert (line["status"], line["client_id"], line["refusal"]) == (503, client, "unavailable")


def test_the_wait_for_a_thread_counts(prepared, tmp_path):
    with prepared(tmp_path, LOG_FORMAT="json", SERVER_THREADS=1) as env, service.served(env) as process:
        env["TOKEN"], env["LOG"] = fetch_token(env), str(process.log)
        names = ["one", "two", "three"]
        with ThreadPoolExecutor(len(names)) as senders:
            with locked(env["DATABASE_URL"]):
                sent = [senders.submit(send, env, name, EVENT) for name in names]
                time.sleep(1)
            assert [each.result()[0] for each in sent] == [201] * len(names)
        lines, _ = lines_about(env, *names)

    assert all(line["milliseconds"] > 700 for [line] in lines), lines
