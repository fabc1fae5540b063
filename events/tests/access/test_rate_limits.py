"""How much a client may send a minute, whatever the endpoint."""

import json

import pytest
from oauth2_provider.models import Application
from rest_framework.test import APIClient

from events.ingest import new_series
from events.models import Event, Grant, IdempotencyKey
from events.tests.support.bodies import ORDER as EVENT
from events.tests.support.clients import client_with
from events.tests.support.responses import statuses
from events.worker import roll_up

client = client_with("read write aggregation")


def fields(response):
    return response.get("RateLimit-Policy"), response.get("RateLimit")


def policy(quota, unit="requests"):
    return f'"{unit}";q={quota};qu="{unit}";w=60'


def left(remaining, seconds, unit="requests"):
    return f'"{unit}";r={remaining};t={seconds}'


def test_there_is_no_limit_unless_one_is_set(client, clock):
    responses = [client.post("/api/track/", [EVENT] * 50) for _ in range(50)]

    assert {response.status_code for response in responses} == {201}
    assert {fields(response) for response in responses} == {(None, None)}


def test_each_answer_says_what_is_left(client, clock, settings):
    settings.RATE_LIMIT_REQUESTS = 3

    assert fields(client.get("/api/events/")) == (policy(3), left(2, 61))  # it begins to fade with the next minute
    clock.now += 10
    assert fields(client.get("/api/events/a/b?granularity=x")) == (policy(3), left(1, 51))
    clock.now += 10
    assert fields(client.get("/api/events/a/b?format=csv")) == (policy(3), left(0, 41))


def test_one_request_too_many_is_told_when_to_come_back_and_stores_nothing(client, clock, settings):
    settings.RATE_LIMIT_REQUESTS = 3
    assert statuses(lambda: client.post("/api/track/", EVENT), 3) == [201] * 3

    clock.now += 20
    response = client.post("/api/track/", EVENT, headers={"Idempotency-Key": "k"})

    assert (response.status_code, response.json()) == (
        429,
        {"detail": "More than 3 requests a minute; try again in 41 s."},
    )
    assert response["Retry-After"] == "41"
    assert fields(response) == (policy(3), left(0, 41))
    assert Event.objects.count() == 3
    assert not IdempotencyKey.objects.exists()

    clock.now += 40
    assert client.post("/api/track/", EVENT).status_code == 429
    clock.now += 1
    assert client.post("/api/track/", EVENT).status_code == 201


def test_all_endpoints_count_together(client, clock, settings):
    settings.RATE_LIMIT_REQUESTS = 3

    assert client.get("/api/events/").status_code == 200
    assert client.get("/api/events/a").status_code == 200
    assert client.get("/api/events/a/b").status_code == 200
    assert client.post("/api/track/", EVENT).status_code == 429
    assert client.get("/api/events/a/b?format=ndjson").status_code == 429


def test_the_end_of_a_minute_lets_no_burst_through(client, clock, settings):
    settings.RATE_LIMIT_REQUESTS = 10
    clock.now += 59
    assert statuses(lambda: client.get("/api/events/"), 10) == [200] * 10

    clock.now += 2

    assert statuses(lambda: client.get("/api/events/"), 2) == [200, 429]  # the ten have faded by a sixtieth


def test_a_refused_request_does_not_count(client, clock, settings):
    settings.RATE_LIMIT_REQUESTS = 3
    statuses(lambda: client.get("/api/events/"), 100)

    clock.now += 119  # by when a sixtieth is left of what was counted

    assert statuses(lambda: client.get("/api/events/"), 4) == [200, 200, 200, 429]


def test_events_are_counted_by_themselves(client, clock, settings):
    settings.RATE_LIMIT_EVENTS = 10

    response = client.post("/api/track/", [EVENT] * 7)
    assert (response.status_code, fields(response)) == (201, (policy(10, "events"), left(3, 61, "events")))

    response = client.post("/api/track/", [EVENT] * 4)
    assert (response.status_code, response.json()) == (
        429,
        {"detail": "More than 10 events a minute; try again in 61 s."},
    )
    assert response["Retry-After"] == "61"
    assert fields(response) == (policy(10, "events"), left(3, 61, "events"))
    assert Event.objects.count() == 7

    response = client.post("/api/track/", [EVENT] * 3)
    assert (response.status_code, fields(response)) == (201, (policy(10, "events"), left(0, 61, "events")))
    assert client.post("/api/track/", EVENT).status_code == 429
    assert client.post("/api/track/", []).status_code == 201
    assert fields(client.get("/api/events/")) == (None, None)


def test_both_limits_are_told_of_together(client, clock, settings):
    settings.RATE_LIMIT_REQUESTS, settings.RATE_LIMIT_EVENTS = 10, 100

    response = client.post("/api/track/", [EVENT] * 30)

    assert response["RateLimit-Policy"] == '"requests";q=10;qu="requests";w=60, "events";q=100;qu="events";w=60'
    assert response["RateLimit"] == '"requests";r=9;t=61, "events";r=70;t=61'


def test_a_batch_that_could_never_pass_is_too_large(client, clock, settings):
    settings.RATE_LIMIT_EVENTS = 10

    response = client.post("/api/track/", [EVENT] * 11)

    assert (response.status_code, response.json()) == (
        413,
        {"detail": "The request has 11 events; this client may send 10 a minute."},
    )
    assert client.post("/api/track/", [EVENT] * 10).status_code == 201


@pytest.mark.parametrize(("value", "key"), [("x", "a"), (1, "a" * 101)])
def test_a_bad_event_or_key_is_not_counted(client, clock, settings, value, key):
    settings.RATE_LIMIT_EVENTS = 2
    events = [{**EVENT, "value": value}] * 2

    assert statuses(lambda: client.post("/api/track/", events, headers={"Idempotency-Key": key}), 3) == [400] * 3
    assert client.post("/api/track/", [EVENT] * 2).status_code == 201


@pytest.mark.parametrize(
    ("setting", "own", "allowed"), [(2, None, 2), (2, 3, 3), (3, 2, 2), (0, 2, 2), (2, 0, 6), (0, 0, 6), (0, None, 6)]
)
def test_a_grant_may_have_limits_of_its_own(client, application, clock, settings, setting, own, allowed):
    settings.RATE_LIMIT_REQUESTS = setting
    Grant.objects.create(application=application, requests_a_minute=own)

    assert statuses(lambda: client.get("/api/events/"), 6) == [200] * allowed + [429] * (6 - allowed)


def test_a_grant_may_have_a_limit_of_events(client, application, clock, settings):
    settings.RATE_LIMIT_EVENTS = 100
    Grant.objects.create(application=application, events_a_minute=5)

    assert [client.post("/api/track/", [EVENT] * 5).status_code for _ in range(2)] == [201, 429]


# Series that a client starts.

DAY = 86_400


def named(*names, namespace="Shop"):
    return [{**EVENT, "namespace": namespace, "name": name} for name in names]


@pytest.fixture
def midnight(clock):
    clock.now = 20_000.0 * DAY
    return clock


def test_a_client_may_start_so_many_series_a_day(client, midnight, settings):
    settings.RATE_LIMIT_NEW_SERIES = 3

    response = client.post("/api/track/", named("a", "b", "a"))
    told = ('"new series";q=3;qu="new series";w=86400', '"new series";r=1;t=86401')
    assert (response.status_code, fields(response)) == (201, told)

    response = client.post("/api/track/", named("a", "c", "d"))
    assert (response.status_code, response.json()) == (
        429,
        {"detail": "More than 3 new series a day; try again in 86401 s."},
    )
    assert response["Retry-After"] == "86401"
    assert Event.objects.count() == 3

    assert client.post("/api/track/", named("c")[0]).status_code == 201
    response = client.post("/api/track/", named("d")[0])
    assert (response.status_code, response.json()) == (
        429,
        {"detail": "More than 3 new series a day; try again in 86401 s."},
    )
    # those that are there go on
    response = client.post("/api/track/", named("a", "b", "c") * 2)
    assert (response.status_code, fields(response)) == (201, (None, None))
    midnight.now += 2 * DAY
    assert client.post("/api/track/", named("d", "e", "f")).status_code == 201
    assert client.post("/api/track/", named("g")[0]).status_code == 429


def test_a_request_that_is_refused_for_its_new_series_takes_no_events_away(client, midnight, settings):
    settings.RATE_LIMIT_NEW_SERIES, settings.RATE_LIMIT_EVENTS = 2, 20
    client.post("/api/track/", named("a", "b"))

    for status, refused in ((429, named("c")), (413, named("c", "d", "e"))):
        response = client.post("/api/track/", [*refused, *named("a") * 5])
        assert (response.status_code, response["RateLimit"].split(", ")[0]) == (status, left(18, 61, "events"))

    assert client.post("/api/track/", named("a") * 18).status_code == 201
    assert client.post("/api/track/", named("a")).status_code == 429


def test_a_batch_with_more_new_series_than_a_days_is_too_large(client, midnight, settings):
    settings.RATE_LIMIT_NEW_SERIES = 2

    response = client.post("/api/track/", named("a", "b", "c"))

    assert (response.status_code, response.json()) == (
        413,
        {"detail": "The request has 3 new series; this client may start 2 a day."},
    )
    assert not Event.objects.exists()
    assert client.post("/api/track/", named("a", "b")).status_code == 201


@pytest.mark.parametrize("body", ["json", "ndjson", "form"])
def test_series_are_counted_in_any_body(client, midnight, settings, body):
    settings.RATE_LIMIT_NEW_SERIES = 1

    def send(name):
        if body == "form":
            return client.post("/api/track/", named(name)[0], format="multipart").status_code
        event = json.dumps(named(name)[0])
        return client.post(
            "/api/track/", event, content_type="application/x-ndjson" if body == "ndjson" else "application/json"
        ).status_code

    assert [send("a"), send("a"), send("b"), send("a")] == [201, 201, 429, 201]


@pytest.mark.parametrize(
    ("setting", "own", "allowed"), [(2, None, 2), (2, 3, 3), (3, 2, 2), (0, 2, 2), (2, 0, 6), (0, 0, 6), (0, None, 6)]
)
def test_a_grant_may_have_a_limit_of_new_series(client, application, midnight, settings, setting, own, allowed):
    settings.RATE_LIMIT_NEW_SERIES = setting
    Grant.objects.create(application=application, new_series_a_day=own)

    found = [client.post("/api/track/", named(name)[0]).status_code for name in "abcdef"]

    assert found == [201] * allowed + [429] * (6 - allowed)


@pytest.mark.parametrize("stored", ["in the log", "in the rollups", "in the rollups alone"])
def test_a_series_is_new_where_nothing_is_known_of_it(client, midnight, settings, make_event, stored):
    make_event("Shop", "old", "2020-01-01T00:00:00")
    if stored != "in the log":
        roll_up.take_step()
    if stored == "in the rollups alone":  # as retention leaves it
        Event.objects.all()._raw_delete("default")
    settings.RATE_LIMIT_NEW_SERIES = 1

    assert client.post("/api/track/", named("old")[0]).status_code == 201
    assert client.post("/api/track/", named("old", "new")).status_code == 201
    assert client.post("/api/track/", named("newer")[0]).status_code == 429
    assert client.post("/api/track/", named("old", namespace="shop")[0]).status_code == 429


@pytest.mark.one_partition
def test_series_that_are_known_cost_no_query(client, midnight, settings, statements):
    def cost(*names):
        with statements() as sent:
            assert client.post("/api/track/", named(*names)).status_code == 201
        return len([sql for sql in sent if "series" in sql])

    client.post("/api/track/", named("a"))
    assert cost("a", "b", "c") == 0
    settings.RATE_LIMIT_NEW_SERIES = 1_000
    assert [cost("a", "b", "c"), cost("a", "b", "c"), cost("d"), cost("a", "d"), cost("a", "d")] == [1, 0, 1, 1, 0]


def test_what_is_known_of_series_is_bounded(client, midnight, settings, monkeypatch):
    monkeypatch.setattr(new_series, "MOST_KNOWN", 3)
    settings.RATE_LIMIT_NEW_SERIES = 1_000
    for name in "abcdefgh" * 2:
        assert client.post("/api/track/", named(name)[0]).status_code == 201
        assert len(new_series._known) <= 3


def test_what_is_refused_first_starts_no_series(client, application, midnight, settings):
    settings.RATE_LIMIT_NEW_SERIES, settings.RATE_LIMIT_EVENTS = 1, 1
    Grant.objects.create(application=application, write_namespaces="Shop")

    assert client.post("/api/track/", [{**named("a")[0], "value": "x"}]).status_code == 400
    assert client.post("/api/track/", named("a", namespace="Bank")).status_code == 403
    assert client.post("/api/track/", named("a", "a")).status_code == 413
    assert client.post("/api/track/", named("b")).status_code == 201


def test_a_request_that_is_sent_again_starts_its_series_once(client, midnight, settings):
    settings.RATE_LIMIT_NEW_SERIES = 1

    for _ in range(3):
        assert client.post("/api/track/", named("a"), headers={"Idempotency-Key": "k"}).status_code == 201


def test_clients_have_counts_of_their_own_and_the_tokens_of_one_share_it(client, make_token, clock, settings):
    settings.RATE_LIMIT_REQUESTS = 2
    other = Application.objects.create(client_id="other", client_type="confidential")
    theirs = make_token("read", text="theirs", application=other)
    second = make_token("read", text="second")

    def get(token):
        return APIClient(headers={"Authorization": f"Bearer {token}"}).get("/api/events/").status_code

    assert client.get("/api/events/").status_code == 200
    assert [get(second), get(second)] == [200, 429]
    assert [get(theirs), get(theirs), get(theirs)] == [200, 200, 429]


def test_what_is_not_let_in_is_not_counted(client, client_with_scopes, clock, settings):
    settings.RATE_LIMIT_REQUESTS = 2
    stranger = APIClient(headers={"Authorization": "Bearer unknown"})

    assert statuses(lambda: stranger.get("/api/events/"), 5) == [401] * 5
    assert statuses(lambda: client.get("/api/events/"), 3) == [200, 200, 429]
