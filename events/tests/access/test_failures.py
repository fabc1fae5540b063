"""Who tries passwords and client secrets, and how far that goes."""

import base64
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.http import HttpResponse
from django.test import Client, RequestFactory
from oauth2_provider.models import Application

from events.access.counters import counters
from events.access.login_throttle import client_address, slow_log_ins
from events.access.oauth2 import server
from events.tests.support.clients import fetch_token
from events.tests.support.responses import statuses

LOG_INS = ["/accounts/login/", "/admin/login/"]
CLIENT_PAGES = ["/o/token/", "/o/revoke_token/", "/o/introspect/"]


@pytest.fixture(autouse=True)
def few(settings, clock):
    settings.MAX_LOGIN_FAILURES = 3


@pytest.fixture
def user(db):
    return User.objects.create_superuser("ada", password="lovelace")


def log_in(username="ada", password="wrong", path="/accounts/login/", **extra):
    return Client().post(path, {"username": username, "password": password}, **extra)


def attempt(client_id="shop", secret="wrong", path="/o/token/", **fields):
    return fetch_token(path, **{"token": "x", "client_id": client_id, "client_secret": secret, **fields})


@pytest.mark.parametrize("path", LOG_INS)
def test_after_some_wrong_passwords_even_the_right_one_has_to_wait(user, clock, path):
    assert statuses(lambda: log_in(path=path), 3) == [200] * 3

    response = log_in(path=path, password="lovelace")
    assert (response.status_code, response.text) == (429, "Too many failed attempts; try again in 301 s.")
    assert response["Retry-After"] == "301"
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert "sessionid" not in response.cookies

    clock.now += 301
    assert log_in(path=path, password="lovelace").status_code == 302


def test_both_log_in_pages_count_together(user):
    assert [log_in(path=path).status_code for path in [*LOG_INS, *LOG_INS]] == [200, 200, 200, 429]


@pytest.mark.parametrize("path", CLIENT_PAGES)
def test_after_some_wrong_secrets_even_the_right_one_has_to_wait(application, clock, path):
    refused = 403 if path == "/o/introspect/" else 401
    assert statuses(lambda: attempt(path=path), 3) == [refused] * 3

    response = attempt(path=path, secret="shop-secret")
    assert (response.status_code, response.json()) == (
        429,
        {"error": "slow_down", "error_description": "Too many failed attempts; try again in 301 s."},
    )
    assert response["Retry-After"] == "301"

    clock.now += 301
    assert attempt(path=path, secret="shop-secret").status_code == 200


def test_the_pages_of_clients_count_together(application):
    assert [attempt(path=path).status_code for path in [*CLIENT_PAGES, "/o/token/"]] == [401, 401, 403, 429]


def test_who_is_right_is_never_slowed(user, application):
    assert statuses(lambda: log_in(password="lovelace"), 20) == [302] * 20
    assert statuses(lambda: attempt(secret="shop-secret"), 20) == [200] * 20


def test_a_token_refused_for_another_reason_is_no_failure(application):
    assert statuses(lambda: attempt(secret="shop-secret", scope="x"), 5) == [400] * 5
    assert statuses(lambda: attempt(secret="shop-secret", grant_type="x"), 5) == [400] * 5


def test_looking_at_the_page_is_no_failure(client, db):
    assert statuses(lambda: client.get("/accounts/login/"), 5) == [200] * 5
    assert statuses(lambda: log_in(username=""), 5) == [200] * 5
    assert statuses(lambda: client.get("/admin/login/?username=ada"), 5) == [200] * 5


def test_each_name_has_a_count_of_its_own(user, application):
    statuses(lambda: log_in("eve"), 4)
    statuses(lambda: attempt("eve"), 4)

    assert log_in(password="lovelace").status_code == 302
    assert attempt(secret="shop-secret").status_code == 200


@pytest.mark.parametrize("name", ["ada ", " ada", "ａda", "ad\u00aa"])
def test_one_name_written_otherwise_has_the_same_count(user, name):
    assert log_in(name, "lovelace").status_code == 302  # it is the same to the form
    statuses(log_in, 3)

    assert log_in(name, "lovelace").status_code == 429


def test_of_many_names_in_a_form_the_last_is_tried_and_counted(user):
    others = [f"user-{number}" for number in range(50)]

    assert statuses(lambda: log_in([*others, "eve"]), 3) == [200] * 3
    assert len(counters()._own.storage) == 2  # of the address, and of the name
    assert log_in([*others, "eve"]).status_code == 429
    assert log_in(["eve", "ada"], "lovelace").status_code == 302

    assert statuses(log_in, 3) == [200] * 3
    assert log_in([*others, "ada"], "lovelace").status_code == 429
    assert log_in(["ada", ""], "lovelace").status_code == 200  # which the form asks for a name
    assert log_in("user-0").status_code == 200


@pytest.mark.parametrize("attempt_as", [log_in, attempt])
def test_a_long_name_costs_little(user, application, attempt_as):
    """To normalize it would take time that grows with the square of its length."""
    name, began = "\u0301\u0316" * 16_000, time.thread_time()

    statuses = [attempt_as(name).status_code for _ in range(4)]

    assert time.thread_time() - began < 1
    assert statuses == [attempt_as("eve").status_code] * 3 + [429]


def test_an_attacker_elsewhere_locks_nobody_out(user, application):
    for _ in range(5):
        log_in(REMOTE_ADDR="203.0.113.1")
    assert log_in(password="lovelace", REMOTE_ADDR="203.0.113.1").status_code == 429

    assert log_in(password="lovelace", REMOTE_ADDR="203.0.113.2").status_code == 302


def test_many_names_from_one_address_have_a_limit_too(user, clock):
    assert [log_in(f"user-{number}").status_code for number in range(31)] == [200] * 30 + [429]
    assert log_in(password="lovelace").status_code == 429
    assert log_in(password="lovelace", REMOTE_ADDR="203.0.113.2").status_code == 302

    clock.now += 301 + 10
    assert log_in(password="lovelace").status_code == 302


def test_a_refused_attempt_does_not_count_and_so_the_wait_ends(user, clock):
    statuses(log_in, 50)

    clock.now += 600

    assert statuses(log_in, 4) == [200] * 3 + [429]


def test_an_ipv6_network_is_one_address(user):
    for number in range(3):
        log_in(REMOTE_ADDR=f"2001:db8::{number}")

    assert log_in(REMOTE_ADDR="2001:db8::ffff:1:2:3").status_code == 429
    assert log_in(REMOTE_ADDR="2001:db8:0:1::").status_code == 200


def basic(text):
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.mark.parametrize("credentials", ["shop:wrong", "%73hop:wrong"])
def test_the_header_counts_as_the_form_does(application, credentials):
    def fetch():
        return Client().post("/o/token/", {"grant_type": "client_credentials"}, headers=basic(credentials))

    assert statuses(fetch, 4) == [401, 401, 401, 429]
    assert attempt(secret="shop-secret").status_code == 429


def test_another_id_in_the_header_is_no_way_round(application):
    """The form's secret is compared where the header has none."""

    def fetch(number, secret="wrong"):
        fields = {"grant_type": "client_credentials", "client_id": "shop", "client_secret": secret}
        return Client().post("/o/token/", fields, headers=basic(f"other-{number}:")).status_code

    assert fetch(9, "shop-secret") == 200
    assert [fetch(number) for number in range(4)] == [401, 401, 401, 429]
    assert fetch(9, "shop-secret") == 429


@pytest.fixture
def compared(monkeypatch):
    """The secrets that were compared with a client's."""
    compared, is_secret_of = [], server._is_secret_of

    def noted(application, secret):
        compared.append(secret)
        return is_secret_of(application, secret)

    monkeypatch.setattr(server, "_is_secret_of", noted)
    return compared


@pytest.mark.parametrize("path", CLIENT_PAGES)
@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("shop:wrong", {"client_id": "till", "client_secret": "till-secret"}),
        ("shop:shop-secret", {"client_id": "till", "client_secret": "till-secret"}),
        ("till:till-secret", {"client_id": "shop", "client_secret": "wrong"}),
        ("shop:wrong", {"client_id": "shop", "client_secret": "shop-secret"}),
        ("shop:shop-secret", {"client_secret": "wrong"}),
        ("shop:same", {"client_id": "till", "client_secret": "same"}),
    ],
)
def test_two_secrets_in_a_request_are_refused_and_none_is_compared(application, compared, path, header, form):
    """RFC 6749, 2.3. A right one would take back the failure that the other is counted as."""
    Application.objects.create(
        client_id="till", client_secret="till-secret", client_type="confidential",
        authorization_grant_type="client-credentials",
    )  # fmt: skip
    fields = {"grant_type": "client_credentials", "token": "x", **form}

    responses = [Client().post(path, fields, headers=basic(header)) for _ in range(5)]

    description = "The Authorization header and the form have a secret each, and not the same; send one of them."
    expected = {"error": "invalid_request", "error_description": description}
    assert [(each.status_code, each.json()) for each in responses] == [(400, expected)] * 5
    assert compared == []
    assert attempt(secret="shop-secret").status_code == 200


@pytest.mark.parametrize("path", CLIENT_PAGES)
@pytest.mark.parametrize("repeated", [["client_id"], ["client_secret"], ["client_id", "client_secret"]])
def test_the_form_may_repeat_the_header_which_is_one_attempt(application, compared, path, repeated):
    def fetch(secret):
        form = {name: {"client_id": "shop", "client_secret": secret}[name] for name in repeated}
        fields = {"grant_type": "client_credentials", "token": "x", **form}
        return Client().post(path, fields, headers=basic(f"shop:{secret}")).status_code

    assert fetch("shop-secret") == 200
    refused = 403 if path == "/o/introspect/" else 401
    assert [fetch(f"wrong-{number}") for number in range(4)] == [refused] * 3 + [429]
    assert compared == ["shop-secret", "wrong-0", "wrong-1", "wrong-2"]


@pytest.mark.parametrize("header", ["Basic", "Basic !", "Bearer x", "", "Basic Og==", "Basic eA=="])
def test_a_header_that_names_nobody_is_left_to_the_toolkit(application, header):
    response = Client().post("/o/token/", {"grant_type": "client_credentials"}, headers={"Authorization": header})

    assert response.status_code == 401


FORM = "application/x-www-form-urlencoded"
GRANT = "grant_type=client_credentials"
UNREADABLE = [
    ({"encoding": "utf-16"}, base64.b64encode("shop:x".encode("utf-16"))),
    ({"encoding": "nosuch"}, base64.b64encode(b"shop:x")),
    ({"encoding": "zlib"}, base64.b64encode(b"shop:x")),
    ({"encoding": "hex"}, base64.b64encode(b"shop:x")),
    ({}, base64.b64encode("shop:x".encode("utf-16"))),
    ({}, base64.b64encode(b"sh\xf6p:x")),
    ({}, base64.b64encode(b"shop:%ff")),
    ({}, "ÿ".encode()),
    ({}, base64.b64encode(b"shop:shop-secret") + "ÿ".encode()),
]


@pytest.mark.parametrize("path", CLIENT_PAGES)
@pytest.mark.parametrize(("fields", "credentials"), UNREADABLE)
def test_credentials_that_are_not_utf8_are_refused_and_count(application, path, fields, credentials):
    def fetch():
        headers = {"Authorization": f"Basic {credentials.decode()}"}
        return Client().post(path, {"grant_type": "client_credentials", "token": "x", **fields}, headers=headers)

    response = fetch()
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")
    assert "UTF-8" in response.json()["error_description"]
    assert statuses(fetch, 3) == [400, 400, 429]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (f"{GRANT}&client_id=shop&client_secret=shop-secret", f"{FORM}; charset=utf-16"),
        (f"{GRANT}&client_id=shop&client_secret=shop-secret", f"{FORM}; charset=hex"),
        (f"{GRANT}&client_id=shop&client_secret=%ff", FORM),
        (f"{GRANT}&client_id=%ff&client_secret=x", FORM),
        (f"{GRANT}&client_id=shop&client_secret=shop-secret&%ff=x", FORM),
    ],
)
def test_a_form_that_is_not_utf8_is_refused_and_counts(application, body, content_type):
    def fetch():
        return Client().generic("POST", "/o/token/", body, content_type=content_type)

    response = fetch()
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")
    assert "UTF-8" in response.json()["error_description"]
    assert statuses(fetch, 3) == [400, 400, 429]


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8"])
def test_utf8_may_be_named(application, encoding):
    fields = {"grant_type": "client_credentials", "encoding": encoding}
    assert Client().post("/o/token/", fields, headers=basic("shop:shop-secret")).status_code == 200

    body = f"{GRANT}&client_id=shop&client_secret=shop-secret"
    assert Client().post("/o/token/", body, content_type=f"{FORM}; charset={encoding}").status_code == 200


def in_parallel(count, call):
    with ThreadPoolExecutor(count) as threads:
        return [*threads.map(lambda _: call(), range(count))]


@pytest.fixture
def judge(settings):
    """``judge(password)``: the status of a log-in page that takes a moment; ``judge.judged`` is what it has judged."""
    settings.MAX_LOGIN_FAILURES = 10

    @slow_log_ins
    def view(request):
        log_in.judged.append(request.POST["password"])
        time.sleep(0.05)
        return HttpResponse(status=302 if request.POST["password"] == "right" else 200)

    def log_in(password):
        fields = {"username": "ada", "password": password}
        return view(RequestFactory().post("/", fields, REMOTE_ADDR="203.0.113.1")).status_code

    log_in.judged = []
    return log_in


def test_of_many_at_once_no_more_are_judged_than_may_fail(judge):
    found = in_parallel(60, lambda: judge("wrong"))

    assert sorted(found) == [200] * 10 + [429] * 50
    assert judge.judged == ["wrong"] * 10


def test_of_many_at_once_the_right_ones_all_get_in(judge):
    assert in_parallel(30, lambda: judge("right")) == [302] * 30
    assert len(judge.judged) == 30

    assert [judge("wrong") for _ in range(11)] == [200] * 10 + [429]  # and none of them was held against anyone


def test_a_page_that_breaks_holds_nothing_against_anyone(settings):
    @slow_log_ins
    def view(request):
        raise OperationalError

    for _ in range(10):
        with pytest.raises(OperationalError):
            view(RequestFactory().post("/", {"username": "ada"}))


def test_it_can_be_turned_off(user, settings):
    settings.MAX_LOGIN_FAILURES = 0

    assert statuses(log_in, 20) == [200] * 20


@pytest.mark.parametrize(
    ("remote", "forwarded", "trusted", "address"),
    [
        ("203.0.113.1", None, [], "203.0.113.1"),
        ("203.0.113.1", "198.51.100.1", [], "203.0.113.1"),  # anyone may write that
        ("10.0.0.1", "198.51.100.1", ["10.0.0.1"], "198.51.100.1"),
        ("10.0.0.1", "192.0.2.9, 198.51.100.1", ["10.0.0.1"], "198.51.100.1"),
        ("10.0.0.1", "192.0.2.9,198.51.100.1 , 10.0.0.2", ["10.0.0.0/8"], "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", ["10.0.0.0/8"], "10.0.0.3"),
        ("10.0.0.1", None, ["10.0.0.1"], "10.0.0.1"),
        ("10.0.0.1", "", ["10.0.0.1"], "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, unknown", ["10.0.0.1"], "10.0.0.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", ["10.0.0.1"], "198.51.100.1"),
        ("::1", "2001:db8::1", ["::1", "127.0.0.1"], "2001:db8::1"),
        ("", None, [], None),
        ("10.0.0.1", "192.0.2.9, 198.51.100.1:5678", ["10.0.0.0/8"], "198.51.100.1"),
        ("10.0.0.1", "192.0.2.9,198.51.100.1:5678, 10.0.0.2:80", ["10.0.0.0/8"], "198.51.100.1"),
        ("10.0.0.1", "[::1]:80", ["10.0.0.1"], "::1"),
        ("10.0.0.1", "[2001:db8::1]", ["10.0.0.1"], "2001:db8::1"),
        ("10.0.0.1", "[::ffff:198.51.100.1]:443", ["10.0.0.1"], "198.51.100.1"),
        ("10.0.0.1:4711", "198.51.100.1", ["10.0.0.1"], "198.51.100.1"),
        ("[::1]:4711", None, [], "::1"),
        ("10.0.0.1", "198.51.100.1:x", ["10.0.0.1"], "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:", ["10.0.0.1"], "10.0.0.1"),
        ("10.0.0.1", "2001:db8::1:80", ["10.0.0.1"], "2001:db8::1:80"),  # without brackets it has no port
        ("10.0.0.1", "[198.51.100.1", ["10.0.0.1"], "10.0.0.1"),
        ("10.0.0.1", "a.example:80", ["10.0.0.1"], "10.0.0.1"),
    ],
)
def test_the_address_is_the_last_one_that_is_no_trusted_proxy(settings, remote, forwarded, trusted, address):
    settings.TRUSTED_PROXIES = [ip_network(network) for network in trusted]
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}

    found = client_address(RequestFactory().get("/", headers=headers, REMOTE_ADDR=remote))

    assert found == address if address is None else str(found) == address
