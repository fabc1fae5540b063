"""``GET /api/events/`` and ``GET /api/events/<namespace>``."""

import pytest
from django.db import connection
from rest_framework.test import APIClient

from events import rollups
from events.catalogue import catalogue


@pytest.fixture
def client(client_with_scopes):
    return client_with_scopes("read")


@pytest.fixture
def stored(make_event):
    make_event("b", "x", "2020-01-03T00:00:00")
    make_event("b", "x", "2020-01-01T00:00:00.5")
    make_event("b", "B", "2020-01-02T00:00:00")
    make_event("a", "ä", "2020-01-04T00:00:00")
    make_event("A", "z", "2020-01-05T00:00:00")


def series(namespace, name, count, first, last):
    return {"namespace": namespace, "name": name, "count": count, "firstTimestamp": first, "lastTimestamp": last}


IN_B = [
    series("b", "B", 1, "2020-01-02T00:00:00Z", "2020-01-02T00:00:00Z"),
    series("b", "x", 2, "2020-01-01T00:00:00.500000Z", "2020-01-03T00:00:00Z"),
]
ALL = [
    series("A", "z", 1, "2020-01-05T00:00:00Z", "2020-01-05T00:00:00Z"),
    series("a", "ä", 1, "2020-01-04T00:00:00Z", "2020-01-04T00:00:00Z"),
    *IN_B,
]


@pytest.mark.parametrize(
    ("path", "answer"),
    [("", ALL), ("/", ALL), ("/b", IN_B), ("/b/", IN_B), ("/c", []), ("/c/", [])],
)
def test_it_lists_the_series(client, stored, path, answer, django_assert_num_queries):
    with django_assert_num_queries(4):  # the token; the watermark, the rollups and the tail
        response = client.get(f"/api/events{path}")

    assert (response.status_code, response.json()) == (200, answer)


@pytest.mark.parametrize("chosen", [{}, {"namespace": "b"}])
def test_the_tail_is_read_by_its_ids(stored, make_event, django_assert_num_queries, chosen):
    """And not by an index that holds the whole log, whose order SQLite likes to group by."""
    rollups.roll_up()
    make_event("b", "x")
    with django_assert_num_queries(3) as captured:
        catalogue(**chosen)

    [tail] = [query["sql"] for query in captured if "GROUP BY" in query["sql"]]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {tail}")
            assert "USING INTEGER PRIMARY KEY (rowid>?)" in str(cursor.fetchall())


def test_it_is_empty_without_events(client):
    response = client.get("/api/events/")

    assert (response.status_code, response.json()) == (200, [])


@pytest.mark.parametrize("path", ["/api/events/", "/api/events/b"])
def test_it_takes_no_parameters(client, path):
    response = client.get(f"{path}?page=2")

    assert (response.status_code, response.json()) == (400, {"page": ["Unknown field. Accepted: none."]})


def test_it_refuses_a_path_that_can_be_no_namespace(client):
    response = client.get("/api/events/%00")

    assert (response.status_code, response.json()) == (400, {"namespace": ["Null characters are not allowed."]})


def test_it_needs_a_token(db):
    response = APIClient().get("/api/events/")

    assert (response.status_code, response.json()) == (401, {"detail": "Authentication credentials were not provided."})
    assert response["WWW-Authenticate"] == 'Bearer realm="api"'


@pytest.mark.parametrize("path", ["/api/events/", "/api/events/b"])
def test_it_needs_the_scope_read(client_with_scopes, path):
    response = client_with_scopes("write aggregation").get(path)

    assert (response.status_code, response.json()) == (403, {"detail": "The access token lacks the scope read."})
