"""What might keep the Python client waiting for good: faults of threads, locks, files, forks and answers."""

import gzip
import json
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from types import SimpleNamespace

import pytest
from tracking_client import Counts, RequestRefused
from tracking_client import tracker as tracker_module
from tracking_client.complaints import Complaints
from tracking_client.retries import Backoff
from tracking_client.spool import Spool

from events.tests.clients.scripted import ACCEPTED
from events.tests.support.service import PROJECT_DIR
from events.tests.support.waiting import wait_until

BUSY = (503, {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, b"")


@pytest.fixture
def make_tracker(make_scripted_tracker):
    return make_scripted_tracker


def run(script, *arguments, **variables):
    """What a program prints that ends by itself."""
    env = {**os.environ, "PYTHONPATH": str(PROJECT_DIR / "clients/python/src"), **variables}
    command = [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def variables_of(scripted):
    """Where such a program finds the service."""
    return {"TRACKING_URL": scripted.url, "TRACKING_CLIENT_ID": "id", "TRACKING_CLIENT_SECRET": "secret"}


# Answers.


def test_tokens_that_are_all_refused_are_asked_for_with_waits_between(make_tracker, scripted):
    """As a service does it, each token is another one; a thread that asks on and on never ends."""
    scripted.token_answers += [(200, {}, json.dumps({"access_token": f"token {n}"}).encode()) for n in range(100)]
    scripted.answers += [(401, {}, b"")] * 7
    waits = []
    tracker = make_tracker(backoff=SimpleNamespace(seconds=lambda failures, _=None: waits.append(failures) or 0.01))
    tracker.track("Shop", "order")

    assert tracker.flush(60)
    assert waits == [2, 3, 4, 5, 6, 7]
    assert [headers["Authorization"] for _, path, headers, _ in scripted.calls if path == "/api/track/"] == [
        f"Bearer token {number}" for number in range(8)
    ]


def test_a_date_that_is_far_away_is_waited_for_an_hour(make_tracker, scripted):
    assert 3_600 <= Backoff().seconds(1, 1e12) <= 3_600.5
    scripted.answers.append(BUSY)
    waits = []
    backoff = Backoff(0.01, 0.02)
    tracker = make_tracker(
        backoff=SimpleNamespace(seconds=lambda *arguments: waits.append(backoff.seconds(*arguments)) or 0.01)
    )
    tracker.track("Shop", "order")

    assert tracker.flush(60)
    assert [round(wait) for wait in waits] == [3_600]


def test_a_time_without_end_may_be_given(make_tracker):
    tracker = make_tracker()
    tracker.track("Shop", "order")

    assert tracker.flush(float("inf"))


@pytest.mark.parametrize(
    "token_answer",
    [
        (200, {}, b'{"access_token": "two\\r\\nlines"}'),
        (200, {}, '{"access_token": "„token“"}'.encode()),
        (200, {}, b"[" * 100_000),
    ],
)
def test_an_answer_that_nobody_expects_ends_no_thread(make_tracker, scripted, token_answer, caplog):
    """A header can't have such a token, and no decoder follows so many brackets."""
    scripted.token_answers.append(token_answer)
    tracker = make_tracker()
    tracker.track("Shop", "order")
    wait_until(lambda: "Sending failed, and is tried again" in caplog.text)
    tracker._tokens._tokens.clear()

    assert tracker.flush(60)
    assert tracker.counts == Counts(taken=1, stored=1)


def test_a_service_that_never_answers_keeps_nobody(make_tracker):
    """Neither who closes, nor who asks meanwhile."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        tracker = make_tracker(url=url, timeout_seconds=0.3)
        tracker.track("Shop", "order")
        assert not tracker.flush(0.1)
        tracker.close(0.1)

    assert tracker.counts == Counts(taken=1)


def test_a_page_of_something_on_the_way_is_no_aggregate(make_tracker, scripted):
    scripted.answers += [(200, {}, b"<h1>Log in to the airport's network</h1>")] * 2
    tracker = make_tracker()

    with pytest.raises(RequestRefused, match="airport"):
        tracker.aggregate("Shop", "order")
    with pytest.raises(RequestRefused, match="airport"):
        tracker.catalogue()


# Threads and locks.


def test_who_is_called_back_may_track_flush_and_close(make_tracker, scripted):
    """By the only thread that sends, where there is no room, and it would wait for itself."""
    scripted.answers.append((404, {}, b""))
    told = []

    def on_refused(refused):
        tracker.track("Shop", "refused")
        told.append(tracker.flush())
        tracker.close()

    tracker = make_tracker(most_events=1, when_full="block", on_refused=on_refused)
    tracker.track("Shop", "order")

    wait_until(lambda: tracker.counts == Counts(taken=2, refused=1, dropped=1), 10)
    assert told == [False]


def test_who_waits_for_room_does_not_wait_for_a_batch_that_never_fills(make_tracker):
    tracker = make_tracker(most_events=3, when_full="block", batch_seconds=1_000)
    for _ in range(10):
        tracker.track("Shop", "order")

    assert tracker.counts.taken == 10


def test_a_callback_that_ends_its_thread_does_not(make_tracker, scripted):
    scripted.answers.append((404, {}, b""))
    calls = []

    def on_refused(refused):
        calls.append(refused)
        if len(calls) == 1:
            sys.exit()

    tracker = make_tracker(on_refused=on_refused)
    tracker.track("Shop", "order")

    assert tracker.flush(60)
    assert tracker.counts == Counts(taken=1, stored=1)


@pytest.mark.parametrize("spool", [False, True])
def test_a_handler_of_the_log_may_wait_for_who_tracks(make_tracker, tmp_path, spool, monkeypatch):
    """So nothing is logged while tracking is locked."""
    stuck = []

    class Handler(logging.Handler):
        def emit(self, record):
            thread = threading.Thread(target=tracker.track, args=("Shop", "logged"), daemon=True)
            thread.start()
            thread.join(2)
            stuck.append(thread.is_alive())

    options = {"url": "http://127.0.0.1:9", "batch_seconds": 1_000}
    if spool:
        tracker = make_tracker(spool=tmp_path / "spool", **options)
        monkeypatch.setattr(Spool, "put", failing(Spool.put))
    else:
        tracker = make_tracker(most_events=1, when_full="drop_newest", **options)
    logger, handler = logging.getLogger("tracking_client"), Handler()
    logger.addHandler(handler)
    try:
        for _ in range(3):
            tracker.track("Shop", "order")
    finally:
        logger.removeHandler(handler)

    assert set(stuck) == {False}


def test_a_handler_of_the_log_may_raise(make_tracker, scripted):
    """In the thread that sends, and in one that tracks."""

    class Handler(logging.Handler):
        def emit(self, record):
            said.append(record.msg)
            raise RuntimeError("the log's database is away")

    def on_refused(refused):
        raise RuntimeError("no callback")

    said = []
    scripted.answers.append((503, {}, b""))
    logger, handler = logging.getLogger("tracking_client"), Handler()
    logger.addHandler(handler)
    try:
        tracker = make_tracker(on_refused=on_refused)
        tracker.track("Shop", "order")
        tracker.track("Shop", "order", float("nan"))
        assert tracker.flush(10)
    finally:
        logger.removeHandler(handler)

    assert tracker.counts == Counts(taken=2, stored=1, refused=1)
    assert sorted(said) == ["%d events wait for %s: %s", "An event is refused: %s: %s", "on_refused failed"]


def test_a_signals_handler_may_track_whatever_it_interrupts(make_tracker):
    """Where the interrupted thread holds the locks, nobody else can let go of them."""
    tracker = make_tracker(url="http://127.0.0.1:9")
    done = []

    def work():
        for lock in (tracker._complaints._lock, tracker._tokens._lock, tracker._starting, tracker._outbox._lock):
            lock.acquire()
        tracker.track("Shop", "order")
        tracker._complaints.say("topic", "words")
        tracker._tokens.forget("token")
        done.append(tracker.counts.taken)
        for lock in (tracker._complaints._lock, tracker._tokens._lock, tracker._starting, tracker._outbox._lock):
            lock.release()

    # in a thread, as one that waits for itself is not to end these tests
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(5)

    assert done == [1]


class Interrupted(Exception):
    """What a signal's handler raises."""


def interrupt(call, at):
    """Raise where a signal's handler might, after so many calls that ``call`` makes; tell whether it made that many."""
    made = 0

    def count(frame, event, argument):
        nonlocal made
        made += event in ("call", "c_return") and argument is not sys.setprofile
        if made == at:
            sys.setprofile(None)
            raise Interrupted

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        call()
    except Interrupted:
        return True
    finally:
        sys.setprofile(before)
    return False


@pytest.mark.parametrize("spool", [False, True])
@pytest.mark.parametrize("is_full", [False, True])
def test_a_signals_handler_may_raise_wherever_it_interrupts(make_tracker, tmp_path, monkeypatch, spool, is_full):
    """As that of Ctrl-C does: what was taken is sent all the same, and the counts are right after that."""
    # the threads that send may not have been told
    monkeypatch.setattr("tracking_client.outbox._LOOK_SECONDS", 0.02)
    monkeypatch.setattr(Complaints, "say", lambda *_, **__: None)  # it counts nothing, and makes many calls
    tracker = make_tracker(spool=tmp_path / "spool" if spool else None, most_events=1 if is_full else 100)
    tracker.track("Shop", "order")
    assert tracker.flush(10)
    source = tracker._outbox._spool or tracker._outbox._memory
    at, is_interrupted = 0, True
    while is_interrupted:
        at += 1
        with tracker._outbox._lock:  # nothing is on its way, which could not be dropped
            if is_full:
                tracker.track("Shop", "order")
            is_interrupted = interrupt(lambda: tracker.track("Shop", "order"), at)
        wait_until(lambda: tracker.waiting == 0, 10, lambda: f"{at}: {tracker.counts}")  # noqa: B023

        assert tracker.flush(10), at
        assert (source.count, source.unbatched) == (0, 0), at

    assert at > 10


def test_where_no_thread_can_be_started_nothing_is_raised_and_nobody_waits(make_tracker, monkeypatch, caplog):
    tracker = make_tracker()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda self: exec('raise RuntimeError("can\'t start new thread")'))
        tracker.track("Shop", "order")
        assert not tracker.flush()
        assert tracker.counts == Counts(taken=1)
    assert "No thread can be started to send events: can't start new thread" in caplog.text

    assert tracker.flush(60)
    assert tracker.counts == Counts(taken=1, stored=1)


# Flushing and closing.


def in_background(tracker, timeout=None):
    """A thread that flushes, once it has begun to; and what it found, once it has."""
    found = []
    thread = threading.Thread(target=lambda: found.append(tracker.flush(timeout)), daemon=True)
    thread.start()
    wait_until(lambda: tracker._outbox._flushing or found, 10)
    return thread, found


def gated(tracker, monkeypatch, count):
    """Track so many events, and hold the request with the first two back, until what this returns is set."""
    gate, send, calls = threading.Event(), tracker._delivery._send, []

    def hold(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            assert gate.wait(60)
        return send(*arguments)

    monkeypatch.setattr(tracker._delivery, "_send", hold)
    for value in range(count):
        tracker.track("Shop", "order", value)
    source = tracker._outbox._spool or tracker._outbox._memory
    wait_until(lambda: source.unbatched == count - 2, 10)
    return gate


def test_what_is_refused_at_once_is_nothing_that_a_flush_waits_for(make_tracker):
    tracker = make_tracker(url="http://127.0.0.1:9")
    for _ in range(3):
        tracker.track("Shop", "order")
    thread, found = in_background(tracker, 0.2)
    for _ in range(3):
        tracker.track("Shop", "order", float("nan"))
    thread.join(10)

    assert found == [False]
    assert tracker.counts == Counts(taken=6, refused=3)


@pytest.mark.parametrize("spool", [False, True])
def test_a_flush_tells_where_what_it_waited_for_was_dropped(make_tracker, tmp_path, monkeypatch, spool):
    tracker = make_tracker(
        batch_events=2, most_events=4, batch_seconds=1_000, spool=tmp_path / "spool" if spool else None
    )
    gate = gated(tracker, monkeypatch, 4)
    thread, found = in_background(tracker)
    tracker.track("Shop", "order", 4)
    gate.set()
    thread.join(10)

    assert found == [False]
    assert tracker.flush(10)  # of what is left
    assert tracker.counts == Counts(taken=5, stored=4, dropped=1)


@pytest.mark.parametrize("spool", [False, True])
def test_a_flush_waits_for_its_own_events_where_later_ones_are_stored_first(make_tracker, tmp_path, monkeypatch, spool):
    tracker = make_tracker(senders=2, batch_events=2, batch_seconds=1_000, spool=tmp_path / "spool" if spool else None)
    gate = gated(tracker, monkeypatch, 2)
    thread, found = in_background(tracker)
    for value in range(2, 4):
        tracker.track("Shop", "order", value)
    wait_until(lambda: tracker.counts.stored == 2, 10)
    thread.join(0.1)
    assert found == []

    gate.set()
    thread.join(10)
    assert found == [True]
    assert tracker.counts == Counts(taken=4, stored=4)


def test_a_flush_of_a_closed_tracker_tells_that_its_file_has_events(make_tracker, tmp_path):
    tracker = make_tracker(url="http://127.0.0.1:9", spool=tmp_path / "spool", batch_seconds=1_000)
    tracker.track("Shop", "order")
    thread, found = in_background(tracker)
    tracker.close(0)
    thread.join(10)

    assert (found, tracker.flush(), tracker.waiting) == ([False], False, 1)


def test_closing_waits_for_all_threads_together(make_tracker, monkeypatch):
    monkeypatch.setattr(tracker_module, "_LAST_ANSWER_SECONDS", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        tracker = make_tracker(url=url, timeout_seconds=30, senders=10, batch_events=1)
        for _ in range(10):
            tracker.track("Shop", "order")
        wait_until(lambda: tracker._outbox._memory.unbatched == 0, 10)
        start = time.monotonic()
        tracker.close(0)

        assert time.monotonic() - start < 3


# Files.


def test_what_an_earlier_process_left_is_flushed_too(make_tracker, tmp_path):
    left = Spool(tmp_path / "spool", set())
    for _ in range(3):
        left.put('{"namespace":"Shop","name":"order","timestamp":0,"value":1.0}')
    left.close()
    tracker = make_tracker(spool=tmp_path / "spool")

    assert tracker.flush(60)
    assert tracker.counts == Counts(taken=3, stored=3)


def failing(method, times=1):
    """Fails so often first."""
    left = [times]

    def fail(self, *arguments):
        if left[0]:
            left[0] -= 1
            raise sqlite3.OperationalError("disk I/O error")
        return method(self, *arguments)

    return fail


@pytest.mark.parametrize("name", ["_read", "_add", "_replace", "_shorten_log"])
def test_a_disk_that_fails_for_a_moment_keeps_nothing_back(make_tracker, scripted, tmp_path, monkeypatch, name):
    scripted.answers += [(413, {}, b""), ACCEPTED]
    tracker = make_tracker(spool=tmp_path / "spool", batch_events=2)
    method = getattr(Spool, name)
    if name == "_shorten_log":
        monkeypatch.setattr("tracking_client.spool._MOST_LOG_BYTES", -1)
        tracker._outbox._spool._connection = Failing(tracker._outbox._spool._connection)
    else:
        monkeypatch.setattr(Spool, name, failing(method))
    tracker.track("Shop", "order", 0)
    tracker.track("Shop", "order", 1)

    assert tracker.flush(60)
    assert tracker.counts == Counts(taken=2, stored=2)
    assert tracker._outbox._spool.count == 0


class Failing:
    """A connection whose log can't be shortened."""

    def __init__(self, connection):
        self._connection = connection

    def execute(self, sql, *arguments):
        if "wal_checkpoint" in sql:
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(sql, *arguments)

    def __enter__(self):
        return self._connection.__enter__()

    def __exit__(self, *arguments):
        return self._connection.__exit__(*arguments)

    def close(self):
        self._connection.close()


class Full:
    """A connection to a file whose disk is full."""

    def __init__(self, connection):
        self._connection = connection

    def execute(self, sql, *arguments):
        if not sql.startswith("SELECT"):
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(sql, *arguments)

    def __enter__(self):
        self._connection.__enter__()
        return self

    def __exit__(self, *arguments):
        return self._connection.__exit__(*arguments)

    def close(self):
        self._connection.close()


def fill_disk(spool):
    spool._connection = Full(spool._connection)


def free_disk(spool):
    spool._connection = spool._connection._connection


def sent(scripted):
    """The values of each request to track."""
    bodies = [gzip.decompress(body) for _, path, _, body in scripted.calls if path == "/api/track/"]
    return [[json.loads(line)["value"] for line in body.splitlines()] for body in bodies]


@pytest.fixture
def make_full(make_tracker, tmp_path):
    """Makes a tracker with three events in a file, and three in memory as the disk is full."""

    def make(is_batch_there, **options):
        tracker = make_tracker(spool=tmp_path / "spool", **options)
        outbox = tracker._outbox
        with outbox._lock:  # nothing is on its way
            for value in range(3):
                tracker.track("Shop", "order", value)
            if is_batch_there:
                outbox._spool.give_back(outbox._spool.take(10))
            fill_disk(outbox._spool)
            for value in range(3, 6):
                tracker.track("Shop", "order", value)
        return tracker

    return make


@pytest.mark.parametrize("is_batch_there", [False, True])
def test_what_waits_in_memory_is_sent_while_the_disk_is_full(make_full, scripted, is_batch_there, caplog):
    tracker = make_full(is_batch_there)
    wait_until(lambda: [3, 4, 5] in sent(scripted), 10)
    wait_until(lambda: tracker.counts == Counts(taken=6, stored=3), 10)
    tracker.track("Shop", "order", 6)
    wait_until(lambda: [6] in sent(scripted), 10)
    wait_until(lambda: "The spool" in caplog.text)

    free_disk(tracker._outbox._spool)
    assert tracker.flush(60)
    assert tracker.counts == Counts(taken=7, stored=7)
    assert {value for values in sent(scripted) for value in values} == {*range(7)}
    assert tracker._outbox._spool.count == 0
    # the batch that can't be forgotten keeps its key
    keys = {headers["Idempotency-Key"] for _, path, headers, _ in scripted.calls if path == "/api/track/"}
    assert len(keys) == 3


@pytest.mark.parametrize("is_batch_there", [False, True])
def test_what_waits_in_memory_is_sent_at_the_end_where_the_disk_is_full(
    make_full, scripted, tmp_path, is_batch_there, caplog
):
    """At once, and what is in the file stays there for the next process."""
    tracker = make_full(is_batch_there, batch_seconds=1_000)
    start = time.monotonic()
    tracker.close(60)

    assert time.monotonic() - start < 10
    assert tracker.counts == Counts(taken=6, stored=3)
    assert sent(scripted)[-1] == [3, 4, 5]
    assert "are lost" not in caplog.text
    left = Spool(tmp_path / "spool", set())
    assert (left.count, left.unbatched) == (3, 0 if is_batch_there else 3)
    left.close()


def test_a_file_that_rests_for_long_keeps_nothing_back_at_the_end(make_full, monkeypatch):
    """However often it failed before."""
    monkeypatch.setattr("tracking_client.spool._FIRST_REST_SECONDS", 1_000)
    monkeypatch.setattr("tracking_client.spool._MOST_REST_SECONDS", 1_000)
    tracker = make_full(True, backoff=SimpleNamespace(seconds=lambda *_: 1_000))
    wait_until(lambda: tracker.counts.stored == 3, 10)
    tracker._outbox.batch_seconds = 1_000
    tracker.track("Shop", "order", 6)
    tracker.close(60)

    assert tracker.counts == Counts(taken=7, stored=4)


DISK = """
import logging, os, resource, sys
from tracking_client import Tracker
logging.getLogger("tracking_client").addHandler(logging.NullHandler())
spool = sys.argv[1]
tracker = Tracker(spool=spool, batch_seconds=1_000)
for value in range(100):
    tracker.track("Shop", "order", value)
resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(spool + "-wal"), resource.RLIM_INFINITY))
for value in range(100, 200):
    tracker.track("Shop", "order", value)
tracker.close()
print(tracker.counts)
"""


def test_nothing_is_lost_where_a_file_may_not_grow(make_tracker, scripted, tmp_path):
    assert run(DISK, tmp_path / "spool", **variables_of(scripted)) == f"{Counts(taken=200, stored=100)}\n"
    assert sent(scripted) == [[*range(100, 200)]]
    tracker = make_tracker(spool=tmp_path / "spool")
    assert tracker.flush(60)
    assert sent(scripted)[1:] == [[*range(100)]]


def test_a_file_that_cant_be_used_keeps_no_other_back(make_tracker, scripted, tmp_path):
    """One that an earlier process left, such as where the disk has lost a part of it."""
    tracker = make_tracker(spool=tmp_path / "spool")
    left = Spool(tmp_path / "spool-2", set())
    left.put('{"namespace":"Shop","name":"order","timestamp":0,"value":1.0}')
    fill_disk(left)
    with tracker._outbox._lock:
        tracker._outbox._left.append(left)
        tracker.track("Shop", "order", 2)

    wait_until(lambda: tracker.counts == Counts(taken=2, stored=1), 10)
    assert sent(scripted) == [[2]]


def test_memory_has_its_turn_where_the_file_works_again(make_tracker, tmp_path):
    """And always has something, as events go there again."""
    tracker = make_tracker(url="http://127.0.0.1:9", spool=tmp_path / "spool", batch_seconds=1_000)
    outbox = tracker._outbox
    with outbox._lock:
        tracker.track("Shop", "order", 0)
        fill_disk(outbox._spool)
        tracker.track("Shop", "order", 1)
        free_disk(outbox._spool)
        outbox.batch_seconds = 0
        found = []
        for value in range(2, 5):
            tracker.track("Shop", "order", value)
            found.append([json.loads(line)["value"] for line in outbox._take_or_wait().lines])

    assert found == [[0, 2], [1], [3, 4]]


def test_what_is_lost_at_the_end_is_said_also_where_it_was_under_way(make_tracker, tmp_path, caplog):
    (tmp_path / "spool").write_bytes(b"no database at all, and longer than a header of one would be" * 20)
    tracker = make_tracker(url="http://127.0.0.1:9", spool=tmp_path / "spool")
    for _ in range(3):
        tracker.track("Shop", "order")
    wait_until(lambda: tracker._outbox.is_failing)
    tracker.close(0.05)

    assert "The program ends, and 3 events are lost that could not be sent." in caplog.text


def test_tracking_raises_nothing_where_the_oldest_cant_be_dropped(make_tracker, tmp_path, monkeypatch, caplog):
    tracker = make_tracker(url="http://127.0.0.1:9", spool=tmp_path / "spool", most_events=2, batch_seconds=1_000)
    monkeypatch.setattr(Spool, "drop_oldest", failing(Spool.drop_oldest))
    for _ in range(4):
        tracker.track("Shop", "order")

    assert tracker.counts == Counts(taken=4, dropped=2)
    wait_until(lambda: "can't be written; new events are dropped: disk I/O error" in caplog.text)


# Forks.


def test_who_flushes_does_not_wait_for_what_a_child_has_taken_over(make_tracker, tmp_path):
    tracker = make_tracker(url="http://127.0.0.1:9", spool=tmp_path / "spool", batch_seconds=1_000)
    for _ in range(3):
        tracker.track("Shop", "order")
    outbox, found = tracker._outbox, []
    flushing = threading.Thread(target=lambda: found.append(tracker.flush()), daemon=True)
    flushing.start()
    wait_until(lambda: outbox._flushing)
    outbox.hold()
    child = Spool(tmp_path / "spool", set())
    outbox.release()
    flushing.join(10)

    assert found == [False]
    assert tracker.counts == Counts()
    assert child.count == 3
    child.close()


def test_a_fork_leaves_files_with_the_parent(make_tracker, tmp_path):
    tracker = make_tracker(url="http://127.0.0.1:9", spool=tmp_path / "spool", batch_seconds=1_000)
    for _ in range(3):
        tracker.track("Shop", "order")
    tracker._outbox.hold()
    assert tracker.waiting == 0
    tracker._outbox.release()

    assert tracker.waiting == 3
    assert tracker._outbox._spool.path == tmp_path / "spool"


def test_a_batch_that_a_child_left_again_is_sent(make_tracker, scripted, tmp_path):
    """This process had it under way when the child took the file over, and lost sight of it."""
    tracker = make_tracker(spool=tmp_path / "spool", batch_seconds=1_000)
    outbox = tracker._outbox
    with outbox._lock:
        outbox.put('{"namespace":"Shop","name":"order","timestamp":0,"value":1.0}')
        batch = outbox._spool.take(10)
        outbox.close_files()
        child = Spool(tmp_path / "spool", set())
    outbox.stored(batch)
    child.close()
    with outbox._lock:
        outbox._look_at = 0
        outbox.open()

    assert tracker.flush(60)
    assert tracker.counts == Counts(taken=1, stored=1)


LOCKS = """
import os, sys, threading
from tracking_client import Tracker
tracker = Tracker(batch_seconds=0.01)
tracker.track("fork", "value")
assert tracker.flush(10)
closed = Tracker()
closed.close()
[pool] = [tracker._transport._pool.pools[key] for key in tracker._transport._pool.pools.keys()]
locks = [pool.pool.mutex, tracker._tokens._lock, tracker._complaints._lock, tracker._starting]
held, done = threading.Event(), threading.Event()
def hold():
    for lock in locks:
        lock.acquire()
    held.set()
    done.wait()
    for lock in locks:
        lock.release()
holding = threading.Thread(target=hold)
holding.start()
held.wait()
pid = os.fork()
if not pid:
    closed.track("fork", "value")
    tracker.track("fork", "value")
    sys.exit(not tracker.flush(10))
_, status = os.waitpid(pid, 0)
done.set()
holding.join()
print(status, flush=True)
"""


def test_a_lock_that_another_thread_held_at_a_fork_keeps_no_child(scripted):
    assert run(LOCKS, **variables_of(scripted)) == "0\n"
    assert scripted.paths().count("/api/track/") == 2


def test_a_fork_waits_for_another_threads_fork(make_tracker):
    """A tracker that is made meanwhile is held by the second one alone."""
    first = make_tracker()
    tracker_module._before_fork()
    second = make_tracker()
    other = threading.Thread(target=lambda: (tracker_module._before_fork(), tracker_module._after_fork_in_parent()))
    other.start()
    other.join(0.2)
    tracker_module._after_fork_in_parent()
    other.join(10)

    for tracker in (first, second):
        tracker.track("Shop", "order")
        assert tracker.flush(60)
