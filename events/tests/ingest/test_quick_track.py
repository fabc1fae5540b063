"""Plain events go a shorter way than all other requests, and nobody can tell by the answers."""

import hashlib
import json
from datetime import timedelta
from io import BytesIO

import pytest
from django.db import OperationalError
from django.utils import timezone

from events import quick_track
from events.access.models import ClientUsage, Grant
from events.access.tokens import token_memory
from events.access.usage import usage_meter
from events.http.fast_path.handler import QuietHandler
from events.log import append
from events.models import Event
from events.observability.observation import Observation, current, set_current
from events.tests.support.bodies import ORDER, PAGE_VIEW
from tracking_api.server.handler import Handler

pytestmark = pytest.mark.django_db
ONE = json.dumps(ORDER).encode()


def environ_of(text="token-of-the-shop", body=ONE, **fields):
    return {
        "REQUEST_METHOD": "POST", "SCRIPT_NAME": "", "PATH_INFO": "/api/track/", "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1:8000", "HTTP_AUTHORIZATION": f"Bearer {text}", "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)), "wsgi.input": BytesIO(body), "wsgi.url_scheme": "http", **fields,
    }  # fmt: skip


def answer(handler, environ):
    """Status, header fields, body, what the record of the request says, and what the log holds after."""
    seen = Observation()
    set_current(seen)
    said = []
    try:
        body = b"".join(handler(environ, lambda status, headers: said.append((status, sorted(headers)))))
    finally:
        set_current(None)
    events = list(Event.objects.order_by("id").values_list("namespace", "name", "timestamp", "value"))
    Event.objects.all()._raw_delete("default")
    return *said, body, seen, events


@pytest.fixture
def both(make_token, settings):
    """Answers by the short way and by the whole way, once the token is remembered."""
    settings.CLIENT_USAGE_SECONDS = 3_600
    make_token("write")

    def ask(*arguments, **fields):
        whole, short = QuietHandler(), Handler()
        answer(whole, environ_of())
        found = [answer(handler, environ_of(*arguments, **fields)) for handler in (short, whole)]
        assert quick_track.take(environ_of(*arguments, **fields)) is not None
        return found

    yield ask
    usage_meter.forget()


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (ONE, {}),
        (ONE, {"PATH_INFO": "/api/track"}),
        (ONE, {"CONTENT_TYPE": "application/json; charset=utf-8"}),
        (ONE, {"HTTP_AUTHORIZATION": "bearer   token-of-the-shop "}),
        (ONE, {"HTTP_ACCEPT": "text/csv", "HTTP_ACCEPT_ENCODING": "gzip", "HTTP_COOKIE": "sessionid=1"}),
        (json.dumps([ORDER, PAGE_VIEW]).encode(), {}),
        (b"[]", {}),
        (json.dumps(ORDER | {"name": "Ünï\u2028☃"}, ensure_ascii=False).encode(), {}),
        (json.dumps(ORDER | {"value": 17, "timestamp": 1605179400.25}).encode(), {}),
    ],
)
def test_both_ways_answer_and_store_the_same(both, body, fields):
    short, whole = both(body=body, **fields)

    assert short == whole
    assert short[0][0] == "201 Created"
    assert len(short[3]) == short[2].events


def test_pages_of_other_origins_change_no_answer_of_others(both, settings):
    settings.CORS_ALLOWED_ORIGINS = ["https://shop.example"]
    settings.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *settings.MIDDLEWARE]

    short, whole = both()

    assert short == whole
    assert ("Vary", "origin") in short[0][1]


def test_tls_before_the_service_is_believed(both, settings):
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

    short, whole = both(HTTP_X_FORWARDED_PROTO="https")

    assert short == whole
    assert short[0][0] == "201 Created"
    assert quick_track.take(environ_of()) is None
    assert quick_track.take(environ_of(HTTP_X_FORWARDED_PROTO="http")) is None


def test_a_grant_holds(both, application, make_token):
    Grant.objects.create(
        application=application, write_namespaces="Shop", read_namespaces="", aggregation_namespaces=""
    )

    short, whole = both()

    assert short == whole
    assert short[0][0] == "201 Created"
    assert quick_track.take(environ_of(body=json.dumps(PAGE_VIEW).encode())) is None


def test_what_clients_send_is_counted_once(both, make_token):
    answer(QuietHandler(), environ_of())
    usage_meter.flush()
    before = ClientUsage.objects.values_list("client", "requests", "events").get()

    answer(Handler(), environ_of(body=json.dumps([ORDER, PAGE_VIEW]).encode()))
    usage_meter.flush()

    assert before == ("shop", 1, 1)
    assert ClientUsage.objects.values_list("client", "requests", "events").get() == ("shop", 2, 3)


@pytest.mark.parametrize(
    "error", [OperationalError("server closed the connection unexpectedly"), ValueError("a mistake of ours")]
)
def test_what_may_be_stored_is_not_stored_again(both, monkeypatch, error, caplog):
    calls = []

    def fail(rows):
        calls.append(rows)
        raise error

    answer(QuietHandler(), environ_of())
    monkeypatch.setattr(append, "append", fail)
    short = answer(Handler(), environ_of())
    monkeypatch.setattr(quick_track, "take", lambda environ: None)
    whole = answer(Handler(), environ_of())

    assert len(calls) == 2
    assert short[0][0] == whole[0][0]
    if isinstance(error, OperationalError):
        assert short == whole
        assert short[0][0] == "503 Service Unavailable"
        assert "Retry-After" in dict(short[0][1])


@pytest.mark.parametrize(
    "fields",
    [
        {"REQUEST_METHOD": "PUT"},
        {"REQUEST_METHOD": "GET", "CONTENT_LENGTH": "", "wsgi.input": BytesIO()},
        {"PATH_INFO": "/api/track/x"},
        {"PATH_INFO": "/api/events/"},
        {"QUERY_STRING": "a=b"},
        {"CONTENT_TYPE": "text/plain"},
        {"CONTENT_TYPE": "application/x-ndjson"},
        {"CONTENT_TYPE": ""},
        {"CONTENT_LENGTH": "0"},
        {"CONTENT_LENGTH": str(65_537)},
        {"HTTP_CONTENT_ENCODING": "gzip"},
        {"HTTP_IDEMPOTENCY_KEY": "1"},
        {"HTTP_ORIGIN": "https://shop.example"},
        {"HTTP_HOST": "evil.example"},
        {"HTTP_HOST": ""},
        {"HTTP_AUTHORIZATION": "Bearer another"},
        {"HTTP_AUTHORIZATION": "Basic c2hvcDpzaG9w"},
        {"HTTP_AUTHORIZATION": ""},
        {"body": b'{"namespace": "Shop"}'},
        {"body": b"\xef\xbb\xbf" + ONE},
        {"body": b"{"},
        {"body": b"\xff"},
        {"body": ONE[:-1] + b',"value":1}'},
    ],
)
def test_all_else_goes_the_whole_way(both, fields):
    both()
    set_current(seen := Observation())
    environ = environ_of(**fields)

    found = quick_track.take(environ)

    set_current(None)
    assert found is None
    assert environ["wsgi.input"].tell() == 0
    assert seen == Observation()
    assert current() == Observation()


@pytest.mark.parametrize(
    ("scope", "fields"),
    [
        ("read aggregation", {}),
        ("write", {"resource": ["https://elsewhere.example"]}),
        ("write", {"expires_in": timedelta(milliseconds=500)}),
    ],
)
def test_tokens_that_may_not_write_go_the_whole_way(make_token, monkeypatch, scope, fields):
    make_token(scope, **fields)
    known = token_memory.get(hashlib.sha256(b"token-of-the-shop").hexdigest())
    monkeypatch.setattr(timezone, "now", lambda: known.token.expires)

    assert token_memory.remembered(known.token.token_checksum) is known
    assert quick_track.take(environ_of()) is None


@pytest.mark.parametrize("setting", ["RATE_LIMIT_REQUESTS", "RATE_LIMIT_EVENTS", "RATE_LIMIT_NEW_SERIES"])
def test_clients_with_limits_go_the_whole_way(both, settings, setting):
    both()
    setattr(settings, setting, 1_000_000)

    assert quick_track.take(environ_of()) is None
