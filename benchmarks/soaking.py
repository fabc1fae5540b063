"""What a soak consists of: clients that write down what they were told, and the comparison with what is stored."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from random import Random
from typing import Any

import psycopg2

from benchmarks.harness import TOKEN

NAMESPACE = f"Soak-{int(time.time())}"  # the database may hold those of another run
# Events that are old from the first are pruned meanwhile: what is known of them is in the rollups alone.
OLD_NAMESPACE = f"Old-{NAMESPACE}"
OLD_DAYS = 200
_SPREAD_SECONDS = 30 * 86_400
_GIVE_UP_SECONDS = 60
_QUESTIONS = 20  # in one request, which takes no more


class Client(threading.Thread):
    """One connection with one request under way; it counts outcomes and keeps latencies in milliseconds."""

    def __init__(self, kind: str, port: int, pause_seconds: float, stop: threading.Event) -> None:
        super().__init__(name=kind)
        self.kind, self.port, self.pause_seconds, self.stop = kind, port, pause_seconds, stop
        self.outcomes: Counter[str] = Counter()
        self.latencies: list[float] = []
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def run(self) -> None:
        """Turns, until told to stop."""
        with closing(self._connection):
            while not self.stop.is_set():
                self.turn()
                self.stop.wait(self.pause_seconds)

    def turn(self) -> None:
        """One request, repeated or not."""
        raise NotImplementedError

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body; 0 and nothing where the connection failed. Waits where it is told to wait."""
        sent = time.perf_counter()
        try:
            self._connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}", **headers})
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            self.outcomes[type(error).__name__] += 1
            self.stop.wait(0.1)
            return 0, b""
        self.latencies.append((time.perf_counter() - sent) * 1000)
        self.outcomes[str(response.status)] += 1
        if response.status in {429, 503}:
            self.stop.wait(float(response.headers["Retry-After"]))
        return response.status, answer


class Writer(Client):
    """Posts events of its own series, in turn; the value of each is its number, so that it is known again.

    Its journal has a line for each request: the first number, how many, and what became of them. ``stored`` was
    acknowledged, ``refused`` was told so for certain, and of what is ``unknown`` all may be stored or nothing.
    """

    def __init__(
        self, name: str, events: int, *options: object, directory: Path, series: int = 1, **kinds: bool
    ) -> None:
        super().__init__(name.partition("-")[0], *options)  # type: ignore[arg-type]
        self.name, self.events = name, events
        self.series = [f"{name}.{number}" for number in range(series)]  # a request has as many events of each
        self.is_keyed, self.is_old = kinds.get("keyed", False), kinds.get("old", False)
        self.namespace = OLD_NAMESPACE if self.is_old else NAMESPACE
        self.path = directory / f"{name}.journal"
        self.acknowledged = self.sent = 0
        self._start = int(time.time()) - (OLD_DAYS * 86_400 if self.is_old else 0)

    @property
    def acknowledged_of_each(self) -> int:
        """How many events of each of its series have been acknowledged."""
        return self.acknowledged // len(self.series)

    def run(self) -> None:
        """As a client's, with the journal open."""
        with self.path.open("wb", buffering=0) as self._journal:
            super().run()

    def turn(self) -> None:
        """A request, written down before it is sent and once it is answered."""
        first = self.sent
        self._journal.write(b"%d %d " % (first, self.events))
        self.sent += self.events
        outcome = self._post(first)
        self._journal.write(f"{outcome}\n".encode())
        if outcome == "stored":
            self.acknowledged += self.events

    def _post(self, first: int) -> str:
        batch = [self._event(number) for number in range(first, first + self.events)]
        body = json.dumps(batch if self.events > 1 else batch[0]).encode()
        headers = {"Content-Type": "application/json"}
        if self.is_keyed:
            headers["Idempotency-Key"] = uuid.uuid4().hex
        give_up = time.monotonic() + _GIVE_UP_SECONDS
        while True:
            status, _ = self.call("POST", "/api/track/", body, **headers)
            if status == 201:
                return "stored"
            if not self.is_keyed or status not in {0, 429, 503} or time.monotonic() > give_up:
                return "refused" if status == 429 else "unknown"

    def _event(self, number: int) -> dict[str, object]:
        # one in eight comes late
        back = number * 7919 % _SPREAD_SECONDS if number % 8 == 0 else 0
        timestamp = self._start + number % 100_000 / 100 - back
        return {
            "namespace": self.namespace,
            "name": self.series[number % len(self.series)],
            "timestamp": timestamp,
            "value": number,
        }


class Reader(Client):
    """Asks for aggregates and the catalogue, and holds each count to what was acknowledged before it was asked for."""

    def __init__(self, writers: list[Writer], *options: object) -> None:
        super().__init__("read", *options)  # type: ignore[arg-type]
        self.writers, self._chance = writers, Random(len(writers))
        self.wrong: list[str] = []
        self.checked = 0

    def turn(self) -> None:
        """A question, or several at once."""
        writer = self._chance.choice(self.writers)
        series = f"/api/events/{writer.namespace}/{self._chance.choice(writer.series)}"
        question = self._chance.choice([*["count"] * 12, *["counts"] * 4, "avg", "max", "catalogue", "avg"])
        if question == "catalogue":
            self.call("GET", "/api/events/")
        elif question == "counts":
            self._ask_for_several()
        elif question != "count":
            self.call("GET", f"{series}?aggregationType={question}&granularity=hour&timezone=Europe/Berlin")
        else:
            least = writer.acknowledged_of_each
            status, answer = self.call("GET", f"{series}?aggregationType=count&granularity=day")
            if status == 200:
                self._hold(writer, least, json.loads(answer))

    def _ask_for_several(self) -> None:
        """Ask for the counts of as many series as one request takes."""
        asked = [self._chance.choice(self.writers) for _ in range(_QUESTIONS)]
        questions = [
            {"namespace": each.namespace, "name": self._chance.choice(each.series), "aggregationType": "count",
             "granularity": "day"}
            for each in asked
        ]  # fmt: skip
        least = [each.acknowledged_of_each for each in asked]
        body = json.dumps({"questions": questions}).encode()
        status, answer = self.call("POST", "/api/query/", body, **{"Content-Type": "application/json"})
        if status == 200:
            for each, of_each, single in zip(asked, least, json.loads(answer)["answers"], strict=True):
                if single["status"] == 200:
                    self._hold(each, of_each, single["body"])
                else:
                    self.outcomes[f"{single['status']} of several"] += 1

    def _hold(self, writer: Writer, least: int, answer: list[dict[str, Any]]) -> None:
        """Hold an answer to what was acknowledged before it was asked for, and to what has been sent since."""
        count, most = sum(item["value"] for item in answer), writer.sent // len(writer.series)
        self.checked += 1
        if not least <= count <= most:
            self.wrong.append(f"{writer.name}: {count:,} events, not {least:,} to {most:,}")


@dataclass
class Comparison:
    """What the journals say, against what is stored; all numbers but the first three must be 0."""

    acknowledged: int = 0
    unknown: int = 0
    unknown_but_stored: int = 0
    missing: int = 0
    more_than_once: int = 0
    in_part: int = 0
    refused_but_stored: int = 0
    never_sent: int = 0
    counted_otherwise: int = 0
    details: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        """How much is not as promised."""
        return (
            self.missing + self.more_than_once + self.in_part + self.refused_but_stored + self.never_sent
            + self.counted_otherwise
        )  # fmt: skip

    def rows(self) -> list[tuple[str, ...]]:
        """As a table."""
        names = [name for name in self.__dataclass_fields__ if name != "details"]
        return [("events", ""), *((name.replace("_", " "), f"{getattr(self, name):,}") for name in names)]


def journal(writer: Writer) -> Iterator[tuple[int, int, str]]:
    """The first number, how many, and the outcome of each request."""
    for line in writer.path.read_text().splitlines():
        first, count, *outcome = line.split()
        yield int(first), int(count), *(outcome or ["unknown"])


def compare(url: str, writers: list[Writer], counts: dict[str, int], *, pruned: bool) -> Comparison:
    """Compare every event; of series that are ``pruned`` only the count that the API gives, ``counts`` by name."""
    found = Comparison()
    for writer in writers:
        stored = _stored(url, writer)
        of_acknowledged = of_unknown = 0
        for first, count, outcome in journal(writer):
            part = stored[first : first + count]
            of_acknowledged += count * (outcome == "stored")
            of_unknown += count * (outcome == "unknown")
            found.more_than_once += sum(times > 1 for times in part)
            if writer.is_old and pruned:
                continue
            there = sum(times > 0 for times in part)
            if outcome == "stored":
                found.missing += count - there
            elif outcome == "refused":
                found.refused_but_stored += there
            else:
                found.unknown_but_stored += there
                found.in_part += 0 < there < count
        found.never_sent += sum(stored[writer.sent :])
        found.acknowledged += of_acknowledged
        found.unknown += of_unknown
        least, most = of_acknowledged, of_acknowledged + of_unknown
        if not (writer.is_old and pruned):
            least = most = sum(stored)
        if not least <= counts[writer.name] <= most:
            found.counted_otherwise += 1
            found.details.append(f"{writer.name}: the API counts {counts[writer.name]:,}, not {least:,} to {most:,}")
    return found


def _stored(url: str, writer: Writer) -> bytearray:
    """How often each number is stored."""
    times = bytearray(writer.sent + 1)
    with closing(psycopg2.connect(url)) as connection, connection.cursor("values") as cursor:
        cursor.itersize = 100_000
        cursor.execute(
            "SELECT value::bigint FROM events_event WHERE namespace = %s AND name = ANY(%s)",
            [writer.namespace, writer.series],
        )
        for (number,) in cursor:
            times[min(number, writer.sent)] += times[min(number, writer.sent)] < 255
    return times
