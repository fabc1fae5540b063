"""``manage.py check``: known misconfigurations, and silence where there is none."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.core import checks as framework
from django.core.checks import Error
from django.core.checks import Warning as Warned
from django.db import connection

from events import checks
from events.calendar import zones
from events.tests.support import originals, service
from events.tests.support.service import PROJECT_DIR
from events.worker import roll_up

DOCUMENT = (PROJECT_DIR / "docs/observability.md").read_text()


def found(check, **arguments):
    return [(type(message), message.id, message.msg) for message in check(None, **arguments)]


@pytest.mark.parametrize(
    ("hosts", "ids"), [(["a.example"], []), ([".a.example"], []), (["a.example", "*"], ["events.W001"])]
)
def test_any_host_is_warned_of(settings, hosts, ids):
    settings.ALLOWED_HOSTS = hosts

    assert [message.id for message in checks.check_hosts(None)] == ids


@pytest.mark.parametrize(
    ("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o602, True)]
)
@pytest.mark.parametrize("name", ["local/secret_key", "local/credentials.json", "local/secret_key.17",
                                  "db.sqlite3", "db.sqlite3-wal", "db.sqlite3-shm", "db.sqlite3-journal"])  # fmt: skip
def test_files_that_others_can_read_are_warned_of(settings, monkeypatch, tmp_path, name, mode, warned):
    settings.LOCAL_DIR = tmp_path / "local"
    settings.LOCAL_DIR.mkdir()
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")}
    monkeypatch.setitem(settings.DATABASES, "default", database)
    (tmp_path / name).touch()
    (tmp_path / name).chmod(mode)

    message = Warned, "events.W002", f"Others than the service's user can read {tmp_path / name}."
    assert found(checks.check_files) == ([message] if warned else [])


def test_all_files_that_others_can_read_are_named(settings, monkeypatch, tmp_path):
    settings.LOCAL_DIR = tmp_path / "local"
    settings.LOCAL_DIR.mkdir()
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")}
    monkeypatch.setitem(settings.DATABASES, "default", database)
    files = [tmp_path / name for name in ("local/a", "local/b", "db.sqlite3", "db.sqlite3-wal")]
    for file in files:
        file.touch(mode=0o644)
        file.chmod(0o644)

    [message] = checks.check_files(None)

    assert message.msg == f"Others than the service's user can read {' and '.join(map(str, files))}."
    assert message.hint.startswith(f"chmod 600 {' '.join(map(str, files))};")


def test_no_secrets_are_fine(settings, monkeypatch, tmp_path):
    settings.LOCAL_DIR = tmp_path / "none"
    monkeypatch.setitem(settings.DATABASES, "default", {"ENGINE": "events.database.postgresql", "NAME": "events"})

    assert found(checks.check_files) == []


@pytest.mark.parametrize(
    ("version", "now", "is_old"),
    [
        ("2026.1", "2026-03-01T00:00:00", False),
        ("2026.6", "2027-06-30T23:59:59", False),
        ("2026.6", "2027-07-01T00:00:00", True),
        ("2025.2", "2026-11-28T12:00:00", True),
        ("2024.1.post1", "2026-11-28T12:00:00", True),
        ("2027.1", "2026-12-31T00:00:00", False),
    ],
)
def test_old_rules_of_time_zones_are_warned_of(monkeypatch, version, now, is_old):
    monkeypatch.setattr(zones, "version", lambda: version)
    monkeypatch.setattr("django.utils.timezone.now", lambda: datetime.fromisoformat(now).replace(tzinfo=UTC))

    message = Warned, "events.W007", f"The rules of time zones are those of tzdata {version}, older than a year."
    assert found(checks.check_zone_rules) == ([message] if is_old else [])


@pytest.mark.parametrize(("seconds", "ids"), [(5, []), (7, []), (8, ["events.W003"]), (60, ["events.W003"])])
def test_waiting_longer_than_a_worker_may_take_to_stop_is_warned_of(settings, seconds, ids):
    settings.DATABASE_TIMEOUT_SECONDS = seconds

    assert [message.id for message in checks.check_waiting(None)] == ids


MOUNTS = """\
/dev/vda1 / ext4 rw 0 0
server:/data /srv nfs4 rw 0 0
/dev/vdb1 /srv/local\\040disk xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("file", "ids"),
    [
        ("/db.sqlite3", []),
        ("/var/lib/db.sqlite3", []),
        ("/srv/db.sqlite3", ["events.E002"]),
        ("/srv/deep/er/db.sqlite3", ["events.E002"]),
        ("/srv/local disk/db.sqlite3", []),
    ],
)
def test_sqlite_on_a_network_file_system_is_an_error(settings, monkeypatch, file, ids):
    monkeypatch.setitem(settings.DATABASES, "default", {"ENGINE": "django.db.backends.sqlite3", "NAME": file})
    monkeypatch.setattr(Path, "read_text", lambda *args, **options: MOUNTS)

    assert [message.id for message in checks.check_sqlite_file(None)] == ids


def test_where_mounts_are_not_told_nothing_is_said(settings, monkeypatch):
    def missing(*args, **options):
        raise FileNotFoundError

    monkeypatch.setitem(
        settings.DATABASES, "default", {"ENGINE": "django.db.backends.sqlite3", "NAME": "/srv/db.sqlite3"}
    )
    monkeypatch.setattr(Path, "read_text", missing)

    assert found(checks.check_sqlite_file) == []


def test_postgresql_has_no_file(settings, monkeypatch):
    monkeypatch.setitem(settings.DATABASES, "default", {"ENGINE": "events.database.postgresql", "NAME": "events"})

    assert found(checks.check_sqlite_file) == []


def test_the_database_is_not_asked_unless_it_may_be(django_assert_num_queries, db):
    with django_assert_num_queries(0):
        assert found(checks.check_database) == []
        assert found(checks.check_database, databases=[]) == []


def in_database():
    return found(checks.check_database, databases=["default"])


def test_a_right_database_is_fine(make_event):
    assert in_database() == []
    make_event()
    roll_up.take_step()
    assert in_database() == []


@pytest.mark.parametrize(
    ("wanted", "messages"),
    [
        (["minute", "hour"], []),
        (["hour"], [(Warned, "events.W004", "ROLLUP_RESOLUTIONS is hour, but the rollups hold minute,hour.")]),
    ],
)
def test_other_resolutions_than_stored_are_warned_of(make_event, settings, wanted, messages):
    make_event()
    roll_up.take_step()

    settings.ROLLUP_RESOLUTIONS = wanted

    assert in_database() == messages


def execute(*statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


if connection.vendor == "postgresql":

    def test_commits_that_do_not_wait_are_an_error(db):
        execute("SET LOCAL synchronous_commit = off")

        assert in_database() == [
            (
                Error,
                "events.E003",
                "An acknowledged event may be lost when PostgreSQL or its machine stops: synchronous_commit is off.",
            )
        ]

    def test_an_unlogged_log_is_an_error(db):
        execute("ALTER TABLE events_event SET UNLOGGED")

        assert in_database() == [
            (
                Error,
                "events.E003",
                "An acknowledged event may be lost when PostgreSQL or its machine stops: the table events_event is unlogged.",
            )
        ]

    @pytest.mark.not_on_a_cluster
    def test_a_sequence_that_caches_is_an_error(db):
        execute("ALTER TABLE events_event ALTER id SET CACHE 20")

        assert in_database() == [
            (Error, "events.E004", "The sequence of event ids has CACHE 20: the roller may pass events by.")
        ]

    @pytest.mark.not_on_a_cluster
    @pytest.mark.parametrize(("workers", "threads", "needed"), [(2, 8, None), (4, 10, 101), (16, 32, 1105)])
    def test_more_connections_than_the_server_takes_are_warned_of(db, settings, workers, threads, needed):
        settings.SERVER_WORKERS, settings.SERVER_THREADS = workers, threads
        execute("SELECT 1")

        assert in_database() == ([] if needed is None else [
            (Warned, "events.W005", f"One server may open {needed} connections, and PostgreSQL takes 97.")
        ])  # fmt: skip

    @pytest.mark.not_on_a_cluster
    def test_another_encoding_is_an_error(tmp_path):
        with service.own_database(
            tmp_path, options="ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ) as url:
            done = service.manage("check", "--database", "default", env=service.environment(tmp_path, DATABASE_URL=url))

        assert done.returncode == 1
        assert "(events.E005) The database stores text as LATIN1, which has no room for every name." in done.stderr

else:

    @pytest.mark.parametrize(
        ("url_query", "said"),
        [
            ("init_command=PRAGMA%20synchronous=NORMAL;", "synchronous=1 and journal_mode=delete"),
            (
                "init_command=PRAGMA%20synchronous=FULL;PRAGMA%20journal_mode=MEMORY;",
                "synchronous=2 and journal_mode=memory",
            ),
        ],
    )
    def test_commits_that_are_not_synced_are_an_error(tmp_path, url_query, said):
        env = service.environment(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/a.sqlite3?{url_query}")

        done = service.manage("check", "--database", "default", env=env)

        assert done.returncode == 1
        assert f"(events.E006) An acknowledged event may be lost in a power cut: SQLite has {said}." in done.stderr


@pytest.mark.parametrize("migrated", [pytest.param(False, marks=pytest.mark.thorough), True])
def test_the_documented_production_settings_are_silent(tmp_path, migrated):
    """With the database of the tests and a directory of theirs."""
    block = re.search(r"## Production settings.*?```sh\n(.*?)```", DOCUMENT, re.DOTALL)[1]
    variables = dict(line.split("=", 1) for line in block.splitlines())
    database = originals.original("migrated")["DATABASE_URL"] if migrated else None
    with service.own_database(tmp_path, database) as url:
        env = service.environment(tmp_path, **{**variables, "DATABASE_URL": url, "LOCAL_DIR": str(tmp_path / "local")})
        done = service.manage("check", "--deploy", "--database", "default", "--fail-level", "INFO", env=env)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "System check identified no issues (1 silenced).\n"


def test_the_defaults_lack_https_alone(tmp_path):
    env = service.environment(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/a.sqlite3")

    done = service.manage("check", "--deploy", env=env)

    assert re.findall(r"\(([\w.]+)\)", done.stderr.split("WARNINGS:")[1])[:4] == [
        "security.W004", "security.W008", "security.W012", "security.W016"
    ]  # fmt: skip


def test_every_check_is_registered_and_documented():
    source = (PROJECT_DIR / "events/checks.py").read_text()
    raised = re.findall(r'id="(events\.\w+)"', source)
    listed = re.findall(r"^\| `(events\.\w+)` \|", DOCUMENT, re.MULTILINE)

    assert sorted(raised) == sorted(listed)
    assert len(set(raised)) == len(raised)
    registered = framework.registry.registry.get_checks(include_deployment_checks=True)
    assert {name for name in vars(checks) if name.startswith("check_")} == {
        check.__name__ for check in registered if check.__module__ == "events.checks"
    }
