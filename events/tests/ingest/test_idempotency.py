"""``Idempotency-Key``: a request that may be sent again."""

import threading
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from oauth2_provider.models import Application
from rest_framework.test import APIClient

from events.log import append
from events.models import Event, IdempotencyKey
from events.tests.support.bodies import PAGE_VIEW as EVENT
from events.tests.support.clients import client_with

client = client_with("write")


def post(client, data, key="k", **options):
    return client.post("/api/track/", data, headers={"Idempotency-Key": key}, **options)


@pytest.mark.parametrize("data", [EVENT, [EVENT, EVENT]])
def test_a_repeated_request_answers_as_the_first_time_and_stores_nothing(client, data):
    first = post(client, data)
    count = Event.objects.count()

    again = post(client, data)

    assert (again.status_code, again.content) == (first.status_code, first.content) == (201, first.content)
    assert Event.objects.count() == count == (2 if isinstance(data, list) else 1)


def test_the_same_events_written_otherwise_are_the_same_request(client):
    post(client, EVENT)

    again = post(client, {**EVENT, "timestamp": "1605179400", "value": "142.50"}, format="multipart")

    assert again.status_code == 201
    assert Event.objects.count() == 1


@pytest.mark.parametrize("other", [{**EVENT, "value": 1}, [EVENT], [EVENT, EVENT]])
def test_another_body_is_refused(client, other):
    post(client, EVENT)

    response = post(client, other)

    assert (response.status_code, response.json()) == (
        422,
        {"detail": "This Idempotency-Key was used for another body."},
    )
    assert Event.objects.count() == 1


def test_a_refused_request_does_not_use_its_key_up(client):
    assert post(client, {**EVENT, "value": "x"}).status_code == 400
    assert not IdempotencyKey.objects.exists()

    assert post(client, EVENT).status_code == 201


def test_other_keys_and_requests_without_one_are_stored(client):
    for key in ("a", "b", "A"):
        assert post(client, EVENT, key).status_code == 201
    for _ in range(2):
        assert client.post("/api/track/", EVENT).status_code == 201

    assert Event.objects.count() == 5


def test_each_client_has_keys_of_its_own(client, application, make_token):
    post(client, EVENT)
    other = Application.objects.create(
        client_id="other", client_type="confidential", authorization_grant_type="client-credentials"
    )

    response = post(
        APIClient(headers={"Authorization": f"Bearer {make_token('write', text='other-token', application=other)}"}),
        EVENT,
    )

    assert response.status_code == 201
    assert Event.objects.count() == 2
    assert list(IdempotencyKey.objects.values_list("client", "key").order_by("pk")) == [("shop", "k"), ("other", "k")]


@pytest.mark.parametrize(("key", "status"), [("", 400), ("k" * 101, 400), ("k" * 100, 201), ("u ?", 201)])
def test_a_key_has_1_to_100_characters(client, key, status):
    response = post(client, EVENT, key)

    assert response.status_code == status
    if status == 400:
        assert response.json() == {"Idempotency-Key": ["Must have 1 to 100 characters."]}
    assert Event.objects.count() == (status == 201)


@pytest.mark.parametrize("key", ["é", "order-é", "\u00a0", "a\0", "a\tb", "\x7f"])
def test_a_key_is_of_printable_ascii(client, key):
    response = post(client, EVENT, key)

    assert (response.status_code, response.json()) == (
        400, {"Idempotency-Key": ["Must be of printable ASCII characters only."]}
    )  # fmt: skip
    assert not Event.objects.exists()


def test_key_and_events_are_stored_together_or_not_at_all(client, monkeypatch):
    def fail(rows):
        raise ValueError("the disk is on fire")

    monkeypatch.setattr(append, "append", fail)
    with pytest.raises(ValueError, match="on fire"):
        post(client, EVENT)
    assert not IdempotencyKey.objects.exists()
    monkeypatch.undo()

    assert post(client, EVENT).status_code == 201
    assert Event.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_duplicates_are_stored_once(client):
    ready = threading.Barrier(4)
    answers = []

    def send():
        ready.wait()
        try:
            twin = APIClient(headers={"Authorization": "Bearer token-of-the-shop"})
            response = post(twin, [EVENT] * 50)
            answers.append((response.status_code, response.json()))
        finally:
            connection.connection.close()  # not Django's close(), which leaves a database in memory open

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stored = (201, {"accepted": 50})
    assert stored in answers
    if connection.vendor == "postgresql":  # SQLite in memory, as tests have it, doesn't wait
        assert answers == [stored] * 4
    assert {status for status, _ in answers} <= {201, 503}
    assert Event.objects.count() == 50


def test_old_keys_are_pruned_by_a_command(client, settings):
    settings.IDEMPOTENCY_KEEP_HOURS = 2
    for key, hours in [("old", 2.01), ("young", 1.99)]:
        post(client, EVENT, key)
        IdempotencyKey.objects.filter(key=key).update(created=timezone.now() - timedelta(hours=hours))

    def prune(*arguments):
        output = StringIO()
        call_command("prune_idempotency_keys", *arguments, stdout=output)
        return output.getvalue()

    assert prune("--dry-run") == "Would delete 1 keys older than 2 hours.\n"
    assert IdempotencyKey.objects.count() == 2
    assert prune() == "Deleted 1 keys older than 2 hours.\n"
    assert [key.key for key in IdempotencyKey.objects.all()] == ["young"]
    assert prune() == "Deleted 0 keys older than 2 hours.\n"
