"""The role of docs/deployment.md that owns nothing but its schema: all that the service does, done by that one."""

import json
import re
import uuid
from contextlib import closing
from os import environ
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg2
import pytest

from events.tests.support import service
from events.tests.support.service import PROJECT_DIR, call, fetch_token

DOCUMENT = (PROJECT_DIR / "docs/deployment.md").read_text()
[STATEMENTS] = re.findall(r"^```sql\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def role_url():
    """The document's statements, word for word but for the names, and where they lead: to a schema named otherwise."""
    server, name = urlsplit(environ["TEST_DATABASE_URL"]), f"role_{uuid.uuid4().hex}"
    before, after = (re.sub(r"\btracking\b", name, part) for part in STATEMENTS.split("\\connect tracking\n"))
    for place in (f"SCHEMA {name} ", f"search_path = {name};"):
        assert place in after
        after = after.replace(place, place.replace(name, f"{name}_own"))
    execute(urlunsplit(server), before)
    url = urlunsplit(server._replace(path=f"/{name}"))
    try:
        execute(url, after)
        _, _, host = server.netloc.rpartition("@")
        yield urlunsplit(server._replace(netloc=f"{name}:{quote('change-me')}@{host}", path=f"/{name}"))
    finally:
        execute(urlunsplit(server), f"DROP DATABASE {name} WITH (FORCE);\nDROP ROLE {name};")


def execute(url, statements):
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        for statement in filter(str.strip, statements.split(";\n")):
            connection.cursor().execute(statement)


def ask(url, sql):
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


# one process for all, as each takes a second to start
COMMANDS = """
from django.core.management import call_command
for command in (
    ["roll_up"], ["verify_rollups"], ["prune_events", "--older-than", "1d"], ["cleartokens"],
    ["check", "--database", "default", "--fail-level", "WARNING"], ["export_events", {path!r}],
):
    call_command(*command)
"""
OWNED = "SELECT DISTINCT relnamespace::regnamespace::text FROM pg_class WHERE relnamespace <> 'pg_toast'::regnamespace AND relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)"  # fmt: skip
RIGHTS = "SELECT rolsuper OR rolcreatedb OR rolcreaterole, has_database_privilege(current_database(), 'CREATE'), has_schema_privilege('public', 'USAGE') FROM pg_roles WHERE rolname = current_user"  # fmt: skip


def test_it_can_do_all_that_the_service_does_and_owns_nothing_but_its_schema(role_url, tmp_path):
    env = service.environment(tmp_path, DATABASE_URL=role_url, PORT=service.free_port(), RETENTION="*=1d")
    with service.served(env, "--prepare", "--worker"):
        headers = {"Authorization": f"Bearer {fetch_token(env)}", "Content_Type": "application/json"}
        event = {"namespace": "Shop", "name": "order", "timestamp": "2020-11-12T11:10:00Z", "value": 1.0}
        assert call(env, "POST", "/api/track/", json.dumps(event), **headers)[0] == 201
        assert call(env, "POST", "/api/track/", json.dumps([event] * 2), **headers)[0] == 201
        path = "/api/events/Shop/order?aggregationType=count&format=csv"
        assert call(env, "GET", path, **headers)[2].split() == [b"aggregatedTimestamp,value", b"2020-11-12T11:10:00Z,3"]
    commands = COMMANDS.format(path=str(tmp_path / "events.csv"))
    done = service.manage("shell", "--no-imports", "-c", commands, env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "events.csv").exists()

    assert ask(role_url, OWNED) == [(f"{urlsplit(role_url).path[1:]}_own",)]
    assert ask(role_url, RIGHTS) == [(False, False, False)]
