"""Dividing a filled database into partitions, and what every statement then says of them."""

import re
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest
from django.core.management import call_command
from django.db import connection

from events.aggregation.answer import aggregate
from events.aggregation.catalogue import Catalogue
from events.aggregation.question import Question
from events.database import partitions
from events.distribution import layout
from events.models import Event, Pruned, Rollup, Watermark
from events.tests.support import partitioned
from events.tests.support.answers import catalogue
from events.tests.support.rolling_up import START, expected, roll_up_all, stored
from events.transfer import exporting
from events.worker import retention

pytestmark = pytest.mark.one_partition  # to begin with

SERIES = [
    ("Server-1", "cpu"),
    ("Server-1", "memory"),
    ("a", "b"),
    ("Ünïcode 🙂", "näme"),
    ("it's", 'a "name"\\'),
    ("%s", "b\n"),
]
TABLES = {Event: "events_event", Rollup: "events_rollup", Pruned: "events_pruned"}


@pytest.fixture
def filled(db):
    """Some series, of which one is pruned, and a tail."""
    for number, (namespace, name) in enumerate(SERIES):
        add(namespace, name, 20 + number)
    roll_up_all()
    assert sum(retention.prune(retention.Series(*SERIES[0], START.replace(day=29, hour=0, minute=0, second=0)))) > 0
    for namespace, name in SERIES[1:]:
        add(namespace, name, 3)
    yield
    partitions.forget()


def add(namespace, name, count):
    Event.objects.bulk_create(
        Event(namespace=namespace, name=name, timestamp=START + timedelta(minutes=17 * number), value=number / 8)
        for number in range(count)
    )


def answers():
    return [
        aggregate(Question(namespace=namespace, name=name, granularity=granularity, aggregation_type=kind))
        for namespace, name in SERIES
        for granularity in ("hour", "day")
        for kind in ("avg", "count")
    ]


def exported():
    file = BytesIO()
    exporting.export(Event.objects.all(), "csv", file, lambda count: None)
    return file.getvalue().splitlines()


def test_a_filled_log_is_divided_and_answers_as_before(filled):
    before = answers(), catalogue(), sorted(exported())

    layout.divide(partitioned.KEYS)

    assert (answers(), catalogue(), sorted(exported())) == before
    for model in TABLES:
        found = set(model.objects.values_list("namespace", "name", "partition"))
        assert found == {(*series, partitions.partition_of(*series)) for series, _ in by_series(found)}
    assert len({partitions.partition_of(*series) for series in SERIES}) > 1
    roll_up_all()
    assert (answers(), catalogue(), sorted(exported())) == before
    call_command("verify_rollups")


def by_series(rows):
    return [((namespace, name), partition) for namespace, name, partition in rows]


def test_it_goes_on_divided(filled):
    layout.divide(partitioned.KEYS)
    for namespace, name in SERIES[1:]:
        add(namespace, name, 5)
    Event.objects.filter(name="b").update(name="moved")
    roll_up_all()
    Event.objects.filter(name="näme", value__gt=1).delete()

    held = {key: row for key, row in stored().items() if key[1:3] != SERIES[0]}
    assert held == {key: row for key, row in expected().items() if key[1:3] != SERIES[0]}
    call_command("verify_rollups")


def test_it_is_divided_once(filled):
    layout.divide(partitioned.KEYS)

    with pytest.raises(ValueError, match="There are 3 partitions already"):
        layout.divide([1, 2])

    assert list(Watermark.objects.order_by("pk").values_list("pk", flat=True)) == list(partitioned.KEYS)


@pytest.mark.only_on("postgresql")
def test_the_keys_of_its_tables_hold_the_partition(filled):
    layout.divide(partitioned.KEYS)

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE contype IN ('p', 'u', 'x') AND conrelid::regclass::text = ANY(%s) ORDER BY 1",
            [[*TABLES.values(), "events_rollup_partition_step"]],
        )
        assert cursor.fetchall() == [
            ("events_event", "PRIMARY KEY (id, partition)"),
            ("events_pruned", "PRIMARY KEY (namespace, name, partition)"),
            ("events_rollup", "PRIMARY KEY (resolution, namespace, name, bucket, partition)"),
            ("events_rollup_partition_step", "PRIMARY KEY (namespace, name, bucket, partition)"),
        ]


# What the cluster needs of the statements.

# These may ask every partition, as they are about series of all of them, or about an event whose series isn't known.
ALL_OF_THEM = [
    r"UPDATE \"events_watermark\" SET \"complete_at\" = %s WHERE ",  # nothing was to be rolled up in any
    r"SELECT DISTINCT \"events_event\".\"partition\" ",
    r"SELECT .* INNER JOIN \"events_watermark\" ON ",  # each shard joins its own
    r"SELECT .* FROM \"events_rollup\" WHERE .*\"resolution\" = (0|%s) ",
    r"SELECT .* FROM \"events_watermark\"$",  # which series are being renamed, in any
]
FORBIDDEN = re.compile(r"LATERAL|FOR UPDATE(?! SKIP)(?!$)|\bWITH RECURSIVE\b|json_each", re.IGNORECASE)


@pytest.mark.only_on("postgresql")
def test_every_statement_names_the_partition(filled, client_with_scopes, statements, settings):
    layout.divide(partitioned.KEYS)
    partitions.keys()
    client = client_with_scopes("write read aggregation")
    client.get("/api/events/a/b")  # the token is known from here on
    event = {"namespace": "a", "name": "b", "timestamp": "2024-03-01T10:00:00", "value": 1}
    with statements() as sent:
        assert client.post("/api/track/", event).status_code == 201
        assert client.post("/api/track/", [event, {**event, "name": "c"}]).status_code == 201
        for query in ("", "granularity=hour&fill=zero", "granularity=month&timezone=Asia/Tokyo", "format=csv"):
            response = client.get(f"/api/events/a/b?{query}")
            assert response.status_code == 200
            assert b"".join(response) if response.streaming else response.content
        questions = [{"namespace": namespace, "name": name, "granularity": "day"} for namespace, name in SERIES]
        answers = client.post("/api/query/", {"questions": questions}, format="json").json()["answers"]
        assert {answer["status"] for answer in answers} == {200}
        Catalogue().page(3)
        roll_up_all()
        list(retention.prune(retention.Series("a", "b", datetime(2024, 3, 1, tzinfo=UTC))))
        list(retention.prune_rollups(retention.Series("a", "b", datetime(2024, 3, 1, tzinfo=UTC))))
        Event.objects.of_series("it's", 'a "name"\\').delete()

    about = [text for text in sent if re.search(r"events_(event|rollup|pruned|watermark)\b", text)]
    assert len(about) > 40
    assert [
        text for text in about if not names_it(text) and not any(re.match(each, text) for each in ALL_OF_THEM)
    ] == []
    assert [text for text in about if FORBIDDEN.search(text)] == []


def names_it(text):
    return re.search(
        r"partition\W* (=|IN)|, \"?partition\"?\)|watermark\"?\.\"?id\"? (=|IN)|currval|pg_locks|_id_seq", text
    )
