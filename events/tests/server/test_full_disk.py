"""What is on a disk without room: said at once, and never counted for good. /dev/full takes no byte that isn't buffered."""

from types import SimpleNamespace

import pytest

from tracking_api.server import bodies, streams
from tracking_api.server.bodies import Bodies, Body
from tracking_api.server.streams import LongFile, Streams


def full(*arguments):
    return open("/dev/full", "r+b")


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
