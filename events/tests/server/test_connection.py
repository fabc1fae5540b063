"""What a connection keeps of requests that come faster than they are answered, and how long it waits for its client."""

import pytest
from django.conf import settings

from tracking_api.server.answers import Answer
from tracking_api.server.bodies import Bodies
from tracking_api.server.connection import Connection
from tracking_api.server.connection_table import ConnectionTable

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"


class Transport:
    """Notes what is written, and whether more may come."""

    def __init__(self):
        self.written, self.is_reading, self.is_closed, self.is_aborted = [], True, False, False
        self.unsent_bytes = 0

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

    def get_write_buffer_size(self):
        return self.unsent_bytes

    def close(self):
        self.is_closed = True

    def abort(self):
        self.is_aborted = True


class Host:
    """Works on a request when it is told to, or at once."""

    is_stopping = False

    def __init__(self, at_once):
        self.connection_table = ConnectionTable(10, 10)
        self.bodies = Bodies()
        self.at_once = at_once
        self.taken, self.waiting = [], []
        self.seconds = 0.0

    def count_connections(self):
        pass

    def now(self):
        return self.seconds

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


def answered_to_nobody(host, connection):
    """A request is answered while the client, which has sent all that it sends, reads nothing."""
    connection.data_received(GET % 1)
    connection.eof_received()
    answer(connection, host.waiting.pop())


def dropped(host, connection):
    """Of two requests the first is answered, and the second given up as the client sends no more."""
    connection.data_received(GET % 1 + GET % 2)
    answer(connection, host.waiting.pop())
    connection.eof_received()
    connection.drop(host.waiting.pop())


def left_unread(host, connection):
    """A request is answered, and the client sends no more while it reads nothing."""
    connection.data_received(GET % 1)
    answer(connection, host.waiting.pop())
    connection.eof_received()


def idle(host, connection):
    """A request is answered, and the client neither reads nor asks for more."""
    connection.data_received(GET % 1)
    answer(connection, host.waiting.pop())
    connection.transport.unsent_bytes = 900
    host.seconds += settings.IDLE_SECONDS
    connection.check_deadline(host.seconds)


def last(host, connection):
    """A request is answered for which the connection isn't kept."""
    connection.data_received(b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer(connection, host.waiting.pop())


def last_of_an_old_client(host, connection):
    """A request is answered whose client knows HTTP/1.0."""
    connection.data_received(b"GET /1 HTTP/1.0\r\n\r\n")
    answer(connection, host.waiting.pop())


@pytest.mark.parametrize("end", [last, last_of_an_old_client, answered_to_nobody, dropped, left_unread, idle])
def test_what_is_left_of_the_last_answer_has_as_long_as_any_answer(end):
    host, transport = Host(at_once=False), Transport()
    connection = Connection(host)
    connection.connection_made(transport)
    host.seconds = settings.HEADER_SECONDS - 1
    end(host, connection)
    transport.unsent_bytes = 900
    begun = host.seconds

    def is_aborted_after(seconds, unsent_bytes):
        transport.unsent_bytes = unsent_bytes
        connection.check_deadline(begun + seconds)
        return transport.is_aborted

    times = [(0.5, 900), (30, 900), (59, 800), (61, 800), (118, 800), (120, 800)]
    assert [is_aborted_after(*each) for each in times] == [False] * 5 + [True]


def test_a_connection_that_is_closed_with_something_unsent_makes_room_for_others():
    host, transport = Host(at_once=False), Transport()
    connection = Connection(host)
    connection.connection_made(transport)
    last(host, connection)

    assert host.connection_table.close_first()
    assert transport.is_aborted
