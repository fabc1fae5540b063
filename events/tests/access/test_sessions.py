"""Log-ins, of which the database knows digests only."""

import asyncio
import hashlib
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore as PlainStore
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.utils import timezone

from events.access.sessions import SessionStore

SIGNED_OUT, SIGNED_IN = 302, 200


@pytest.fixture
def client(db):
    User.objects.create_superuser("ada", password="lovelace")
    client = Client()
    assert client.post("/accounts/login/", {"username": "ada", "password": "lovelace"}).status_code == 302
    return client


def with_cookie(key):
    client = Client()
    client.cookies["sessionid"] = key
    return client.get("/").status_code


def test_what_the_table_holds_opens_nothing(client):
    key = client.cookies["sessionid"].value
    [row] = Session.objects.all()

    assert row.session_key == hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
    assert (with_cookie(key), with_cookie(row.session_key)) == (SIGNED_IN, SIGNED_OUT)


def test_a_row_of_an_older_release_opens_nothing(client):
    older = PlainStore()
    older.update(client.session.items())
    older.create()

    assert Session.objects.filter(session_key=older.session_key).exists()
    assert with_cookie(older.session_key) == SIGNED_OUT


def test_logging_out_ends_it(client):
    key = client.cookies["sessionid"].value
    assert client.post("/accounts/logout/").status_code == 302

    assert (with_cookie(key), Session.objects.count()) == (SIGNED_OUT, 0)


def test_logging_in_changes_the_key(client):
    before = client.cookies["sessionid"].value
    User.objects.create_superuser("eve", password="evelace")
    client.post("/admin/login/", {"username": "eve", "password": "evelace"})

    assert client.cookies["sessionid"].value != before
    assert (with_cookie(before), Session.objects.count()) == (SIGNED_OUT, 1)


def test_it_ends_in_time(client):
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))

    assert with_cookie(client.cookies["sessionid"].value) == SIGNED_OUT


@pytest.mark.parametrize("key", ["", "x", "é" * 40, "a" * 5_000])
def test_another_cookie_opens_nothing(client, key):
    assert with_cookie(key) == SIGNED_OUT


@pytest.mark.django_db(transaction=True)
def test_it_does_the_same_where_it_is_awaited():
    async def use():
        session = SessionStore()
        session["a"] = 1
        await session.asave()
        key = session.session_key
        found = await SessionStore(key).aload(), await session.aexists(key)
        await session.adelete(key)
        after = await SessionStore(key).aload()
        await sync_to_async(lambda: connection.close())()  # that of a thread of its own
        return key, found, after

    key, found, after = asyncio.run(use())

    assert (found, after) == (({"a": 1}, True), {})
    assert not Session.objects.filter(session_key=key).exists()
