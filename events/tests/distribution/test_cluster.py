"""What a real cluster is put through; collected where TEST_DISTRIBUTED says that the tests have one."""

import time
from datetime import UTC, datetime

import pytest
from django.core.management import call_command
from django.db import connection
from rest_framework.test import APIClient

from events.aggregation.answer import aggregate
from events.aggregation.question import Question
from events.database import partitions
from events.distribution import cluster
from events.log.append import Row, append
from events.models import Event, Rollup, Watermark
from events.observability.health import check
from events.tests.support.cutting_proxy import cutting_proxy
from events.tests.support.rolling_up import roll_up_all
from events.tests.support.waiting import wait_until
from events.worker import roll_up

pytestmark = pytest.mark.django_db(transaction=True)

START = int(datetime(2024, 3, 1, tzinfo=UTC).timestamp()) * 1_000_000
SERIES = [("Cluster", f"metric {number}") for number in range(40)]


@pytest.fixture
def nodes():
    """Host and port of each worker, by its id."""
    return {
        number: (host, port)
        for number, host, port in query("SELECT nodeid, nodename, nodeport FROM pg_dist_node WHERE groupid > 0")
    }


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


def query(sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def batch(number):
    return [Row(*series, START + 60_000_000 * number, float(number)) for series in SERIES]


def question_of(series):
    return Question(namespace=series[0], name=series[1], granularity="hour", aggregation_type="count")


def count_of(series):
    return sum(item["value"] for item in aggregate(question_of(series)))


def test_the_tables_lie_on_every_node(nodes):
    assert cluster.is_cluster()
    assert sorted(cluster.ask_for_writers().by_group.values()) == [""] * (len(nodes) + 1)
    assert cluster.ask_for_writers().partitions == list(partitions.keys())
    assert len(query("SELECT DISTINCT nodeport FROM citus_shards WHERE table_name = 'events_event'::regclass")) == len(
        nodes
    )


def test_a_commit_that_one_node_has_not_heard_of_loses_nothing(proxied):
    proxy, of_node = proxied
    on_it = [series for series in SERIES if partitions.partition_of(*series) in of_node]
    longest = 0.0
    for number in range(20):
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


def test_a_node_that_is_away_is_missed_by_its_own_series_alone(proxied, make_token):
    proxy, of_node = proxied
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
    for key in set(partitions.keys()) - of_node:
        assert not Event.objects.filter(partition=key, pk__gt=Watermark.objects.current(key).event_id).exists()
    assert count_of(elsewhere) == 6
    health = check()
    assert health.is_ready
    assert health.lag == (0, 0)

    proxy.come_back()
    assert get(on_it).status_code == 200
    roll_up_all()
    assert Rollup.objects.event_count() == Event.objects.count()
    call_command("verify_rollups")


def test_shards_move_while_events_come_and_are_asked_for(nodes):
    ports = [port for _, port in nodes.values()]
    append(batch(0))
    for number, (shard, host, port) in enumerate(
        query(
            "SELECT shardid, nodename, nodeport FROM citus_shards WHERE table_name = 'events_event'::regclass ORDER BY 1 LIMIT 3"
        ),
        start=1,
    ):
        target = next(each for each in ports if each != port)
        query(
            "SELECT citus_move_shard_placement(%s, %s, %s, %s, %s, 'block_writes')", [shard, host, port, host, target]
        )
        append(batch(number))
        roll_up_all()
        assert [count_of(series) for series in SERIES] == [number + 1] * len(SERIES)

    call_command("verify_rollups")
