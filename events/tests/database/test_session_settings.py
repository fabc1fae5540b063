"""Answers that are the same whatever the server, the database or the role has set for its sessions."""

import json
from datetime import UTC, datetime

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, transaction

from events.models import Event, Grant, Rollup
from events.tests.support.clients import client_with
from events.tests.support.examples import IS_THOROUGH
from events.tests.support.responses import body_of
from events.worker import roll_up

client = client_with("read write aggregation")

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS = [
    ("2020-11-12T11:10:00Z", 9007199254740991.0),
    ("2020-11-12T11:10:00.000001Z", 0.1 + 0.2),
    ("2020-02-03T04:05:06.789000Z", 1.7976931348623157e308),
    ("2020-03-02T04:05:06Z", 5e-324),
    ("0001-01-01T00:00:00Z", -1 / 3),
    ("9999-12-31T23:59:59.999999Z", 123456789.12345679),
]
SETTINGS = [
    ("extra_float_digits", "0"), ("extra_float_digits", "-15"), ("extra_float_digits", "3"),
    ("datestyle", "'German'"), ("datestyle", "'SQL, DMY'"), ("datestyle", "'Postgres, YMD'"),
    ("intervalstyle", "'sql_standard'"), ("intervalstyle", "'iso_8601'"), ("intervalstyle", "'postgres_verbose'"),
    ("timezone", "'Asia/Kathmandu'"), ("timezone", "'America/St_Johns'"), ("timezone_abbreviations", "'Australia'"),
    ("bytea_output", "'escape'"), ("client_encoding", "'LATIN1'"),
    ("standard_conforming_strings", "off"), ("backslash_quote", "off"),
    ("array_nulls", "off"), ("transform_null_equals", "on"), ("quote_all_identifiers", "on"), ("row_security", "off"),
    ("default_transaction_isolation", "'serializable'"), ("default_transaction_isolation", "'repeatable read'"),
    ("default_transaction_deferrable", "on"),
    ("enable_hashagg", "off"), ("enable_sort", "off"), ("jit_above_cost", "0"), ("plan_cache_mode", "'force_generic_plan'"),
]  # fmt: skip


def rounds():
    """What is set at a time: each for itself in the thorough run, all of them otherwise, by their first values, then their second …"""
    if IS_THOROUGH:
        return [[setting] for setting in SETTINGS]
    values = {}
    for name, value in SETTINGS:
        values.setdefault(name, []).append(value)
    most = max(map(len, values.values()))
    return [[(name, of[place]) for name, of in values.items() if place < len(of)] for place in range(most)]


@pytest.fixture(params=["DATABASE {0}", "ROLE {1} IN DATABASE {0}"])
def set_for_all(request):
    """Sets something for every new session of the database, or of the role."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_database()), quote_ident(current_user)")
        target = request.param.format(*cursor.fetchone())

    def alter(change):
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER {target} {change}")
        connection.close()

    changed = {}
    yield lambda name, value: alter(f"SET {name} = {value}") or changed.update({name: value})
    for name in changed:  # and not all, as on a cluster the database has settings that answers depend on
        alter(f"RESET {name}")


def store(client):
    first, *others = ({"namespace": "a\\'ü", "name": "b", "timestamp": at, "value": value} for at, value in EVENTS)
    answers = [client.post("/api/track/", first, headers={"Idempotency-Key": "once"}) for _ in range(2)]
    answers.append(client.post("/api/track/", others[:2]))
    roll_up.take_step()
    return [answer.json() for answer in [*answers, client.post("/api/track/", others[2:])]]


def answers(client, directory):
    path, found = "/api/events/a%5C'%C3%BC/b", []
    for query in (
        "granularity=none", "granularity=minute&aggregationType=max", "granularity=hour&timezone=Asia/Kathmandu",
        "granularity=day&timezone=America/St_Johns&timestamp=bucket", "granularity=year&aggregationType=count&fill=zero",
        "granularity=week&tsMin=2020-02-01&tsMax=2020-11-30&fill=previous&aggregationType=sum",
    ):  # fmt: skip
        for form in ("json", "csv", "ndjson"):
            response = client.get(f"{path}?{query}&format={form}")
            content = body_of(response)
            assert response.status_code == 200, content
            found.append(content.decode())
    found.append(client.get("/api/events/").json())
    for form in ("csv", "ndjson"):
        file = directory / f"events.{form}"
        file.unlink(missing_ok=True)
        call_command("export_events", str(file), verbosity=0)
        found.append(file.read_text())
    call_command("verify_rollups", verbosity=0)
    found.append(list(Event.objects.order_by("pk").values_list("timestamp", "value")))
    found.append(sorted(Rollup.objects.values_list("resolution", "bucket", "first_timestamp", "count", "sum", "min")))
    return found


@pytest.mark.not_on_a_cluster
@pytest.mark.parametrize(
    ("changed", "set_for_all"),
    [(each, "DATABASE {0}") for each in rounds()] + [(SETTINGS[:1], "ROLE {1} IN DATABASE {0}")],
    indirect=["set_for_all"],
)
def test_answers_are_the_same_whatever_is_set(client, set_for_all, tmp_path, changed):
    expected = [store(client), *answers(client, tmp_path)]
    tables = ", ".join(
        model._meta.db_table
        for model in apps.get_app_config("events").get_models(include_auto_created=True)
        if model != Grant
    )
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables} RESTART IDENTITY")
    for name, value in changed:
        set_for_all(name, value)

    assert [store(client), *answers(client, tmp_path)] == expected

    items = [{"aggregatedTimestamp": at, "value": value} for at, value in sorted(EVENTS, key=key)]
    assert json.loads(expected[1]) == items
    assert sorted(expected[-2]) == [(datetime.fromisoformat(at), value) for at, value in sorted(EVENTS, key=key)]


def key(event):
    return datetime.fromisoformat(event[0]).astimezone(UTC)


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_transactions_see_what_is_committed_meanwhile(set_for_all, level):
    set_for_all("default_transaction_isolation", f"'{level}'")

    def ask(sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0]

    assert ask("SHOW transaction_isolation") == "read committed"
    with transaction.atomic():
        assert ask("SHOW transaction_isolation") == "read committed"
