"""Answers whose status says that they have no content (RFC 9110, 8.6)."""

import pytest

from events.annotations.models import Annotation
from tracking_api.server.process import _answered
from tracking_api.server.requests import Request

ID = b"an-id"


def answer_to(method, path, token, *fields):
    """Status line, header fields and content, as they are sent."""
    headers = [(b"Host", b"testserver"), (b"Authorization", f"Bearer {token}".encode()), (b"X-Request-ID", ID), *fields]
    request = Request(method=method, path=path, headers=headers, keeps_alive=True)
    head, _, content = _answered(request, None).head(request).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), content


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_304_has_no_length(make_event, make_token, method):
    make_event()
    path, token = "/api/events/Frontend/pageView", make_token("aggregation")
    whole = answer_to("GET", path, token)
    tag = whole[1]["ETag"]

    status, fields, content = answer_to(method, path, token, (b"If-None-Match", tag.encode()))

    assert int(whole[1]["Content-Length"]) == len(whole[2]) > 0
    assert (status, content) == ("HTTP/1.1 304 Not Modified", b"")
    assert fields.pop("Date")
    assert fields == {
        "Allow": "GET, HEAD, OPTIONS",
        "Cache-Control": "private, no-cache",
        "ETag": tag,
        "Vary": whole[1]["Vary"],
        "X-Content-Type-Options": "nosniff",
        "X-Request-ID": "an-id",
    }


def test_a_204_has_no_length(make_token):
    annotation = Annotation.objects.create(namespace="Shop", title="Deployed", timestamp="2020-11-12T11:10Z")

    status, fields, content = answer_to("DELETE", f"/api/annotations/{annotation.key}", make_token("write"))

    assert (status, content) == ("HTTP/1.1 204 No Content", b"")
    assert fields.pop("Date")
    assert fields == {
        "Allow": "GET, PATCH, DELETE, HEAD, OPTIONS",
        "Content-Type": "text/html; charset=utf-8",
        "X-Content-Type-Options": "nosniff",
        "X-Request-ID": "an-id",
    }
