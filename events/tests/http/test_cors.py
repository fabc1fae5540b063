"""Calls from pages of other origins."""

import json
import re
from pathlib import Path

import pytest
from rest_framework.test import APIClient

from events.tests.support.bodies import ORDER as EVENT
from events.tests.support.clients import client_with

client = client_with("read write aggregation")

ORIGIN = "https://shop.example"
ELSEWHERE = [
    "https://evil.example",
    "http://shop.example",
    "https://shop.example:8443",
    "https://shop.example.evil.example",
    "https://evil.example/https://shop.example",
    "https://SHOP.example",
    "null",
    "*",
    "https://[",
]


@pytest.fixture(autouse=True)
def allowed(settings):
    settings.CORS_ALLOWED_ORIGINS = [ORIGIN]
    settings.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *settings.MIDDLEWARE]


def of_cors(response):
    names = {name.lower(): value for name, value in response.headers.items()}
    return {name: value for name, value in names.items() if name.startswith("access-control-")}


def preflight(path, method, headers="", origin=ORIGIN):
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return APIClient().options(path, headers=asked)


@pytest.mark.parametrize(
    ("path", "method", "headers"),
    [
        ("/api/track/", "POST", "authorization,content-encoding,content-type,idempotency-key,x-request-id"),
        ("/api/track", "POST", "authorization"),
        ("/api/events/Shop/order", "GET", "authorization,if-none-match,tracking-read"),
        ("/api/events/Shop/order/", "GET", "authorization"),
        ("/api/events/", "GET", "authorization"),
        ("/api/annotations/3f8e7c1a-52d6-4a0b-9d57-0c1f5e6a7b89", "PATCH", "authorization,content-type"),
        ("/api/annotations/3f8e7c1a-52d6-4a0b-9d57-0c1f5e6a7b89", "DELETE", "authorization"),
    ],
)
def test_a_preflight_is_answered_without_a_token(db, path, method, headers):
    response = preflight(path, method, headers)

    assert (response.status_code, response.content) == (200, b"")
    found = of_cors(response)
    assert set(headers.split(",")) <= set(found.pop("access-control-allow-headers").split(", "))
    assert found == {
        "access-control-allow-origin": ORIGIN,
        "access-control-allow-methods": "GET, POST, PATCH, DELETE",
        "access-control-max-age": "86400",
        "access-control-expose-headers": "Allow, ETag, Link, Retry-After, RateLimit, RateLimit-Policy, Tracking-Accuracy, Tracking-Read, WWW-Authenticate, X-Request-ID",
    }
    assert response["Vary"] == "origin"


def test_a_page_may_use_all_that_the_api_has(settings):
    description = json.loads((Path(__file__).parents[1] / "openapi" / "description.json").read_bytes())
    calls = [call for path in description["paths"].values() for call in path.items()]
    methods = {method.upper() for method, _ in calls}
    sent = {each["name"] for _, call in calls for each in call.get("parameters", ()) if each["in"] == "header"}
    sent |= {"Content-Type", "X-Request-ID"}
    read = {name for _, call in calls for answer in call["responses"].values() for name in answer.get("headers", ())}
    read.add("X-Request-ID")

    assert set(settings.CORS_ALLOW_METHODS) == methods
    assert set(settings.CORS_ALLOW_HEADERS) == {"authorization", *map(str.lower, sent)}
    assert set(settings.CORS_EXPOSE_HEADERS) == read
    document = (settings.BASE_DIR / "docs" / "access.md").read_text()
    told = re.search(r"method of these \((.*?)\)\. It may send (.*?), and read (.*?)\. This is", document, re.DOTALL)
    assert [set(re.findall(r"`([\w-]+)`", each)) for each in told.groups()] == [methods, sent, read]


@pytest.mark.parametrize("origin", ELSEWHERE)
def test_a_preflight_from_elsewhere_is_told_nothing(db, origin):
    assert of_cors(preflight("/api/track/", "POST", origin=origin)) == {}


EXPOSED = {
    "access-control-allow-origin": ORIGIN,
    "access-control-expose-headers": "Allow, ETag, Link, Retry-After, RateLimit, RateLimit-Policy, Tracking-Accuracy, Tracking-Read, WWW-Authenticate, X-Request-ID",
}


def test_every_answer_may_be_read_by_the_page(client, settings, clock):
    settings.RATE_LIMIT_REQUESTS = 6
    headers = {"Origin": ORIGIN}

    responses = [
        client.post("/api/track/", EVENT, headers=headers),
        client.post("/api/track/", {}, headers=headers),
        client.get("/api/events/", headers=headers),
        client.get("/api/events/Shop/order", headers=headers),
        client.get("/api/events/Shop/order?format=csv", headers=headers),
        client.delete("/api/track/", headers=headers),
        client.get("/api/events/", headers=headers),
        APIClient(headers={"Authorization": "Bearer x"}).get("/api/events/", headers=headers),
        APIClient().get("/api/events/", headers=headers),
        APIClient().get("/api/nowhere", headers=headers),
    ]

    assert [response.status_code for response in responses] == [201, 400, 200, 200, 200, 405, 429, 401, 401, 404]
    assert all(of_cors(response) == EXPOSED for response in responses)
    assert all("origin" in response["Vary"].lower() for response in responses)
    assert int(responses[6]["Retry-After"]) > 0


@pytest.mark.parametrize("origin", ELSEWHERE)
def test_an_answer_to_elsewhere_may_not_be_read(client, origin):
    response = client.get("/api/events/", headers={"Origin": origin})

    assert (response.status_code, of_cors(response)) == (200, {})


def test_a_call_without_an_origin_is_as_ever(client):
    response = client.post("/api/track/", EVENT)

    assert (response.status_code, response.json(), of_cors(response)) == (201, EVENT, {})


@pytest.mark.parametrize(
    "path", ["/o/token/", "/o/revoke_token/", "/o/introspect/", "/accounts/login/", "/admin/login/", "/api", "/x/api/"]
)
def test_nothing_but_the_api_is_open(db, path):
    assert of_cors(preflight(path, "POST", "authorization")) == {}
    assert of_cors(APIClient().get(path, headers={"Origin": ORIGIN})) == {}


def test_a_log_in_is_never_lent_to_a_page_elsewhere(client):
    response = client.get("/api/events/", headers={"Origin": ORIGIN})

    assert "access-control-allow-credentials" not in of_cors(response)
