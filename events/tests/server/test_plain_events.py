"""Plain events are stored by the server's loop, and hold no thread while the database takes its time."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection

import psycopg2
import pytest
from django.db import connection, connections

from events.database import partitions
from events.log.append import Row
from events.log.async_append import AsyncAppender
from events.models import Event
from events.tests.support import service
from events.tests.support.service import call, fetch_token, query
from events.tests.support.waiting import wait_until
from tracking_api.server.plain_events import NotSentError, Sessions
from tracking_api.server.thread_pool import FairThreadPool

OF_THE_DATABASE = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
SESSIONS = f"{OF_THE_DATABASE} AND query LIKE 'EXECUTE append_event%'"
UNUSED = f"{OF_THE_DATABASE} AND query LIKE 'PREPARE append_event%'"


@pytest.fixture(scope="module")
def env(prepared, tmp_path_factory):
    directory = tmp_path_factory.mktemp("plain")
    options = {"SERVER_WORKERS": 1, "SERVER_THREADS": 3, "STATEMENT_TIMEOUT_SECONDS": 20}
    with prepared(directory, **options) as env, service.served(env):
        env["TOKEN"] = fetch_token(env)
        yield env


@pytest.fixture(autouse=True)
def new_session(request):
    """What was stored is gone, and the server's loop has an idle session, or threads would store the first events."""
    if "env" in request.fixturenames:
        env = request.getfixturevalue("env")
        for sessions in (SESSIONS, UNUSED):
            query(env, f"SELECT pg_terminate_backend(pid) FROM ({sessions}) AS sessions")
        wait_until(lambda: not query(env, SESSIONS) and not query(env, UNUSED))
        open_a_session(env)
        with closing(psycopg2.connect(env["DATABASE_URL"])) as session, session:
            session.cursor().execute("DELETE FROM events_event")


def open_a_session(env):
    """A server without sessions has one after this, which has stored nothing yet."""
    assert post(env, 0) == (201, None)  # by a thread
    wait_until(lambda: query(env, UNUSED))


def post(env, value):
    headers = {"Authorization": f"Bearer {env['TOKEN']}", "Content_Type": "application/json"}
    body = json.dumps({"namespace": "a", "name": "b", "timestamp": 0, "value": value})
    status, answered, _ = call(env, "POST", "/api/track/", body, **headers)
    return status, answered["Retry-After"]


def sent(env, value):
    """A connection over which an event was sent, whose answer is still to be read."""
    connection = HTTPConnection("127.0.0.1", int(env["PORT"]), timeout=60)
    headers = {"Authorization": f"Bearer {env['TOKEN']}", "Content-Type": "application/json"}
    body = json.dumps({"namespace": "a", "name": "b", "timestamp": 0, "value": value})
    connection.request("POST", "/api/track/", body, headers)
    return connection


def statuses(senders):
    """The statuses of the answers."""
    found = []
    for sender in senders:
        with closing(sender):
            found.append(sender.getresponse().status)
    return found


def ask_something_else(env):
    """What came before has been read when this is answered."""
    assert call(env, "GET", "/api/events/", Authorization=f"Bearer {env['TOKEN']}")[0] == 200


def stored(env):
    return sorted(value for (value,) in query(env, "SELECT value FROM events_event WHERE namespace = 'a'"))


def waiting(env):
    return query(env, f"{SESSIONS} AND wait_event_type = 'Lock'")


def test_who_asks_something_else_does_not_wait_for_them(env):
    with ThreadPoolExecutor(2) as clients:
        with service.locked(env["DATABASE_URL"]):
            first = clients.submit(post, env, 1)
            wait_until(lambda: len(waiting(env)) == 1)
            second = clients.submit(post, env, 2)
            wait_until(lambda: len(waiting(env)) == 2 or query(env, "SELECT 1 FROM pg_locks WHERE NOT granted"))
            for _ in range(3):
                assert call(env, "GET", "/api/events/", Authorization=f"Bearer {env['TOKEN']}")[0] == 200
            assert not first.done()
            assert not second.done()

        assert [first.result(), second.result()] == [(201, None)] * 2
    assert stored(env) == [1, 2]


def test_more_of_them_than_sessions_and_threads_are_all_stored(env):
    with ThreadPoolExecutor(12) as clients:
        with service.locked(env["DATABASE_URL"]):
            answers = [clients.submit(post, env, value) for value in range(12)]
            wait_until(lambda: waiting(env))

        assert [answer.result() for answer in answers] == [(201, None)] * 12
    assert stored(env) == list(range(12))


def test_those_that_wait_for_a_session_hold_no_thread(env):
    with service.locked(env["DATABASE_URL"]):
        events = [sent(env, value) for value in range(4)]  # for a session, as a locked table lets none be opened
        wait_until(lambda: waiting(env))
        for _ in range(3):
            ask_something_else(env)

    assert statuses(events) == [201] * 4
    assert stored(env) == [0, 1, 2, 3]


def test_those_that_wait_for_a_session_that_ends_are_stored_all_the_same(env):
    with service.locked(env["DATABASE_URL"]):
        events = [sent(env, value) for value in range(4)]
        wait_until(lambda: waiting(env))
        ask_something_else(env)
        ended = len(query(env, f"SELECT pg_terminate_backend(pid) FROM ({SESSIONS} AND wait_event_type = 'Lock') AS s"))

    found = statuses(events)
    assert sorted(found) == [201] * (4 - ended) + [503] * ended
    assert stored(env) == [value for value, status in enumerate(found) if status == 201]


def test_those_that_wait_for_a_session_that_gets_too_old_are_stored_all_the_same(prepared, tmp_path):
    options = {"SERVER_WORKERS": 1, "SERVER_THREADS": 3, "DATABASE_CONNECTION_SECONDS": 2}
    with prepared(tmp_path, **options) as env, service.served(env):
        env["TOKEN"] = fetch_token(env)
        open_a_session(env)
        before = len(stored(env))
        with service.locked(env["DATABASE_URL"]):
            events = [sent(env, value) for value in range(1, 5)]
            wait_until(lambda: waiting(env))
            query(env, "SELECT pg_sleep(2)")  # no session is young enough for another event

        assert statuses(events) == [201] * 4
        assert stored(env)[before:] == [1, 2, 3, 4]


@pytest.mark.parametrize("end", ["pg_terminate_backend", "pg_cancel_backend"])
def test_a_session_that_ends_while_it_waits_is_a_503(env, end):
    with ThreadPoolExecutor(1) as clients:
        with service.locked(env["DATABASE_URL"]):
            answer = clients.submit(post, env, 1)
            wait_until(lambda: waiting(env))
            query(env, f"SELECT {end}(pid) FROM ({SESSIONS}) AS sessions")
            wait_until(lambda: not waiting(env))

        assert answer.result() == (503, "1")

    assert stored(env) == []
    assert post(env, 2) == (201, None)
    assert stored(env) == [2]


def test_a_session_that_ends_while_it_is_idle_is_not_used_again(env):
    for value in range(3):
        query(env, f"SELECT pg_terminate_backend(pid) FROM ({SESSIONS}) AS sessions")
        wait_until(lambda: not query(env, SESSIONS))

        assert post(env, value) == (201, None)

    assert stored(env) == [0, 1, 2]


def test_a_server_that_stops_answers_first(prepared, tmp_path):
    with (
        prepared(tmp_path, SERVER_WORKERS=1) as env, service.served(env) as process,
        ThreadPoolExecutor(1) as clients,
    ):  # fmt: skip
        env["TOKEN"] = fetch_token(env)
        open_a_session(env)
        with service.locked(env["DATABASE_URL"]):
            answer = clients.submit(post, env, 1)
            wait_until(lambda: waiting(env))
            process.terminate()

        assert answer.result() == (201, None)
        assert process.wait(10) == 0
        assert stored(env)[-1] == 1


@pytest.mark.django_db(transaction=True)
class TestASession:
    def stored(self, session, row):
        session.begin(row)
        wait_until(session.is_stored)

    def test_it_stores_any_text(self, partition_count):
        session = AsyncAppender()
        rows = [Row("a%s'\\", 'Ünï\u2028☃"', -1, -0.1), Row("a", "b", 253_402_300_799_999_999, 5e-324)]
        try:
            for row in rows:
                self.stored(session, row)
        finally:
            session.close()

        found = Event.objects.order_by("id").values_list("namespace", "name", "value", "partition")
        assert list(found) == [(n, m, value, partitions.partition_of(n, m)) for n, m, _, value in rows]

    def test_it_has_the_settings_of_all_sessions(self, monkeypatch):
        monkeypatch.setitem(connections.settings["default"]["SESSION_SETTINGS"], "statement_timeout", "17s")
        session = AsyncAppender()
        session._cursor.execute("SELECT current_setting('statement_timeout'), current_setting('jit')")
        wait_until(session.is_stored)

        assert session._cursor.fetchone() == ("17s", "off")
        session.close()

    def test_it_is_replaced_once_it_is_old_or_events_go_elsewhere(self, monkeypatch):
        monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
        session = AsyncAppender()
        assert session.is_obsolete()
        session.close()

        monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", None)
        session = AsyncAppender()
        assert not session.is_obsolete()
        monkeypatch.setattr(partitions, "_known", () if partitions.are_several() else (1, 2))
        assert session.is_obsolete()
        session.close()

    def test_those_that_wait_for_a_session_are_told_with_it_that_the_database_takes_too_long(self):
        found = []
        url = service.database_url(None, connection.settings_dict["NAME"])

        async def store():
            sessions = Sessions(1, FairThreadPool(1, "of a test"))
            sessions._add(AsyncAppender())
            with service.locked(url), closing(psycopg2.connect(url)) as other:
                for value in (1.0, 2.0):
                    sessions.store(Row("a", "b", 0, value), found.append)
                [session] = sessions._busy
                cursor, process = other.cursor(), session._session.get_backend_pid()
                cursor.execute("SELECT 0")
                while not cursor.fetchone()[0]:  # else it would not have begun yet, and wait until the lock's timeout
                    await asyncio.sleep(0.01)
                    cursor.execute("SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted", [process])
                cursor.execute("SELECT pg_cancel_backend(%s)", [process])
                while len(found) < 2:
                    await asyncio.sleep(0.01)

        asyncio.run(store())

        assert [type(each) for each in found] == [psycopg2.errors.QueryCanceled] * 2
        assert not Event.objects.exists()

    def test_what_ends_it_before_the_event_is_sent_stores_nothing(self):
        found = []

        async def store():
            sessions = Sessions(2, FairThreadPool(1, "of a test"))
            for _ in range(2):
                sessions._add(AsyncAppender())
            second, first = sessions._idle
            sessions.store(Row("a", "b", 0, 1.0), found.append)
            sessions.store(Row("a", "b", 0, 2.0), found.append)
            sessions._look(second)  # as where the server says that it goes away
            while len(found) < 2:
                await asyncio.sleep(0.01)
            sessions._drop(first)

        asyncio.run(store())

        assert [type(each) for each in found] == [NotSentError, type(None)]
        assert [*Event.objects.values_list("value", flat=True)] == [1.0]
