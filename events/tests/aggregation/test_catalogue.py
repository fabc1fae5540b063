"""``GET /api/events/`` and ``GET /api/events/<namespace>``."""

import json
import tracemalloc
from random import Random
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from events.aggregation import catalogue as catalogue_module
from events.aggregation.catalogue import Catalogue
from events.log.namespace_patterns import Namespaces
from events.log.series import SeriesKey
from events.models import Event, Grant
from events.tests.support.answers import catalogue
from events.tests.support.clients import client_with
from events.tests.support.responses import body_of
from events.worker import pacing, roll_up

client = client_with("read")

pytestmark = [pytest.mark.usefixtures("partition_count"), pytest.mark.partitions_on("postgresql")]


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


@pytest.mark.one_partition
@pytest.mark.parametrize(
    ("path", "answer"),
    [("", ALL), ("/", ALL), ("/b", IN_B), ("/b/", IN_B), ("/c", []), ("/c/", [])],
)
def test_it_lists_the_series(client, stored, path, answer, django_assert_num_queries):
    # the token; the watermark, and while there is none the newest event; the rollups and the tail
    with django_assert_num_queries(5):
        response = client.get(f"/api/events{path}")

    assert (response.status_code, response.json()) == (200, answer)


@pytest.mark.one_partition
@pytest.mark.parametrize("namespaces", ["*", "b", "a\nb*"])
def test_the_tail_is_read_by_its_ids(stored, make_event, django_assert_num_queries, namespaces):
    """And not by an index that holds the whole log, whose order SQLite likes to group by."""
    roll_up.take_step()
    make_event("b", "x")
    with django_assert_num_queries(3) as captured:
        Catalogue(Namespaces.of(namespaces)).page(10)

    [tail] = [query["sql"] for query in captured if "GROUP BY" in query["sql"]]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {tail}")
            assert "USING INTEGER PRIMARY KEY (rowid>?)" in str(cursor.fetchall())


def test_it_is_empty_without_events(client):
    response = client.get("/api/events/")

    assert (response.status_code, response.json()) == (200, [])


@pytest.mark.parametrize("path", ["/api/events/", "/api/events/b"])
def test_it_takes_no_other_parameters(client, path):
    response = client.get(f"{path}?page=2")

    assert (response.status_code, response.json()) == (
        400,
        {"page": ["Unknown field. Accepted: limit, after, search, format."]},
    )


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


# Some at a time.


def keys_of(lines):
    return [f"{line['namespace']}/{line['name']}" for line in lines]


def following(response):
    """What a client asks for next: the path and query of the link, if there is one."""
    if "Link" not in response:
        return None
    uri, _, relation = response["Link"].partition(">; ")
    assert relation == 'rel="next"'
    parts = urlsplit(uri.removeprefix("<"))
    assert (parts.scheme, parts.netloc) == ("http", "testserver")
    return f"{parts.path}?{parts.query}"


def pages_of(client, path):
    pages = []
    while path:
        response = client.get(path)
        assert response.status_code == 200
        pages.append(response.json())
        path = following(response)
    return pages


@pytest.mark.parametrize("rolled_up", [0, 3, 5])
def test_it_is_read_in_pages(client, stored, rolled_up):
    if rolled_up:
        roll_up.take_step(most_events=rolled_up)

    assert pages_of(client, "/api/events/?limit=2") == [ALL[:2], ALL[2:]]
    assert pages_of(client, "/api/events?limit=3") == [ALL[:3], ALL[3:]]
    assert pages_of(client, "/api/events/?limit=4") == [ALL]
    assert pages_of(client, "/api/events/b?limit=1") == [IN_B[:1], IN_B[1:]]
    assert pages_of(client, "/api/events/?limit=1&search=b") == [IN_B[:1], IN_B[1:]]


def test_the_link_names_the_last_series_and_keeps_the_rest_of_the_query(client, make_event):
    for name in ("a&b=ä %", "b", "c"):
        make_event("ä b>#?", name)

    response = client.get("/api/events/%C3%A4%20b%3E%23%3F/?search=%C3%84%20B&limit=1&format=csv")

    assert response["Link"] == (
        "<http://testserver/api/events/%C3%A4%20b%3E%23%3F/?search=%C3%84%20B&limit=1&format=csv"
        '&after=%C3%A4%20b%3E%23%3F/a%26b%3D%C3%A4%20%25>; rel="next"'
    )
    assert client.get(following(response)).content == (
        b"namespace,name,count,firstTimestamp,lastTimestamp\r\n"
        b"\xc3\xa4 b>#?,b,1,2020-11-12T11:10:00Z,2020-11-12T11:10:00Z\r\n"
    )


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("A/z", ["a/ä", "b/B", "b/x"]),
        ("A/y", ["A/z", "a/ä", "b/B", "b/x"]),
        ("a/z", ["a/ä", "b/B", "b/x"]),
        ("b/B", ["b/x"]),
        ("b/x", []),
        ("b/a", ["b/x"]),
        ("c/a", []),
        ("", ["A/z", "a/ä", "b/B", "b/x"]),
    ],
)
def test_after_names_a_series_that_need_not_be_there(client, stored, after, expected):
    assert keys_of(client.get(f"/api/events/?after={after}").json()) == expected
    assert keys_of(client.get(f"/api/events/?limit=1&after={after}").json()) == expected[:1]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("limit=0", {"limit": ["Must be a whole number from 1 to 10000."]}),
        ("limit=10001", {"limit": ["Must be a whole number from 1 to 10000."]}),
        ("limit=-1", {"limit": ["Must be a whole number from 1 to 10000."]}),
        ("limit=1.0", {"limit": ["Must be a whole number from 1 to 10000."]}),
        ("limit=%EF%BC%91", {"limit": ["Must be a whole number from 1 to 10000."]}),
        ("limit=1&limit=2", {"limit": ["This field may be given only once."]}),
        ("after=a", {"after": ["Must be the namespace and the name of a series, such as Shop/order."]}),
        ("after=a/", {"after": ["Must be the namespace and the name of a series, such as Shop/order."]}),
        ("after=a/b/c", {"after": ["Must be the namespace and the name of a series, such as Shop/order."]}),
        ("after=a/%00", {"after": ["Must be the namespace and the name of a series, such as Shop/order."]}),
        (f"after=a/{'b' * 256}", {"after": ["Must be the namespace and the name of a series, such as Shop/order."]}),
        ("search=%00", {"search": ["Null characters are not allowed."]}),
        (f"search={'a' * 512}", {"search": ["Ensure this field has no more than 511 characters."]}),
        ("format=xml", {"format": ["“xml” is not accepted. Choose one of: json, csv, ndjson."]}),
    ],
)
@pytest.mark.parametrize("method", ["get", "head"])
def test_a_wrong_parameter_is_named(client, stored, query, error, method):
    response = getattr(client, method)(f"/api/events/?{query}")

    assert response.status_code == 400
    assert method == "head" or response.json() == error


def test_more_series_than_are_allowed_must_be_asked_for_some_at_a_time(client, stored, settings):
    settings.MAX_SERIES = 4
    assert client.get("/api/events/").json() == ALL

    settings.MAX_SERIES = 3
    advice = "ask for a limit of them at a time, after the last of those before, or for format=csv or ndjson"
    refusal = (400, {"limit": [f"There are more than 3 series; {advice}."]})

    for path in ("/api/events", "/api/events/"):
        response = client.get(path)
        assert (response.status_code, response.json()) == refusal
    assert client.get("/api/events/b").json() == IN_B
    assert client.get("/api/events/?search=b").json() == IN_B
    assert client.get("/api/events/?after=A/z").json() == ALL[1:]
    assert pages_of(client, "/api/events/?limit=3") == [ALL[:3], ALL[3:]]
    assert len(b"".join(client.get("/api/events/?format=ndjson").streaming_content).splitlines()) == 4


SEARCHED = ["Shop/order", "Shop/sign up", "hosts/a%b_c\\d", "hosts/ÄÖÜ", "x.y/shop"]


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("SHOP", ["Shop/order", "Shop/sign up", "x.y/shop"]),
        ("order", ["Shop/order"]),
        ("p/o", ["Shop/order"]),
        ("Shop/", ["Shop/order", "Shop/sign up"]),
        ("/shop", ["x.y/shop"]),
        (" ", ["Shop/sign up"]),
        ("%", ["hosts/a%b_c\\d"]),
        ("_", ["hosts/a%b_c\\d"]),
        ("\\", ["hosts/a%b_c\\d"]),
        ("x.y", ["x.y/shop"]),
        ("xay", []),
        ("(", []),
        ("ÖÜ", ["hosts/ÄÖÜ"]),
        ("nothing", []),
        ("", SEARCHED),
    ],
)
@pytest.mark.parametrize("rolled_up", [0, 2, 5])
def test_it_searches_both_names_in_any_case(client, make_event, search, expected, rolled_up):
    for key in SEARCHED:
        make_event(*key.split("/"))
    if rolled_up:
        roll_up.take_step(most_events=rolled_up)

    assert keys_of(client.get("/api/events/", {"search": search}).json()) == expected


def test_case_is_that_of_unicode_where_the_database_knows_it(client, make_event):
    make_event("hosts", "ÄÖÜ")
    knows = True
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT upper('ä') = 'Ä'")
            knows = cursor.fetchone()[0]

    assert keys_of(client.get("/api/events/?search=äöü").json()) == (["hosts/ÄÖÜ"] if knows else [])


# Formats.

AS_CSV = (
    "namespace,name,count,firstTimestamp,lastTimestamp\r\n"
    "A,z,1,2020-01-05T00:00:00Z,2020-01-05T00:00:00Z\r\n"
    "a,ä,1,2020-01-04T00:00:00Z,2020-01-04T00:00:00Z\r\n"
    "b,B,1,2020-01-02T00:00:00Z,2020-01-02T00:00:00Z\r\n"
    "b,x,2,2020-01-01T00:00:00.500000Z,2020-01-03T00:00:00Z\r\n"
).encode()


@pytest.mark.parametrize("query", ["", "limit=10"])
@pytest.mark.parametrize(
    ("parameter", "accept", "content_type"),
    [
        ("csv", None, "text/csv; charset=utf-8"),
        ("", "text/csv", "text/csv; charset=utf-8"),
        ("ndjson", None, "application/x-ndjson; charset=utf-8"),
        ("", "application/x-ndjson", "application/x-ndjson; charset=utf-8"),
        ("json", "text/csv", "application/json"),
        ("", None, "application/json"),
    ],
)
def test_it_comes_in_other_formats(client, stored, query, parameter, accept, content_type):
    headers = {"Accept": accept} if accept else {}

    response = client.get(f"/api/events/?{query}&format={parameter}", headers=headers)

    content = body_of(response)
    assert (response.status_code, response["Content-Type"]) == (200, content_type)
    assert response.streaming == (content_type[-4:] != "json" and not query)
    if "csv" in content_type:
        assert content == AS_CSV
    elif "ndjson" in content_type:
        assert [json.loads(line) for line in content.splitlines()] == ALL
    else:
        assert json.loads(content) == ALL


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@x", "'@x"), (";=1+1", "';=1+1"), ("＝1", "'＝1"),
        ("\tx", "'\tx"), (" =1", "' =1"), ("\n=1", "\"'\n=1\""), ("a=1", "a=1"), ("ä ", "ä "), ('"', '""""'),
    ],
)  # fmt: skip
def test_a_line_of_csv_is_no_formula(client, make_event, name, written):
    make_event(name, name)

    [_, line] = body_of(client.get("/api/events/?format=csv")).decode().split("\r\n", 1)

    assert line == f"{written},{written},1,2020-11-12T11:10:00Z,2020-11-12T11:10:00Z\r\n"
    assert client.get("/api/events/").json()[0]["name"] == name


@pytest.mark.parametrize("path", ["/api/events/", "/api/events/b", "/api/events/?format=csv", "/api/events/?limit=1"])
def test_head_reads_nothing(client, stored, path, settings):
    settings.MAX_SERIES = 1
    client.get(path)  # the token
    with CaptureQueriesContext(connection) as captured:
        response = client.head(path)

    assert [query["sql"] for query in captured] == []
    assert (response.status_code, b"".join(response)) == (200, b"")
    assert response["Content-Type"] == ("text/csv; charset=utf-8" if "csv" in path else "application/json")
    assert "Content-Length" not in response


# Grants.

PATTERNS = ["Shop", "Shop-*", "S*", "shop", "Läden*", "\ud7ff*", "\U0010ffff*", "\U0010ffff", "x\U0010ffff*", "", "*"]
NAMESPACES = [
    "S", "Shop", "Shop ", "Shop-", "Shop-eu", "Shop-\U0010ffff", "Shop.", "Shopping", "T", "shop", "Läden", "Lädenz",
    "Läd", "\ud7ff", "\ud7ffa", "\ue000", "\uffff", "\U00010000", "\U0010ffff", "\U0010ffff\U0010ffff", "x\U0010ffffy", "y",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_pages_hold_what_is_granted_and_are_full(client, application, db, seed, monkeypatch):
    random = Random(seed)
    monkeypatch.setattr(catalogue_module, "_PARTS_A_STATEMENT", random.choice([1, 2, 50]))
    stored = {(random.choice(NAMESPACES), random.choice("aäB\U0010ffff")) for _ in range(30)}
    for key in stored:
        Event.objects.create(namespace=key[0], name=key[1], timestamp="2020-01-01T00:00:00Z", value=1)
        if random.random() < 0.1:
            roll_up.take_step()
    patterns = random.sample(PATTERNS, random.choice([1, 2, 5]))
    grant = Grant(application=application, read_namespaces="\n".join(patterns) or "nothing there")
    granted = sorted(key for key in stored if key[0] in grant.namespaces("read"))
    if not grant.namespaces("read"):
        return
    grant.save()
    limit = random.choice([1, 2, 7])

    pages = pages_of(client, f"/api/events/?limit={limit}")

    assert [keys_of(page) for page in pages] == [
        keys_of({"namespace": namespace, "name": name} for namespace, name in granted[start : start + limit])
        for start in range(0, len(granted), limit)
    ] or (granted == [] and pages == [[]])


def test_nothing_that_is_not_granted_is_read(client, application, make_event):
    for number in range(20):
        make_event(f"secret-{number}", "x")
        make_event(f"zoo-{number:02}", "x")
    roll_up.take_step()
    make_event("secret", "x")
    Grant.objects.create(application=application, read_namespaces="zoo-*\nnone")
    with CaptureQueriesContext(connection) as captured:
        assert len(client.get("/api/events/?limit=20").json()) == 20

    rows = [query["sql"] for query in captured if 'FROM "events_rollup"' in query["sql"]]
    assert rows
    assert all("zoo-" in sql and "zoo." in sql for sql in rows)


# Many.


def test_the_pages_are_the_same_as_the_whole(db, monkeypatch):
    """Where series are in the rollups, in the tail, or in both, whatever they lie next to."""
    random, names_used = Random(7), ["0", "1", "3", "4", "6", "10", "11", "12", "a1", "A", "a", "Ab"]
    monkeypatch.setattr(catalogue_module, "_ROWS_AT_A_TIME", 5)
    for _ in range(3):
        Event.objects.bulk_create(
            Event(namespace=f"n{random.randrange(5)}", name=f"{random.choice(names_used)}", timestamp=f"2020-01-{random.randrange(1, 28):02}T00:00:00Z", value=1)
            for _ in range(60)
        )  # fmt: skip
        expected = {}
        for event in Event.objects.all():
            key = SeriesKey(event.namespace, event.name)
            count, first, last = expected.get(key, (0, event.timestamp, event.timestamp))
            expected[key] = (count + 1, min(first, event.timestamp), max(last, event.timestamp))
        whole = [
            {"namespace": key.namespace, "name": key.name, "count": count, "first_timestamp": first, "last_timestamp": last}
            for key, (count, first, last) in sorted(expected.items())
        ]  # fmt: skip
        for limit in (1, 4, 60):
            paged, after, has_more = [], None, True
            while has_more:
                series, has_more = Catalogue().page(limit, after)
                paged += series
                after = SeriesKey(series[-1]["namespace"], series[-1]["name"])
            assert paged == whole
        assert catalogue() == whole
        assert list(Catalogue().keys()) == sorted(expected)
        for names in (Namespaces(frozenset(["3"]), ()), Namespaces(frozenset("36"), ("1", "A")), Namespaces.of("*")):
            chosen = [line for line in whole if line["name"] in names]
            assert Catalogue(names=names).page(100).series == list(Catalogue(names=names).iterate()) == chosen
            assert list(Catalogue(names=names).keys()) == [key for key in sorted(expected) if key.name in names]
        roll_up.take_step()


def test_a_long_tail_is_rolled_up_before_it_is_read(stored, settings, monkeypatch, client):
    waits = []
    monkeypatch.setattr(pacing, "wait_for_catching_up", lambda: waits.append(roll_up.take_step()))
    settings.ROLLUP_TAIL_EVENTS = 1

    assert client.get("/api/events/?limit=4").json() == ALL
    assert [step.events for step in waits] == [5]
    assert client.get("/api/events/?limit=4").json() == ALL
    assert len(waits) == 1


@pytest.mark.one_partition
def test_the_whole_groups_the_tail_once(client, stored, monkeypatch):
    monkeypatch.setattr(catalogue_module, "_ROWS_AT_A_TIME", 1)
    roll_up.take_step(most_events=3)
    with CaptureQueriesContext(connection) as captured:
        assert body_of(client.get("/api/events/?format=csv")) == AS_CSV

    assert len([query for query in captured if "GROUP BY" in query["sql"]]) == 1


def test_who_comes_while_a_long_tail_is_rolled_up_waits_for_the_same(db, monkeypatch):
    started = []
    monkeypatch.setattr(
        pacing, "_catch_up_in_background", lambda: (started.append(1), pacing._background_lock.release())
    )

    pacing.wait_for_catching_up()

    assert started == [1]
    assert pacing._background_lock.acquire(blocking=False)
    monkeypatch.setattr(pacing, "_MOST_WAIT_SECONDS", 0.01)
    pacing.wait_for_catching_up()  # which is at work for longer than anybody waits
    pacing._background_lock.release()
    assert started == [1]


def store_many(count):
    """That many series of an event each, rolled up."""
    numbers = {
        "postgresql": f"generate_series(0, {count - 1}) AS n(i)",
        "sqlite": f"(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count - 1}) SELECT i FROM n)",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO events_event (namespace, name, timestamp, value)"
            f" SELECT 'host ' || (i % 100), 'metric ' || (i / 100), '2020-01-01 00:00:00', i FROM {numbers}"
        )
        while (step := roll_up.take_step(lambda: True, 20_000)) and step.is_full:
            pass
        cursor.execute("ANALYZE")


@pytest.mark.one_partition
@pytest.mark.parametrize("query", ["limit=100", "limit=100&after=host 55/metric 7", "format=ndjson"])
def test_the_memory_does_not_grow_with_the_series(client, db, query):
    peaks = []
    for count in (1, 20_000):
        store_many(count)
        body_of(client.get(f"/api/events/?{query}"))
        tracemalloc.start()
        body_bytes = sum(map(len, client.get(f"/api/events/?{query}")))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert body_bytes > (2_000_000 if "ndjson" in query else 9_000)
    assert peaks[1] < peaks[0] + 6_000_000


@pytest.mark.one_partition
def test_a_page_is_read_by_an_index_in_its_order(client, db):
    store_many(20_000)
    with CaptureQueriesContext(connection) as captured:
        client.get("/api/events/?limit=100&after=host 55/metric 7")

    [sql] = [query["sql"] for query in captured if 'FROM "events_rollup"' in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {'QUERY PLAN' if connection.vendor == 'sqlite' else ''} {sql}")
        plan = str(cursor.fetchall())
    if connection.vendor == "sqlite":
        assert plan.count("SEARCH events_rollup USING INDEX sqlite_autoindex_events_rollup_1") == 2
        assert "SCAN events_rollup" not in plan
    else:
        assert plan.count("Index Scan using rollup_series_by_code_point") == 2
        assert "Seq Scan" not in plan
