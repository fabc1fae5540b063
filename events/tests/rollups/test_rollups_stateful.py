"""Whatever is written, late, rolled up, changed, deleted or rebuilt in whatever order: the answer is that of the events."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import psycopg2
import pytest
from django.conf import settings
from django.db import connection
from hypothesis import HealthCheck, strategies
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from events.aggregation.answer import aggregate
from events.aggregation.question import Question
from events.database.partitions import partition_of
from events.models import Event, Watermark
from events.tests.support.answers import catalogue
from events.tests.support.by_hand import ZONES, answer_by_hand
from events.tests.support.examples import few_of
from events.tests.support.rolling_up import expected, stored, without_thinned
from events.worker import roll_up, thinning

# around the nights on which clocks change in Berlin, on Lord Howe and, for good and by odd seconds, in Monrovia
CENTRES = [
    datetime(2024, 3, 31, 1, tzinfo=UTC),
    datetime(2024, 10, 27, 1, tzinfo=UTC),
    datetime(2024, 4, 6, 15, tzinfo=UTC),
    datetime(1972, 1, 7, 0, 44, 30, tzinfo=UTC),
]
instants = strategies.builds(
    lambda centre, seconds, microseconds: centre + timedelta(seconds=seconds, microseconds=microseconds),
    strategies.sampled_from(CENTRES), strategies.integers(-90_000, 90_000), strategies.sampled_from([0, 0, 0, 1, 999_999]),
)  # fmt: skip
values = strategies.integers(-800, 800).map(lambda number: number / 8)
names = strategies.sampled_from(["cpu", "memory"])
rows = strategies.lists(strategies.tuples(names, instants, values), min_size=1, max_size=8)
places = strategies.integers(0, 1000)


class Service(RuleBasedStateMachine):
    """Events come and go; after each step the rollups, and to each question the answer, are those of the events."""

    @initialize(resolutions=strategies.sampled_from([["minute", "hour"], ["hour"], ["minute"]]))
    def start(self, resolutions):
        self.late = []
        Event.objects.all().delete()
        settings.ROLLUP_RESOLUTIONS = resolutions
        roll_up.start_over()

    @rule(rows=rows)
    def write(self, rows):
        Event.objects.bulk_create(
            Event(namespace="S", name=name, timestamp=timestamp, value=value) for name, timestamp, value in rows
        )

    @precondition(lambda self: connection.vendor == "postgresql" and len(self.late) < 3)
    @rule(rows=rows)
    def write_without_committing(self, rows):
        writer = psycopg2.connect(
            **{k: v for k, v in connection.get_connection_params().items() if k not in {"cursor_factory", "context"}}
        )
        self.late.append(writer)
        for row in rows:
            writer.cursor().execute(
                "INSERT INTO events_event (namespace, name, timestamp, value, partition) VALUES ('S', %s, %s, %s, %s)",
                [*row, partition_of("S", row[0])],
            )

    @precondition(lambda self: self.late)
    @rule(place=places, commits=strategies.booleans())
    def finish_one(self, place, commits):
        writer = self.late.pop(place % len(self.late))
        if commits:
            writer.commit()
        else:
            writer.rollback()
        writer.close()

    @rule(size=strategies.integers(1, 12))
    def roll_up(self, size):
        roll_up._STEP_EVENTS = {"postgresql": size, "sqlite": size}
        roll_up.take_step()

    @precondition(lambda self: Event.objects.exists())
    @rule(place=places, count=strategies.integers(1, 5))
    def delete(self, place, count):
        ids = list(Event.objects.order_by("pk").values_list("pk", flat=True))
        Event.objects.filter(pk__in=ids[place % len(ids) :][:count]).delete()

    @precondition(lambda self: Event.objects.exists())
    @rule(place=places, name=names, timestamp=instants, value=values, by_update=strategies.booleans())
    def edit(self, place, name, timestamp, value, by_update):
        events = Event.objects.order_by("pk")
        event = events[place % events.count()]
        changed = {"name": name, "timestamp": timestamp, "value": value}
        if by_update:
            Event.objects.filter(pk=event.pk).update(**changed)
        else:
            for field, content in changed.items():
                setattr(event, field, content)
            event.save()

    @rule()
    def rebuild(self):
        roll_up.start_over()

    @rule(most_an_hour=strategies.sampled_from([1, 600]), steps=strategies.integers(1, 60), keeps=strategies.booleans())
    def leave_minutes_out(self, most_an_hour, steps, keeps):
        """The worker is killed after so many steps."""
        thinning._MOST_EVENTS_AN_HOUR = most_an_hour
        settings.ROLLUP_SPARSE_MINUTES = keeps
        for _ in islice(thinning.carry_out(), steps):
            pass

    @rule(
        name=names, ends=strategies.tuples(instants, instants).map(sorted), opens=strategies.tuples(strategies.booleans(), strategies.booleans()),
        granularity=strategies.sampled_from(["minute", "hour", "day", "week", "month", "year", "none"]),
        aggregation_type=strategies.sampled_from(["avg", "min", "max", "sum", "count"]), zone=strategies.sampled_from(ZONES),
    )  # fmt: skip
    def ask(self, name, ends, opens, granularity, aggregation_type, zone):
        ts_min, ts_max = (None if is_open else end for end, is_open in zip(ends, opens, strict=True))
        zone = UTC if zone == "UTC" else ZoneInfo(zone)
        question = Question(
            namespace="S", name=name, ts_min=ts_min, ts_max=ts_max, granularity=granularity,
            aggregation_type=aggregation_type, zone=zone,
        )  # fmt: skip
        events = Event.objects.filter(name=name).values_list("timestamp", "value")
        assert aggregate(question) == answer_by_hand(events, aggregation_type, granularity, zone, ts_min, ts_max)

    @invariant()
    def rollups_are_what_the_events_make(self):
        resolutions = [resolution.value for resolution in Watermark.objects.first().finest_first]
        assert stored() == without_thinned(expected([*resolutions, 0]))

    @invariant()
    def catalogue_is_what_the_events_make(self):
        found = {}
        for event in Event.objects.order_by("timestamp"):
            found.setdefault(event.name, []).append(event.timestamp)
        assert catalogue() == [
            {"namespace": "S", "name": name, "count": len(of), "first_timestamp": of[0], "last_timestamp": of[-1]}
            for name, of in sorted(found.items())
        ]

    def teardown(self):
        for writer in getattr(self, "late", []):
            writer.close()


@pytest.mark.partitions_on("postgresql")
@pytest.mark.django_db(transaction=True)
def test_the_answer_is_always_that_of_the_events(settings, monkeypatch, partition_count):
    monkeypatch.setattr(roll_up, "_STEP_EVENTS", {})
    monkeypatch.setattr(thinning, "_STEP_EVENTS", {"postgresql": 2, "sqlite": 2})
    monkeypatch.setattr(thinning, "_LEAST_EVENTS", 1)
    monkeypatch.setattr(thinning, "_MOST_EVENTS_AN_HOUR", 600)
    settings.ROLLUP_SPARSE_MINUTES = False
    settings.ROLLUP_RESOLUTIONS = ["minute", "hour"]  # what the machine sets ends with this test, as this does
    run_state_machine_as_test(
        Service,
        settings=hypothesis_settings(
            max_examples=few_of(50), stateful_step_count=25, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
