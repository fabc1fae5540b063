"""What a connection keeps of requests that come faster than they are answered."""

import pytest

from tracking_api.server.answers import Answer
from tracking_api.server.bodies import Bodies
from tracking_api.server.connection import Connection
from tracking_api.server.connection_table import ConnectionTable

GET = b"GET /%d HTTP/1.1\r\n\r\n"


class Transport:
    """Notes what is written, and whether more may come."""

    def __init__(self):
        self.written, self.is_reading, self.is_closed = [], True, False

    def get_extra_info(self, name):
        return "192.0.2.1", 1

    def write(self, data):
        self.written.append(data)

    def pause_reading(self):
        self.is_reading = False

    def resume_reading(self):
        self.is_reading = True

    def is_closing(self):
        return self.is_closed

    def close(self):
        self.is_closed = True


class Host:
    """Works on a request when it is told to, or at once."""

    is_stopping = False

    def __init__(self, at_once):
        self.connection_table = ConnectionTable(10, 10)
        self.bodies = Bodies()
        self.at_once = at_once
        self.taken, self.waiting = [], []

    def count_connections(self):
        pass

    def now(self):
        return 0.0

    def soon(self, callback):
        callback()

    def work_on(self, request, connection):
        self.taken.append(request.path)
        if self.at_once:
            answer(connection, request)
        else:
            self.waiting.append(request)


def answer(connection, request):
    connection.answer(request, Answer("200 OK", [("Content-Length", "0")], b""))


@pytest.mark.parametrize("at_once", [False, True])
def test_of_many_requests_few_are_read_before_those_before_them_are_answered(at_once):
    host, transport = Host(at_once), Transport()
    connection = Connection(host)
    connection.connection_made(transport)
    data = b"".join(GET % number for number in range(12_000))

    connection.data_received(data)

    most_queued = len(connection._queue)
    assert transport.is_reading is at_once
    while host.waiting:
        answer(connection, host.waiting.pop())
        most_queued = max(most_queued, len(connection._queue))
    assert host.taken == [f"/{number}" for number in range(12_000)]
    assert transport.is_reading
    assert not transport.is_closed
    assert most_queued < 500
