"""What is on a disk without room: said at once, and never counted for good. /dev/full takes no byte that isn't buffered."""

import errno
import json
import tempfile
from types import SimpleNamespace

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from events.http.error_handlers import answer_to
from tracking_api.server import bodies, streams
from tracking_api.server.bodies import Bodies, Body
from tracking_api.server.request_reader import RequestReader
from tracking_api.server.streams import LongFile, Streams


def full(*arguments):
    return open("/dev/full", "r+b")


def broken(*arguments):
    raise OSError(errno.EIO, "Input/output error")


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """The process has made no temporary file yet, and can write to none of the directories where it could."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
    return f"[Errno 2] No usable temporary directory found in ['{tmp_path}/missing']"


@pytest.mark.parametrize("size", [10, 100_000])  # of what is in memory, and fits into a file's buffer or doesn't
def test_a_body_is_refused_as_it_comes_in_and_its_room_given_back(monkeypatch, size):
    monkeypatch.setattr(bodies, "TemporaryFile", full)
    monkeypatch.setattr(bodies, "_FREE_BYTES", 0)
    monkeypatch.setattr(bodies, "_IN_MEMORY_BYTES", size)
    shared = Bodies()
    body = Body(shared, "192.0.2.1", print)
    assert body.write(b"a" * size)

    with pytest.raises(OSError, match="No space left"):
        body.write(b"a few more")

    assert shared.disk.exceeds_share("192.0.2.1", shared.disk.most_each - size + 1)
    body.close()
    body.close()
    for budget in (shared.disk, shared.memory):
        assert not budget.exceeds_share("192.0.2.1", budget.most_each)
    assert not shared.coming_in


def test_the_room_of_a_long_answer_is_given_back(monkeypatch):
    monkeypatch.setattr(streams, "SpooledTemporaryFile", full)
    shared = Streams()
    file = LongFile(shared, "shop")

    with pytest.raises(OSError, match="No space left"):
        file.write(SimpleNamespace(response=[b"a few bytes"]), lambda: True)

    assert shared.disk.exceeds_share("shop", shared.disk.most_each - 10)
    file.close()
    file.close()
    assert not shared.disk.exceeds_share("shop", shared.disk.most_each)


def refusals(body):
    """What a reader refuses of a request with this body."""
    refused = []
    receiver = SimpleNamespace(
        is_closing=False,
        begin_head=lambda: None,
        begin_body=lambda request: None,
        discard=lambda size: None,
        refuse=lambda request, status, detail: refused.append((status, detail, request.keeps_alive, request.body)),
    )
    reader = RequestReader(receiver, Bodies(), ("192.0.2.1", 1), "192.0.2.1", "")
    reader.feed(b"POST /api/track/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return refused


NO_ROOM_FOR_A_BODY = (503, "There is no room to take the body; try again.", False, None)


def test_a_body_is_refused_where_no_directory_takes_it(nowhere, caplog):
    assert refusals(b" " * 2_000_000) == [NO_ROOM_FOR_A_BODY]
    assert caplog.messages == [f"No room for a body: {nowhere}"]


def test_a_body_is_refused_where_the_disk_breaks(monkeypatch, caplog):
    monkeypatch.setattr(bodies, "TemporaryFile", broken)

    assert refusals(b" " * 2_000_000) == [NO_ROOM_FOR_A_BODY]
    assert caplog.messages == ["No room for a body: [Errno 5] Input/output error"]


def test_a_long_answer_is_a_503_where_no_directory_takes_it(nowhere, caplog, settings):
    settings.RETRY_AFTER_SECONDS = 7
    file = LongFile(Streams(), "shop")
    with pytest.raises(FileNotFoundError) as raised:
        file.write(SimpleNamespace(response=[b" " * 2_000_000]), lambda: True)
    file.close()

    answer = answer_to(RequestFactory().get("/api/events/a/b?format=csv"), raised.value, HttpResponse())

    assert (answer.status_code, answer["Retry-After"]) == (503, "7")
    detail = "There is no room to write the answer down; ask for less, or try again."
    assert json.loads(answer.content) == {"detail": detail}
    assert caplog.messages == [f"No room for an answer: {nowhere}"]


def test_a_file_that_is_missing_is_no_matter_of_room(caplog):
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "/nowhere")

    answer = answer_to(RequestFactory().get("/api/events/a/b?format=csv"), missing, HttpResponse())

    assert answer.status_code == 500
    assert caplog.messages == ["Internal Server Error: /api/events/a/b"]
