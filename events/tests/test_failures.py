"""Who tries passwords and client secrets, and how far that goes."""

import base64
from ipaddress import ip_network

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory

from tracking_api.failures import client_address

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


def fetch_token(client_id="shop", secret="wrong", path="/o/token/", **fields):
    fields = {"grant_type": "client_credentials", "token": "x", **fields}
    return Client().post(path, {"client_id": client_id, "client_secret": secret, **fields})


def statuses(call, count):
    return [call().status_code for _ in range(count)]


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
    assert statuses(lambda: fetch_token(path=path), 3) == [refused] * 3

    response = fetch_token(path=path, secret="shop-secret")
    assert (response.status_code, response.json()) == (
        429,
        {"detail": "Too many failed attempts; try again in 301 s."},
    )
    assert response["Retry-After"] == "301"

    clock.now += 301
    assert fetch_token(path=path, secret="shop-secret").status_code == 200


def test_the_pages_of_clients_count_together(application):
    assert [fetch_token(path=path).status_code for path in [*CLIENT_PAGES, "/o/token/"]] == [401, 401, 403, 429]


def test_who_is_right_is_never_slowed(user, application):
    assert statuses(lambda: log_in(password="lovelace"), 20) == [302] * 20
    assert statuses(lambda: fetch_token(secret="shop-secret"), 20) == [200] * 20


def test_a_token_refused_for_another_reason_is_no_failure(application):
    assert statuses(lambda: fetch_token(secret="shop-secret", scope="x"), 5) == [400] * 5
    assert statuses(lambda: fetch_token(secret="shop-secret", grant_type="x"), 5) == [400] * 5


def test_looking_at_the_page_is_no_failure(client, db):
    assert statuses(lambda: client.get("/accounts/login/"), 5) == [200] * 5
    assert statuses(lambda: log_in(username=""), 5) == [200] * 5
    assert statuses(lambda: client.get("/admin/login/?username=ada"), 5) == [200] * 5


def test_each_name_has_a_count_of_its_own(user, application):
    statuses(lambda: log_in("eve"), 4)
    statuses(lambda: fetch_token("eve"), 4)

    assert log_in(password="lovelace").status_code == 302
    assert fetch_token(secret="shop-secret").status_code == 200


@pytest.mark.parametrize("name", ["ada ", " ada", "ａda", "ad\u00aa"])
def test_one_name_written_otherwise_has_the_same_count(user, name):
    assert log_in(name, "lovelace").status_code == 302  # it is the same to the form
    statuses(log_in, 3)

    assert log_in(name, "lovelace").status_code == 429


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
    assert fetch_token(secret="shop-secret").status_code == 429


def test_another_id_in_the_header_is_no_way_round(application):
    """The toolkit takes the form where the header is wrong."""

    def fetch(number, secret="wrong"):
        fields = {"grant_type": "client_credentials", "client_id": "shop", "client_secret": secret}
        return Client().post("/o/token/", fields, headers=basic(f"other-{number}:x")).status_code

    assert fetch(9, "shop-secret") == 200
    assert [fetch(number) for number in range(4)] == [401, 401, 401, 429]
    assert fetch(9, "shop-secret") == 429


@pytest.mark.parametrize("header", ["Basic", "Basic !", "Basic /w==", "Bearer x", "", "Basic Og=="])
def test_a_header_that_names_nobody_is_left_to_the_toolkit(application, header):
    response = Client().post("/o/token/", {"grant_type": "client_credentials"}, headers={"Authorization": header})

    assert response.status_code == 401


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
    ],
)
def test_the_address_is_the_last_one_that_is_no_trusted_proxy(settings, remote, forwarded, trusted, address):
    settings.TRUSTED_PROXIES = [ip_network(network) for network in trusted]
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}

    found = client_address(RequestFactory().get("/", headers=headers, REMOTE_ADDR=remote))

    assert found == address if address is None else str(found) == address
