"""What a client is granted: when its token is issued, and on each request."""

import gzip
import json
import time
from functools import partial
from urllib.parse import quote, urlencode

import pytest
from oauth2_provider.models import AccessToken, Application
from rest_framework.test import APIClient

from events.access.tokens import token_memory
from events.models import Event, Grant, IdempotencyKey
from events.tests.support.bodies import ORDER as EVENT
from events.tests.support.clients import client_with, fetch_token

client = client_with("read write aggregation")

ITEM = {"aggregatedTimestamp": "2020-11-12T11:10:00Z", "value": 1.0}


@pytest.fixture
def make_grant(application):
    def make(write="", read="", aggregation="", **fields):
        namespaces = {"write_namespaces": write, "read_namespaces": read, "aggregation_namespaces": aggregation}
        return Grant.objects.create(application=application, **namespaces, **fields)

    return make


def refusal(scope, namespace):
    return {"namespace": [f"The client is not granted the scope {scope} in “{namespace}”."]}


def answer(response):
    return response.status_code, response.json()


# (patterns, namespace, whether it is granted): what is compared is the very text, code point by code point.
PATTERNS = [
    ("Shop", "Shop", True),
    ("Shop", "Shopping", False),
    ("Shop", "Sho", False),
    ("Shop", "shop", False),
    ("Shop", "SHOP", False),
    ("Shop", " Shop", False),
    ("Shop", "Shop ", False),
    ("Shop", "Shop\t", False),
    ("Shop", "Shop\n", False),
    ("Shop", "Shop\u00a0", False),
    ("Shop", "Shop\u200b", False),
    ("Shop", "\ufeffShop", False),
    ("Shop", "Ѕhop", False),  # a Cyrillic letter
    ("Shop", "Ｓhop", False),  # a full-width one
    ("Shop", "Shop-eu", False),
    ("Shop", "My-Shop", False),
    ("Shop", "Shop*", False),
    ("Shop", "Shop%20", False),
    ("Shop", "%53hop", False),
    ("Shop ", "Shop ", True),
    ("Shop ", "Shop", False),
    (" Shop", " Shop", True),
    ("Shop*", "Shop", True),
    ("Shop*", "Shopping", True),
    ("Shop*", "Shop*", True),
    ("Shop*", "Shop\nping", True),
    ("Shop*", "shopping", False),
    ("Shop*", "My-Shop", False),
    ("Shop-*", "Shop-", True),
    ("Shop-*", "Shop-eu", True),
    ("Shop-*", "Shop", False),
    ("Shop-*", "Shopping", False),
    ("Shop-*", "SHOP-eu", False),
    ("Shop *", "Shop eu", True),
    ("Shop *", "Shop", False),
    ("S?op", "Shop", False),
    ("S.op", "Shop", False),
    ("S_op", "Shop", False),
    ("S%", "Shop", False),
    ("[S]hop", "Shop", False),
    ("Sh*", "Server", False),
    (".*", ".hidden", True),
    (".*", "Shop", False),
    ("*", "Shop", True),
    ("*", " ¯_(ツ)_ ", True),
    ("", "Shop", False),
    ("\n \n\t\n", "Shop", False),
    ("Server-1\nShop", "Shop", True),
    ("Server-1\r\nShop\r\n", "Server-1", True),
    ("Server-1\r\nShop\r\n", "Server-1\r", False),
    ("Server-1\nShop", "Server-1\nShop", False),
    ("Server-*\nShop-*", "Shop-eu", True),
    ("Server-*\nShop-*", "Shop", False),
    ("Caf\u00e9", "Caf\u00e9", True),
    ("Caf\u00e9", "Cafe\u0301", False),
    ("Cafe\u0301", "Caf\u00e9", False),
    ("Cafe*", "Cafe\u0301", True),
    ("Straße", "STRASSE", False),
    ("Straße", "Strasse", False),
    ("I", "İ", False),
    ("ﬁ", "fi", False),
    ("🛒*", "🛒🛒", True),
    ("🛒", "🛒\ufe0f", False),
]


@pytest.mark.parametrize(("patterns", "namespace", "granted"), PATTERNS)
def test_writing_keeps_to_the_patterns(client, make_grant, patterns, namespace, granted):
    make_grant(write=f"{patterns}\nother")

    response = client.post("/api/track/", {**EVENT, "namespace": namespace})

    stored = list(Event.objects.values_list("namespace", flat=True))
    if granted:
        assert (answer(response), stored) == ((201, {**EVENT, "namespace": namespace}), [namespace])
    else:
        assert (answer(response), stored) == ((403, refusal("write", namespace)), [])


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize(("patterns", "namespace", "granted"), PATTERNS)
def test_reading_keeps_to_the_patterns(client, make_grant, make_event, patterns, namespace, granted, is_there):
    """And what is refused is refused alike, whether or not anything is there."""
    make_grant(read=f"{patterns}\nother", aggregation=f"{patterns}\nother")
    if is_there:
        make_event(namespace, "order")
    path = f"/api/events/{quote(namespace, safe='')}"

    catalogue, aggregate = client.get(path), client.get(f"{path}/order")
    listed = client.get("/api/events/")

    if granted:
        assert (catalogue.status_code, len(catalogue.json())) == (200, int(is_there))
        assert answer(aggregate) == (200, [ITEM] if is_there else [])
    else:
        assert answer(catalogue) == (403, refusal("read", namespace))
        assert answer(aggregate) == (403, refusal("aggregation", namespace))
    assert listed.status_code == 200
    assert [series["namespace"] for series in listed.json()] == [namespace] * (granted and is_there)


def body_of(encoding, event):
    if encoding == "form":
        return urlencode(event).encode(), "application/x-www-form-urlencoded"
    if encoding == "multipart":
        parts = [f'--b\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{event[key]}\r\n' for key in event]
        return f"{''.join(parts)}--b--\r\n".encode(), "multipart/form-data; boundary=b"
    texts = {
        "json": json.dumps(event),
        "escaped": json.dumps(event).replace('"Shop', '"\\u0053hop').replace('"Other', '"\\u004fther'),
        "twice": json.dumps(event).replace("{", '{"namespace": "Shop", ', 1),
        "slow": json.dumps({**event, "timestamp": "2020-W46-4"}),  # not what the fast decoder takes
    }
    return texts[encoding].encode(), "application/json"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("encoding", ["json", "escaped", "twice", "slow", "form", "multipart"])
@pytest.mark.parametrize(("namespace", "status"), [("Shop", 201), ("Other", 403), ("Shop ", 403), ("Shopping", 403)])
def test_a_single_event_is_held_to_the_grant_however_it_is_sent(
    client, make_grant, namespace, status, encoding, packed
):
    make_grant(write="Shop")
    body, content_type = body_of(encoding, {**EVENT, "namespace": namespace})
    headers = {"Content-Encoding": "gzip"} if packed else {}

    response = client.post(
        "/api/track/", gzip.compress(body) if packed else body, content_type=content_type, headers=headers
    )

    if encoding == "twice":
        assert response.json() == {"namespace": ["This field may be given only once."]}
        status = 400
    assert response.status_code == status
    assert Event.objects.count() == (status == 201)
    if status == 403:
        assert response.json() == refusal("write", namespace)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
def test_a_mixed_batch_is_refused_whole_and_names_the_offending_indexes(client, make_grant, content_type, packed):
    make_grant(write="Shop\nShop-*")
    namespaces = ["Shop", "Shop-eu", "Other", "shop", "Shop", "Shopping", "Other", "Shop-"]
    items = [{**EVENT, "namespace": namespace} for namespace in namespaces]
    text = json.dumps(items) if content_type == "application/json" else "\n\n".join(map(json.dumps, items))
    body = gzip.compress(text.encode()) if packed else text.encode()

    response = client.post(
        "/api/track/", body, content_type=content_type, headers={"Content-Encoding": "gzip"} if packed else {}
    )

    refused = {str(index): refusal("write", namespaces[index]) for index in (2, 3, 5, 6)}
    assert answer(response) == (403, refused)
    assert not Event.objects.exists()


def test_a_batch_of_one_names_its_index_too(client, make_grant):
    make_grant(write="Shop")

    assert answer(client.post("/api/track/", [{**EVENT, "namespace": "x"}])) == (403, {"0": refusal("write", "x")})
    assert answer(client.post("/api/track/", [EVENT])) == (201, {"accepted": 1})
    assert answer(client.post("/api/track/", [])) == (201, {"accepted": 0})


def test_it_names_the_first_hundred_of_a_batch(client, make_grant):
    make_grant(write="Shop")
    items = [{**EVENT, "namespace": "Shop" if index % 2 else "x"} for index in range(300)]

    response = client.post("/api/track/", items)

    assert answer(response) == (403, {str(index): refusal("write", "x") for index in range(0, 200, 2)})


def test_a_bad_item_is_said_before_a_namespace_that_is_not_granted(client, make_grant):
    make_grant(write="Shop")

    response = client.post("/api/track/", [{**EVENT, "namespace": "x"}, {**EVENT, "value": "x"}])

    assert answer(response) == (400, {"1": {"value": ["A valid number is required."]}})


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("Shop/order", 200),
        ("Shop/order/", 200),
        ("%53hop/order", 200),
        ("%53%68%6F%70/order", 200),
        ("Shop%2Forder", 200),  # which is the same path
        ("%2553hop/order", 403),
        ("shop/order", 403),
        ("Shop%20/order", 403),
        ("Shop+/order", 403),
        ("Shop%09/order", 403),
        ("Shop%E2%80%8B/order", 403),
        ("%EF%BC%B3hop/order", 403),
        ("Shop%00/order", 400),
        ("Other/order", 403),
        ("Other/order?namespace=Shop", 403),
        ("Other%2FShop/order", 404),
        ("Shop/../Other/order", 404),
        ("Shop%2F..%2FOther/order", 404),
        ("Shop%2F%2E%2E%2FOther/order", 404),
        ("./Shop/order", 404),
        ("Other/order/Shop", 404),
        ("/Shop/order", 404),
        ("Shop;x/order", 403),
    ],
)
def test_the_path_is_what_it_decodes_to(client, make_grant, make_event, path, status):
    make_grant(aggregation="Shop")
    make_event("Shop", "order")
    make_event("Other", "order", value=2)

    response = client.get(f"/api/events/{path}")

    assert response.status_code == status
    if status == 200:
        assert response.json() == [ITEM]


@pytest.mark.parametrize("format_", ["json", "csv", "ndjson"])
def test_every_format_is_refused_before_anything_is_read(
    client, make_grant, make_event, format_, django_assert_num_queries
):
    make_event("Shop", "order")
    etag = client.get(f"/api/events/Shop/order?format={format_}")["ETag"]
    make_grant(aggregation="Other")

    with django_assert_num_queries(1):  # the token
        response = client.get(f"/api/events/Shop/order?format={format_}", headers={"If-None-Match": etag})

    assert answer(response) == (403, refusal("aggregation", "Shop"))


def test_a_path_that_can_be_no_namespace_stays_bad_input(client, make_grant):
    make_grant(read="Shop", aggregation="Shop")

    assert client.get(f"/api/events/{'x' * 256}").status_code == 400
    assert client.get("/api/events/%20/order").status_code == 400


def test_the_three_scopes_have_namespaces_of_their_own(client, make_grant, make_event):
    make_event("a", "x")
    make_event("b", "x")
    make_event("c", "x")
    make_grant(write="a", read="b", aggregation="c")

    assert [client.post("/api/track/", {**EVENT, "namespace": each}).status_code for each in "abc"] == [201, 403, 403]
    assert [client.get(f"/api/events/{each}").status_code for each in "abc"] == [403, 200, 403]
    assert [client.get(f"/api/events/{each}/x").status_code for each in "abc"] == [403, 403, 200]
    assert [series["namespace"] for series in client.get("/api/events/").json()] == ["b"]


def test_a_client_without_a_grant_may_do_everything(client, make_event):
    make_event("b", "x")

    assert client.post("/api/track/", EVENT).status_code == 201
    assert [series["namespace"] for series in client.get("/api/events/").json()] == ["Shop", "b"]
    assert client.get("/api/events/b").status_code == client.get("/api/events/b/x").status_code == 200


def test_a_grant_as_it_is_made_lets_everything_through(client, application):
    Grant.objects.create(application=application)

    assert client.post("/api/track/", EVENT).status_code == 201
    assert client.get("/api/events/").status_code == client.get("/api/events/b/x").status_code == 200


def test_another_client_keeps_its_own(client, make_grant, make_token):
    make_grant(write="Shop")
    other = Application.objects.create(client_id="other", client_type="confidential")
    token = make_token("write", text="another-token", application=other)

    event = {**EVENT, "namespace": "x"}
    assert client.post("/api/track/", event).status_code == 403
    headers = {"Authorization": f"Bearer {token}"}
    assert APIClient(headers=headers).post("/api/track/", event).status_code == 201


@pytest.mark.parametrize(
    ("granted", "method", "path"),
    [
        ({"read": "*", "aggregation": "*"}, "post", "/api/track/"),
        ({"write": "*", "aggregation": "*"}, "get", "/api/events/"),
        ({"write": "*", "aggregation": "*"}, "get", "/api/events/Shop"),
        ({"write": "*", "read": "*"}, "get", "/api/events/Shop/order"),
    ],
)
def test_an_old_token_loses_a_scope_that_is_no_longer_granted(client, make_grant, granted, method, path):
    data, accepted = (EVENT, 201) if method == "post" else (None, 200)
    assert getattr(client, method)(path, data).status_code == accepted
    [scope] = {"write", "read", "aggregation"} - granted.keys()

    grant = make_grant(**granted)
    assert answer(getattr(client, method)(path, data)) == (
        403,
        {"detail": f"The client is not granted the scope {scope}."},
    )

    grant.delete()
    assert getattr(client, method)(path, data).status_code == accepted


def test_a_scope_that_the_token_lacks_is_not_had_by_grant(client_with_scopes, make_grant):
    make_grant(write="*", read="*", aggregation="*")
    client = client_with_scopes("read")

    assert answer(client.post("/api/track/", EVENT)) == (403, {"detail": "The access token lacks the scope write."})


def test_a_repeated_request_is_held_to_the_grant_of_now(client, make_grant):
    def post():
        return client.post("/api/track/", EVENT, headers={"Idempotency-Key": "k"})

    assert post().status_code == 201

    grant = make_grant(write="Other")
    assert answer(post()) == (403, refusal("write", "Shop"))

    grant.delete()
    assert post().status_code == 201
    assert Event.objects.count() == 1


def test_a_refused_request_does_not_use_its_key_up(client, make_grant):
    grant = make_grant(write="Other")
    assert client.post("/api/track/", EVENT, headers={"Idempotency-Key": "k"}).status_code == 403
    assert not IdempotencyKey.objects.exists()

    grant.delete()
    assert client.post("/api/track/", EVENT, headers={"Idempotency-Key": "k"}).status_code == 201


def test_a_change_by_another_process_takes_effect_within_the_memory_of_tokens(
    client, make_grant, settings, monkeypatch
):
    now = time.time()
    monkeypatch.setattr(token_memory._tokens.timer, "_Timer__timer", lambda: now, raising=False)
    settings.TOKEN_CACHE_SECONDS = 10
    make_grant(write="Shop")
    assert client.post("/api/track/", EVENT).status_code == 201

    Grant.objects.update(write_namespaces="Other")  # which sends no signal, as a change elsewhere doesn't

    now += 9.9
    assert client.post("/api/track/", EVENT).status_code == 201
    now += 0.2
    assert client.post("/api/track/", EVENT).status_code == 403


def test_a_grant_costs_no_query_of_its_own(client, make_grant, statements):
    make_grant(write="Shop")

    with statements() as first:
        client.post("/api/track/", EVENT)
    with statements() as second:
        client.post("/api/track/", EVENT)

    assert (len(first), len(second)) == (2, 1)  # for the token and its grant; for the event


fetch_shop_token = partial(fetch_token, client_id="shop", client_secret="shop-secret")


@pytest.mark.parametrize(
    ("granted", "asked", "given"),
    [
        (None, "read write aggregation", "read write aggregation"),
        (None, None, "read write"),
        ({"write": "*", "read": "*", "aggregation": "*"}, "read write aggregation", "read write aggregation"),
        ({"write": "Shop"}, "write", "write"),
        ({"write": "Shop"}, None, "write"),
        ({"write": "Shop"}, "", "write"),
        ({"read": "Shop", "aggregation": "Shop"}, None, "read"),
        ({"read": "Shop", "aggregation": "Shop"}, "aggregation read", "aggregation read"),
        ({"write": "Shop"}, "read", None),
        ({"write": "Shop"}, "write read", None),
        ({"write": "Shop"}, "WRITE", None),
        ({"write": "Shop"}, "aggregation", None),
        ({"aggregation": "Shop"}, None, None),
        ({"write": " \n "}, "write", None),
        ({}, "read", None),
        ({}, None, None),
    ],
)
def test_a_scope_that_is_not_granted_is_not_given(application, make_grant, granted, asked, given):
    if granted is not None:
        make_grant(**granted)

    response = fetch_shop_token(**({} if asked is None else {"scope": asked}))

    if given is None:
        assert (response.status_code, response.json()["error"]) == (400, "invalid_scope")
        assert not AccessToken.objects.exists()
    else:
        assert (response.status_code, response.json()["scope"]) == (200, given)


@pytest.mark.parametrize("scopes", [["write", "read"], ["read", "write"]])
def test_scopes_given_twice_are_no_way_round(application, make_grant, scopes):
    make_grant(write="Shop")

    assert "read" not in fetch_shop_token(scope=scopes).json().get("scope", "")
    assert not AccessToken.objects.exclude(scope="write").exists()


@pytest.mark.parametrize("name", ["order", "never-sent"])
def test_filling_says_nothing_of_a_namespace_that_is_not_granted(client, make_event, make_grant, name):
    make_grant(aggregation="Warehouse")
    make_event(namespace="Shop", name="order")
    question = {"granularity": "day", "fill": "zero", "tsMin": "2020-11-12", "tsMax": "2020-11-12"}

    response = client.get(f"/api/events/Shop/{name}", question)

    assert answer(response) == (403, refusal("aggregation", "Shop"))
    never_sent = client.get("/api/events/Warehouse/never-sent", question)
    assert answer(never_sent) == (200, [{"aggregatedTimestamp": "2020-11-12T00:00:00Z", "value": 0.0}])
