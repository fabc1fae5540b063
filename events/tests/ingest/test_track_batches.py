"""``POST /api/track/`` with many events at once, packed or not."""

import gc
import gzip
import json
import sys
import tracemalloc
import weakref
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from events import views
from events.ingest import store as ingest_store
from events.models import Event
from events.tests.support.bodies import PAGE_VIEW as EVENT
from events.tests.support.clients import client_with

client = client_with("write")

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STORED = {"namespace": "Frontend", "name": "pageView", "timestamp": "2020-11-12T11:10:00Z", "value": 142.5}
NO_NUMBER = "A valid number is required."
JSON = "application/json"
NDJSON = "application/x-ndjson"


def batch(count):
    """Events of three series, a millisecond and some apart, in every way to write a timestamp that JSON has."""
    start = datetime(2020, 11, 12, 11, 10, tzinfo=UTC)
    for number in range(count):
        timestamp = start + timedelta(milliseconds=number, microseconds=number % 7)
        written = [timestamp.isoformat(), timestamp.timestamp(), timestamp.strftime("%Y-%m-%dT%H:%M:%S.%f")]
        yield {"namespace": "Bäck", "name": f"n{number % 3}", "timestamp": written[number % 3], "value": number / 8}


def stored():
    return list(Event.objects.order_by("pk").values_list("namespace", "name", "timestamp", "value"))


def expected(count):
    start = datetime(2020, 11, 12, 11, 10, tzinfo=UTC)
    return [
        ("Bäck", f"n{number % 3}", start + timedelta(milliseconds=number, microseconds=number % 7), number / 8)
        for number in range(count)
    ]


def ndjson(items):
    return b"\n".join(json.dumps(item).encode() for item in items)


@pytest.mark.parametrize("count", [0, 1, 2, 500])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("content_type", [JSON, NDJSON])
def test_it_stores_a_batch(client, count, packed, content_type):
    items = list(batch(count))
    body = json.dumps(items).encode() if content_type == JSON else ndjson(items)
    headers = {"Content-Encoding": "gzip"} if packed else {}

    response = client.post(
        "/api/track/", gzip.compress(body) if packed else body, content_type=content_type, headers=headers
    )

    assert (response.status_code, response.json()) == (201, {"accepted": count})
    assert stored() == expected(count)


@pytest.mark.one_partition
def test_a_batch_is_one_statement(client, statements):
    client.post("/api/track/", EVENT)  # so that the token is remembered

    with statements() as sent:
        assert client.post("/api/track/", list(batch(100))).status_code == 201

    columns = "events_event (namespace, name, timestamp, value)"
    by_vendor = {
        "postgresql": f"COPY {columns} FROM STDIN (FORMAT binary)",
        "sqlite": f"INSERT INTO {columns} VALUES (%s, %s, %s, %s)",
    }
    assert [sql.removeprefix("100 times: ") for sql in sent] == [by_vendor[connection.vendor]]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, json.dumps(EVENT).encode()),
        ("application/x-www-form-urlencoded", b"namespace=Frontend&name=pageView&timestamp=1605179400&value=142.5"),
        (
            "multipart/form-data; boundary=b",
            b"".join(
                b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (key.encode(), str(value).encode())
                for key, value in EVENT.items()
            )
            + b"--b--\r\n",
        ),
    ],
)
def test_it_unpacks_a_single_event(client, content_type, body):
    response = client.post(
        "/api/track/", gzip.compress(body), content_type=content_type, headers={"Content-Encoding": " GZIP "}
    )

    assert (response.status_code, response.json()) == (201, STORED)


def test_blank_lines_do_not_count(client):
    body = b"\r\n  \n" + ndjson([EVENT]) + b"\r\n\n" + ndjson([{**EVENT, "value": "x"}]) + b"\n\n"

    response = client.post("/api/track/", body, content_type=NDJSON)

    assert (response.status_code, response.json()) == (400, {"1": {"value": [NO_NUMBER]}})


def test_one_bad_item_and_nothing_is_stored(client):
    items = list(batch(20))
    items[17]["value"] = "x"
    del items[3]["name"]
    items[5] = 7
    items[6] = None

    response = client.post("/api/track/", items)

    assert response.status_code == 400
    assert response.json() == {
        "3": {"name": ["This field is required."]},
        "5": {"non_field_errors": ["Invalid data. Expected a dictionary, but got int."]},
        "6": {"non_field_errors": ["This field may not be null."]},
        "17": {"value": [NO_NUMBER]},
    }
    assert not Event.objects.exists()


@pytest.mark.parametrize("blanks", ["", "\n", " \r\n\n"])
def test_lines_without_an_event_are_an_empty_batch(client, blanks):
    for content_type in (NDJSON, "application/jsonl"):
        response = client.post("/api/track/", blanks, content_type=content_type, headers={"Idempotency-Key": "k"})
        assert (response.status_code, response.json()) == (201, {"accepted": 0})
    assert not Event.objects.exists()


@pytest.mark.parametrize("content_type", [JSON, NDJSON])
@pytest.mark.parametrize("name", ["plain", "with, a comma", '\\",'])
def test_a_key_given_twice_is_named_with_its_item(client, content_type, name):
    items = [json.dumps({**EVENT, "name": name}) for _ in range(20)]
    items[3] = items[3].replace("}", ', "value": 1}')
    items[17] = items[17].replace("{", '{"name": "a", "timestamp": 1, ')
    body = f"[{','.join(items)}]" if content_type == JSON else "\n".join(items)

    response = client.post("/api/track/", body, content_type=content_type)

    once = ["This field may be given only once."]
    assert response.status_code == 400
    assert response.json() == {"3": {"value": once}, "17": {"name": once, "timestamp": once}}
    assert not Event.objects.exists()


def test_a_line_that_is_no_json_is_an_item_with_a_detail(client):
    body = ndjson([EVENT]) + b'\n{"namespace": \n[1]\n\xff\n' + ndjson([EVENT]) + ndjson([EVENT])

    response = client.post("/api/track/", body, content_type=NDJSON)

    assert response.status_code == 400
    assert response.json() == {
        "1": {"detail": "JSON parse error - Expecting value: line 1 column 15 (char 14)"},
        "2": {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]},
        "3": {"detail": "The body is not UTF-8: invalid start byte at byte 0."},
        "4": {
            "detail": f"JSON parse error - Extra data: line 1 column {len(json.dumps(EVENT)) + 1} (char {len(json.dumps(EVENT))})"
        },
    }
    assert not Event.objects.exists()


@pytest.mark.parametrize("content_type", [JSON, NDJSON])
def test_it_names_the_first_hundred_bad_items(client, content_type):
    items = [{**EVENT, "value": None} for _ in range(150)]
    body = json.dumps(items).encode() if content_type == JSON else ndjson(items)

    response = client.post("/api/track/", body, content_type=content_type)

    assert response.status_code == 400
    assert response.json() == {str(index): {"value": ["This field may not be null."]} for index in range(100)}


@pytest.mark.parametrize("content_type", [JSON, NDJSON])
@pytest.mark.parametrize("value", [1, "bad"])
def test_it_refuses_more_events_than_the_limit(client, settings, content_type, value):
    settings.MAX_EVENTS = 3
    items = [{**EVENT, "value": value}] * 4
    body = json.dumps(items).encode() if content_type == JSON else ndjson(items)

    response = client.post("/api/track/", body, content_type=content_type)

    assert (response.status_code, response.json()) == (413, {"detail": "The request has 4 events; 3 are allowed."})
    assert not Event.objects.exists()
    assert client.post("/api/track/", [EVENT] * 3).status_code == 201


def post_packed(client, body, encoding="gzip"):
    return client.post("/api/track/", body, content_type=JSON, headers={"Content-Encoding": encoding})


def test_it_reads_a_gzip_body_of_several_members(client):
    body = json.dumps([EVENT] * 9).encode()

    response = post_packed(client, gzip.compress(body[:100]) + gzip.compress(b"") + gzip.compress(body[100:]))

    assert (response.status_code, response.json()) == (201, {"accepted": 9})


PACKED = gzip.compress(json.dumps([EVENT] * 100).encode(), mtime=0)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (PACKED[:-1], "The gzip body ends too early."),
        (PACKED[:40], "The gzip body ends too early."),
        (PACKED[:5], "The gzip body ends too early."),
        (b"not gzip at all", "The body is not gzip: Error -3 while decompressing data: incorrect header check."),
        (
            json.dumps(EVENT).encode(),
            "The body is not gzip: Error -3 while decompressing data: incorrect header check.",
        ),
        (zlib.compress(b"[]"), "The body is not gzip: Error -3 while decompressing data: incorrect header check."),
        (PACKED + b"rest", "The body is not gzip: Error -3 while decompressing data: incorrect header check."),
        (PACKED[:-8] + b"\0" * 8, "The body is not gzip: Error -3 while decompressing data: incorrect data check."),
    ],
)
def test_it_refuses_false_gzip(client, body, detail):
    response = post_packed(client, body)

    assert (response.status_code, response.json()) == (400, {"detail": detail})
    assert not Event.objects.exists()


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "x" * 1000])
def test_it_refuses_another_encoding(client, encoding):
    response = post_packed(client, PACKED, encoding)

    detail = f"Unsupported content encoding “{encoding[:50]}”: only gzip, deflate and zstd are known."
    assert (response.status_code, response.json()) == (415, {"detail": detail})


def test_identity_is_no_encoding(client):
    response = post_packed(client, json.dumps(EVENT).encode(), "identity")

    assert (response.status_code, response.json()) == (201, STORED)


def packed_raw(body):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


# What each coding is called, and what senders make of it: deflate comes with zlib's header and without.
PACKERS = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", packed_raw),
    "zstd": ("zstd", zstd.compress),
    "two frames": ("zstd", lambda body: zstd.compress(body[:50]) + zstd.compress(body[50:])),
}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("count", [1, 9, 10_000])
def test_it_reads_whatever_is_packed_as_it_says(client, packer, count):
    encoding, pack = PACKERS[packer]
    body = json.dumps([{**EVENT, "value": value} for value in range(count)]).encode()

    response = post_packed(client, pack(body), encoding)

    assert (response.status_code, response.json()) == (201, {"accepted": count})
    assert sorted(Event.objects.values_list("value", flat=True)) == list(range(count))


@pytest.mark.parametrize("packer", ["zlib", "raw deflate", "zstd"])
def test_it_refuses_what_is_cut_or_goes_on(client, packer):
    encoding, pack = PACKERS[packer]
    packed = pack(json.dumps([EVENT] * 100).encode())

    for body, detail in [
        (packed[:-1], f"The {encoding} body ends too early."),
        (packed[:10], f"The {encoding} body ends too early."),
        (packed[:1], f"The {encoding} body ends too early."),
        (packed + b"rest of it", f"The body is not {encoding}: "),
    ]:
        response = post_packed(client, body, encoding)
        assert (response.status_code, [*response.json()]) == (400, ["detail"])
        assert response.json()["detail"].startswith(detail)
    assert not Event.objects.exists()


def bomb(packer, megabytes):
    return b"".join(packer.compress(b" " * 1_000_000) for _ in range(megabytes)) + packer.flush()


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize(
    ("encoding", "packer"),
    [
        ("gzip", lambda: zlib.compressobj(9, wbits=31)),
        ("deflate", lambda: zlib.compressobj(9)),
        ("deflate", lambda: zlib.compressobj(9, wbits=-15)),
        ("zstd", lambda: zstd.ZstdCompressor(level=3)),
    ],
)
def test_a_bomb_costs_no_more_memory_than_the_limit(client, settings, encoding, packer):
    settings.MAX_BODY_BYTES = 1_000_000
    packed = bomb(packer(), 100)
    assert len(packed) < 120_000
    client.post("/api/track/", EVENT)  # as the first request of a process imports much
    tracemalloc.start()

    response = post_packed(client, packed, encoding)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (response.status_code, response.json()) == (
        413,
        {"detail": "The body is larger than the 1000000 bytes allowed."},
    )
    assert peak < 8_000_000


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_making_ready_for_parts_is_bounded(client, encoding):
    """A body of empty ones would take a processor many seconds."""
    part = PACKERS[encoding][1](b"")
    whole = PACKERS[encoding][1](json.dumps(EVENT).encode())
    assert post_packed(client, part * 999 + whole, encoding).status_code == 201

    response = post_packed(client, part * 1_000 + whole, encoding)

    assert (response.status_code, response.json()) == (
        413, {"detail": f"The {encoding} body has more than the 1000 parts allowed."}
    )  # fmt: skip


def test_a_frame_that_wants_to_be_remembered_at_length_is_refused(client):
    """A decoder needs 8 MB at most (RFC 9659); one that obeyed would need what the frame says."""
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    packed = packer.compress(b" " * 100, mode=zstd.ZstdCompressor.FLUSH_BLOCK) + packer.flush()

    response = post_packed(client, packed, "zstd")

    assert response.status_code == 400
    assert response.json()["detail"].startswith("The body is not zstd: ")


@pytest.mark.parametrize(
    ("content_type", "body", "answer"),
    [
        ("text/plain", json.dumps(EVENT), STORED),
        ("text/plain;charset=UTF-8", json.dumps([EVENT] * 2), {"accepted": 2}),
        ("application/jsonl", f"{json.dumps(EVENT)}\n{json.dumps(EVENT)}\n", {"accepted": 2}),
        ("application/ndjson", json.dumps(EVENT), {"accepted": 1}),
        ("application/x-jsonlines; charset=utf-8", json.dumps(EVENT), {"accepted": 1}),
    ],
)
def test_it_reads_what_senders_call_otherwise(client, content_type, body, answer):
    response = client.post("/api/track/", body, content_type=content_type)

    assert (response.status_code, response.json()) == (201, answer)


@pytest.mark.parametrize("content_type", [JSON, NDJSON])
@pytest.mark.parametrize("item", ["{}", '""', "1", "[[],[]]", '{"value":[[],[]]}'])
def test_what_can_be_no_events_costs_no_more_memory_either(client, settings, content_type, item):
    settings.MAX_EVENTS = 100
    body = f"[{','.join([item] * 100_000)}]".encode()
    client.post("/api/track/", EVENT)  # as the first request of a process imports much
    tracemalloc.start()

    response = client.generic("POST", "/api/track/", body, content_type=content_type)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (response.status_code, response.json()) == (
        413,
        {"detail": "The request has more values than 100 events; no more are allowed."},
    )
    assert peak < 3 * len(body) + 1_000_000


def test_lines_past_the_limit_cost_no_memory_either(client, settings):
    settings.MAX_EVENTS = 100
    body = b"1\n" * 500_000
    client.post("/api/track/", EVENT)  # as the first request of a process imports much
    tracemalloc.start()

    response = client.generic("POST", "/api/track/", body, content_type=NDJSON)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert response.json() == {"detail": "The request has 500000 events; 100 are allowed."}
    assert peak < 3 * len(body) + 1_000_000


def test_commas_in_texts_are_no_values(client, settings):
    settings.MAX_EVENTS = 10
    events = [{**EVENT, "name": '",' * 125 + "\\" * 5} for _ in range(9)]

    response = client.post("/api/track/", [*events, {**EVENT, "value": None}])

    assert json.dumps(events).count(",") > 1_100
    assert (response.status_code, list(response.json())) == (400, ["9"])


def test_a_batch_is_gone_once_it_is_answered(client, monkeypatch):
    """And not only when garbage is collected, until when other large ones would come."""
    batches = []

    def store(batch, *arguments):
        batches.append(weakref.ref(batch))
        return ingest_store.store(batch, *arguments)

    monkeypatch.setattr(views, "store", store)
    gc.disable()
    try:
        answer = client.post("/api/track/", [EVENT, EVENT], content_type=JSON)
        left = [batch() for batch in batches]
    finally:
        gc.enable()

    assert (answer.json(), left) == ({"accepted": 2}, [None])
