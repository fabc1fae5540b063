"""Shards of a real cluster that move to other nodes; collected where TEST_DISTRIBUTED says that the tests have one."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import call_command
from django.db import connection
from rest_framework.test import APIClient

from events.aggregation.answer import Answer
from events.database import partitions
from events.log.append import append
from events.tests.support.on_cluster import SERIES, batch, count_of, query
from events.tests.support.rolling_up import roll_up_all

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("shared_tables"), pytest.mark.later]


@pytest.mark.parametrize("several", [False, True])
def test_an_answer_amid_which_its_partition_moves_is_asked_for_again(nodes, make_token, monkeypatch, several):
    """The node that it moves to may have begun its snapshot before, which has nothing of the partition."""
    client = APIClient(headers={"Authorization": f"Bearer {make_token('aggregation')}"})
    ports = dict(
        query(
            "SELECT watermark.id, nodeport FROM unnest(%s::smallint[]) AS watermark (id) JOIN citus_shards ON shardid ="
            " get_shard_id_for_distribution_column('events_watermark', watermark.id)",
            [list(partitions.keys())],
        )
    )
    port_of = {series: ports[partitions.partition_of(*series)] for series in SERIES}
    moving = SERIES[0]
    at_target = next(series for series in SERIES if port_of[series] != port_of[moving])
    append(batch(0))
    roll_up_all()

    def move():
        try:
            query(
                "SELECT citus_move_shard_placement(get_shard_id_for_distribution_column('events_event', %s::smallint),"
                " %s, %s, %s, %s, 'block_writes')",
                [
                    partitions.partition_of(*moving),
                    *(each for port in (port_of[moving], port_of[at_target]) for each in ("127.0.0.1", port)),
                ],
            )
            append(batch(1))
            roll_up_all()
        finally:
            connection.close()

    read = Answer.items

    def read_and_move(self):
        """Read, and let another session move the partition after, or before where it is the second that is read."""
        monkeypatch.setattr(Answer, "items", read)
        found = read(self) if several else None
        with ThreadPoolExecutor(1) as thread:
            thread.submit(move).result()
        return read(self) if found is None else found

    monkeypatch.setattr(Answer, "items", read_and_move)

    def ask():
        if not several:
            answer = client.get(f"/api/events/{moving[0]}/{moving[1]}?granularity=hour&aggregationType=count")
            return answer, lambda: [answer.json()]
        asked = [
            {"namespace": each[0], "name": each[1], "granularity": "hour", "aggregationType": "count"}
            for each in (at_target, moving)
        ]
        answer = client.post("/api/query/", {"questions": asked}, format="json")
        return answer, lambda: [each["body"] for each in answer.json()["answers"]]

    refused, _ = ask()
    assert (refused.status_code, refused.headers.get("Retry-After")) == (503, "1")
    answer, bodies = ask()
    assert answer.status_code == 200
    assert [[item["value"] for item in body] for body in bodies()] == [[2]] * (1 + several)


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
