"""The server: HTTP as clients really speak it, and clients that hold up what they can."""

import asyncio
import json
import re
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import pytest

from events.tests.support import service
from events.tests.support.load import stored_values
from events.tests.support.service import call, fetch_token
from events.tests.support.waiting import wait_until
from tracking_api.server import bodies
from tracking_api.server.connection_table import ConnectionTable
from tracking_api.server.request_reader import RequestReader
from tracking_api.server.thread_pool import FairThreadPool

DEADLINES = {"HEADER_SECONDS": 1, "BODY_SECONDS": 2, "IDLE_SECONDS": 1}
EVENT = {"namespace": "load", "name": "a", "timestamp": 1, "value": 1}


@pytest.fixture(scope="module")
def running(prepared, tmp_path_factory):
    """A service that waits for its clients but a moment, and takes twenty connections of an address."""
    more = {"MAX_BODY_BYTES": 1_000_000, "MAX_CONNECTIONS_PER_ADDRESS": 20, **DEADLINES}
    with prepared(tmp_path_factory.mktemp("server"), **more) as env, service.served(env) as process:
        yield {**env, "TOKEN": fetch_token(env), "LOG": process.log}


@pytest.fixture(scope="module")
def usual(prepared, tmp_path_factory):
    """A service with two workers, and every limit as it comes."""
    with prepared(tmp_path_factory.mktemp("usual"), SERVER_WORKERS=2) as env, service.served(env):
        yield {**env, "TOKEN": fetch_token(env)}


def connect(env, source="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", int(env["PORT"])), timeout=60, source_address=(source, 0))


def head(env, *fields, line="POST /api/track/ HTTP/1.1", content_type="application/json"):
    lines = [line, "Host: 127.0.0.1", f"Authorization: Bearer {env['TOKEN']}", f"Content-Type: {content_type}", *fields]
    return "\r\n".join([*lines, "\r\n"]).encode()


def received(connection):
    """Everything until the server closes."""
    found = b""
    while piece := connection.recv(1 << 16):
        found += piece
    return found


def exchange(env, data, source="127.0.0.1"):
    """What comes back for these bytes until the server closes: status lines, heads and all."""
    with connect(env, source) as connection:
        connection.sendall(data)
        return received(connection)


def sent_until_reset(connection, piece, pause_seconds=0):
    """How many pieces go out before the server hangs up, a thousand at most."""
    for count in range(1_000):
        try:
            connection.sendall(piece)
        except (ConnectionResetError, BrokenPipeError):
            return count
        time.sleep(pause_seconds)
    return 1_000


def statuses(answers):
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


def sized(env, event, *fields, **options):
    body = json.dumps(event).encode()
    return head(env, f"Content-Length: {len(body)}", *fields, **options) + body


def chunked(env, body, *fields, size=7, end=b"0\r\n\r\n", **options):
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head(env, "Transfer-Encoding: chunked", *fields, **options) + framed + end


def read_back(env, name):
    status, _, body = call(env, "GET", f"/api/events/load/{name}", Authorization=f"Bearer {env['TOKEN']}")
    assert status == 200
    return [item["value"] for item in json.loads(body)]


# HTTP.


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_chunked_body_is_taken(running, size):
    name = f"chunked-{size}"
    lines = b"".join(json.dumps({**EVENT, "name": name, "timestamp": i, "value": i}).encode() + b"\n" for i in range(3))
    data = chunked(running, lines, "Connection: close", size=size, content_type="application/x-ndjson")

    answer = exchange(running, data)

    assert (statuses(answer), answer.split(b"\r\n\r\n")[1]) == ([201], b'{"accepted":3}')
    assert read_back(running, name) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("end", [b"", b"0\r\n", b"zz\r\n", b"5\r\nab", b"-1\r\n\r\n", b"fffffffffffffffff\r\n"])
def test_a_broken_chunked_body_is_never_stored(running, end):
    body = json.dumps({**EVENT, "name": "broken"}).encode()
    with connect(running) as connection:
        connection.sendall(chunked(running, body, end=end))
        connection.shutdown(socket.SHUT_WR)
        answer = received(connection)

    assert statuses(answer) == [400]
    assert read_back(running, "broken") == []


@pytest.mark.parametrize(
    "fields",
    [
        ["Content-Length: 3", "Transfer-Encoding: chunked"],
        ["Content-Length: 3", "Content-Length: 4"],
        ["Content-Length: +3"],
        ["Content-Length: 3 3"],
    ],
)
def test_a_body_of_unclear_length_is_refused(running, fields):
    assert statuses(exchange(running, head(running, *fields, "Connection: close") + b"3\r\n{} \r\n0\r\n\r\n")) == [400]


def test_requests_that_come_at_once_are_answered_in_order(running):
    data = sized(running, {**EVENT, "name": "pipelined"}) + head(running, line="GET /healthz HTTP/1.1")
    data += sized(running, {"namespace": ""}) + head(
        running, "Connection: close", line="GET /api/events/load/pipelined HTTP/1.1"
    )

    assert statuses(exchange(running, data)) == [201, 200, 400, 200]


@pytest.mark.parametrize(("field", "expected"), [("Connection: close", [200]), ("X: y", [200, 400])])
def test_what_comes_before_rubbish_is_answered(running, field, expected):
    assert (
        statuses(exchange(running, head(running, field, line="GET /api/schema/ HTTP/1.1") + b"\0rubbish")) == expected
    )


def test_a_thousand_requests_at_once_are_answered(running):
    data = head(running, line="GET /healthz HTTP/1.1") * 999 + head(
        running, "Connection: close", line="GET /healthz HTTP/1.1"
    )

    assert statuses(exchange(running, data)) == [200] * 1_000


@pytest.mark.parametrize(("field", "kept"), [(None, False), ("Connection: keep-alive", True)])
def test_http_1_0_closes_unless_asked_not_to(running, field, kept):
    with connect(running) as connection:
        connection.sendall(head(running, *([field] if field else []), line="GET /healthz HTTP/1.0"))
        answer = connection.recv(65_536)
        assert (b"\r\nConnection: keep-alive\r\n" in answer, b"\r\nConnection: close\r\n" in answer) == (kept, not kept)
        if kept:
            connection.sendall(head(running, "Connection: close", line="GET /healthz HTTP/1.0"))
        assert statuses(received(connection)) == [200] * kept


def test_who_waits_to_be_asked_for_the_body_is_asked(running):
    body = json.dumps({**EVENT, "name": "continued"}).encode()
    with connect(running) as connection:
        connection.sendall(head(running, f"Content-Length: {len(body)}", "Expect: 100-continue", "Connection: close"))
        assert connection.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert statuses(received(connection)) == [201]


def test_who_waits_to_be_asked_for_a_body_that_is_too_large_is_refused_at_once(running):
    with connect(running) as connection:
        connection.sendall(head(running, "Content-Length: 1000001", "Expect: 100-continue"))
        assert connection.recv(1_000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("make", [sized, lambda env, event, *fields: chunked(env, json.dumps(event).encode(), *fields)])
def test_an_offer_to_upgrade_is_passed_by(running, make):
    """As Java's client makes it for HTTP/2, with a body too."""
    offer = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA"]
    with connect(running) as connection:
        connection.sendall(make(running, {**EVENT, "name": f"upgrade-{make.__name__}"}, *offer))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 201 ")
        connection.sendall(head(running, *offer, line="GET /healthz HTTP/1.1"))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    assert read_back(running, f"upgrade-{make.__name__}") == [1.0]


def test_a_client_that_says_it_sends_no_more_is_answered(running):
    with connect(running) as connection:
        with service.locked(running["DATABASE_URL"]):  # so that it isn't answered before
            connection.sendall(sized(running, {**EVENT, "name": "half-closed"}))
            connection.shutdown(socket.SHUT_WR)
            time.sleep(0.2)
        assert statuses(received(connection)) == [201]


def test_any_number_of_offers_to_upgrade_is_passed_by(running):
    offer = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n"

    assert (
        statuses(exchange(running, offer * 2_000 + head(running, "Connection: close", line="GET /healthz HTTP/1.1")))
        == [200] * 2_001
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 501),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"POST /api/track/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST /api/track/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ],
)
def test_what_is_not_spoken_here_is_refused(running, data, expected):
    assert statuses(exchange(running, data)) == [expected]
    assert "Traceback" not in running["LOG"].read_text()


@pytest.mark.parametrize(
    ("version", "hosts", "expected"),
    [
        ("1.1", [], 400),
        ("1.1", ["Host: 127.0.0.1", "hOST: 127.0.0.1"], 400),
        ("1.0", ["Host: 127.0.0.1", "Host: 127.0.0.1"], 400),
        ("1.1", ["hOST: 127.0.0.1"], 200),
        ("1.0", [], 200),
    ],
)
def test_a_request_has_one_host(running, version, hosts, expected):
    lines = [f"GET /healthz HTTP/{version}", *hosts, "Connection: close", "\r\n"]

    answer = exchange(running, "\r\n".join(lines).encode())

    assert statuses(answer) == [expected]
    if expected == 400:
        assert b"\r\nConnection: close\r\n" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"detail": "The request must have one Host."}


def test_a_trailer_says_nothing_of_the_request(running):
    """Or it could carry what only a proxy says, past a proxy that cleans heads."""
    body = b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n[]\r\n0\r\n"
    trailer = f"X-Request-ID: forged\r\nAuthorization: Bearer {running['TOKEN']}\r\n\r\n".encode()
    start = b"POST /api/track/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"

    answer = exchange(running, start + body + trailer)

    assert statuses(answer) == [401]
    assert b"forged" not in answer


def test_an_old_client_that_sends_chunks_is_not_kept(running):
    data = chunked(running, b"[]", "Connection: keep-alive", line="POST /api/track/ HTTP/1.0")
    with connect(running) as connection:
        connection.sendall(data)
        answer = received(connection)

    assert statuses(answer) == [201]
    assert b"\r\nConnection: close\r\n" in answer


# What is too large.


@pytest.mark.parametrize(
    ("line", "framing", "expected"),
    [
        ("POST /api/track/ HTTP/1.1", "sized", b'{"detail":"The body is larger than the 1000000 bytes allowed."}'),
        ("POST /api/track/ HTTP/1.1", "chunked", b'{"detail":"The body is larger than the 1000000 bytes allowed."}'),
        (
            "POST /o/token/ HTTP/1.1",
            "sized",
            b'{"error":"invalid_request","error_description":"The body is larger than the 65536 bytes allowed."}',
        ),
        ("POST /accounts/login/ HTTP/1.1", "chunked", b'{"detail":"The body is larger than the 65536 bytes allowed."}'),
    ],
)
def test_who_sends_too_much_before_reading_gets_to_read_why(running, line, framing, expected):
    body = b" " * 20_000_000
    if framing == "sized":
        data = head(running, f"Content-Length: {len(body)}", line=line) + body
    else:
        data = chunked(running, body, size=1 << 20, line=line)

    answer = exchange(running, data)

    assert statuses(answer) == [413]
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\n" + expected)


def test_a_body_without_an_end_is_not_read_for_ever(running):
    with connect(running) as connection:
        connection.sendall(head(running, "Content-Length: 10000000000"))
        assert connection.recv(1_000).startswith(b"HTTP/1.1 413 ")
        assert sent_until_reset(connection, b" " * (1 << 20)) < 100  # some 64 MB


@pytest.mark.parametrize(
    ("line", "fields", "expected"),
    [
        ("GET /healthz HTTP/1.1", ["Cookie: " + "a" * 20_000], 431),
        ("GET /healthz HTTP/1.1", [f"X-{number}: {'a' * 1_000}" for number in range(20)], 431),
        ("GET /healthz HTTP/1.1", ["X-" + "a" * 20_000 + ": 1"], 431),
        ("GET /healthz HTTP/1.1", ["Cookie: " + "a" * 200_000], 431),
        ("GET /healthz?" + "a" * 9_000 + " HTTP/1.1", [], 414),
        ("A" * 6_000 + " /healthz HTTP/1.1", [], 400),
        ("GET /healthz HTTP/7.7", [], 400),
        ("GET http://[ HTTP/1.1", [], 400),
        ("GET /healthz HTTP/1.1", ["Cookie: " + "a" * 15_000], 200),
        ("GET http://127.0.0.1/healthz?a HTTP/1.1", [], 200),
    ],
)
def test_a_head_is_bounded(running, line, fields, expected):
    assert statuses(exchange(running, head(running, *fields, "Connection: close", line=line))) == [expected]


def test_a_head_is_bounded_alike_however_it_comes(running):
    data = head(running, "Cookie: " + "a" * 15_000, "Connection: close", line="GET /healthz HTTP/1.1")
    with connect(running) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), 4_000):
            connection.sendall(data[start : start + 4_000])
            time.sleep(0.02)  # so that each piece is read by itself
        assert statuses(received(connection)) == [200]


def test_a_head_that_never_ends_is_not_kept(running):
    with connect(running) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 50_000)
        assert connection.recv(1_000).startswith(b"HTTP/1.1 431 ")
        assert sent_until_reset(connection, b"a" * (1 << 20)) < 100


def test_a_field_with_an_underscore_is_not_taken_for_another(running):
    """Which would let a client say what only the proxy says."""
    fields = [
        "Content-Length: 2",
        "X-Request-ID: mine",
        "X_Request_ID: forged",
        "Content_Type: text/csv",
        "Connection: close",
    ]

    answer = exchange(running, head(running, *fields) + b"[]")

    assert statuses(answer) == [201]
    assert b"\r\nX-Request-ID: mine\r\n" in answer


# Clients that take their time.


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", b""),
        (b"POST /api/track/ HTTP/1.1\r\nHost: a\r\n", b'{"detail":"The head took longer than 1 s."}'),
        (
            b"POST /api/track/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
            b'{"detail":"The body took longer than 2 s."}',
        ),
    ],
)
def test_an_unfinished_request_has_a_deadline(running, data, expected):
    answer = exchange(running, data)

    assert answer.endswith(expected)
    assert statuses(answer) == [408] * bool(expected)


def test_bytes_that_trickle_in_prolong_nothing(running):
    with connect(running) as connection:
        connection.sendall(head(running, "Content-Length: 1000"))
        assert sent_until_reset(connection, b" ", pause_seconds=0.1) < 600


def test_an_idle_connection_is_closed_after_a_while(running):
    with connect(running) as connection:
        connection.sendall(head(running, line="GET /healthz HTTP/1.1"))
        assert statuses(received(connection)) == [200]


def test_of_too_many_connections_the_one_goes_that_waited_longest(running):
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(running, "127.0.0.3")) for _ in range(20)]
        other = stack.enter_context(connect(running, "127.0.0.4"))
        newest = stack.enter_context(connect(running, "127.0.0.3"))
        newest.sendall(head(running, line="GET /healthz HTTP/1.1"))
        other.sendall(head(running, line="GET /healthz HTTP/1.1"))

        assert newest.recv(1_000).startswith(b"HTTP/1.1 200 ")
        assert other.recv(1_000).startswith(b"HTTP/1.1 200 ")
        with suppress(ConnectionResetError):
            assert idle[0].recv(1) == b""
        idle[1].sendall(head(running, line="GET /healthz HTTP/1.1"))
        assert idle[1].recv(1_000).startswith(b"HTTP/1.1 200 ")


@contextmanager
def held(env, count, data, source):
    """So many connections that have sent that much and stay."""
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(connect(env, source))
            if data:
                connection.sendall(data)
        yield


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])  # our own address, or another
@pytest.mark.parametrize(
    "data", [b"", b"GET / HTTP/1.1\r\nHost: ", b"POST /api/track/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"]
)
def test_two_thousand_held_connections_keep_nobody_waiting(usual, data, source):
    env, before = usual, len(stored_values(usual["DATABASE_URL"]))
    with held(env, 2_000, data, source):
        for values in range(3):
            started = time.monotonic()
            event = json.dumps({**EVENT, "value": values})
            headers = {"Authorization": f"Bearer {env['TOKEN']}", "Content_Type": "application/json"}
            answers = [call(env, "GET", "/healthz")[0], call(env, "POST", "/api/track/", event, **headers)[0]]
            assert fetch_token(env)
            took = time.monotonic() - started
            if took < 3:  # a second each; a busy machine may miss it once
                break
    assert answers == [200, 201]
    assert took < 3
    assert stored_values(env["DATABASE_URL"])[before:] == list(range(values + 1))


class Answering:
    """A connection, as the reader of its requests knows it."""

    is_closing = False

    def __init__(self, of_all, client):
        self.taken, self.refused = [], []
        self.reader = RequestReader(self, of_all, (client, 1), client, "")

    def begin_body(self, request):
        self.request = request

    def take(self, request):
        self.taken.append(request.body.size)

    def refuse(self, request, status, detail):
        self.refused.append((status, detail))

    def begin_head(self):
        pass

    def discard(self, size):
        pass


BODY_BYTES = 600_000
OTHERS_NEED_IT = (503, "Others need the room that the body takes up; try again, faster.")


@pytest.fixture
def begin(monkeypatch, settings):
    """Begins bodies of clients: two of a client fit into its share of the memory, and four into that of the disk."""
    monkeypatch.setattr(bodies, "_MOST_IN_MEMORY_BYTES", 4 << 20)
    monkeypatch.setattr(bodies, "_MOST_BYTES", 8 << 20)
    settings.MAX_BODY_BYTES = 1 << 20
    of_all, begun = bodies.Bodies(), []

    def begin(client, count=1):
        made = [Answering(of_all, client) for _ in range(count)]
        for each in made:
            each.reader.feed(b"POST /api/track/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES)
            each.reader.feed(b" " * (1 << 19))
        begun.extend(made)
        return made, len(of_all.coming_in)

    yield begin
    for each in begun:
        each.request.close_body()


@pytest.mark.parametrize("most", [1, 200_000_000, (1 << 31) - 1])
def test_a_body_that_is_allowed_fits_by_itself(settings, most):
    settings.MAX_BODY_BYTES = most
    shared = bodies.Bodies()

    assert shared.disk.take("192.0.2.1", most)
    assert shared.disk.most_each >= 128 << 20


def test_half_sent_bodies_share_what_room_there_is(begin):
    """Past its share of the memory a client's go to the disk, past its share of that the first of its own is refused."""
    first, on_disk = begin("192.0.2.1", 3)
    assert on_disk == 1
    second, on_disk = begin("192.0.2.2", 6)
    assert on_disk == 1 + 4

    [more], on_disk = begin("192.0.2.2")

    assert on_disk == 5
    assert [each.refused for each in (*first, *second, more)] == [[]] * 5 + [[OTHERS_NEED_IT]] + [[]] * 4


def test_a_body_finds_room_whoever_takes_it_up(begin):
    """Four clients have all that there is for bodies that are on their way; the first of them goes for another's."""
    for number in range(4):
        waiting, on_disk = begin(f"192.0.2.{number}", 6)
        assert on_disk == 4 * (number + 1)
        assert [each.refused for each in waiting] == [[]] * 6
        if not number:
            first = waiting

    [other], on_disk = begin("192.0.2.4")
    other.reader.feed(b" " * (BODY_BYTES - (1 << 19)))

    assert (other.taken, other.refused) == ([BODY_BYTES], [])
    assert [each.refused for each in first] == [[], [], [OTHERS_NEED_IT], [], [], []]


class Held:
    """A connection, as the table knows it."""

    def __init__(self, client_network):
        self.client_network, self.is_open = client_network, True

    def abort(self):
        self.is_open = False


def test_while_all_are_worked_on_a_few_more_come_in_for_the_probes():
    table = ConnectionTable(100, 10)
    for number in range(100):
        busy = Held(f"198.51.100.{number}")
        assert table.add(busy) == ""
        table.set_busy(busy)
    more = [Held(None) for _ in range(40)]

    assert [table.add(each) for each in more] == ["Too many requests are under way; try again."] * 40
    assert [each.is_open for each in more] == [False] * 8 + [True] * 32
    assert len(table) == 132


def test_an_address_may_have_so_many_that_are_worked_on():
    table = ConnectionTable(100, 10)
    for _ in range(10):
        busy = Held("192.0.2.1")
        assert table.add(busy) == ""
        table.set_busy(busy)

    assert table.add(Held("192.0.2.1")) == "Too many requests of this address are under way; try again."
    assert table.add(Held("192.0.2.2")) == ""


def test_who_has_too_many_is_told_so_and_probes_are_answered(running):
    """While the service works on as much for the address as it may have."""
    asked = sized(running, {**EVENT, "name": "busy"})
    with service.locked(running["DATABASE_URL"]), held(running, 20, asked, "127.0.0.8"):
        time.sleep(0.5)  # until they are worked on
        probe = exchange(running, head(running, line="GET /healthz HTTP/1.1"), "127.0.0.8")
        other = exchange(running, sized(running, EVENT), "127.0.0.8")

    assert statuses(probe) == [200]
    assert b"\r\nConnection: close\r\n" in probe
    assert statuses(other) == [503]
    assert json.loads(other.partition(b"\r\n\r\n")[2]) == {
        "detail": "Too many requests of this address are under way; try again."
    }


def test_who_reads_nothing_is_not_read_from_either(running):
    """Or what it asks for next would pile up."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.settimeout(2)
        connection.connect(("127.0.0.1", int(running["PORT"])))
        connection.sendall(head(running, line="GET /api/schema/ HTTP/1.1") * 30)
        time.sleep(1)
        more = head(running, "Cookie: " + "a" * 15_000, line="GET /api/schema/ HTTP/1.1")
        sent = 0
        with suppress(TimeoutError, ConnectionResetError, BrokenPipeError):
            while sent < 50_000_000:
                sent += connection.send(more)

    assert sent < 10_000_000  # what the sockets hold


@pytest.mark.parametrize("chunks", [500_000])
def test_tiny_chunks_keep_nobody_waiting_and_are_bounded(running, chunks):
    with ExitStack() as stack:
        for number in range(4):
            connection = stack.enter_context(connect(running, f"127.0.3.{number + 1}"))
            connection.settimeout(10)
            with suppress(ConnectionResetError, BrokenPipeError, TimeoutError):
                connection.sendall(head(running, "Transfer-Encoding: chunked"))
                connection.sendall(b"1\r\na\r\n" * chunks)
            assert call(running, "GET", "/healthz")[0] == 200
            with suppress(ConnectionResetError):
                assert statuses(received(connection)) == [400]


async def pool_order(size, jobs):
    """The order in which the jobs of these owners begin, one thread working at a time that is let go by hand."""
    pool, begun, gates, finished = FairThreadPool(size, "test"), [], [], asyncio.Event()
    left = len(jobs)

    def work(owner, gate):
        begun.append(owner)
        gate.wait(60)

    def done(_):
        nonlocal left
        left -= 1
        if not left:
            finished.set()

    for owner in jobs:
        gates.append(threading.Event())
        pool.submit(partial(work, owner, gates[-1]), done, owner)
    await asyncio.sleep(0.2)
    first = list(begun)
    for gate in gates:
        gate.set()
    await finished.wait()
    assert pool.count_idle() == size
    return first, begun


def test_a_thread_is_left_to_others():
    first, begun = asyncio.run(pool_order(3, ["a"] * 5 + ["b"]))

    assert sorted(first) == ["a", "a", "b"]
    assert sorted(begun) == ["a"] * 5 + ["b"]


def test_owners_take_turns():
    _, begun = asyncio.run(pool_order(1, ["a", "a", "a", "a", "b", "b", "c"]))

    assert begun == ["a", "a", "b", "c", "a", "b", "a"]


def test_a_client_that_reads_nothing_holds_no_thread(running):
    """More of them than there are threads, each with answers that fill what its connection holds."""
    asked = head(running, line="GET /api/schema/ HTTP/1.1") * 50
    with held(running, 15, asked, "127.0.0.7"):
        time.sleep(0.5)
        # of the same address, for which one thread fewer works than there are
        answer = exchange(running, head(running, "Connection: close", line="GET /api/events/ HTTP/1.1"), "127.0.0.7")
        assert statuses(answer) == [200]


def test_one_line_is_written_for_a_request_that_is_refused(running):
    exchange(running, head(running, "X-Request-ID: too-large", "Cookie: " + "a" * 20_000, line="GET /healthz HTTP/1.1"))

    def lines():
        return [line for line in running["LOG"].read_text().splitlines() if "request=too-large" in line]

    wait_until(lines)
    assert [line.split(" ms=")[0].split(" ", 1)[1] for line in lines()] == ["INFO request: GET /healthz 431"]
    assert lines()[0].endswith(" refusal=request_header_fields_too_large")
