"""Who takes the steps of a move is killed, really, and started again: no answer shows it, and no row is lost."""

import json
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from events.tests.support import service
from events.tests.support.service import PROJECT_DIR
from events.tests.support.waiting import wait_until

EVENTS = 8_000
_ASK = """
import django, json; django.setup()
from events.aggregation.answer import aggregate
from events.aggregation.question import Question
from events.database.snapshot import snapshot
print(json.dumps([aggregate(Question(namespace="Shop", name=name, granularity="day", aggregation_type=kind))
                  for name in ("odrer", "order") for kind in ("sum", "count", "max", "p95", "last")]))
"""


@pytest.fixture
def env(migrated, tmp_path):
    with migrated(tmp_path, DJANGO_SETTINGS_MODULE="tracking_api.settings", PYTHONPATH=PROJECT_DIR) as env:
        yield env


def count(env, name, table="events_event"):
    [(found,)] = service.query(env, f"SELECT count(*) FROM {table} WHERE name = '{name}'")
    return found


def answers(env):
    """What is answered of the old name, and of the new one."""
    done = subprocess.run([sys.executable, "-c", _ASK], env=env, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return found[:5], found[5:]


@contextmanager
def working(env, *arguments):
    process = subprocess.Popen(
        [sys.executable, str(PROJECT_DIR / "manage.py"), *arguments],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_who_is_killed_in_the_middle_of_a_move_leaves_every_answer_right(env):
    service.insert_events(env, "odrer", EVENTS, step_seconds=30, value="i % 97 / 8.0")
    assert service.manage("roll_up", env=env).returncode == 0
    service.insert_events(env, "odrer", 500, step_seconds=30, value="i % 97 / 8.0")
    _, unknown = before = answers(env)

    with working(env, "rename_series", "Shop/odrer", "Shop/order") as command:
        wait_until(lambda: count(env, "order") > 1 or count(env, "order", "events_rollup") > 1)
        command.send_signal(signal.SIGKILL)
        assert command.wait() == -signal.SIGKILL
    left = count(env, "odrer")
    assert left
    assert answers(env) == (unknown, before[0])

    service.insert_events(env, "odrer", 40, step_seconds=30, value="i % 97 / 8.0")  # a sender that does not know of it
    of_old = None
    for _ in range(2):
        most = max(40, left - 1_000)
        with working(env, "roll_up", "--watch", "0.1") as worker:
            wait_until(lambda most=most: count(env, "odrer") <= most)
            worker.send_signal(signal.SIGKILL)
            assert worker.wait() == -signal.SIGKILL
        left = count(env, "odrer")
        of_old, of_new = answers(env)
        assert of_new == before[0]
        assert [item["value"] for item in of_old[1]] == [40]

    with working(env, "roll_up", "--watch", "0.1"):
        wait_until(lambda: service.query(env, "SELECT 1 FROM events_watermark WHERE moving IS NULL") == [(1,)])
        wait_until(lambda: count(env, "odrer", "events_rollup") > 0)
    assert answers(env) == (of_old, before[0])
    assert (count(env, "odrer"), count(env, "order")) == (40, EVENTS + 500)
    done = service.manage("verify_rollups", env=env)
    assert (done.stdout, done.stderr) == ("All rollups of 2 series are right.\n", "")
