"""Services that all processes of a test run copy, made once: migrating an empty database takes seconds of CPU time."""

import fcntl
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from django.db import connection

from events.tests.support import service

_DIRECTORY = "TESTS_ORIGINALS"  # the variable by which the processes of a run find each other's
# The command that each is made by, and of which other.
_MADE_BY = {
    "migrated": ("migrate", None),
    "migrated_sqlite": ("migrate", None),
    "prepared": ("prepare_first_visit", "migrated"),
}


@contextmanager
def of_this_run():
    """Has the processes started meanwhile share theirs, and throws them away at the end."""
    with tempfile.TemporaryDirectory(prefix="originals-") as directory:
        os.environ[_DIRECTORY] = directory
        try:
            yield
        finally:
            del os.environ[_DIRECTORY]
            for path in filter(Path.is_dir, Path(directory).iterdir()):
                service.drop_database(_url(path))


def original(name):
    """The environment of a service that is for copying: “migrated”, or “prepared” for a first visit.

    “migrated_sqlite” is on SQLite, whatever the tests run on.
    """
    directory = Path(os.environ[_DIRECTORY], name)
    command, source = _MADE_BY[name]
    source = source and original(source)
    env = service.environment(directory, DATABASE_URL=_url(directory))
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = directory / "made"
        if not made.exists():
            directory.mkdir()
            service.create_database(env["DATABASE_URL"], source and source["DATABASE_URL"])
            if source:
                shutil.copytree(source["LOCAL_DIR"], env["LOCAL_DIR"])
            done = service.manage(command, env=env)
            assert done.returncode == 0, done.stderr
            made.touch()
    return env


def _url(directory):
    """Where the database of an original is, which no other run has."""
    if directory.name == "migrated_sqlite":
        return f"sqlite:///{directory / 'service.sqlite3'}"
    return service.database_url(directory, f"{directory.parent.name}_{directory.name}".replace("-", "_").lower())


@contextmanager
def as_test_database():
    """Has Django find all migrations in the database that it makes for the tests."""
    if connection.vendor == "postgresql":
        connection.settings_dict["TEST"]["TEMPLATE"] = urlsplit(original("migrated")["DATABASE_URL"]).path[1:]
        yield
        return
    # a database in memory is there while anything is connected
    with closing(sqlite3.connect(connection.creation._get_test_db_name(), uri=True)) as target:
        _copy("migrated", target)
        yield


def fill(url, name):
    """Has a database of SQLite that is in use hold from now on what an original has."""
    with closing(sqlite3.connect(urlsplit(url).path)) as target:
        _copy(name, target)


def _copy(name, target):
    # read as what never changes: nothing is laid beside it, and so it can be copied by others meanwhile
    uri = Path(urlsplit(original(name)["DATABASE_URL"]).path[1:]).as_uri()
    with closing(sqlite3.connect(f"{uri}?immutable=1", uri=True)) as source:
        source.backup(target)
