"""``prune_events`` is killed, really, amid the deletion of what it archived, and run again."""

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from events.tests.support import service
from events.tests.support.service import PROJECT_DIR
from events.tests.support.waiting import wait_until

EVENTS = 12_000  # so many that some steps of the deletion are still to come when the first one is seen
_TOTALS = "SELECT name, resolution, sum(count), sum(sum) FROM events_rollup GROUP BY name, resolution ORDER BY 1, 2"


@pytest.fixture
def env(migrated, tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    with migrated(tmp_path, ARCHIVE=archive) as env:
        yield env


def log(env):
    return sorted(value for (value,) in service.query(env, "SELECT value FROM events_event"))


def files(env):
    """The state and the values of each file of the list, by its path."""
    rows = service.query(env, "SELECT path, state FROM events_archivedfile")
    return {path: (state, values_in(f"{env['ARCHIVE']}/{path}")) for path, state in rows}


def values_in(path):
    return pyarrow.parquet.read_table(path, partitioning=None)["value"].to_pylist()


def test_a_process_that_is_killed_amid_the_deletion_loses_nothing_and_the_next_one_repeats_nothing(env):
    # of one day, each with a value of its own
    service.insert_events(env, "order", EVENTS, first=1_706_716_800, value="i / 8.0")
    assert service.manage("roll_up", env=env).returncode == 0
    before, rollups = log(env), service.query(env, _TOTALS)
    command = [sys.executable, str(PROJECT_DIR / "manage.py"), "prune_events", "--older-than", "1d"]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            wait_until(lambda: 0 < service.query(env, "SELECT count(*) FROM events_event")[0][0] < EVENTS)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL

    [(state, held)], left = files(env).values(), log(env)
    assert (state, len(held), sorted({*held, *left})) == ("listed", EVENTS, before)
    assert service.query(env, _TOTALS) == rollups

    done = service.manage("prune_events", "--older-than", "1d", env=env)

    assert (done.returncode, done.stdout.partition(" before ")[0]) == (0, f"Deleted {len(left)} events"), done
    [(path, of_file)] = files(env).items()
    assert (log(env), of_file) == ([], ("kept", before))
    assert [str(each.relative_to(env["ARCHIVE"])) for each in Path(env["ARCHIVE"]).rglob("*.parquet*")] == [path]
    assert service.query(env, _TOTALS) == rollups
