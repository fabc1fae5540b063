"""How long a writer waits while something else is at work on the same database."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2

_INSERT = "INSERT INTO events_event (namespace, name, timestamp, value) VALUES ('Writer', 'n', '2100-01-01', 1)"


def connected(url: str) -> Any:
    """A connection that commits each statement, and waits for a lock as long as it takes."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=60, isolation_level=None)
        connection.execute("PRAGMA synchronous=FULL")
        return connection
    connection = psycopg2.connect(url)
    connection.autocommit = True
    return connection


def waits(url: str, until: Callable[[], object]) -> list[float]:
    """How many milliseconds each of the inserts took that one writer made, a few milliseconds apart, meanwhile."""
    found: list[float] = []
    stop = threading.Event()

    def write() -> None:
        with closing(connected(url)) as connection:
            while not stop.wait(0.003):
                start = time.perf_counter()
                connection.cursor().execute(_INSERT)
                found.append((time.perf_counter() - start) * 1000)

    thread = threading.Thread(target=write)
    thread.start()
    until()
    stop.set()
    thread.join()
    return sorted(found)
