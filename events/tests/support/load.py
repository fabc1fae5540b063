"""Clients that post to a served process while something happens to it, and what is stored of it."""

import json
import threading
import time
from collections import Counter

from events.tests.support.service import call, query
from events.tests.support.waiting import wait_until


class Load:
    """Clients that post single events and batches of 20 in turn, each with values of its own."""

    clients = 6

    def __init__(self, env):
        self.env = env
        self.acknowledged = set()
        self.statuses = Counter()
        self.without_retry_after = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(self.clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number):
        headers = {"Authorization": f"Bearer {self.env['TOKEN']}", "Content_Type": "application/json"}
        value = number * 1_000_000
        while not self._stop.is_set():
            values = [value + turn for turn in range(20 if value % 2 else 1)]
            value += len(values)
            events = [{"namespace": "load", "name": f"n{v % 3}", "timestamp": v, "value": v} for v in values]
            try:
                body = json.dumps(events if len(events) > 1 else events[0])
                status, answer_headers, _ = call(self.env, "POST", "/api/track/", body, **headers)
            except OSError:
                status = 0
            except Exception as error:  # http.client's own for an answer that breaks off
                status = type(error).__name__
            else:
                self.without_retry_after += status == 503 and not answer_headers["Retry-After"]
            self.statuses[status] += 1
            if status == 201:
                self.acknowledged.update(values)
            elif status != 503:
                time.sleep(0.05)

    def wait_for(self, status, count=30, seconds=120):
        """Until so many more answers with that status have come."""
        wanted = self.statuses[status] + count
        wait_until(lambda: self.statuses[status] >= wanted, seconds, lambda: f"no {status}: {self.statuses}")


def stored_values(url):
    rows = query({"DATABASE_URL": url}, "SELECT value FROM events_event WHERE namespace = 'load' ORDER BY id")
    return [int(value) for (value,) in rows]


def assert_all_there(load, url):
    """Nothing acknowledged is missing, and nothing is there twice."""
    found = stored_values(url)
    assert load.acknowledged
    assert load.acknowledged <= set(found)
    assert len(found) == len(set(found))
    assert load.without_retry_after == 0
