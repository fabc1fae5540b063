"""Ids that several nodes hand out, as on a cluster: here their highest bits are made up, and one server stores them."""

from collections import Counter
from contextlib import suppress
from datetime import timedelta
from itertools import groupby
from random import Random

import pytest
from django.core.management import call_command
from django.db import models

from events.aggregation.answer import aggregate
from events.aggregation.catalogue import Catalogue
from events.aggregation.question import Question
from events.aggregation.series_state import state_of
from events.database import partitions
from events.distribution import layout
from events.models import Event, Rollup, Watermark
from events.observability.health import read_lag
from events.rollups.marks import ORIGIN_BITS, Marks, Range
from events.tests.support import partitioned
from events.tests.support.examples import IS_THOROUGH
from events.tests.support.rolling_up import START, expected, roll_up_all, stored
from events.worker import retention, roll_up
from events.worker.settled import Settled

pytestmark = pytest.mark.django_db

SERIES = [("Server-1", "cpu"), ("Server-1", "memory"), ("a", "b"), ("it's", "c"), ("z", "%s")]
ORIGINS = (0, 1, 3)


class Killed(Exception):
    pass


class Nodes:
    """Hand out ids as the nodes of a cluster do; an event may be stored long after it got its id."""

    def __init__(self, seed):
        self.random = Random(seed)
        self.last_ids = {origin: origin << ORIGIN_BITS for origin in ORIGINS}
        self.in_flight = []

    def begin(self, series=None, origin=None):
        origin = self.random.choice(ORIGINS) if origin is None else origin
        self.last_ids[origin] += self.random.randint(1, 3)  # an id may be handed out and never used
        namespace, name = series or self.random.choice(SERIES)
        self.in_flight.append(
            Event(
                pk=self.last_ids[origin], namespace=namespace, name=name, value=self.random.randint(0, 80) / 8,
                timestamp=START + timedelta(seconds=25 * self.random.randint(0, 300)),
                partition_id=partitions.partition_of(namespace, name),
            )
        )  # fmt: skip

    def commit(self, event=None):
        event = event or self.random.choice(self.in_flight)
        self.in_flight.remove(event)
        models.QuerySet(Event).bulk_create([event])  # past the queryset of ours, which rebuilds what has an id

    def store(self, *series_and_origin):
        self.begin(*series_and_origin)
        self.commit(self.in_flight[-1])

    def settle(self, patience):
        """The last id of each origin before those that are under way."""
        settled = {}
        for origin, last in self.last_ids.items():
            open_ids = [event.pk for event in self.in_flight if event.pk >> ORIGIN_BITS == origin]
            settled[origin] = min(open_ids) - 1 if open_ids else last
        return Settled(
            Marks({origin: last for origin, last in settled.items() if last & (1 << ORIGIN_BITS) - 1}),
            partitions.every(),
        )


@pytest.fixture
def nodes(request, monkeypatch):
    if not partitioned.EVERYWHERE:
        layout.divide(partitioned.KEYS)
    partitions.keys()
    nodes = Nodes(getattr(request, "param", 1))
    monkeypatch.setattr(roll_up, "settle", nodes.settle)
    yield nodes
    if not partitioned.EVERYWHERE:
        partitions.forget()


def count_of(series):
    question = Question(namespace=series[0], name=series[1], granularity="hour", aggregation_type="count")
    return sum(item["value"] for item in aggregate(question))


def counts():
    """How many events each series has, by the log, by the catalogue and by the answers."""
    of_log = Counter(Event.objects.values_list("namespace", "name"))
    series = Catalogue().page(30).series
    of_catalogue = {(each["namespace"], each["name"]): each["count"] for each in series}
    return of_log, of_catalogue, {key: count_of(key) for key in of_log}


def tail_by_hand():
    marks = {key: Watermark.objects.current(key).marks for key in partitions.every()}
    return sorted(event.pk for event in Event.objects.all() if not marks[event.partition_id].hold(event.pk))


@pytest.mark.parametrize("nodes", range(30 if IS_THOROUGH else 3), indirect=True)
def test_whatever_happens_in_whatever_order_every_event_is_in_every_answer_once(nodes, short_steps, monkeypatch):
    choose, add_step = nodes.random.choice, roll_up.add_step

    def roll():
        roll_up.take_step(most_events=choose([3, 7, 100]))

    def kill():
        monkeypatch.setattr(roll_up, "add_step", lambda *args, **options: (_ for _ in ()).throw(Killed))
        with suppress(Killed):
            roll_up.take_step()
        monkeypatch.setattr(roll_up, "add_step", add_step)

    def change():
        Event.objects.filter(value__gte=choose([2, 8])).update(timestamp=START + timedelta(hours=choose([1, 2])))

    def move():
        if ids := Event.objects.order_by("timestamp", "pk").values_list("pk", flat=True)[:5]:
            Event.objects.filter(pk=choose(list(ids))).update(name=choose(["cpu", "c"]))

    def delete():
        Event.objects.of_series(*choose(SERIES)).filter(value__lt=1).delete()

    def learn():
        monkeypatch.setattr(partitions, "_origins", choose([(0,), (0, 3), ORIGINS]))

    does = [nodes.store] * 8 + [nodes.begin] * 3 + [roll] * 4 + [kill, change, move, delete, learn]
    for number in range(48):
        if nodes.in_flight and nodes.random.random() < 0.2:
            nodes.commit()
        choose(does)()
        if number % 8 == 7:
            of_log, of_catalogue, of_answers = counts()
            assert of_log == of_catalogue == of_answers
            assert stored() == expected()
            tail = tail_by_hand()
            assert sorted(Event.objects.past_watermarks().values_list("pk", flat=True)) == tail
            assert read_lag().events == len(tail)

    while nodes.in_flight:
        nodes.commit()
    roll_up_all()
    assert tail_by_hand() == []
    assert Rollup.objects.event_count() == Event.objects.count()
    assert stored() == expected()
    call_command("verify_rollups")


def test_an_event_of_another_origin_is_not_passed_by(nodes):
    nodes.store(SERIES[0], 3)
    nodes.begin(SERIES[0], 0)  # its id is lower, and it is committed later
    nodes.begin(SERIES[0], 1)
    nodes.store(SERIES[0], 1)  # past one that is still under way
    roll_up_all()
    assert (Rollup.objects.event_count(), count_of(SERIES[0])) == (1, 2)

    while nodes.in_flight:
        nodes.commit()
    assert count_of(SERIES[0]) == 4
    assert len(tail_by_hand()) == 3
    roll_up_all()

    assert (Rollup.objects.event_count(), count_of(SERIES[0])) == (4, 4)
    watermark = Watermark.objects.current(partitions.partition_of(*SERIES[0]))
    assert watermark.marks.by_origin == nodes.last_ids
    assert str(watermark) == (
        f"{nodes.last_ids[0]}, {nodes.last_ids[1]} of node1, {nodes.last_ids[3]} of node3 by minute,hour"
    )


def test_a_node_that_is_away_keeps_none_of_the_others_back(nodes, monkeypatch):
    for origin in ORIGINS:
        nodes.store(SERIES[0], origin)
    settled = nodes.settle(None).marks.by_origin
    monkeypatch.setattr(roll_up, "settle", lambda _: Settled(Marks({0: settled[0], 3: settled[3]}), partitions.every()))
    roll_up_all()

    assert Rollup.objects.event_count() == 2
    assert (count_of(SERIES[0]), read_lag().events) == (3, 1)
    monkeypatch.setattr(roll_up, "settle", nodes.settle)
    roll_up_all()
    assert (Rollup.objects.event_count(), count_of(SERIES[0]), read_lag().events) == (3, 3, 0)


def test_a_step_takes_a_share_of_each_origin(nodes):
    for origin in ORIGINS:
        for _ in range(9):
            nodes.store(SERIES[0], origin)

    step = roll_up.take_step(most_events=6)

    assert (step.events, step.is_full) == (6, True)
    left = [pk >> ORIGIN_BITS for pk in tail_by_hand()]
    assert {origin: len(list(of_origin)) for origin, of_origin in groupby(left)} == dict.fromkeys(ORIGINS, 7)


@pytest.mark.parametrize("known", [(0,), (0, 1), (0, 3), ORIGINS, (0, 1, 2, 3, 4, 9)])
def test_what_is_past_a_watermark_does_not_depend_on_the_origins_that_a_process_knows(nodes, monkeypatch, known):
    for origin in ORIGINS:
        nodes.store(SERIES[0], origin)
    roll_up_all()
    monkeypatch.setattr(partitions, "_origins", known)
    assert (count_of(SERIES[0]), list(Event.objects.past_watermarks())) == (3, [])

    for origin in (1, 2):  # one of them is new
        nodes.last_ids.setdefault(origin, origin << ORIGIN_BITS)
        nodes.store(SERIES[0], origin)

    assert sorted(Event.objects.past_watermarks().values_list("pk", flat=True)) == tail_by_hand()
    assert len(tail_by_hand()) == 2
    assert state_of(*SERIES[0]).tail > 0
    assert count_of(SERIES[0]) == 5


def test_pruning_takes_what_is_rolled_up_whoever_gave_the_id(nodes):
    for origin in ORIGINS:
        nodes.store(SERIES[0], origin)
    roll_up_all()
    nodes.store(SERIES[0], 1)  # its id is below some that are rolled up

    assert sum(retention.prune(retention.Series(*SERIES[0], START + timedelta(days=30)))) == 3
    assert (Event.objects.count(), count_of(SERIES[0])) == (1, 4)
    assert Event.objects.get().is_pruned() is False
    roll_up_all()
    assert Event.objects.get().is_pruned() is True
    assert count_of(SERIES[0]) == 4


def test_starting_over_forgets_every_origin(nodes):
    for origin in ORIGINS:
        nodes.store(SERIES[0], origin)
    roll_up_all()
    roll_up.start_over()

    assert {(each.event_id, each.of_nodes) for each in Watermark.objects.all()} == {(0, None)}
    assert count_of(SERIES[0]) == 3
    roll_up_all()
    assert stored() == expected()


def test_ranges_lie_between_marks():
    high = 3 << ORIGIN_BITS
    marks = Marks({0: 5, 1: (1 << ORIGIN_BITS) + 7})

    assert marks.ranges_to(Marks({0: 5, 3: high + 2})) == [Range(3, high, high + 2)]
    assert marks.ranges_to(Marks({0: 9, 1: (1 << ORIGIN_BITS) + 6})) == [Range(0, 5, 9)]
    assert marks.moved({3: high + 2}).by_origin == {0: 5, 1: (1 << ORIGIN_BITS) + 7, 3: high + 2}
    assert [marks.hold(each) for each in (5, 6, 1 << ORIGIN_BITS, (1 << ORIGIN_BITS) + 8, high)] == [
        True, False, True, False, False,
    ]  # fmt: skip


@pytest.mark.only_on("postgresql")
def test_a_process_knows_the_origins_once_it_knows_the_partitions(nodes, monkeypatch, django_assert_num_queries):
    for origin in ORIGINS:
        nodes.store(SERIES[0], origin)
    roll_up_all()
    partitions.forget()
    monkeypatch.setattr(partitions, "_origins", (0,))

    with django_assert_num_queries(1):
        assert len(partitions.keys()) > 1
        assert partitions.origins() == ORIGINS
