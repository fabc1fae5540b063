"""Which errors of the database may be over when a request is sent again."""

import sqlite3

import psycopg2.errors
import pytest
from django.db import InternalError, OperationalError, connection

from events.aggregation.answer import Answer
from events.database import snapshot
from events.database.errors import is_database_away, is_read_only

ON_A_NODE = "\nCONTEXT:  while executing command on 127.0.0.1:9701\n"
CASES = {
    "failure on connection marked as essential: 127.0.0.1:9702\n": True,
    "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally" + ON_A_NODE: True,
    "connection not open" + ON_A_NODE: True,
    "could not receive data from server: Connection reset by peer" + ON_A_NODE: True,
    "could not send data to server: Broken pipe" + ON_A_NODE: True,
    "terminating connection due to administrator command\n": True,
    "canceling statement due to user request\n": True,
    'could not extend file "base/5/16384": No space left on device\n': True,
    'could not extend file "base/5/16384": wrote only 4096 of 8192 bytes at block 7\n': True,
    "no space left on device\n": True,
    "out of memory\n": True,
    "out of shared memory\n": True,
    "cache lookup failed for relation 102022" + ON_A_NODE: False,
}  # fmt: skip


@pytest.mark.parametrize(("text", "is_away"), CASES.items(), ids=range(len(CASES)))
def test_a_node_that_goes_away_amid_a_statement_is_no_mistake(text, is_away):
    error = InternalError(text)
    error.__cause__ = psycopg2.errors.InternalError_(text)

    assert is_database_away(error) is is_away


def test_a_sqlite_file_that_takes_no_writes_is_no_mistake(tmp_path):
    sqlite3.connect(tmp_path / "file").close()
    connection = sqlite3.connect(f"file:{tmp_path}/file?mode=ro", uri=True)
    error = OperationalError()
    with pytest.raises(sqlite3.OperationalError) as raised:
        connection.execute("CREATE TABLE t (a)")
    error.__cause__ = raised.value

    assert (is_database_away(error), is_read_only(error)) == (True, True)
    error.__cause__ = sqlite3.OperationalError("a mistake of ours")
    error.__cause__.sqlite_errorcode = sqlite3.SQLITE_ERROR
    assert (is_database_away(error), is_read_only(error)) == (False, False)
    connection.close()


@pytest.mark.only_on("sqlite")
@pytest.mark.django_db(transaction=True)
def test_events_are_taken_again_once_the_file_can_be_written(client_with_scopes, monkeypatch):
    """The session is read-only, as SQLite opens a file that it may not write."""
    client, event = client_with_scopes("write"), {"namespace": "a", "name": "b", "timestamp": 0, "value": 1}
    client.post("/api/track/", event, format="json")
    execute("PRAGMA query_only = on")  # the same error
    monkeypatch.setattr(connection, "close", lambda: execute("PRAGMA query_only = off"))
    answers = [client.post("/api/track/", event, format="json") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [503, 201]
    assert answers[0]["Retry-After"] == "1"


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.mark.only_on("postgresql")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fails", [False, True])
def test_an_answer_amid_which_a_partition_moved_is_asked_for_again(client_with_scopes, make_event, monkeypatch, fails):
    """Whatever is read: on a cluster the answer may lack events, or what was read may fit nothing."""
    make_event()
    places = iter(["1 1, 2 2", "1 1, 2 3", "1 1, 2 3", "1 1, 2 3"])
    monkeypatch.setattr(snapshot, "placements", lambda connection: next(places))
    client = client_with_scopes("aggregation")
    client.raise_request_exception = False
    if fails:
        monkeypatch.setattr(Answer, "items", lambda answer: [][0])

    refused, answer = (client.get("/api/events/Frontend/pageView") for _ in range(2))

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert answer.status_code == (500 if fails else 200)
