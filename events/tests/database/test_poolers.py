"""The service behind a real PgBouncer, as it comes: all works, no limit is lost, and nothing is left to others."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import psycopg2
import pytest
from django.core.checks import Warning as Warned
from django.db import connection

from events import checks
from events.database.postgresql import session
from events.tests.support import service
from events.tests.support.bodies import ORDER as EVENT
from events.tests.support.service import call, fetch_token, locked

pytestmark = pytest.mark.skipif(not shutil.which("pgbouncer"), reason="pgbouncer is not installed")
MODES = ["session", "transaction"]
SETTINGS = ["lock_timeout", "statement_timeout", "work_mem"]
EVENTS = 5_000
BESIDE = {**EVENT, "namespace": "Frontend", "name": "pageView"}  # what other tests of the same server don't count


@contextmanager
def pooler(mode, pool_size=3):
    """A PgBouncer before the server that the tests run on: its port, and how to ask it something itself."""
    server = urlsplit(os.environ["TEST_DATABASE_URL"])
    target = {
        "host": server.hostname or dict(parse_qsl(server.query))["host"],
        "port": server.port or 5432,
        "user": server.username,
        **({"password": server.password} if server.password else {}),
    }
    port = service.free_port()
    with tempfile.TemporaryDirectory(prefix="pooler-") as directory:
        Path(directory).chmod(0o755)
        configuration = Path(directory) / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n* = {' '.join(f'{name}={value}' for name, value in target.items())}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            f"admin_users = admin\npool_mode = {mode}\ndefault_pool_size = {pool_size}\n"
        )
        # it won't run as root, and a socket may be for its owner alone
        owner = Path(target["host"]).owner() if target["host"].startswith("/") else "nobody"
        as_other = ["-u", owner] if os.getuid() == 0 else []
        process = subprocess.Popen(["pgbouncer", "-q", *as_other, configuration], stderr=subprocess.DEVNULL)
        try:
            wait_for(port, process)
            yield SimpleNamespace(port=port, url=lambda name: f"postgres://tracking@127.0.0.1:{port}/{name}")
        finally:
            process.kill()
            process.wait()


def wait_for(port, process):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None
        with suppress(psycopg2.OperationalError), closing(administer(port)):
            return
        time.sleep(0.05)
    raise TimeoutError


def administer(port):
    connection = psycopg2.connect(host="127.0.0.1", port=port, user="admin", dbname="pgbouncer")
    connection.autocommit = True
    return connection


@pytest.fixture(scope="module", params=MODES)
def pooled(request):
    with pooler(request.param, pool_size=30 if request.param == "session" else 3) as running:
        running.mode = request.param
        yield running


@contextmanager
def behind(pooled, prepared, directory):
    """A service whose database is behind the pooler; ``DIRECT_URL`` is past it."""
    limits = {"DATABASE_TIMEOUT_SECONDS": 1, "SERVER_THREADS": 4, "ROLLUP_TAIL_EVENTS": 1_000_000}
    with prepared(directory, **limits) as env:
        name = urlsplit(env["DATABASE_URL"]).path[1:]
        yield {**env, "DIRECT_URL": env["DATABASE_URL"], "DATABASE_URL": pooled.url(name)}


@pytest.fixture
def env(pooled, prepared, tmp_path):
    with behind(pooled, prepared, tmp_path) as env:
        yield env


@pytest.fixture(scope="module")
def running(pooled, prepared, tmp_path_factory):
    """One that is served."""
    with behind(pooled, prepared, tmp_path_factory.mktemp("running")) as env, service.served(env):
        yield {**env, "TOKEN": fetch_token(env)}


def headers_of(env, content_type="application/json", **more):
    return {"Authorization": f"Bearer {env['TOKEN']}", "Content_Type": content_type, **more}


def track(env, body, **headers):
    status, _, answer = call(env, "POST", "/api/track/", json.dumps(body), **headers_of(env, **headers))
    return status, json.loads(answer)


def get(env, path):
    status, _, answer = call(env, "GET", path, Authorization=f"Bearer {env['TOKEN']}")
    return status, answer.decode()


def test_events_come_in_and_answers_go_out(running, tmp_path):
    batch = [
        {**EVENT, "name": "view", "timestamp": 1_600_000_000 + number, "value": number} for number in range(EVENTS)
    ]
    total = sum(range(EVENTS))
    assert [track(running, EVENT) for _ in range(20)] == [(201, EVENT)] * 20
    for _ in range(2):
        assert track(running, batch, Idempotency_Key="once") == (201, {"accepted": EVENTS})

    for _ in range(2):  # by the events, then by the rollups
        assert get(running, "/api/events/Shop/order?aggregationType=sum") == (
            200, '[{"aggregatedTimestamp":"2020-11-12T11:10:00Z","value":2840.0}]'
        )  # fmt: skip
        assert get(running, "/api/events/Shop/view?aggregationType=sum&granularity=year") == (
            200, f'[{{"aggregatedTimestamp":"2020-09-13T12:26:40Z","value":{total}.0}}]'
        )  # fmt: skip
        status, lines = get(running, "/api/events/Shop/view?format=csv")
        assert (status, lines.split()[0], len(lines.split())) == (200, "aggregatedTimestamp,value", EVENTS + 1)
        assert sum(float(line.split(",")[1]) for line in lines.split()[1:]) == total
        rolled = service.manage("roll_up", env=running)
        assert (rolled.returncode, rolled.stderr) == (0, "")
    verified = service.manage("verify_rollups", env=running)
    assert (verified.returncode, verified.stdout) == (0, "All rollups of 10 series are right.\n")

    exported = service.manage("export_events", str(tmp_path / "events.csv"), "--namespace", "Shop", env=running)
    assert (exported.returncode, (tmp_path / "events.csv").read_text().count("\n")) == (0, EVENTS + 21)
    assert service.manage("export_events", str(tmp_path / "direct.csv"), "--namespace", "Shop", env={**running, "DATABASE_URL": running["DIRECT_URL"]}).returncode == 0  # fmt: skip
    assert (tmp_path / "direct.csv").read_bytes() == (tmp_path / "events.csv").read_bytes()


def test_nobody_waits_longer_for_a_lock_than_they_would_without(running):
    busy = {"detail": "The database can't be reached or is busy; try again."}
    assert track(running, BESIDE)[0] == track(running, [BESIDE] * 2)[0] == 201
    with locked(running["DIRECT_URL"]):
        for body in (BESIDE, [BESIDE] * 2):
            for _ in range(4):
                start = time.monotonic()
                assert track(running, body) == (503, busy)
                assert 1 <= time.monotonic() - start < 2.5
    assert track(running, BESIDE)[0] == 201


def test_a_statement_is_cancelled_in_time(env):
    env |= {"DATABASE_TIMEOUT_SECONDS": "60", "STATEMENT_TIMEOUT_SECONDS": "1"}
    paths = ["/api/events/Shop/order", "/api/events/Shop/order?format=csv"]
    with service.served(env):
        env["TOKEN"] = fetch_token(env)
        assert [get(env, path)[0] for path in paths] == [200, 200]
        with closing(psycopg2.connect(env["DIRECT_URL"])) as holder:
            holder.cursor().execute("LOCK TABLE events_event IN ACCESS EXCLUSIVE MODE")
            for path in paths:
                start = time.monotonic()
                status, answer = get(env, path)
                assert (status, "Cancelled after 1 s" in answer) == (503, True)
                assert 1 <= time.monotonic() - start < 2.5


def test_nothing_is_left_to_others_in_the_pool(running):
    assert track(running, BESIDE)[0] == 201
    assert get(running, "/api/events/Frontend/pageView?format=csv")[0] == 200
    with ExitStack() as held:
        for _ in range(3):  # each in a transaction, and so in a session of its own
            other = held.enter_context(closing(psycopg2.connect(running["DATABASE_URL"])))
            assert [ask(other, f"SHOW {name}") for name in SETTINGS] == ["0", "0", "4MB"]


def ask(connection, sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def test_an_event_is_one_message(pooled, prepared, tmp_path):
    with pooler(pooled.mode, pool_size=2) as other, prepared(tmp_path, SERVER_THREADS=1) as env:
        name = urlsplit(env["DATABASE_URL"]).path[1:]
        env |= {"DATABASE_URL": other.url(name), "READY_LAG_SECONDS": "0", "CLIENT_USAGE_SECONDS": "0"}

        def count():
            with closing(administer(other.port)) as asked, asked.cursor() as cursor:
                cursor.execute("SHOW STATS_TOTALS")
                column = [each.name for each in cursor.description].index("query_count")
                return sum(row[column] for row in cursor.fetchall() if row[0] == name)

        with service.served(env):
            env["TOKEN"] = fetch_token(env)
            assert [track(env, EVENT)[0] for _ in range(10)] == [201] * 10
            before = count()
            assert [track(env, EVENT)[0] for _ in range(10)] == [201] * 10
            assert count() - before == 10


def test_it_migrates_and_the_checks_are_silent(pooled, tmp_path):
    with service.own_database(tmp_path) as url:
        env = service.environment(tmp_path, DATABASE_URL=pooled.url(urlsplit(url).path[1:]), READY_LAG_SECONDS=0)

        migrated = service.manage("migrate", env=env)
        checked = service.manage("check", "--database", "default", env=env)

    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert (checked.returncode, checked.stdout) == (0, "System check identified no issues (0 silenced).\n")


@pytest.fixture
def through(db, pooled):
    """Django's connection as it is, but through the pooler."""
    other = connection.copy()
    other.settings_dict |= {"HOST": "127.0.0.1", "PORT": pooled.port, "USER": "tracking", "PASSWORD": ""}
    yield other
    other.close()


def test_what_sessions_hold_is_asked_for(through):
    through.ensure_connection()

    assert through.is_pooled
    assert list(checks._session_settings(through)) == []


def test_limits_that_get_lost_are_warned_of(through, pooled, monkeypatch):
    """As where each connection is set up once, and the pooler leads its transactions elsewhere."""
    monkeypatch.setattr(session, "hold", hold_for_good)

    found = [(type(message), message.id, message.msg) for message in checks._session_settings(through)]

    lost = "Sessions of the database don't hold what they are to: lock_timeout is 0 and not 5s, statement_timeout is 0 and not 30s."  # fmt: skip
    assert found == ([(Warned, "events.W006", lost)] if pooled.mode == "transaction" else [])


def test_what_the_role_has_set_changes_no_answer(env):
    with closing(psycopg2.connect(env["DIRECT_URL"])) as direct:
        direct.autocommit = True
        name = urlsplit(env["DIRECT_URL"]).path[1:]
        for each in ("extra_float_digits = 0", "default_transaction_isolation = serializable", "datestyle = 'German'"):
            direct.cursor().execute(f"ALTER DATABASE {name} SET {each}")
    values = [9007199254740991.0, 0.1 + 0.2]
    with service.served(env):
        env["TOKEN"] = fetch_token(env)
        for number, value in enumerate(values):
            assert track(env, {**EVENT, "timestamp": number, "value": value})[0] == 201
        expected = [
            {"aggregatedTimestamp": f"1970-01-01T00:00:0{number}Z", "value": value}
            for number, value in enumerate(values)
        ]
        for form in ("json", "ndjson"):
            status, answer = get(env, f"/api/events/Shop/order?tsMax=1970-01-02&format={form}")
            found = json.loads(answer) if form == "json" else [json.loads(line) for line in answer.splitlines()]
            assert (status, found) == (200, expected)


def test_transactions_are_isolated_as_everywhere(through):
    name, direct = connection.ops.quote_name(through.settings_dict["NAME"]), connection.copy()
    with closing(direct), direct.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
        try:
            through.ensure_connection()
            alone = ask(through, "SHOW transaction_isolation")
            through.set_autocommit(False)
            assert (alone, ask(through, "SHOW transaction_isolation")) == ("read committed",) * 2
        finally:
            through.rollback()
            cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_isolation")


def hold_for_good(connection, settings):
    with connection.cursor() as cursor:
        for name, value in settings.items():
            cursor.execute(f"SET {name} = %s", [value])
    return False


def test_what_can_not_be_in_a_transaction_is_not_put_into_one(through):
    with through.cursor() as cursor:
        for sql in ("VACUUM django_migrations", "CREATE INDEX CONCURRENTLY an_index ON django_migrations (app)", "drop index concurrently an_index"):  # fmt: skip
            cursor.execute(sql)


def test_rows_some_at_a_time(through):
    sql = "SELECT current_setting('lock_timeout'), generate_series(1, 3)"
    with through.chunked_cursor() as cursor:  # whose rows are taken by statements of their own
        cursor.execute(sql)
        with through.cursor() as other:
            other.execute("SELECT 1")
        assert [cursor.fetchmany(2), cursor.fetchmany(2)] == [[("5s", 1), ("5s", 2)], [("5s", 3)]]
    through.set_autocommit(False)
    with through.chunked_cursor() as cursor:
        cursor.execute(sql)
        assert cursor.fetchmany(2) == [("5s", 1), ("5s", 2)]
        assert cursor.cursor.name
    through.rollback()
