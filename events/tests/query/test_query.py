"""``POST /api/query/``: several questions at once, each answered by itself, all from one snapshot."""

import json

import psycopg2.errors
import pytest
from django.contrib.auth.models import Permission, User
from django.db import OperationalError
from django.test import Client
from rest_framework.test import APIClient

from events.aggregation.answer import Answer
from events.calendar import timestamps
from events.models import Event, Grant
from events.query import replies
from events.tests.support import partitioned
from events.tests.support.clients import client_with
from events.tests.support.rolling_up import roll_up_all

client = client_with("aggregation")

PATH = "/api/query/"


def ask(client, *questions, **options):
    return client.post(PATH, {"questions": list(questions)}, format="json", **options)


def question(name="order", namespace="Shop", **parameters):
    return {"namespace": namespace, "name": name, **parameters}


def alone(client, namespace, name, **query):
    response = client.get(f"/api/events/{namespace}/{name}", query)
    accuracy = response.headers.get("Tracking-Accuracy")
    return {"status": response.status_code, "body": response.json(), **({"accuracy": accuracy} if accuracy else {})}


def test_each_is_answered_as_by_itself(client, make_event, partition_count):
    for day in range(1, 4):
        make_event("Shop", "order", f"2020-11-0{day}T11:00:00", day)
        make_event("Blog", "näme", f"2020-11-0{day}T23:30:00", -day)
        roll_up_all() if day == 2 else None
    asked = [
        ("Shop", "order", {"granularity": "day", "aggregationType": "sum", "tsMin": "2020-11-02"}),
        ("Shop", "order", {"granularity": "day", "fill": "one"}),
        ("Blog", "näme", {"granularity": "day", "timezone": "Europe/Berlin", "timestamp": "bucket"}),
        ("Shop", "order", {"tsMin": "2020-11-03", "tsMax": "2020-11-02"}),
        ("Shop", "order", {"granularity": "month", "fill": "zero", "tsMin": "2020-09-01", "tsMax": "2020-11-30"}),
        ("No", "events", {}),
        ("Shop", "order", {"unit": "EUR"}),
        ("Shop", ".", {}),
        ("Shop", "order", {"granularity": "month", "aggregationType": "p95"}),
    ]

    response = ask(client, *({"namespace": namespace, "name": name, **query} for namespace, name, query in asked))

    assert response.status_code == 200
    found = response.json()["answers"]
    expected = [alone(client, namespace, name, **query) for namespace, name, query in asked]
    assert [each["status"] for each in expected] == [200, 400, 200, 400, 200, 200, 400, 400, 200]
    assert expected[8]["accuracy"] == "exact"
    accepted = "tsMin, tsMax, granularity, aggregationType, timezone, fill, timestamp"
    assert found[6] == {"status": 400, "body": {"unit": [f"Unknown field. Accepted: {accepted}, namespace, name."]}}
    assert found[:6] + found[7:] == expected[:6] + expected[7:]


@pytest.mark.parametrize("name", ["granularity", "aggregationType", "fill", "timestamp"])
@pytest.mark.parametrize(
    ("word", "shown"), [("\ud800", "\\ud800"), (["x" * 1_000], "['" + "x" * 48), ("x" * 1_000, "x" * 50)]
)
def test_a_word_that_none_is_is_repeated_as_far_as_an_answer_can(client, name, word, shown):
    body = json.dumps({"questions": [question(), question(**{name: word})]})

    response = client.post(PATH, body, content_type="application/json")

    assert response.status_code == 200
    right, wrong = response.json()["answers"]
    assert (right, wrong["status"], [*wrong["body"]]) == ({"status": 200, "body": []}, 400, [name])
    assert wrong["body"][name][0].startswith(f"“{shown}” is not accepted. Choose one of: ")


def test_a_parameter_is_of_json(client, make_event):
    make_event("Shop", "order", "2020-11-12T11:10:00", 142)
    item = {"aggregatedTimestamp": "2020-11-12T11:10:00Z", "value": 142.0}

    response = ask(
        client,
        question(tsMin=1605179400, tsMax=1605179400000.5),
        question(tsMin=1605179401),
        question(tsMin=None, fill="", granularity="year"),
        question(tsMin="1605179400"),
        question(tsMin="1605179401.5"),
        question(tsMin=True),
        question(tsMin="2020"),
        question(timezone={}, fill=[], granularity={"a": 1}),
        question(namespace=None),
        17,
    )

    assert [tuple(each.values()) for each in response.json()["answers"]] == [
        (200, [item]),
        (200, []),
        (200, [item]),
        (200, [item]),
        (200, []),
        (400, {"tsMin": [f"Must be {timestamps.ACCEPTED}."]}),
        (400, alone(client, "Shop", "order", tsMin="2020")["body"]),
        (400, alone(client, "Shop", "order", timezone="{}", fill="[]", granularity="{'a': 1}")["body"]),
        (400, {"namespace": ["This field may not be null."]}),
        (400, {"non_field_errors": ["Invalid data. Expected a dictionary, but got int."]}),
    ]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, {"questions": ["This field is required."]}),
        (b"{}", 400, {"questions": ["This field is required."]}),
        (b"[]", 400, {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}),
        (b'{"questions": []}', 400, {"questions": ["This list may not be empty."]}),
        (b'{"questions": 1}', 400, {"questions": ['Expected a list of items but got type "int".']}),
        (b'{"questions": [%s]}' % b",".join([b"{}"] * 21), 400, {"questions": ["Ensure this field has no more than 20 elements."]}),
        (b'{"questions": [{}], "a": 1}', 400, {"a": ["Unknown field. Accepted: questions."]}),
        (b'{"questions": [{}], "questions": [{}]}', 400, {"questions": ["This field may be given only once."]}),
        (b"{", 400, {"detail": "JSON parse error - Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"}),
        (b'"%s"' % (b"x" * 250_000), 413, {"detail": "The body has more than the 250000 bytes allowed here."}),
    ],
)  # fmt: skip
def test_what_is_no_query_is_refused_as_a_whole(client, body, status, said):
    response = client.post(PATH, body, content_type="application/json")

    assert (response.status_code, response.json()) == (status, said)


def test_a_parameter_twice_is_refused(client):
    body = b'{"questions": [{"namespace": "a", "name": "b", "name": "c"}]}'

    response = client.post(PATH.rstrip("/"), body, content_type="application/json")

    said = {"name": ["This field may be given only once."]}
    assert (response.status_code, response.json()) == (200, {"answers": [{"status": 400, "body": said}]})


def test_a_grant_is_held_against_each_question(client, application, make_event):
    make_event("Shop", "order")
    Grant.objects.create(application=application, aggregation_namespaces="Shop")

    response = ask(client, question(aggregationType="count"), question(namespace="Blog"))

    said = {"namespace": ["The client is not granted the scope aggregation in “Blog”."]}
    assert [(each["status"], each["body"]) for each in response.json()["answers"]] == [
        (200, [{"aggregatedTimestamp": "2020-11-12T11:10:00Z", "value": 1}]),
        (403, said),
    ]


def test_who_may_not_read_is_refused(client_with_scopes, db):
    nobody = APIClient().post(PATH, {})
    writer = ask(client_with_scopes("write read"), question())

    assert (nobody.status_code, nobody["WWW-Authenticate"][:6]) == (401, "Bearer")
    assert (writer.status_code, writer.json()) == (403, {"detail": "The access token lacks the scope aggregation."})


def test_a_user_asks_by_the_session_with_the_token_of_the_page(make_event):
    make_event("Shop", "order")
    user = User.objects.create(username="ann")
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user)
    browser.get("/accounts/login/?next=/")
    page = browser.get("/")
    body = {"questions": [question(aggregationType="count")]}

    def asked(**headers):
        return browser.post(PATH, body, content_type="application/json", headers=headers)

    assert page.status_code == 403
    token = browser.cookies["csrftoken"].value
    assert asked().json() == {"detail": "CSRF Failed: CSRF token missing."}
    assert asked(X_CSRFToken=token).json() == {"detail": "You lack the permission to view events."}
    user.user_permissions.add(Permission.objects.get(codename="view_event"))
    assert asked(X_CSRFToken=token).json()["answers"][0]["body"][0]["value"] == 1
    elsewhere = asked(X_CSRFToken=token, Sec_Fetch_Site="cross-site")
    assert elsewhere.status_code == 403


def test_a_question_counts_as_a_request(client, application, clock):
    Grant.objects.create(application=application, requests_a_minute=5)

    first, second = ask(client, *[question()] * 3), ask(client, *[question()] * 3)
    wrong = client.post(PATH, {"questions": []}, format="json")
    many = ask(client, *[question()] * 6)

    assert (first.status_code, first["RateLimit"]) == (200, '"requests";r=2;t=61')
    assert (second.status_code, second["Retry-After"]) == (429, "61")
    assert (wrong.status_code, wrong["RateLimit"]) == (400, '"requests";r=1;t=61')
    said = "The request has 6 questions; this client may send 5 requests a minute."
    assert (many.status_code, many.json()) == (413, {"detail": said})


def test_all_answers_together_have_a_limit(client, make_event, settings):
    settings.MAX_ITEMS = 3
    for minute in range(2):
        make_event("Shop", "order", f"2020-11-12T11:1{minute}:00")
    for minute in range(4):
        make_event("Shop", "visit", f"2020-11-12T11:1{minute}:00")

    response = ask(client, question(), question("visit"), question(), question(granularity="year"))

    answers = response.json()["answers"]
    assert [each["status"] for each in answers] == [200, 400, 413, 200]
    assert answers[2]["body"] == {"detail": "The answers have more than 3 items together; ask for this one by itself."}


def test_all_are_read_in_one_snapshot(client, make_event, monkeypatch, partition_count):
    """An event that comes while the first question is answered is in none of the answers, as the database shows it."""
    seen = []
    real = replies.snapshot

    def watched():
        seen.append("snapshot")
        return real()

    monkeypatch.setattr(replies, "snapshot", watched)
    make_event("Shop", "order")

    ask(client, question(), question("visit"), question("third"))

    assert seen == ["snapshot"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql")
def test_what_comes_meanwhile_is_in_none(client, make_event, monkeypatch):
    from threading import Thread

    from django.db import connections

    make_event("Shop", "order")
    real, threads = Answer.items, []

    def add():
        for name in ("order", "visit"):
            Event.objects.create(namespace="Shop", name=name, timestamp="2020-11-12T11:11:00Z", value=1)
        connections.close_all()

    def read(self):
        found = real(self)
        if not threads:
            threads.append(thread := Thread(target=add))
            thread.start()
            thread.join()
        return found

    monkeypatch.setattr(Answer, "items", read)
    response = ask(client, question(), question(), question("visit"))

    of_series, again, of_other = [len(each["body"]) for each in response.json()["answers"]]
    assert (of_series, again) == (1, 1)
    if not partitioned.ON_A_CLUSTER:  # where another node may have the other series, with a snapshot of its own
        assert of_other == 0
    assert Event.objects.filter(name="order").count() == 2


def cancelled(self):
    raise OperationalError("canceling statement") from psycopg2.errors.QueryCanceled()


def test_a_statement_that_takes_too_long_is_refused_by_itself(client, make_event, monkeypatch, settings):
    make_event("Shop", "order")
    real = Answer.items
    monkeypatch.setattr(Answer, "items", lambda self: (cancelled if self.question.name == "slow" else real)(self))

    response = ask(client, question("slow"), question(aggregationType="count"))

    said = {"detail": "Cancelled after 30 s; ask for less, or try again."}
    answers = response.json()["answers"]
    assert answers[0] == {"status": 503, "body": said}
    assert answers[1]["status"] == 200
    settings.STATEMENT_TIMEOUT_SECONDS = -1  # all of the time is over
    assert {each["status"] for each in ask(client, question(), question()).json()["answers"]} == {503}


@pytest.mark.only_on("postgresql")
def test_the_others_are_answered_in_the_same_transaction(client, make_event, monkeypatch):
    from django.db import connection

    make_event("Shop", "order")
    real = Answer.items

    def slow(self):
        if self.question.name == "slow":
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = '20ms'")
                cursor.execute("SELECT pg_sleep(1)")
        return real(self)

    monkeypatch.setattr(Answer, "items", slow)

    assert [each["status"] for each in ask(client, question("slow"), question()).json()["answers"]] == [503, 200]


def test_the_replica_may_be_asked(client, make_event):
    make_event("Shop", "order")

    response = ask(client, question(), headers={"Tracking-Read": "replica"})
    wrong = ask(client, question(), headers={"Tracking-Read": "any"})

    assert (response.status_code, response["Tracking-Read"]) == (200, "primary")
    assert (wrong.status_code, wrong.json()) == (
        400, {"Tracking-Read": ["“any” is not accepted. Choose one of: primary, replica."]}
    )  # fmt: skip


def test_it_reads_as_much_as_the_questions_need(client, make_event, django_assert_num_queries):
    make_event("Shop", "order")
    roll_up_all()
    ask(client, question())
    window = {"tsMin": "2020-11-12T11:00:00Z", "tsMax": "2020-11-12T11:59:00Z", "granularity": "hour"}

    for many in (1, 12):
        savepoints = 2 * many if is_postgresql() else 0
        with django_assert_num_queries(2 * many + savepoints):
            ask(client, *[question(**window)] * many)


def is_postgresql():
    from django.db import connection

    return connection.vendor == "postgresql"
