"""The questions that benchmarks ask of a log of one series over a year, and the client that asks them."""

from __future__ import annotations

import json
import time
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

from benchmarks import harness
from benchmarks.stored import A_YEAR, OTHERS, execute, kept, load

TIMES = 15
MAY = {"tsMin": "2024-05-01T00:00:00", "tsMax": "2024-05-30T23:59:59.999999"}
_FIRST_OF_MAY = {"tsMin": "2024-05-01T00:00:00", "tsMax": "2024-05-01T23:59:59.999999"}
_UNALIGNED = {"tsMin": "2024-01-17T03:14:15", "tsMax": "2024-11-17T13:41:51"}
# name, granularity, aggregation type and further parameters, what must be reached, and the aim
_QUESTIONS = [
    ("avg by hour over the year", "hour", "avg", {}, 100, 200),
    ("avg by month over the year", "month", "avg", {}, 150, 400),
    ("max by day over 30 days", "day", "max", MAY, 30, 100),
    ("avg by week over ten months, unaligned", "week", "avg", _UNALIGNED, 150, 400),
    ("avg by minute over one day", "minute", "avg", _FIRST_OF_MAY, 2, 5),
    ("avg by hour over the year, Europe/Berlin", "hour", "avg", {"timezone": "Europe/Berlin"}, 80, 200),
]
QUESTIONS: list[tuple[str, dict[str, str], int, int]] = [
    (name, {"granularity": granularity, "aggregationType": aggregation_type, **others}, must, aim)
    for name, granularity, aggregation_type, others, must, aim in _QUESTIONS
]


def loaded(server_url: str, count: int) -> str:
    """The URL of a database with so many events of one series, and a tenth of them of 500 others, rolled up.

    It is as an earlier run left it, or made now.
    """

    def fill(url: str) -> None:
        load(url, A_YEAR, count, "one series")
        load(url, OTHERS, count // 10, "500 other series")

    return kept(server_url, f"benchmark_query_{count}", count + count // 10, fill)


class Client:
    """Asks the service over one kept connection."""

    def __init__(self, port: int) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, query: dict[str, str], times: int = TIMES, warm_ups: int = 2) -> tuple[list[float], list[Any]]:
        """The milliseconds of each time, but for those to warm up, and the items."""
        if warm_ups:
            self.connection.close()  # as the server may have, while the plain query took its time
        took = []
        for turn in range(times + warm_ups):
            start = time.perf_counter()
            self.connection.request(
                "GET",
                f"/api/events/Server/cpu?{urlencode(query)}",
                headers={"Authorization": f"Bearer {harness.TOKEN}"},
            )
            response = self.connection.getresponse()
            body = response.read()
            if turn >= warm_ups:  # the first ones connect and compile
                took.append((time.perf_counter() - start) * 1000)
            if response.status != 200:
                raise RuntimeError(body.decode())
        return took, json.loads(body)


@contextmanager
def asking(url: str, **variables: object):
    """A client of a server of the database."""
    command, env, port = harness.service(url, ROLLUP_TAIL_EVENTS=1_000_000_000, **variables)
    with harness.serving(command, env, port):
        client = Client(port)
        with closing(client.connection):
            yield client


@contextmanager
def passing_events(url: str):
    """Have the events that the block stores deleted after it, while no roller is at work."""
    [(watermark,)] = execute(url, "SELECT event_id FROM events_watermark")
    try:
        yield
    finally:
        execute(url, "DELETE FROM events_event WHERE id > %s", watermark)
        # with its indexes, which are else left as they are after so few, and slow every plan a little
        execute(url, "VACUUM (ANALYZE, INDEX_CLEANUP ON) events_event")
