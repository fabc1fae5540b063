"""The service as a process of its own, for tests of what a test client can't show."""

import atexit
import base64
import itertools
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import uuid
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from events.tests.support import forked
from events.tests.support.waiting import ask_until, wait_until

PROJECT_DIR = Path(__file__).resolve().parents[3]
START_SECONDS = 900  # script/server makes a virtual environment on the way


# Below those that the system gives to whoever asks for any, and other ones in each process of the tests.
_ports = itertools.count(20_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))


def free_port():
    """A port that nobody listens on, and that nobody else is given: not in another run on this machine either."""
    for port in _ports:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0tracking-api-tests-{port}")  # a name without a file
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            claim.close()
        else:
            atexit.register(claim.close)  # held until then
            return port


def database_url(directory, name):
    """Where a database of this name is, on the kind of server that the tests run on."""
    server = os.environ.get("TEST_DATABASE_URL")
    if not server:
        return f"sqlite:///{directory / 'service.sqlite3'}"
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


def create_database(url, original=None, options=""):
    """Empty, or a copy of another that nobody uses now. SQLite makes an empty one by itself."""
    name = urlsplit(url).path
    source = original and urlsplit(original).path
    if not url.startswith("sqlite"):
        _on_server(f"CREATE DATABASE {name[1:]} {options}" + (f" TEMPLATE {source[1:]}" if source else ""))
    elif source:
        assert not Path(f"{source}-wal").exists()
        shutil.copy(source, name)


def drop_database(url):
    if not url.startswith("sqlite"):  # those are files in a directory of a test
        _on_server(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")


def _on_server(statement):
    with closing(psycopg2.connect(os.environ["TEST_DATABASE_URL"])) as connection:
        connection.autocommit = True
        connection.cursor().execute(statement)


@contextmanager
def own_database(directory, original=None, options=""):
    """The URL of a database on the kind of server that the tests run on, empty or a copy; dropped after."""
    url = database_url(directory, f"service_{uuid.uuid4().hex}")
    create_database(url, original, options)
    try:
        yield url
    finally:
        drop_database(url)


def environment(directory, **variables):
    """The environment of a process of the service: nothing of the caller's settings, its files in ``directory``."""
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {
        **measured,
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "ENV_FILE": os.devnull,
        "LOCAL_DIR": str(directory / "local"),
        "SERVER_WORKERS": "1",  # a second one costs a second of CPU to start
        **{name: str(value) for name, value in variables.items()},
    }


@contextmanager
def copied(original, directory, **variables):
    """The environment of a service with a copy of what another has: its database, which nobody may use now, and files."""
    with own_database(directory, original["DATABASE_URL"]) as url:
        shutil.copytree(original["LOCAL_DIR"], directory / "local")
        yield environment(directory, **{"DATABASE_URL": url, "PORT": free_port(), **variables})


def query(env, sql):
    """What a service's database answers, if anything; what that changes there is committed."""
    url = env["DATABASE_URL"]
    connection = sqlite3.connect(urlsplit(url).path, timeout=60) if url.startswith("sqlite") else psycopg2.connect(url)
    with closing(connection):
        cursor = connection.cursor()
        cursor.execute(sql)
        rows = cursor.fetchall() if cursor.description else []
        connection.commit()
        return rows


def insert_events(env, name, count, *, namespace="Shop", first=1_600_000_000, step_seconds=1, value="i"):
    """Stores so many events from a unix time on; ``value`` is SQL, in which ``i`` counts them from 0."""
    if env["DATABASE_URL"].startswith("sqlite"):
        numbers = (
            f"(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count - 1}) SELECT i FROM n)"
        )
        instant = f"datetime({first} + {step_seconds} * i, 'unixepoch')"
    else:
        numbers, instant = f"generate_series(0, {count - 1}) AS n(i)", f"to_timestamp({first} + {step_seconds} * i)"
    columns = "namespace, name, timestamp, value"
    query(
        env, f"INSERT INTO events_event ({columns}) SELECT '{namespace}', '{name}', {instant}, {value} FROM {numbers}"
    )


def manage(*arguments, env, umask=-1):
    """A finished ``manage.py`` call, its output as text."""
    with tempfile.TemporaryDirectory() as directory:
        out, err = Path(directory, "out"), Path(directory, "err")
        process = forked.start(arguments, env, out, err, umask=umask)
        try:
            code = process.wait(300)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, code, out.read_text(), err.read_text())


@contextmanager
def served(env, *arguments, command=None, cwd=None):
    """A server process listening on the port that ``env`` names; stopped after, hard if it doesn't stop by itself."""
    log = Path(env["HOME"]) / "server.log"
    if command:
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, env=env, cwd=cwd, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
    else:
        process = forked.start(["serve", *arguments], env, log, cwd=cwd)
    process.log = log
    try:
        wait_for(int(env["PORT"]), process)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def children(pid):
    """The process ids of what a process has started."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [int(child) for child in found.stdout.split()]


def files_without_a_name(pid):
    """How many files a process has open that are deleted."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed just now
            found += os.readlink(link).endswith("(deleted)")
    return found


def wait_for(port, process):
    """Returns once the port takes connections. Raises where the process ends or the time runs out first."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended:\n{process.log.read_text()}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"no server after {START_SECONDS} s:\n{process.log.read_text()}")


def call(env, method, path, body=None, **headers):
    """Status, headers and body of an answer."""
    connection = HTTPConnection("127.0.0.1", int(env["PORT"]), timeout=120)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def fetch_token(env):
    credentials = Path(env["LOCAL_DIR"], "credentials.json")
    wait_until(credentials.exists)  # the port is taken a moment before
    client = json.loads(credentials.read_text())
    basic = base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()
    form = "grant_type=client_credentials&scope=read+write+aggregation"
    headers = {"Authorization": f"Basic {basic}", "Content_Type": "application/x-www-form-urlencoded"}
    answer = ask_until(lambda: call(env, "POST", "/o/token/", form, **headers), lambda answer: answer[0] != 503)
    return json.loads(answer[2])["access_token"]


@contextmanager
def locked(url):
    """Another process writes, and doesn't finish."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as holder:
            holder.execute("BEGIN IMMEDIATE")
            yield
    else:
        with closing(psycopg2.connect(url)) as holder:
            holder.cursor().execute("LOCK TABLE events_event IN EXCLUSIVE MODE")
            yield
