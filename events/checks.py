"""Owns the system checks for misconfigurations that hurt; their ids stay, and docs/observability.md lists them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.utils import timezone

from events.archive import archiving
from events.archive.store import ArchiveAwayError
from events.calendar import zones
from events.database import replica
from events.database.postgresql.session import NODES_HOLD, SETTINGS
from events.database.private_files import files_of, open_to_others
from events.database.reading import REPLICA
from events.database.statement_timeout import statement_limit
from events.distribution.cluster import find_unshared, is_coordinator, is_distributed
from events.models import Event, Watermark

Apps = Sequence[AppConfig] | None

_MIDDLE_MONTH = 7
_ROLLERS = 1
_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs"}
_SYNCHRONOUS_FULL = 2
_TABLE = Event._meta.db_table
_PERSISTENCE = f"SELECT relpersistence FROM pg_class WHERE oid = '{_TABLE}'::regclass"  # noqa: S608
_SEQUENCE_CACHE = (
    f"SELECT seqcache FROM pg_sequence WHERE seqrelid = pg_get_serial_sequence('{_TABLE}', 'id')::regclass"  # noqa: S608
)
_MOST_RECOVERY_SECONDS = 5
_DURABLE = {"fsync": "on", "synchronous_commit": "on"}
_RECOVERY = "citus.recover_2pc_interval"
_SETTINGS_OF_NODES = f"""
    SELECT nodename, nodeport, result FROM run_command_on_all_nodes(
        $$SELECT jsonb_object_agg(name, coalesce(setting, current_setting(name, true)))
            FROM unnest('{{{", ".join([*NODES_HOLD, *_DURABLE, _RECOVERY])}}}'::text[]) AS name
            LEFT JOIN pg_settings USING (name)$$, true, true)
        JOIN pg_dist_node USING (nodeid) WHERE success
"""  # noqa: S608


@checks.register(checks.Tags.security, deploy=True)
def check_hosts(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Warn where requests for any host name are answered (W001)."""
    if "*" not in settings.ALLOWED_HOSTS:
        return []
    return [
        checks.Warning(
            "ALLOWED_HOSTS has “*”: whoever sends a request chooses the host name that links lead to.",
            hint="List the host names of the service. Probes are answered to any.",
            id="events.W001",
        )
    ]


@checks.register(checks.Tags.security)
def check_files(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Warn where other users can read the secrets, or an SQLite database with its log (W002)."""
    files = sorted(path for path in settings.LOCAL_DIR.glob("*") if path.is_file())
    database = settings.DATABASES["default"]
    if database["ENGINE"] == "django.db.backends.sqlite3":
        files += files_of(Path(database["NAME"]))
    open_files = list(map(str, open_to_others(files)))
    if not open_files:
        return []
    return [
        checks.Warning(
            f"Others than the service's user can read {' and '.join(open_files)}.",
            hint=f"chmod 600 {' '.join(open_files)}; if anyone may have read them, have secrets made anew by deleting"
            " their files, and change the passwords in a database.",
            id="events.W002",
        )
    ]


@checks.register(checks.Tags.database)
def check_waiting(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Warn where a request may still be waiting for a lock when its worker is killed (W003)."""
    if settings.DATABASE_TIMEOUT_SECONDS < settings.STOP_SECONDS:
        return []
    return [
        checks.Warning(
            f"DATABASE_TIMEOUT_SECONDS is {settings.DATABASE_TIMEOUT_SECONDS}, and a worker that is to stop has"
            f" {settings.STOP_SECONDS} seconds to finish its requests.",
            hint=f"Set it below {settings.STOP_SECONDS}.",
            id="events.W003",
        )
    ]


@checks.register("archive")
def check_archive(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Refuse an ARCHIVE that is not there or may not be written (E009); warn where it is away for now (W010)."""
    if not settings.ARCHIVE:
        return []
    try:
        archiving.check()
    except ArchiveAwayError as error:
        message = f"ARCHIVE can't be written, so no events are deleted for their age: {error}"
        hint = "docs/archive.md says what it takes; unset ARCHIVE to delete events without keeping them."
        if error.is_wrong:
            return [checks.Error(message, hint=hint, id="events.E009")]
        return [checks.Warning(message, hint=hint, id="events.W010")]
    return []


@checks.register("time_zones")
def check_zone_rules(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Warn where the rules of time zones are old, as countries may have changed their clocks since (W007).

    A version tells its year but not its day. It counts as old from the middle of the next year on, when the first
    version of that year has been out for months.
    """
    version = zones.version()
    year = int(version.partition(".")[0])
    if timezone.now() < datetime(year + 1, _MIDDLE_MONTH, 1, tzinfo=UTC):
        return []
    return [
        checks.Warning(
            f"The rules of time zones are those of tzdata {version}, older than a year.",
            hint="pip install --upgrade tzdata, and restart the service and its worker.",
            id="events.W007",
        )
    ]


@checks.register(checks.Tags.database, deploy=True)
def check_sqlite_file(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Refuse an SQLite database on a network file system (E002).

    Its write-ahead log needs memory that all its users share, and so a single machine.
    """
    database = settings.DATABASES["default"]
    if database["ENGINE"] != "django.db.backends.sqlite3":
        return []
    kind = _file_system(Path(database["NAME"]).resolve().parent)
    if kind not in _NETWORK_FILE_SYSTEMS:
        return []
    return [
        checks.Error(
            f"The SQLite database lies on a network file system ({kind}), where its write-ahead log doesn't work.",
            hint="Put it on a disk of this machine, or use PostgreSQL.",
            id="events.E002",
        )
    ]


def _file_system(directory: Path) -> str:
    """Find the kind of file system that a directory lies on; empty where the machine doesn't tell."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    mounts = {point.replace("\\040", " "): kind for _, point, kind, *_ in map(str.split, lines)}
    return next((mounts[str(each)] for each in (directory, *directory.parents) if str(each) in mounts), "")


@checks.register(checks.Tags.database)
def check_database(app_configs: Apps, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check what only the databases know (E003 to E008, W004 to W006, W008, W009), of those that may be asked."""
    messages: list[CheckMessage] = []
    for alias in set(databases or ()) - {REPLICA}:
        connection = connections[alias]
        tables = connection.introspection.table_names()
        if Watermark._meta.db_table in tables:
            messages += _resolutions(alias)
        messages += (_postgresql if connection.vendor == "postgresql" else _sqlite)(
            connection, has_events=_TABLE in tables
        )
    return messages


def _resolutions(alias: str) -> Iterator[CheckMessage]:
    wanted = ",".join(settings.ROLLUP_RESOLUTIONS)
    held = Watermark.objects.using(alias).exclude(resolutions=wanted).values_list("resolutions", flat=True).first()
    if held is not None:
        yield checks.Warning(
            f"ROLLUP_RESOLUTIONS is {wanted}, but the rollups hold {held}.",
            hint="Run manage.py roll_up --rebuild, or set it back.",
            id="events.W004",
        )


def _postgresql(connection: BaseDatabaseWrapper, *, has_events: bool) -> Iterator[CheckMessage]:
    unsafe = [f"{name} is off" for name in ("fsync", "synchronous_commit") if _ask(connection, f"SHOW {name}") == "off"]
    if has_events and _ask(connection, _PERSISTENCE) == "u":
        unsafe.append(f"the table {_TABLE} is unlogged")
    if unsafe:
        yield checks.Error(
            f"An acknowledged event may be lost when PostgreSQL or its machine stops: {', '.join(unsafe)}.",
            hint="Set it on again, for the server, the database and the user; ALTER TABLE … SET LOGGED.",
            id="events.E003",
        )
    if has_events:
        cache = _ask(connection, _SEQUENCE_CACHE)
        if cache != 1:
            yield checks.Error(
                f"The sequence of event ids has CACHE {cache}: the roller may pass events by.",
                hint=f"ALTER TABLE {_TABLE} ALTER id SET CACHE 1; then manage.py verify_rollups --repair.",
                id="events.E004",
            )
    encoding = _ask(connection, "SHOW server_encoding")
    if encoding != "UTF8":
        yield checks.Error(
            f"The database stores text as {encoding}, which has no room for every name.",
            hint="Create it with ENCODING 'UTF8'.",
            id="events.E005",
        )
    yield from _cluster(connection)
    yield from _session_settings(connection)
    # each process has one connection for each thread and each stream, as many as threads for plain events, and one to
    # look after its health
    each = 2 * settings.SERVER_THREADS + settings.SERVER_STREAMS + 1
    yield from _most_connections(connection, settings.SERVER_WORKERS * each + _ROLLERS)


@checks.register(checks.Tags.database)
def check_replica(app_configs: Apps, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Warn where the replica won't be read, however fresh it is (W009), or its sessions or connections fall short."""
    if not {DEFAULT_DB_ALIAS, REPLICA} & set(databases or ()) or not replica.is_configured():
        return []
    try:
        fault = replica.find_fault()
        if not fault:
            each = settings.SERVER_THREADS + settings.SERVER_STREAMS
            connection = connections[REPLICA]
            return [*_session_settings(connection), *_most_connections(connection, settings.SERVER_WORKERS * each)]
    except (DatabaseError, InterfaceError) as error:
        fault = str(error).strip().partition("\n")[0]
    return [
        checks.Warning(
            f"The replica is not read, so the primary answers for it: {fault}.",
            hint="DATABASE_REPLICA_URL must lead to a streaming standby of DATABASE_URL's server, to its database.",
            id="events.W009",
        )
    ]


def _most_connections(connection: BaseDatabaseWrapper, needed: int) -> Iterator[CheckMessage]:
    """Warn where a server needs more connections than PostgreSQL takes (W005)."""
    if getattr(connection, "is_pooled", False):
        return  # only the pooler knows how many connections it takes
    most = int(_ask(connection, "SHOW max_connections")) - int(_ask(connection, "SHOW superuser_reserved_connections"))
    if needed > most:
        yield checks.Warning(
            f"One server may open {needed} connections, and PostgreSQL takes {most}.",
            hint="Lower SERVER_WORKERS or SERVER_THREADS, or raise max_connections.",
            id="events.W005",
        )


def _cluster(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    """Check the nodes of a cluster (E007, E008, W008); nothing where the tables are not distributed."""
    if not is_distributed(connection):
        return
    if unshared := [] if is_coordinator(connection) else find_unshared(connection):
        yield checks.Error(
            f"DATABASE_URL leads to a worker of the cluster, which doesn't know {', '.join(unshared)}.",
            hint="Run manage.py distribute on the coordinator again, which shares tables that came since.",
            id="events.E007",
        )
    with connection.cursor() as cursor:
        cursor.execute(_SETTINGS_OF_NODES)
        nodes = {f"{host}:{port}": json.loads(result) for host, port, result in cursor.fetchall()}
    for node, held in nodes.items():
        if unsafe := [name for name in _DURABLE if held[name] == "off"]:
            yield checks.Error(
                f"An acknowledged event may be lost when the node {node} stops: {' and '.join(unsafe)} are off there.",
                hint="Set it on again, for the server, the database and the user.",
                id="events.E008",
            )
        other = [f"{name} is {held[name]}" for name, value in NODES_HOLD.items() if held[name] != value]
        if float(held[_RECOVERY]) > _MOST_RECOVERY_SECONDS * 1000:
            other.append(f"{_RECOVERY} is {float(held[_RECOVERY]) / 1000:g}s")
        if other:
            yield checks.Warning(
                f"The node {node} may answer late, or otherwise than the others: {', '.join(other)}.",
                hint="ALTER DATABASE … SET …, on every node: docs/scaling.md, “A cluster”.",
                id="events.W008",
            )


def _session_settings(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    """Warn where sessions don't have the settings that the service gives them (W006).

    Two transactions ask at the same time, as a pooler may lead each to another session of the server.
    """
    wanted = {**connection.settings_dict[SETTINGS], **statement_limit()}
    faults = set()
    with ExitStack() as opened:
        others = [connection.copy(), connection.copy()]
        for other in others:
            opened.callback(other.close)
            other.settings_dict[SETTINGS] = wanted
            other.ensure_connection()
        for other in others:
            other.set_autocommit(False)
            for name, value in wanted.items():
                held, as_wanted = (
                    _ask(other, f"SHOW {name}"),
                    _ask(other, f"SELECT set_config('{name}', '{value}', true)"),
                )
                if held != as_wanted:
                    faults.add(f"{name} is {held} and not {as_wanted}")
    if faults:
        yield checks.Warning(
            f"Sessions of the database don't hold what they are to: {', '.join(sorted(faults))}.",
            hint="A pooler loses it: docs/deployment.md, “Poolers”, says how to set it there.",
            id="events.W006",
        )


def _sqlite(connection: BaseDatabaseWrapper, *, has_events: bool) -> Iterator[CheckMessage]:
    if cast(DatabaseWrapper, connection).is_in_memory_db():
        return
    synchronous, journal = int(_ask(connection, "PRAGMA synchronous")), _ask(connection, "PRAGMA journal_mode")
    if synchronous < _SYNCHRONOUS_FULL or journal in {"memory", "off"}:
        yield checks.Error(
            f"An acknowledged event may be lost in a power cut: SQLite has synchronous={synchronous} and"
            f" journal_mode={journal}.",
            hint="Take init_command out of DATABASE_URL.",
            id="events.E006",
        )


def _ask(connection: BaseDatabaseWrapper, sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]
