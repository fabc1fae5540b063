"""SQLite's files, whatever the umask: nobody else's to read."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from events.database.private_files import PrivateConnection, files_of
from events.tests.support import originals, service

WAL = "PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t (a); INSERT INTO t VALUES (1)"


@pytest.fixture
def database(tmp_path):
    """Where a database may be made; others may read what is made without more ado."""
    before = os.umask(0o022)
    yield tmp_path / "db.sqlite3"
    os.umask(before)


def modes(database):
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in sorted(database.parent.glob("db.sqlite3*"))}


def test_a_new_database_and_what_is_made_beside_it_is_private(database):
    with closing(sqlite3.connect(database, factory=PrivateConnection)) as connection:
        connection.executescript(WAL)

        assert modes(database) == {"db.sqlite3": "0o600", "db.sqlite3-shm": "0o600", "db.sqlite3-wal": "0o600"}


def test_what_an_older_release_left_open_is_closed_and_said_once(database, caplog):
    with closing(sqlite3.connect(database)) as older:
        older.executescript(WAL)
        assert modes(database) == {"db.sqlite3": "0o644", "db.sqlite3-shm": "0o644", "db.sqlite3-wal": "0o644"}

        for _ in range(2):
            with closing(sqlite3.connect(database, factory=PrivateConnection)) as connection:
                assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]

        assert modes(database) == {"db.sqlite3": "0o600", "db.sqlite3-shm": "0o600", "db.sqlite3-wal": "0o600"}
    assert caplog.messages == [
        f"Others could read {database}{end}, which holds password hashes; now they can't."
        for end in ("", "-wal", "-shm")
    ]


@pytest.mark.parametrize(("before", "after"), [(0o660, "0o600"), (0o640, "0o600"), (0o400, "0o400"), (0o600, "0o600")])
def test_only_what_others_may_is_taken(database, before, after):
    database.touch()
    database.chmod(before)

    sqlite3.connect(database, factory=PrivateConnection).close()

    assert modes(database) == {"db.sqlite3": after}


def test_the_file_of_another_user_is_used_as_it_is(database, monkeypatch, caplog):
    database.touch()

    def refuse(*args):
        raise PermissionError

    monkeypatch.setattr(Path, "chmod", refuse)
    sqlite3.connect(database, factory=PrivateConnection).close()

    assert (modes(database), caplog.messages) == ({"db.sqlite3": "0o644"}, [])


@pytest.mark.parametrize("name", [":memory:", "file:a?mode=memory&cache=shared"])
def test_a_database_in_memory_has_no_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)

    sqlite3.connect(name, uri=True, factory=PrivateConnection).close()

    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_the_databases_own_error(tmp_path):
    with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
        sqlite3.connect(tmp_path / "none/db.sqlite3", factory=PrivateConnection)


def test_the_service_keeps_its_database_private(database):
    env = service.environment(database.parent, DATABASE_URL=f"sqlite:///{database}", PORT=service.free_port())
    # some of the migrations, as all of them take seconds
    assert service.manage("migrate", "contenttypes", env=env, umask=0o022).returncode == 0
    assert modes(database) == {"db.sqlite3": "0o600"}
    originals.fill(env["DATABASE_URL"], "migrated")
    assert modes(database) == {"db.sqlite3": "0o600"}

    with service.served(env):
        # a worker's connection is kept, and its files with it
        assert service.call(env, "GET", "/api/events/", Authorization="Bearer x")[0] == 401
        assert modes(database) == {"db.sqlite3": "0o600", "db.sqlite3-shm": "0o600", "db.sqlite3-wal": "0o600"}


def test_all_files_that_a_database_may_have_are_known():
    assert [file.name for file in files_of(Path("/srv/db.sqlite3"))] == [
        "db.sqlite3", "db.sqlite3-wal", "db.sqlite3-shm", "db.sqlite3-journal",
    ]  # fmt: skip
