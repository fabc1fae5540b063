"""Answers that are compressed for who accepts it, and those that never are."""

import gzip
import json
import tracemalloc
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse, StreamingHttpResponse
from django.test import Client, RequestFactory

from events.http.compression import CompressionMiddleware, coding_of, zstd
from events.models import Event
from events.tests.support import service
from events.tests.support.clients import client_with
from events.tests.support.responses import body_of
from events.tests.support.service import call, fetch_token

client = client_with("read write aggregation")

PATH = "/api/events/Frontend/pageView"
UNPACK = {"gzip": gzip.decompress, "zstd": zstd.decompress, None: bytes}


@pytest.fixture
def stored(db):
    start = datetime(2024, 1, 1, tzinfo=UTC)
    Event.objects.bulk_create(
        Event(namespace="Frontend", name="pageView", timestamp=start + timedelta(seconds=number), value=number)
        for number in range(500)
    )


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("zstd", "zstd"),
        ("gzip, deflate", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("GZIP;Q=0.5 , zstd ; q=0.4", "gzip"),
        ("gzip;q=0.5, zstd;q=0.5", "zstd"),
        ("gzip;q=0", None),
        ("gzip;q=0, *", None),
        ("*", "gzip"),
        ("*;q=0", None),
        ("identity", None),
        ("identity;q=0", None),
        ("identity, gzip", "gzip"),
        ("identity, gzip;q=0.9", None),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("br, deflate, compress", None),
        ("gzip;q=2, zstd;q=x", None),
        (',;=,"', None),
    ],
)
def test_the_coding_is_the_one_wanted_most(accepted, coding):
    assert coding_of(accepted) == coding


@pytest.mark.parametrize("coding", ["gzip", "zstd", None])
@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        (PATH, "application/json"),
        (f"{PATH}?format=csv", "text/csv; charset=utf-8"),
        (f"{PATH}?format=ndjson", "application/x-ndjson; charset=utf-8"),
        ("/api/schema/", "application/vnd.oai.openapi+json"),
        ("/api/schema/?format=yaml", "application/vnd.oai.openapi"),
    ],
)
def test_an_answer_says_the_same_in_any_coding(client, stored, path, media_type, coding):
    plain = client.get(path)

    packed = client.get(path, headers={"Accept-Encoding": coding} if coding else {})

    assert (plain.status_code, packed.status_code, packed.get("Content-Encoding")) == (200, 200, coding)
    assert packed["Content-Type"] == plain["Content-Type"]
    assert packed["Content-Type"].startswith(media_type.partition("+")[0].partition(";")[0]) or "schema" in path
    assert {"Accept-Encoding"} <= set(packed["Vary"].split(", ")) & set(plain["Vary"].split(", "))
    content, expected = body_of(packed), body_of(plain)
    assert UNPACK[coding](content) == expected
    assert coding is None or len(content) < len(expected) / 3
    if not packed.streaming:
        assert packed["Content-Length"] == str(len(content))


def test_a_short_answer_is_sent_as_it_is(client, make_event):
    make_event()

    response = client.get(PATH, headers={"Accept-Encoding": "gzip"})

    assert response.json() == [{"aggregatedTimestamp": "2020-11-12T11:10:00Z", "value": 1.0}]
    assert "Content-Encoding" not in response
    assert "Accept-Encoding" in response["Vary"]


def tag_of(response):
    """The tag as it is sent: a server that makes a long answer whole first sends the head after it."""
    body_of(response)
    return response["ETag"]


@pytest.mark.parametrize("parameters", ["", "?format=csv", "?granularity=day"])
def test_the_tag_is_weak_where_the_coding_may_change_the_bytes(client, stored, parameters):
    path = PATH + parameters
    plain = tag_of(client.get(path))
    tags = [tag_of(client.get(path, headers={"Accept-Encoding": coding})) for coding in ("gzip", "zstd", "identity")]
    assert tags == [f"W/{plain}", f"W/{plain}", plain]

    for coding in ("gzip", "zstd", "identity"):
        for known in (tags[0], tags[2], f'"x", {tags[0]}', "*"):
            again = client.get(path, headers={"Accept-Encoding": coding, "If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again["ETag"] == tag_of(client.get(path, headers={"Accept-Encoding": coding}))
            assert "Accept-Encoding" in again["Vary"]
            assert "Content-Encoding" not in again
        assert client.get(path, headers={"Accept-Encoding": coding, "If-None-Match": 'W/"x"'}).status_code == 200


def test_a_weak_tag_stays_as_it_is():
    def answer(request):
        return HttpResponse(b"[]", content_type="application/json", headers={"ETag": 'W/"a"'})

    request = RequestFactory().get("/api/events/", headers={"Accept-Encoding": "gzip"})

    assert CompressionMiddleware(answer)(request)["ETag"] == 'W/"a"'


def test_nothing_that_holds_a_secret_or_repeats_what_was_asked_is_compressed(client, application, stored):
    everything = {"Accept-Encoding": "gzip, deflate, br, zstd, *"}
    User.objects.create_superuser("ada", password="s3cret")
    browser = Client(headers=everything)
    form = {"grant_type": "client_credentials", "client_id": "shop", "client_secret": "shop-secret"}
    assert browser.login(username="ada", password="s3cret")

    responses = {
        "token": browser.post("/o/token/", form),
        "log-in": Client(headers=everything).get("/accounts/login/"),
        "clients": browser.get("/o/applications/register/"),
        "admin": browser.get("/admin/events/event/"),
        "dashboard": browser.get("/"),
        "documentation": browser.get("/api/docs/"),
        "its script": browser.get("/api/docs/?script="),
        "refusal": client.get(f"{PATH}?granularity={'x' * 50}&{'y' * 99}=1&{'z' * 3000}=1", headers=everything),
        "refused batch": client.post("/api/track/", [{"namespace": "x" * 400}] * 20, headers=everything),
    }

    assert {name: response.status_code for name, response in responses.items()} == {
        **dict.fromkeys(responses, 200), "refusal": 400, "refused batch": 400
    }  # fmt: skip
    assert [name for name, response in responses.items() if "Content-Encoding" in response] == []
    short = {name for name, response in responses.items() if len(body_of(response)) < 1_000}
    assert short <= {"token", "refusal", "documentation", "its script"}


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_long_answer_is_packed_piece_by_piece(db, coding):
    sizes, closed = [], []

    def lines():  # 48 MB of the kind that is packed best
        try:
            for _ in range(3_000):
                piece = b"2024-01-01T00:00:00Z,0.0\r\n" * 600
                sizes.append(len(piece))
                yield piece
        finally:
            closed.append(True)

    def answer(request):
        return StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")

    middleware = CompressionMiddleware(answer)
    request = RequestFactory().get("/api/events/a/b", headers={"Accept-Encoding": coding})
    unpack = zlib.decompressobj(31) if coding == "gzip" else zstd.ZstdDecompressor()
    unpacked = silent = taken = 0
    tracemalloc.start()

    for piece in middleware(request):
        assert piece
        silent, taken = max(silent, len(sizes) - taken), len(sizes)
        unpacked += len(unpack.decompress(piece))

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (unpacked, unpack.eof) == (sum(sizes), True)
    assert silent < 100  # pieces of 16 KB
    assert peak < 5_000_000  # most of it what is unpacked here
    assert closed

    abandoned = middleware(request)
    next(iter(abandoned))
    abandoned.close()
    assert len(closed) == 2


def test_what_breaks_a_long_answer_is_not_taken_for_its_end():
    def lines():
        yield b"aggregatedTimestamp,value\r\n"
        raise ValueError("ours")

    response = CompressionMiddleware(lambda request: StreamingHttpResponse(lines(), content_type="text/csv"))(
        RequestFactory().get("/api/events/a/b", headers={"Accept-Encoding": "gzip"})
    )

    with pytest.raises(ValueError, match="ours"):
        list(response)


def test_a_served_answer_is_whole_in_any_coding(prepared, tmp_path):
    with prepared(tmp_path) as env, service.served(env):
        authorization = {"Authorization": f"Bearer {fetch_token(env)}"}
        batch = json.dumps([{"namespace": "a", "name": "b", "timestamp": n, "value": n / 7} for n in range(3_000)])
        headers = {**authorization, "Content_Type": "application/json"}
        assert call(env, "POST", "/api/track/", batch, **headers)[0] == 201
        for form in ("json", "csv", "ndjson"):
            path = f"/api/events/a/b?format={form}"
            plain = call(env, "GET", path, **authorization)[2]
            for coding, unpack in UNPACK.items():
                wanted = {"Accept_Encoding": coding or "identity"}
                status, answered, body = call(env, "GET", path, **authorization, **wanted)
                assert (status, answered["Content-Encoding"], unpack(body)) == (200, coding, plain)
                assert answered["Content-Length"] == str(len(body))
                status, answered, body = call(env, "HEAD", path, **authorization, **wanted)
                assert (status, answered["Content-Encoding"], body) == (200, coding, b"")
