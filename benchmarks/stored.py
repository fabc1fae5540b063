"""Databases full of events, and what is asked of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2
from tqdm import tqdm

from benchmarks import harness

START = "'2024-01-01'::timestamptz"
A_YEAR = f"SELECT 'Server', 'cpu', {START} + interval '366 days' * (i::float8 / {{count}}), i %% 8000 / 8.0"
OTHERS = f"SELECT 'Server-' || i %% 50, 'n' || i %% 500, {START} + interval '31 seconds' * i, i %% 800 / 8.0"
_COUNTS = """SELECT (SELECT count(*) FROM events_event),
                    (SELECT coalesce(sum(count), 0) FROM events_rollup WHERE resolution = 0)"""


def execute(url: str, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """The rows of a statement, committed."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


def reuse_log_files(server_url: str) -> None:
    """Have PostgreSQL's write-ahead log go on in used files, 1 GB of them, as where it has been at work for a while.

    A server that was just made fills each new file with zeros first, all 16 MB, and whoever commits then waits for it.
    """
    execute(server_url, "ALTER SYSTEM SET min_wal_size = '1GB'")
    execute(server_url, "SELECT pg_reload_conf()")
    for _ in range(64):
        execute(server_url, "SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()")
    execute(server_url, "CHECKPOINT")


def timed(url: str, name: str, *arguments: object, **variables: object) -> Any:
    """What a function of ``benchmarks.timed`` finds, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.timed", name, *map(json.dumps, arguments)]
    env = harness.environment(url, **variables)
    done = subprocess.run(command, cwd=harness.PROJECT_DIR, env=env, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def load(url: str, select: str, count: int, name: str) -> None:
    """Store so many events, some hundred thousand at a time."""
    step = 250_000
    with tqdm(total=count, unit=" events", desc=f"loading {name}") as bar:
        for first in range(0, count, step):
            execute(
                url,
                f"INSERT INTO events_event (namespace, name, timestamp, value) {select.format(count=count)}"
                " FROM generate_series(%s, %s) AS i",
                first, min(first + step, count) - 1,
            )  # fmt: skip
            bar.update(min(step, count - first))


def kept(server_url: str, name: str, count: int, fill: Callable[[str], None], **variables: object) -> str:
    """The URL of a database with so many events, rolled up; as an earlier run left it, or filled now."""
    if execute(server_url, "SELECT 1 FROM pg_database WHERE datname = %s", name):
        url = harness.url_of(server_url, name)
        harness.prepare(harness.environment(url))
        if execute(url, _COUNTS) == [(count, count)]:
            return url
    url = harness.database(server_url, name)
    harness.prepare(harness.environment(url))
    fill(url)
    execute(url, "VACUUM ANALYZE events_event")
    timed(url, "roll_up", **variables)
    execute(url, "VACUUM ANALYZE events_rollup")
    return url
