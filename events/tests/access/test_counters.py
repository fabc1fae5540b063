"""Counts in a sliding window, in memory and in a shared cache."""

import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakeredis import FakeRedis, FakeServer

from events.access import counters as module
from events.access.counters import Counters
from events.tests.support.examples import few_of

REDIS = "redis://cache.example:6379/0"


@pytest.fixture
def redis(monkeypatch):
    """A Redis within this process, to which all clients connect; ``connected`` may be set to False."""
    server = FakeServer()
    monkeypatch.setattr("redis.from_url", lambda url, **options: FakeRedis(server=server))
    return server


def test_it_counts_no_more_than_the_quota():
    counters = Counters("memory://")

    assert [counters.take("k", 5, 60, cost) for cost in (2, 4, 2, 2, 1, 1)] == [True, False, True, False, True, False]
    assert counters.look("k", 60).remaining(5) == 0
    assert counters.take("another", 5, 60)
    assert not counters.take("k", 5, 60, 6)


@pytest.mark.parametrize("seed", range(20))
def test_who_waits_as_told_gets_in_and_who_comes_a_second_earlier_does_not(clock, seed):
    chance = random.Random(seed)
    counters, quota = Counters("memory://"), chance.choice([1, 2, 7, 100, 10_000])
    refused = 0
    for _ in range(300):
        cost = chance.randint(1, quota)
        wait = counters.look("k", 60).wait_seconds(quota, cost)
        taken = counters.take("k", quota, 60, cost)
        assert taken == (wait == 0)
        if not taken:
            refused += 1
            clock.now += wait - 1.01
            assert wait == 1 or not counters.take("k", quota, 60, cost)
            clock.now += 1.01
            assert counters.take("k", quota, 60, cost)
        clock.now += chance.choice([0, 0, 0.1, 1, 10, 61, 200])
    assert refused > 10


@pytest.mark.parametrize("step_seconds", [-3_600, 3_600, 400 * 86_400])
def test_a_step_of_the_clock_forgets_nothing_that_was_counted(monkeypatch, step_seconds):
    counters = Counters("memory://")
    assert [counters.take("k", 2, 3_600) for _ in range(3)] == [True, True, False]

    stepped = time.time() + step_seconds
    monkeypatch.setattr(time, "time", lambda: stepped)

    assert not counters.take("k", 2, 3_600)
    assert counters.look("k", 3_600).wait_seconds(2, 1) <= 2 * 3_600


def test_threads_take_no_more_than_the_quota():
    counters, taken = Counters("memory://"), []
    threads = [
        threading.Thread(target=lambda: taken.extend(counters.take("k", 500, 3600) for _ in range(200)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert taken.count(True) <= 500


def test_processes_share_what_they_count(redis):
    one, two = Counters(REDIS), Counters(REDIS)

    assert [counters.take("k", 3, 60) for counters in (one, two, one, two, one)] == [True] * 3 + [False] * 2
    window = two.look("k", 60)
    assert (window.remaining(3), window.current, window.previous) == (0, 3, 0)
    assert 50 <= window.wait_seconds(3, 1) <= 61


def test_while_the_cache_is_away_each_process_counts_by_itself(redis, monkeypatch, caplog):
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    counters = Counters(REDIS)
    redis.connected = False

    assert [counters.take("k", 2, 60) for _ in range(3)] == [True, True, False]
    assert [record.message for record in caplog.records] == [
        "The cache can't be reached: ConnectionError: FakeRedis is emulating a connection error."
    ]

    redis.connected = True
    now += 4.9
    assert not counters.take("k", 2, 60)  # it is not asked again at once
    now += 0.1
    assert [counters.take("k", 2, 60) for _ in range(3)] == [True, True, False]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}/0", "memcached://127.0.0.1:{}"])
@pytest.mark.parametrize("listening", [False, True])
def test_a_cache_that_does_not_answer_holds_up_no_more_than_one_call(url, listening, caplog, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(module, "_AWAY_SECONDS", 600)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if not listening:
            listener.close()
        counters = Counters(url.format(port))
        assert [counters.take("k", 2, 60) for _ in range(30)] == [True] * 2 + [False] * 28

    assert len(caplog.records) == 1  # one for each call that waited


class FakeMemcached:
    """What the library uses of a client of memcached: each call in one step, but no two."""

    def __init__(self):
        self.values, self.lock, self.look = {}, threading.Lock(), lambda: None

    def get_many(self, keys):
        with self.lock:
            found = {key: str(self.values[key]).encode() for key in keys if key in self.values}
        self.look()
        return found

    def add(self, key, value, expire=0, noreply=False):
        with self.lock:
            is_new = key not in self.values
            self.values.setdefault(key, value)
            return is_new

    def incr(self, key, value, noreply=False):
        with self.lock:
            if key not in self.values:
                return None
            self.values[key] += value
            return self.values[key]

    def decr(self, key, value, noreply=False):
        with self.lock:
            if key in self.values:
                self.values[key] = max(0, self.values[key] - value)
            return self.values.get(key)


MEMCACHED = "memcached://cache.example:11211"


@pytest.fixture
def memcached(monkeypatch):
    client = FakeMemcached()
    monkeypatch.setattr("limits.storage.MemcachedStorage.get_client", lambda *arguments, **options: client)
    return client


EVERYWHERE = pytest.mark.parametrize("url", [REDIS, MEMCACHED, "memory://"])


@EVERYWHERE
def test_of_many_at_once_exactly_the_quota_is_lent(redis, memcached, url):
    for attempt in range(few_of(20)):
        counters = Counters(url)
        start = threading.Barrier(60)

        def ask(counters=counters, start=start, key=f"k{attempt}"):
            start.wait()
            return counters.lend(key, 10, 86_400)

        with ThreadPoolExecutor(60) as threads:
            lent = [thread.result() for thread in [threads.submit(ask) for _ in range(60)]]
        assert len([each for each in lent if each is not None]) == 10


@EVERYWHERE
def test_what_is_given_back_may_be_lent_again(redis, memcached, url):
    counters = Counters(url)
    lent = [counters.lend("k", 3, 86_400) for _ in range(3)]
    assert counters.lend("k", 3, 86_400) is None

    lent[0]()
    lent[1]()

    assert counters.look("k", 86_400).current == 1
    assert [counters.take("k", 3, 86_400) for _ in range(3)] == [True, True, False]


@EVERYWHERE
def test_any_number_may_be_lent_and_given_back(redis, memcached, url):
    counters = Counters(url)
    for _ in range(100):
        counters.lend("k", 3, 86_400)()

    assert [counters.take("k", 3, 86_400) for _ in range(4)] == [True] * 3 + [False]


def test_memcached_counts_what_the_stretch_before_had(memcached, monkeypatch):
    """Of many at once the library's own way lets a quota through."""
    now = 86_400_000.0
    monkeypatch.setattr("time.time", lambda: now)
    counters = Counters(MEMCACHED)
    assert [counters.take("k", 10, 100) for _ in range(11)] == [True] * 10 + [False]

    now += 150  # half of the stretch before is left

    memcached.look = threading.Barrier(30, timeout=60).wait  # all look before any goes on
    with ThreadPoolExecutor(30) as threads:
        taken = [*threads.map(lambda _: counters.take("k", 10, 100), range(30))]
    assert taken.count(True) == 5


def test_what_was_lent_by_a_cache_that_is_away_stays_counted(redis, monkeypatch, caplog):
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    counters = Counters(REDIS)
    give_back = counters.lend("k", 2, 86_400)
    redis.connected = False

    give_back()

    assert [record.message for record in caplog.records] == [
        "The cache can't be reached: ConnectionError: FakeRedis is emulating a connection error."
    ]
    assert [counters.take("k", 2, 86_400) for _ in range(3)] == [True, True, False]  # by itself, from the start
    redis.connected = True
    now += 5
    assert [counters.take("k", 2, 86_400) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("url", [REDIS, "memory://"])
def test_a_key_may_be_any_text(redis, url):
    counters = Counters(url)

    assert [counters.take(key, 1, 60) for key in ("", "a b\n\0", "é" * 1000, "\ud800", "")] == [True] * 4 + [False]


def test_right_after_the_machine_has_started_nothing_counts_twice(monkeypatch):
    """When the clock that nobody sets shows less than the window has seconds."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    counters = Counters("memory://")

    taken = [counters.take("a", 10, 86_400) for _ in range(11)]

    assert taken == [True] * 10 + [False]
