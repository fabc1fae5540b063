"""The Python client by itself, and against answers that a service seldom gives."""

import gzip
import json
import logging
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from email.utils import format_datetime
from types import SimpleNamespace

import pandas
import pytest
from tracking_client import Counts, RequestRefused, Tracker, TrackingError, Unreachable
from tracking_client.complaints import Complaints
from tracking_client.encoding import NoEventError, decode, encode
from tracking_client.retries import Backoff, retry_after_of
from tracking_client.spool import Spool, SpoolInUseError
from tracking_client.testing import FakeTracker, MadeAnnotation

from events.serializers import EventSerializer
from events.tests.support.service import PROJECT_DIR
from events.tests.support.waiting import wait_until


@pytest.fixture
def make_tracker(make_scripted_tracker):
    return make_scripted_tracker


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_what_may_be_well_later_is_sent_again_alike(make_tracker, scripted, status):
    scripted.answers += [(status, {}, b"busy")] * 3
    tracker = make_tracker()
    tracker.track("Shop", "order", 1)

    assert tracker.flush(60)
    assert scripted.paths() == ["/o/token/", *["/api/track/"] * 4]
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in scripted.calls[1:]}) == 1
    assert len({body for _, _, _, body in scripted.calls[1:]}) == 1
    assert tracker.counts == Counts(taken=1, stored=1)


@pytest.mark.parametrize("status", [200, 202, 204, 301, 302, 307])
@pytest.mark.parametrize("spool", [False, True])
def test_only_a_201_says_that_events_are_stored(make_tracker, scripted, tmp_path, status, spool, caplog):
    """A proxy's page of maintenance says 200, or is where it redirects to."""
    page = (status, {"Location": "/maintenance"}, b"" if status == 204 else b"<html>Under maintenance</html>")
    scripted.answers += [page] * 3
    told = []
    tracker = make_tracker(on_refused=told.append, spool=tmp_path / "spool" if spool else None)
    tracker.track("Shop", "order", 1)

    assert tracker.flush(60)
    assert scripted.paths() == ["/o/token/", *["/api/track/"] * 4]
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in scripted.calls[1:]}) == 1
    assert (tracker.counts, told) == (Counts(taken=1, stored=1), [])
    assert f"1 events wait for {scripted.url}: {status}: {page[2].decode()}" in caplog.text


def test_a_spool_keeps_what_something_on_the_way_took(make_tracker, scripted, tmp_path):
    scripted.answers += [(200, {}, b"<html>Under maintenance</html>")] * 1_000
    tracker = make_tracker(spool=tmp_path / "spool")
    tracker.track("Shop", "order", 1)
    wait_until(lambda: tracker._outbox.is_failing)
    tracker.close(0)

    assert tracker.counts == Counts(taken=1)
    left = Spool(tmp_path / "spool", set())
    assert left.count == 1
    left.close()


@pytest.mark.parametrize("status", [400, 403, 404, 405, 411, 413, 415, 422, 500])
def test_what_is_refused_for_good_is_dropped_and_said(make_tracker, scripted, status, caplog):
    scripted.answers.append((status, {}, b'{"detail": "No such thing."}'))
    told = []
    tracker = make_tracker(on_refused=told.append)
    tracker.track("Shop", "order", 1, 2)

    assert tracker.flush(60)
    assert scripted.paths() == ["/o/token/", "/api/track/"]
    assert tracker.counts == Counts(taken=1, refused=1)
    [refused] = told
    assert refused.event == {"namespace": "Shop", "name": "order", "timestamp": 2, "value": 1.0}
    assert refused.reason == f'{status}: {{"detail": "No such thing."}}'
    assert "No such thing." in caplog.text


def test_items_that_a_grant_leaves_out_are_dropped_alone(make_tracker, scripted):
    scripted.answers.append((403, {}, b'{"1": {"namespace": ["The client is not granted it."]}}'))
    told = []
    tracker = make_tracker(batch_events=3, on_refused=told.append)
    for value in range(3):
        tracker.track("Shop", "order", value)

    assert tracker.flush(60)
    assert tracker.counts == Counts(taken=3, stored=2, refused=1)
    assert [(each.event["value"], each.reason) for each in told] == [(1.0, "namespace: The client is not granted it.")]


def test_what_waits_by_then_goes_with_a_batch(make_tracker, scripted):
    scripted.answers.append((503, {"Retry-After": "1"}, b""))
    tracker = make_tracker(batch_events=10, largest_batch_events=50)
    for value in range(130):
        tracker.track("Shop", "order", value)

    assert tracker.flush(60)
    bodies = [gzip.decompress(body) for _, path, _, body in scripted.calls if path == "/api/track/"]
    counts = [len(body.splitlines()) for body in bodies[1:]]  # the first is sent twice
    assert sum(counts) == 130
    assert max(counts) == 50


def test_a_callback_that_fails_stops_nothing(make_tracker, scripted, caplog):
    scripted.answers.append((404, {}, b""))
    tracker = make_tracker(on_refused=lambda refused: 1 / 0)
    tracker.track("Shop", "order")
    assert tracker.flush(60)
    tracker.track("Shop", "order")

    assert tracker.flush(60)
    assert tracker.counts == Counts(taken=2, stored=1, refused=1)
    assert "ZeroDivisionError" in caplog.text


def test_a_token_that_is_refused_is_replaced_at_once_and_once(make_tracker, scripted, caplog):
    scripted.answers += [(401, {}, b"")] * 2
    waits = []
    tracker = make_tracker(backoff=SimpleNamespace(seconds=lambda failures, _=None: waits.append(failures) or 0.01))
    tracker.track("Shop", "order")

    assert tracker.flush(60)
    assert scripted.paths() == ["/o/token/", "/api/track/"] * 3
    assert waits == [2]
    assert "1 events wait for" in caplog.text


def test_a_token_is_renewed_before_it_expires_and_shared(make_tracker, scripted, monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("tracking_client.tokens.time", clock)
    scripted.token_answers += [(200, {}, b'{"access_token": "short", "expires_in": 100}')]
    tracker = make_tracker(senders=4, batch_events=1)
    for value in range(20):
        tracker.track("Shop", "order", value)
    assert tracker.flush(60)
    assert scripted.paths().count("/o/token/") == 1
    assert {headers["Authorization"] for _, _, headers, _ in scripted.calls[1:]} == {"Bearer short"}

    clock.now = 89.9
    tracker.track("Shop", "order", 0)
    assert tracker.flush(60)
    assert scripted.paths().count("/o/token/") == 1
    clock.now = 90.1
    tracker.track("Shop", "order", 0)
    assert tracker.flush(60)
    assert scripted.paths().count("/o/token/") == 2
    assert scripted.calls[-1][2]["Authorization"] == "Bearer token"


def test_a_token_is_asked_for_as_rfc_6749_has_it(scripted):
    with Tracker(scripted.url, "a:ü", "b c%") as tracker:
        tracker.track("Shop", "order")
        assert tracker.flush(60)

    _, _, headers, body = scripted.calls[0]
    assert headers["Authorization"] == "Basic YSUzQSVDMyVCQzpiJTIwYyUyNQ=="
    assert body == b"grant_type=client_credentials&scope=write"


@pytest.mark.parametrize("status", [429, 503])
def test_it_comes_back_when_the_service_says(make_tracker, scripted, status):
    scripted.answers.append((status, {"Retry-After": "1"}, b""))
    tracker = make_tracker()
    tracker.track("Shop", "order")

    assert tracker.flush(60)
    assert scripted.calls[2][0] - scripted.calls[1][0] >= 1


def test_no_answer_in_time_is_a_reason_to_send_again(make_tracker):
    tracker = make_tracker(timeout_seconds=0.05, url="http://127.0.0.1:9")
    tracker.track("Shop", "order")

    assert not tracker.flush(0.2)
    assert tracker.counts == Counts(taken=1)
    with pytest.raises(Unreachable, match="Connection refused"):
        tracker.aggregate("Shop", "order")


def test_a_question_is_asked_again_where_that_helps(make_tracker, scripted):
    scripted.answers += [(503, {}, b""), (401, {}, b""), (200, {}, b"[]")]
    tracker = make_tracker()

    assert tracker.aggregate("Sh/op", "ä") == []
    assert set(scripted.paths()) == {"/o/token/", "/api/events/Sh%2Fop/%C3%A4"}
    scripted.answers.append((400, {}, b'{"granularity": ["No."]}'))
    with pytest.raises(RequestRefused) as caught:
        tracker.aggregate("Shop", "order", granularity="second")
    assert (caught.value.status, caught.value.body) == (400, '{"granularity": ["No."]}')
    assert isinstance(caught.value, TrackingError)


def test_an_annotation_is_sent_until_it_is_stored_once(make_tracker, scripted):
    scripted.answers += [(503, {}, b""), (401, {}, b""), (201, {}, b'{"id": "7"}')]
    tracker = make_tracker()
    at = datetime(2020, 11, 12, 11, 10, tzinfo=UTC)

    assert tracker.annotate("Shop", "Release", timestamp=at, end=1605179400, text="4.2", tags=("web",)) == "7"

    sent = [(headers, body) for _, path, headers, body in scripted.calls if path == "/api/annotations/"]
    assert len(sent) == 3
    assert len({headers["Idempotency-Key"] for headers, _ in sent}) == 1
    assert json.loads(sent[-1][1]) == {
        "namespace": "Shop", "title": "Release", "timestamp": "2020-11-12T11:10:00+00:00", "end": 1605179400, "text": "4.2",
        "tags": ["web"],
    }  # fmt: skip
    scripted.answers += [(400, {}, b'{"title": ["No."]}'), (201, {}, b"<html>")]
    with pytest.raises(RequestRefused, match="title"):
        tracker.annotate("Shop", "")
    with pytest.raises(RequestRefused, match="<html>"):
        tracker.annotate("Shop", "Release")


def test_an_aggregate_for_pandas(make_tracker, scripted):
    scripted.answers.append((200, {}, b'[{"aggregatedTimestamp": "2020-11-12T11:10:00Z", "value": 1.5}]'))

    series = make_tracker().aggregate("Shop", "order").to_pandas()
    assert series.to_dict() == {pandas.Timestamp("2020-11-12T11:10:00Z"): 1.5}


# Waits.


def test_waits_grow_are_random_and_end_somewhere():
    backoff = Backoff(first_seconds=0.5, most_seconds=60)
    longest = [max(backoff.seconds(failures) for _ in range(2_000)) for failures in (1, 2, 3, 8, 1_000)]

    assert [round(each / wanted, 1) for each, wanted in zip(longest, (0.5, 1, 2, 60, 60), strict=True)] == [1] * 5
    assert min(backoff.seconds(1_000) for _ in range(2_000)) < 1
    assert all(7 <= backoff.seconds(5, 7.0) <= 7.5 for _ in range(100))


@pytest.mark.parametrize(
    ("text", "seconds"), [("3", 3.0), (" 0 ", 0.0), ("", None), ("soon", None), ("-1", None), ("1.5", None)]
)
def test_retry_after_in_seconds(text, seconds):
    assert retry_after_of({"Retry-After": text}) == seconds
    assert retry_after_of({}) is None


def test_retry_after_as_a_date():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)

    assert 97 < retry_after_of({"Retry-After": soon}) <= 100
    assert retry_after_of({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}) == 0


def test_the_same_complaint_is_made_once_a_minute(caplog, monkeypatch):
    clock = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    complaints = Complaints()
    for at in (1_000, 1_001, 1_059, 1_061):
        clock[0] = float(at)
        complaints.say("full", "No room for %s.", at)
        complaints.say(f"other {at}", "Other.")

    assert [record.getMessage() for record in caplog.records if "room" in record.getMessage()] == [
        "No room for 1000.",
        "No room for 1061. (and 2 times before that, within a minute)",
    ]
    assert {(record.name, record.levelno) for record in caplog.records} == {("tracking_client", logging.WARNING)}


# Room.


def sent_values(scripted):
    bodies = [gzip.decompress(body) for _, path, _, body in scripted.calls if path == "/api/track/"]
    return [decode(line)["value"] for body in bodies for line in body.decode().splitlines()]


@pytest.mark.parametrize("spool", [False, True])
@pytest.mark.parametrize(
    ("when_full", "kept"), [("drop_oldest", [5, 6, 7, 8, 9, 10, 11]), ("drop_newest", [0, 1, 2, 3, 4, 5, 6])]
)
def test_past_the_limit_events_are_dropped_and_counted(
    make_tracker, scripted, tmp_path, spool, when_full, kept, caplog
):
    tracker = make_tracker(
        most_events=7, when_full=when_full, batch_seconds=60, spool=tmp_path / "spool" if spool else None
    )
    with tracker._outbox._lock:  # nothing is on its way, which could not be dropped
        for value in range(12):
            tracker.track("Shop", "order", value)

    assert tracker.waiting == 7
    assert tracker.flush(60)
    assert sent_values(scripted) == kept
    assert tracker.counts == Counts(taken=12, stored=7, dropped=5)
    wait_until(lambda: "7 events wait, and no more may" in caplog.text)
    assert caplog.text.count("no more may") == 1


@pytest.mark.parametrize("spool", [False, True])
def test_past_the_limit_it_may_wait(make_tracker, scripted, tmp_path, spool):
    scripted.answers += [(503, {}, b"")] * 10
    tracker = make_tracker(most_events=7, when_full="block", batch_events=5, spool=tmp_path / "s" if spool else None)
    for value in range(30):
        tracker.track("Shop", "order", value)
        assert tracker.waiting <= 7

    assert tracker.flush(60)
    assert sorted(set(sent_values(scripted))) == [*range(30)]
    assert tracker.counts == Counts(taken=30, stored=30)


def test_closing_lets_go_of_who_waits_for_room(make_tracker):
    tracker = make_tracker(url="http://127.0.0.1:9", most_events=1, when_full="block")
    tracker.track("Shop", "order")
    waiting = threading.Thread(target=tracker.track, args=("Shop", "order"))
    waiting.start()
    tracker.close(0)
    waiting.join(10)

    assert not waiting.is_alive()
    assert tracker.counts == Counts(taken=2, dropped=1)


def test_what_is_lost_at_the_end_is_said(make_tracker, caplog):
    tracker = make_tracker(url="http://127.0.0.1:9")
    for _ in range(3):
        tracker.track("Shop", "order")
    tracker.close(0.05)
    tracker.track("Shop", "order")

    assert "The program ends, and 3 events are lost that could not be sent." in caplog.text
    assert tracker.counts == Counts(taken=4, dropped=1)


# Spools.


def test_a_spool_is_one_trackers(tmp_path):
    first = Spool(tmp_path / "spool", set())
    with pytest.raises(SpoolInUseError):
        Spool(tmp_path / "spool", set())
    first.close()

    Spool(tmp_path / "spool", set()).close()


def test_trackers_share_a_path_and_send_what_others_left(make_tracker, scripted, tmp_path):
    for number in range(3):
        left = Spool(tmp_path / ("spool" if not number else f"spool-{number + 1}"), set())
        left.put(encode("Shop", "order", number))
        left.close()
    first, second = (make_tracker(spool=tmp_path / "spool") for _ in range(2))
    first.track("Shop", "order", 3)
    second.track("Shop", "order", 4)

    wait_until(lambda: sorted(sent_values(scripted)) == [*range(5)])
    assert first.flush(60)
    assert second.flush(60)
    # the second's own is the fourth where the first one already had all that were left
    assert len([path for path in tmp_path.iterdir() if "-w" not in path.name]) in (3, 4)


def test_a_spool_that_cant_be_used_is_said_and_memory_serves(make_tracker, scripted, tmp_path, caplog):
    (tmp_path / "spool").write_bytes(b"no database at all, and longer than a header of one would be" * 20)
    tracker = make_tracker(spool=tmp_path / "spool")
    for value in range(3):
        tracker.track("Shop", "order", value)

    assert tracker.flush(60)
    assert sent_values(scripted) == [0, 1, 2]
    assert "can't be opened; events wait in memory: file is not a database" in caplog.text


def test_a_spool_that_is_full_is_said_and_memory_serves(make_tracker, scripted, tmp_path, caplog):
    tracker = make_tracker(spool=tmp_path / "spool", batch_seconds=60)
    tracker.track("Shop", "order", 0)
    tracker._outbox._spool._connection.execute("PRAGMA max_page_count=1")
    for value in range(1, 200):
        tracker.track("Shop", "order", value)

    assert tracker.flush(60)
    assert sorted(sent_values(scripted)) == [*range(200)]
    wait_until(lambda: "can't be written; events wait in memory: database or disk is full" in caplog.text)


def test_the_spools_log_does_not_grow_for_good(tmp_path, monkeypatch):
    monkeypatch.setattr("tracking_client.spool._MOST_LOG_BYTES", 100_000)
    spool = Spool(tmp_path / "spool", set())
    for _ in range(5):
        for value in range(200):
            spool.put(encode("Shop", "order", value))
        while batch := spool.take(50):
            spool.done(batch)

    assert (tmp_path / "spool-wal").stat().st_size < 200_000
    assert spool.count == 0
    spool.close()


def test_the_spools_log_does_not_grow_for_good_while_nothing_is_sent(tmp_path, monkeypatch):
    """Each event that takes the place of a dropped one writes to it."""
    monkeypatch.setattr("tracking_client.spool._MOST_LOG_PAGES", 100)
    spool = Spool(tmp_path / "spool", set())
    lines = [encode("Shop", "order", value) for value in range(1_000)]
    for number, line in enumerate(lines):
        spool.put(line)
        if number >= 20:
            spool.drop_oldest()

    assert (tmp_path / "spool-wal").stat().st_size < 200_000
    assert spool.count == 20
    assert spool.take(100).lines == lines[-20:]
    spool.close()


def test_leaving_is_quick_where_a_spool_keeps_what_waits(make_tracker, tmp_path):
    tracker = make_tracker(url="http://127.0.0.1:9", spool=tmp_path / "spool")
    tracker.track("Shop", "order")
    wait_until(lambda: tracker._outbox.is_failing)
    start = time.monotonic()
    tracker.close(60)

    assert time.monotonic() - start < 10
    with sqlite3.connect(tmp_path / "spool") as file:
        assert file.execute("SELECT count(*) FROM event").fetchone() == (1,)
    file.close()


# Events.


@pytest.mark.parametrize(
    ("value", "written"), [(1, 1.0), (Decimal("0.1"), 0.1), (-0.0, -0.0), (10**20, 1e20), (5e-324, 5e-324)]
)
def test_numbers_are_written_as_they_are(value, written):
    assert decode(encode("Shop", "order", value, 0)) == {
        "namespace": "Shop",
        "name": "order",
        "timestamp": 0,
        "value": written,
    }


@pytest.mark.parametrize("value", [float("inf"), float("nan"), True, "1", b"1", None, 10**400, object()])
def test_what_is_no_number_is_no_event(value):
    with pytest.raises(NoEventError, match=r"value: A (valid|finite) number is required."):
        encode("Shop", "order", value)


@pytest.mark.parametrize(
    ("namespace", "name", "timestamp", "reason"),
    [
        (b"Shop", "order", None, "namespace, name: Object of type bytes is not JSON serializable."),
        ("Shop", ["order", {1, 2}], None, "namespace, name: Object of type set is not JSON serializable."),
        ("Shop", "order", float("nan"), "timestamp: Out of range float values are not JSON compliant."),
        ("Shop", "order", object, "timestamp: Object of type type is not JSON serializable."),
    ],
)
def test_what_json_has_no_word_for_is_no_event(namespace, name, timestamp, reason):
    with pytest.raises(NoEventError, match=re.escape(reason)):
        encode(namespace, name, 1, timestamp)


class Odd(tzinfo):
    """Fails as none of Python's own does: as a number, and as a time zone."""

    def __float__(self):
        raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")

    def utcoffset(self, at):
        raise KeyError(at)

    dst = tzname = utcoffset


def test_tracking_raises_nothing_whatever_code_it_is_given(make_tracker):
    told, nested = [], []
    for _ in range(100_000):
        nested = [nested]
    tracker = make_tracker(on_refused=lambda refused: told.append(refused.reason.partition(":")[0]))
    for arguments in (
        ("Shop", "order", Odd()),
        ("Shop", "order", 1, datetime(2020, 11, 12, tzinfo=Odd())),
        (nested, "x"),
    ):
        tracker.track(*arguments)

    assert told == ["value", "timestamp", "namespace, name"]
    assert tracker.counts == Counts(taken=3, refused=3)


def test_tracking_raises_nothing(make_tracker):
    told = []
    tracker = make_tracker(on_refused=told.append)
    for arguments in ((None, None), (b"", object()), ("Shop", "order", "x"), ("Shop", "order", 1, object())):
        tracker.track(*arguments)

    tracker.flush(60)
    assert len(told) == 3  # null is for the service to judge
    assert tracker.counts == Counts(taken=4, refused=3, stored=1)


def test_many_names_take_no_memory_for_good(monkeypatch):
    monkeypatch.setattr("tracking_client.encoding._MOST_PREFIXES", 10)
    monkeypatch.setattr("tracking_client.encoding._prefixes", kept := {})
    for number in range(100):
        assert decode(encode("Shop", f"order {number}", 1))["name"] == f"order {number}"
        assert len(kept) <= 10


@pytest.mark.parametrize("spool", [False, True])
def test_tracking_takes_no_time(make_tracker, tmp_path, spool):
    """The median of 20,000; 20 µs on a machine that does nothing else, and this one may."""
    tracker = make_tracker(url="http://127.0.0.1:9", spool=tmp_path / "spool" if spool else None)
    times = []
    for value in range(20_000):
        start = time.perf_counter()
        tracker.track("Shop", "order", value)
        times.append(time.perf_counter() - start)

    assert statistics.median(times) < 100e-6


def test_a_timer_tracks_seconds_also_of_what_fails():
    tracker = FakeTracker()

    @tracker.timer("Back-end", "seconds")
    def work():
        time.sleep(0.02)
        return 5

    assert (work(), work()) == (5, 5)
    with pytest.raises(KeyError), tracker.timer("Back-end", "failed"):
        raise KeyError
    tracker.assert_tracked("Back-end", "seconds", times=2)
    tracker.assert_tracked("Back-end", "failed", times=1)
    assert all(0.02 <= event.value < 5 for event in tracker.of("Back-end", "seconds"))


# Settings.


def test_address_and_credentials_come_from_the_environment(monkeypatch, scripted):
    for name, value in (("URL", scripted.url + "/"), ("CLIENT_ID", "id"), ("CLIENT_SECRET", "secret")):
        monkeypatch.setenv(f"TRACKING_{name}", value)
    with Tracker() as tracker:
        tracker.track("Shop", "order")

    assert scripted.paths() == ["/o/token/", "/api/track/"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"url": None}, "TRACKING_URL is not set, and nothing is given instead."),
        ({"client_secret": None}, "TRACKING_CLIENT_SECRET is not set, and nothing is given instead."),
        ({"url": "tracking.example.com"}, "begins with http:// or https://; this doesn't: 'tracking.example.com'."),
        ({"when_full": "panic"}, "when_full is one of drop_oldest, drop_newest, block; not 'panic'."),
        ({"batch_events": 0}, "batch_events, senders and most_events are 1 or more."),
    ],
)
def test_what_cant_work_is_refused_at_once(options, reason, monkeypatch):
    for name in ("URL", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.delenv(f"TRACKING_{name}", raising=False)
    with pytest.raises(ValueError, match=re.escape(reason)):
        Tracker(**{"url": "http://127.0.0.1", "client_id": "id", "client_secret": "secret", **options})


def test_a_tracker_that_is_not_enabled_does_nothing():
    tracker = Tracker(enabled=False)
    tracker.track("Shop", "order")

    assert tracker.flush(0)
    assert (tracker.aggregate("Shop", "order"), tracker.catalogue(), tracker.counts) == ([], [], Counts())
    assert tracker.annotate("Shop", "Release") == ""
    tracker.close()


def test_a_fake_tracker_remembers_and_asserts():
    tracker = FakeTracker()
    tracker.assert_nothing_tracked()
    at = datetime(2020, 11, 12, tzinfo=UTC)
    tracker.track("Shop", "order", 142, at)

    assert tracker.annotate("Shop", "Release", timestamp=at, tags=["web"]).endswith("1")
    assert tracker.annotations == [MadeAnnotation("Shop", "Release", at, None, "", ("web",))]
    [event] = tracker.events
    assert (event.namespace, event.name, event.value, event.timestamp) == ("Shop", "order", 142.0, at)
    tracker.assert_tracked("Shop", "order")
    tracker.assert_tracked("Shop", "order", 142, times=1)
    tracker.assert_tracked("Shop", "return", times=0)
    for wrong in (
        lambda: tracker.assert_tracked("Shop", "return"),
        lambda: tracker.assert_tracked("Shop", "order", 1),
        lambda: tracker.assert_tracked("Shop", "order", times=2),
        tracker.assert_nothing_tracked,
    ):
        with pytest.raises(AssertionError, match="TrackedEvent"):
            wrong()


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", ".", "..", "\0", "\ud800", "x" * 256, "x" * 255, "ok", "...", "é", "a\nb"]
)
def test_a_fake_tracker_refuses_the_names_that_the_service_refuses(name):
    event = {"namespace": name, "name": "order", "timestamp": 0, "value": 1.0}
    is_valid = EventSerializer(data=event).is_valid()
    tracker = FakeTracker()
    try:
        tracker.track(name, "order")
    except ValueError:
        assert not is_valid
    else:
        assert is_valid
        tracker.assert_tracked(name, "order")


@pytest.mark.parametrize(
    "timestamp",
    [
        0, -5.5, 1605179400, 1605179400000.5, 10**11 - 1, 10**11, -62135596800, -62135596801, -62135596800000,
        -62135596800001, 253402300799999, 253402300800000, 1605179400000000000, 1e308, 10**400, True,
        datetime(2020, 11, 12), datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=5))),
    ],
    ids=repr,
)  # fmt: skip
def test_a_fake_tracker_refuses_the_timestamps_that_the_service_refuses(timestamp):
    written = timestamp.isoformat() if isinstance(timestamp, datetime) else timestamp
    event = {"namespace": "Shop", "name": "order", "timestamp": written, "value": 1.0}
    is_valid = EventSerializer(data=event).is_valid()
    tracker = FakeTracker()
    try:
        tracker.track("Shop", "order", 1, timestamp)
    except ValueError:
        assert not is_valid
    else:
        assert is_valid
        assert [event.timestamp for event in tracker.events] == [timestamp]


@pytest.mark.parametrize(("namespace", "timestamp"), [(1, 0), (None, 0), ("Shop", "2020"), ("Shop", b"2020")])
def test_a_fake_tracker_refuses_what_is_of_another_type(namespace, timestamp):
    tracker = FakeTracker()
    with pytest.raises(ValueError, match=r"^(namespace|timestamp): "):
        tracker.track(namespace, "order", 1, timestamp)
    tracker.assert_nothing_tracked()


def test_it_brings_nothing_of_django_nor_of_the_service():
    code = """
import sys, tracking_client, tracking_client.testing
print(sorted(name for name in sys.modules if name.split(".")[0] in ("django", "rest_framework", "events", "tracking_api")))
"""
    env = {**os.environ, "PYTHONPATH": str(PROJECT_DIR / "clients/python/src")}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd="/", capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_threads_share_a_tracker(make_tracker, scripted):
    tracker = make_tracker(senders=3, batch_events=7)
    threads = [
        threading.Thread(
            target=lambda first: [tracker.track("Shop", "order", first + n) for n in range(100)], args=(first,)
        )
        for first in range(0, 800, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert tracker.flush(60)
    assert sorted(sent_values(scripted)) == [*range(800)]
