"""What a real cluster is put through; collected where TEST_DISTRIBUTED says that the tests have one."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connection
from rest_framework.test import APIClient

from events import renaming
from events.aggregation.catalogue import Catalogue, Tail
from events.database import nodes as nodes_of_events
from events.database import partitions
from events.distribution import cluster
from events.log.append import Row, append
from events.log.series import SeriesKey
from events.models import Bookmark, Event, Rollup, Watermark
from events.observability.health import check
from events.tests.support.cutting_proxy import cutting_proxy
from events.tests.support.on_cluster import SERIES, START, batch, count_of, query
from events.tests.support.rolling_up import roll_up_all
from events.tests.support.waiting import wait_until
from events.worker import roll_up
from events.worker.moving import Mover

# later than others, whose tables are emptied sooner while the coordinator alone knows most of them
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("shared_tables"), pytest.mark.later]


@pytest.fixture
def proxied(nodes):
    """A worker that is reached through a proxy, with the proxy and its partitions."""
    number, (host, port) = max(nodes.items())
    of_node = {
        key
        for key, group in query(
            "SELECT watermark.id, placement.groupid FROM unnest(%s::smallint[]) AS watermark (id) JOIN pg_dist_placement"
            " AS placement ON shardid = get_shard_id_for_distribution_column('events_event', watermark.id)",
            [list(partitions.keys())],
        )
        if [(group,)] == query("SELECT groupid FROM pg_dist_node WHERE nodeid = %s", [number])
    }
    with cutting_proxy(host, port) as proxy:
        update(number, "127.0.0.1", proxy.port)
        try:
            yield proxy, of_node
        finally:
            proxy.come_back()
            update(number, host, port)


def update(number, host, port):
    """Let the node be at another address, and every node know."""
    connection.close()
    query("SELECT citus_update_node(%s, %s, %s)", [number, host, port])
    query("SELECT start_metadata_sync_to_all_nodes()")
    connection.close()


@contextmanager
def entering_by(host, port):
    """Lead every connection of the test to another node."""
    given = {key: connection.settings_dict[key] for key in ("HOST", "PORT")}
    connection.close()
    connection.settings_dict |= {"HOST": host, "PORT": port}
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict |= given


def test_the_tables_lie_on_every_node(nodes):
    assert cluster.is_cluster()
    writers = cluster.ask_for_writers(cluster.ask_for_entries())
    assert writers == {group: set() for group in range(len(nodes) + 1)}
    assert cluster.partitions_on(writers) == list(partitions.keys())
    assert len(query("SELECT DISTINCT nodeport FROM citus_shards WHERE table_name = 'events_event'::regclass")) == len(
        nodes
    )


def test_a_commit_that_one_node_has_not_heard_of_loses_nothing(proxied):
    lose_commits(*proxied, times=20)


def test_nor_does_one_that_entered_by_another_node(nodes, proxied):
    with entering_by(*min(nodes.items())[1]):
        lose_commits(*proxied, times=5)


def lose_commits(proxy, of_node, times):
    on_it = [series for series in SERIES if partitions.partition_of(*series) in of_node]
    longest = 0.0
    for number in range(times):
        proxy.cut_once_at(b"COMMIT PREPARED")
        append(batch(number))  # returns, so it is acknowledged
        began = time.monotonic()
        later = [row for row in batch(number) if row[:2] in on_it]
        for row in later:
            append([row])  # at once visible, with a higher id
        for _ in range(3):
            roll_up.take_step()  # must not pass by what is not visible yet
        wait_until(lambda: Event.objects.count() == (number + 1) * (len(SERIES) + len(later)), seconds=30)  # noqa: B023
        longest = max(longest, time.monotonic() - began)
        roll_up_all()
        assert proxy.cuts == number + 1
        assert [count_of(series) for series in SERIES] == [(number + 1) * (1 + (series in on_it)) for series in SERIES]

    assert longest < 10  # the cluster's tests have citus.recover_2pc_interval at a second
    assert query("SELECT count(*) FROM pg_prepared_xacts") == [(0,)]
    assert Event.objects.count() == Rollup.objects.event_count()
    call_command("verify_rollups")


def test_events_enter_by_every_node_and_are_in_every_answer_at_once(nodes):
    entries = [(connection.settings_dict["HOST"], connection.settings_dict["PORT"]), *nodes.values()]
    for number in range(3):
        for entry in entries:
            with entering_by(*entry):
                append(batch(number))
                append([Row(*SERIES[0], START, 1.0)])
        for turn, entry in enumerate(entries, start=1):
            with entering_by(*entry):
                if turn % 2:  # any node can roll up, and sees what others have rolled up
                    roll_up.take_step(most_events=50)
                counts = [(number + 1) * len(entries) * (1 + (series == SERIES[0])) for series in SERIES]
                assert [count_of(series) for series in SERIES] == counts

    origins = {number >> 48 for number in Event.objects.values_list("pk", flat=True)}
    assert origins == set(range(len(entries)))
    roll_up_all()
    assert Rollup.objects.event_count() == Event.objects.count() == 3 * len(entries) * (len(SERIES) + 1)
    assert not Event.objects.past_watermarks().exists()
    call_command("verify_rollups")


def test_events_are_sent_to_the_node_that_has_their_series(nodes, settings):
    settings.WRITE_TO_OWNING_NODE = True
    nodes_of_events.forget()
    groups = dict(
        query(
            "SELECT watermark.id, placement.groupid FROM unnest(%s::smallint[]) AS watermark (id) JOIN pg_dist_placement"
            " AS placement ON shardid = get_shard_id_for_distribution_column('events_event', watermark.id)",
            [list(partitions.keys())],
        )
    )
    try:
        for row in batch(0):
            append([row])
            append([row, row])
            append(batch(1))
    finally:
        nodes_of_events.forget()

    for series in SERIES:
        ids = Event.objects.of_series(*series).filter(timestamp=datetime(2024, 3, 1, tzinfo=UTC)).values_list("pk")
        assert [pk >> 48 for (pk,) in ids] == [groups[partitions.partition_of(*series)]] * 3
        assert count_of(series) == 3 + len(SERIES)
    roll_up_all()
    assert Rollup.objects.event_count() == Event.objects.count() == len(SERIES) * (3 + len(SERIES))
    call_command("verify_rollups")


def test_a_service_that_is_led_to_a_node_does_what_any_does(nodes, make_token):
    headers = {"Authorization": f"Bearer {make_token('write read aggregation')}"}
    event = {"namespace": "Cluster", "name": "metric 1", "timestamp": "2024-03-01T10:00:00", "value": 1}
    for number, (_, entry) in enumerate(sorted(nodes.items()), start=1):
        with entering_by(*entry):
            client = APIClient(headers=headers)
            key = {"Idempotency-Key": f"of {number}"}
            assert client.post("/api/track/", [event, {**event, "name": "other"}], headers=key).status_code == 201
            assert client.post("/api/track/", [event, {**event, "name": "other"}], headers=key).status_code == 201
            assert client.post("/api/track/", event, headers=key).status_code == 422
            answer = client.get("/api/events/Cluster/metric 1?aggregationType=count&granularity=day")
            assert answer.json() == [{"aggregatedTimestamp": "2024-03-01T10:00:00Z", "value": number}]
            assert [each["count"] for each in client.get("/api/events/").json()] == [number] * 2
            roll_up_all()
            assert check().is_ready
            assert run_checks(tags=["database"], databases=["default"]) == []
            with pytest.raises(CommandError, match="must lead to the coordinator"):
                call_command("distribute")


def test_a_worker_that_lacks_a_table_says_so_and_gets_it_when_the_command_runs_again(nodes):
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE events_bookmark")
    with connection.schema_editor() as editor:
        editor.create_model(Bookmark)
    Bookmark.objects.create(source="a")
    with entering_by(*nodes[max(nodes)]):
        [fault] = run_checks(tags=["database"], databases=["default"])
        assert (fault.id, fault.msg) == (
            "events.E007", "DATABASE_URL leads to a worker of the cluster, which doesn't know events_bookmark.",
        )  # fmt: skip

    call_command("distribute")

    Bookmark.objects.create(source="b")  # its ids go on
    with entering_by(*nodes[max(nodes)]):
        assert run_checks(tags=["database"], databases=["default"]) == []
        Bookmark.objects.create(source="c")
        assert Bookmark.objects.count() == 3


def test_a_step_waits_for_no_transaction_that_began_after_it(nodes):
    def begin(host, port):
        other = connection.copy()
        other.settings_dict |= {"HOST": host, "PORT": port}
        other.set_autocommit(False)
        with other.cursor() as cursor:
            for series in SERIES[:8]:
                cursor.execute(
                    "INSERT INTO events_event (namespace, name, timestamp, value, partition)"
                    " VALUES (%s, %s, now(), 1, %s)",
                    [*series, partitions.partition_of(*series)],
                )
        return other

    first, second = list(nodes.values())[:2]
    old, new = begin(*first), []

    def patience():
        if not new:
            new.append(begin(*second))
            old.commit()
        return len(looks) < 100 and not looks.append(1)

    looks = []
    try:
        assert roll_up.take_step(patience).events == 8
        assert Event.objects.past_watermarks().count() == 0
        new[0].commit()
        assert roll_up.take_step().events == 8
    finally:
        for each in (old, *new):
            each.close()


def test_after_a_fixture_each_node_goes_on_past_its_ids(nodes, tmp_path):
    with entering_by(*nodes[max(nodes)]):
        append(batch(0))
    last = Event.objects.order_by("pk").last()
    fixture = tmp_path / "events.json"
    fields = {"namespace": "Cluster", "name": "of a fixture", "timestamp": "2024-03-01T10:00:00Z", "value": 1}
    fixture.write_text(json.dumps([{"model": "events.event", "pk": last.pk + 5, "fields": fields}]))
    call_command("loaddata", str(fixture), verbosity=0)

    with entering_by(*nodes[max(nodes)]):
        append([Row(*SERIES[0], START, 1.0)])
    append([Row(*SERIES[0], START, 1.0)])
    assert Event.objects.order_by("pk").last().pk == last.pk + 6
    roll_up_all()
    assert Rollup.objects.event_count() == Event.objects.count() == len(SERIES) + 3


@pytest.mark.parametrize("is_direct", [False, True])
def test_a_node_that_is_away_is_missed_by_its_own_series_alone(proxied, make_token, settings, is_direct):
    proxy, of_node = proxied
    settings.WRITE_TO_OWNING_NODE = is_direct
    nodes_of_events.forget()
    client = APIClient(
        headers={"Authorization": f"Bearer {make_token('write read aggregation')}"}, raise_request_exception=False
    )
    on_it = next(series for series in SERIES if partitions.partition_of(*series) in of_node)
    elsewhere = next(series for series in SERIES if partitions.partition_of(*series) not in of_node)
    append(batch(0))
    roll_up_all()
    append(batch(1))

    def post(series):
        return client.post(
            "/api/track/", {"namespace": series[0], "name": series[1], "timestamp": "2024-03-01T10:00:00", "value": 1}
        )

    def get(series):
        return client.get(f"/api/events/{series[0]}/{series[1]}?granularity=hour&aggregationType=count")

    assert {post(on_it).status_code, post(elsewhere).status_code} == {201}
    proxy.go_away()
    for turn in range(3):
        for answer in (post(on_it), get(on_it)):
            assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "1"), (turn, answer.content)
        for answer, status in ((post(elsewhere), 201), (get(elsewhere), 200)):
            assert answer.status_code == status, (turn, answer.content)
    roll_up_all()
    elsewhere_keys = set(partitions.keys()) - of_node
    assert not Event.objects.past_watermarks().filter(partition__in=elsewhere_keys).exists()
    assert count_of(elsewhere) == 6
    health = check()
    assert health.is_ready
    assert health.lag == (0, 0)

    proxy.come_back()
    assert get(on_it).status_code == 200
    roll_up_all()
    assert Rollup.objects.event_count() == Event.objects.count()
    call_command("verify_rollups")


def test_the_catalogue_shows_no_series_half_renamed(nodes, monkeypatch):
    append(batch(0))
    roll_up_all()
    append(batch(1))
    old = SeriesKey(*SERIES[0])
    same = partitions.partition_of(*old)
    into = next(
        key for key in (SeriesKey("Moved", f"name {n}") for n in range(200)) if partitions.partition_of(*key) == same
    )
    look = Tail.look

    def rename(of, to):
        try:
            renaming.move(of, to)
            assert list(Mover(Watermark.objects.moves()[0]).steps(lambda: True))
        finally:
            connection.close()

    def look_and_rename(of, to):
        """Let another session rename the series, in whole, between two statements of the one that reads."""
        found = look()
        monkeypatch.setattr(Tail, "look", look)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(rename, of, to).result()
        return found

    def listed():
        return {SeriesKey(each["namespace"], each["name"]): each["count"] for each in Catalogue().whole().series}

    others = dict.fromkeys(SERIES[1:], 2)
    for entry, of, to in ((None, old, into), (min(nodes.items())[1], into, old)):
        with entering_by(*entry) if entry else nullcontext():
            monkeypatch.setattr(Tail, "look", partial(look_and_rename, of, to))
            assert listed() == {**others, of: 2}
            assert listed() == {**others, to: 2}
