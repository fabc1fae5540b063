"""The roller, and what changes stored events: the rollups are always just what the events up to the watermark make."""

import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from django.core import serializers
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client

from events import rollups
from events.aggregation import Question, aggregate
from events.models import Event, Resolution, Rollup, Watermark
from events.timestamps import EPOCH

START = datetime(2024, 2, 28, 22, 58, 30, tzinfo=UTC)
ON_POSTGRESQL = "postgresql" in connection.vendor


@pytest.fixture(autouse=True)
def short_steps(monkeypatch):
    monkeypatch.setattr(rollups, "_STEP_EVENTS", {"postgresql": 7, "sqlite": 7})


def events(count, name="cpu", step=timedelta(seconds=25), start=START):
    return [
        Event(namespace="Server-1", name=name, timestamp=start + step * number, value=number * 3 % 17 / 8)
        for number in range(count)
    ]


def expected(resolutions=(60, 3600, 0)):
    """The rollups that the events up to the watermark make, computed in Python."""
    found = {}
    for event in Event.objects.filter(pk__lte=rollups.watermark().event_id):
        for resolution in resolutions:
            seconds = int(event.timestamp.timestamp())
            bucket = datetime.fromtimestamp(seconds - seconds % resolution, UTC) if resolution else EPOCH
            found.setdefault((resolution, event.namespace, event.name, bucket), []).append(event)
    return {
        key: (
            min(event.timestamp for event in of_bucket),
            max(event.timestamp for event in of_bucket),
            len(of_bucket),
            sum(event.value for event in of_bucket),
            min(event.value for event in of_bucket),
            max(event.value for event in of_bucket),
        )
        for key, of_bucket in found.items()
    }


def stored():
    columns = ("first_timestamp", "last_timestamp", "count", "sum", "min", "max")
    keys = ("resolution", "namespace", "name", "bucket")
    return {row[:4]: row[4:] for row in Rollup.objects.values_list(*keys, *columns)}


def roll_up_all():
    while rollups.roll_up():
        pass


def test_it_adds_each_event_once_step_by_step(db):
    Event.objects.bulk_create([*events(20), *events(5, "memory"), *events(10, start=START - timedelta(hours=3))])

    assert rollups.roll_up() == (7, Event.objects.order_by("pk")[6].pk)
    assert stored() == expected()
    steps = [rollups.roll_up() for _ in range(4)]

    assert [step.events for step in steps] == [7, 7, 7, 7]
    assert rollups.roll_up() is None
    assert rollups.watermark().event_id == Event.objects.latest("pk").pk
    assert stored() == expected()
    assert {key[0] for key in stored()} == {60, 3600, 0}
    assert rollups.event_count() == 35


def test_without_events_there_is_nothing_to_do(db):
    assert rollups.roll_up() is None
    assert (stored(), rollups.watermark().event_id) == ({}, 0)


def test_late_events_are_added_to_their_old_buckets(db):
    Event.objects.bulk_create(events(6))
    roll_up_all()
    Event.objects.bulk_create(events(6, step=timedelta(seconds=24), start=START + timedelta(microseconds=1)))
    roll_up_all()

    assert stored() == expected()


@pytest.mark.parametrize("resolutions", [["minute"], ["hour"], ["minute", "hour"]])
def test_the_resolutions_are_a_setting_that_a_rebuild_takes_over(db, settings, resolutions):
    Event.objects.bulk_create(events(12))
    roll_up_all()
    settings.ROLLUP_RESOLUTIONS = resolutions
    Event.objects.bulk_create(events(3, "memory"))
    roll_up_all()
    assert stored() == expected()  # as before, until the rebuild

    call_command("roll_up", "--rebuild", verbosity=0)

    assert stored() == expected([*(Resolution[each.upper()].value for each in resolutions), 0])
    Event.objects.all()[4].delete()
    assert stored() == expected([*(Resolution[each.upper()].value for each in resolutions), 0])


def change_by_saving(event):
    event.value, event.timestamp = 99.0, event.timestamp - timedelta(days=40)
    event.save()


def change_by_loading(event):
    event.name = "loaded"
    [fixture] = serializers.deserialize("json", serializers.serialize("json", [event]))
    fixture.save()


def change_by_conflict(event):
    event.value, event.namespace = 5.5, "Server-2"
    Event.objects.bulk_create(
        [event], update_conflicts=True, unique_fields=["id"], update_fields=["value", "namespace"]
    )


CHANGES = {
    "save": change_by_saving,
    "save of some fields": lambda event: Event(pk=event.pk, value=7.5).save(update_fields=["value"]),
    "delete": lambda event: event.delete(),
    "update of values": lambda event: Event.objects.filter(name="cpu").update(value=2.5),
    "update of timestamps": lambda event: Event.objects.filter(pk__gte=event.pk).update(timestamp=START),
    "update of names": lambda event: Event.objects.filter(name="cpu", pk__lte=event.pk).update(name="memory"),
    "bulk update": lambda event: Event.objects.bulk_update([Event(pk=event.pk, value=0.125, name="x")], ["value", "name"]),
    "queryset delete": lambda event: Event.objects.filter(pk__lte=event.pk).delete(),
    "delete all": lambda event: Event.objects.all().delete(),
    "delete none": lambda event: Event.objects.none().delete(),
    "loaddata": change_by_loading,
    "bulk create over": change_by_conflict,
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_of_a_stored_event_rebuilds_its_buckets(db, change):
    Event.objects.bulk_create([*events(25), *events(4, "memory")])
    for _ in range(3):
        rollups.roll_up()
    before = stored()

    change(Event.objects.order_by("pk")[3])

    assert stored() == expected()
    assert (stored() == before) == (change is CHANGES["delete none"])
    roll_up_all()
    assert stored() == expected()


def test_an_event_with_a_chosen_id_below_the_watermark_is_added(db):
    Event.objects.bulk_create(events(9))
    roll_up_all()
    [gone, other] = Event.objects.order_by("pk")[2:4]
    Event.objects.filter(pk__in=[gone.pk, other.pk]).delete()

    Event.objects.create(pk=gone.pk, namespace="Server-1", name="memory", timestamp=START, value=1)
    Event.objects.bulk_create([Event(pk=other.pk, namespace="Server-1", name="memory", timestamp=START, value=2)])

    assert stored() == expected()
    assert Rollup.objects.get(resolution=0, name="memory").count == 2


def test_a_failed_change_leaves_all_as_it_was(db):
    Event.objects.bulk_create(events(9))
    roll_up_all()
    before = stored()

    with transaction.atomic():
        Event.objects.filter(value__gt=0).delete()
        transaction.set_rollback(True)

    assert (stored(), Event.objects.count()) == (before, 9)


def test_a_limited_queryset_can_not_be_deleted(db):
    with pytest.raises(TypeError, match="limit"):
        Event.objects.all()[:3].delete()


def test_deleting_loads_no_event(db, django_assert_max_num_queries):
    Event.objects.bulk_create(events(200))
    roll_up_all()

    with django_assert_max_num_queries(20):
        Event.objects.filter(name="cpu").delete()


def test_the_admin_rebuilds_too(admin_user):
    Event.objects.bulk_create(events(9))
    roll_up_all()
    admin, [first, second, third] = Client(), Event.objects.order_by("pk")[:3]
    admin.force_login(admin_user)

    changed = {
        "namespace": "Server-3",
        "name": "cpu",
        "timestamp_0": "2024-02-28",
        "timestamp_1": "23:00:00",
        "value": "4",
    }
    assert admin.post(f"/admin/events/event/{first.pk}/change/", changed).status_code == 302
    assert admin.post(f"/admin/events/event/{second.pk}/delete/", {"post": "yes"}).status_code == 302
    action = {"action": "delete_selected", "_selected_action": [third.pk], "post": "yes"}
    assert admin.post("/admin/events/event/", action).status_code == 302

    assert Event.objects.count() == 7
    assert stored() == expected()


def test_a_dump_is_loaded_as_events_and_rolled_up_anew(db, tmp_path):
    Event.objects.bulk_create(events(9))
    roll_up_all()
    call_command("dumpdata", "events", output=str(tmp_path / "dump.json"), verbosity=0)
    natural = ["--natural-primary", "--natural-foreign"]
    call_command("dumpdata", "events", *natural, output=str(tmp_path / "natural.json"), verbosity=0)
    before = stored()

    for dump in ("dump.json", "natural.json"):
        Event.objects.all().delete()
        call_command("loaddata", str(tmp_path / dump), verbosity=0)
        roll_up_all()
        assert stored() == before == expected()


@pytest.mark.parametrize("values", [[1.7e308, 1.7e308], [1.7e308, -1.7e308, 1.0], [-1e300, 0.5]])
@pytest.mark.parametrize("kind", ["avg", "sum", "min", "max", "count"])
def test_huge_values_stop_nothing_and_stay_right(db, values, kind):
    def ask():
        question = Question(namespace="a", name="b", granularity="year", aggregation_type=kind)
        try:
            return [item["value"] for item in aggregate(question)]
        except Exception as error:
            return str(error)

    for value in values:
        Event.objects.create(namespace="a", name="b", timestamp=START, value=value)
    before = ask()
    roll_up_all()
    assert ask() == before
    assert rollups.watermark().event_id == Event.objects.latest("pk").pk

    Event.objects.order_by("pk").first().delete()
    assert Rollup.objects.get(resolution=60).count == len(values) - 1


# What is in flight, on PostgreSQL; on SQLite writers come one at a time.

needs_postgresql = pytest.mark.skipif(not ON_POSTGRESQL, reason="SQLite has one writer at a time")


def another_connection():
    parameters = connection.get_connection_params()
    parameters.pop("cursor_factory", None)
    parameters.pop("context", None)
    return psycopg2.connect(**parameters)


def insert(writer, count, name="cpu"):
    with writer.cursor() as cursor:
        for number in range(count):
            cursor.execute(
                "INSERT INTO events_event (namespace, name, timestamp, value) VALUES ('Server-1', %s, %s, %s)",
                [name, START + timedelta(seconds=40 * number), number / 8],
            )


def asked(kind="sum"):
    question = Question(namespace="Server-1", name="cpu", granularity="minute", aggregation_type=kind)
    return [(item["aggregatedTimestamp"], item["value"]) for item in aggregate(question)]


def by_hand(kind="sum"):
    minutes = {}
    for event in Event.objects.filter(name="cpu").order_by("timestamp"):
        minutes.setdefault(event.timestamp.replace(second=0, microsecond=0), []).append(event)
    return [
        (of_minute[0].timestamp.isoformat().replace("+00:00", "Z"), sum(event.value for event in of_minute))
        for of_minute in minutes.values()
    ]


@needs_postgresql
@pytest.mark.django_db(transaction=True)
def test_it_waits_for_every_transaction_with_ids_on_both_sides_of_the_watermark():
    Event.objects.bulk_create(events(5))
    roll_up_all()
    with closing(another_connection()) as late, closing(another_connection()) as aborted:
        insert(late, 3)
        insert(aborted, 2)
        Event.objects.bulk_create(events(4))
        insert(late, 2)
        insert(aborted, 2)
        for _ in range(3):
            assert rollups.roll_up() is None  # neither knows yet whether its ids count
            assert asked() == by_hand()
        watermark = rollups.watermark().event_id
        aborted.rollback()
        assert rollups.roll_up() is None
        assert rollups.watermark().event_id == watermark
        late.commit()

        roll_up_all()

    assert rollups.watermark().event_id == Event.objects.latest("pk").pk
    assert Event.objects.count() == 14
    assert stored() == expected()
    assert asked() == by_hand()


@needs_postgresql
@pytest.mark.django_db(transaction=True)
def test_it_goes_on_when_those_are_done_whatever_came_since():
    with closing(another_connection()) as old, closing(another_connection()) as new:
        insert(old, 3)
        others = []

        def patience():
            if not others:
                insert(new, 1)
                others.append(new)
                old.commit()
            return True

        assert rollups.roll_up(patience).events == 3
        assert stored() == expected()
        new.commit()
        roll_up_all()
    assert stored() == expected()


@needs_postgresql
@pytest.mark.django_db(transaction=True)
def test_it_holds_no_writer_up():
    Event.objects.bulk_create(events(30))
    with closing(another_connection()) as open_one, closing(another_connection()) as writer:
        insert(open_one, 1)
        thread = threading.Thread(target=lambda: (rollups.roll_up(lambda: bool(waiting)), connection.close()))
        waiting = [True]
        thread.start()
        time.sleep(0.3)
        with writer.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
        insert(writer, 5)
        writer.commit()  # while the roller waits for the open one
        open_one.commit()
        thread.join(10)
        waiting.clear()
    roll_up_all()
    assert stored() == expected()
    assert Event.objects.count() == 36


@needs_postgresql
@pytest.mark.django_db(transaction=True)
def test_of_two_rollers_one_steps_aside():
    Event.objects.bulk_create(events(9))
    roll_up_all()
    Event.objects.bulk_create(events(9))
    with closing(another_connection()) as other:
        with other.cursor() as cursor:
            cursor.execute("SELECT event_id FROM events_watermark FOR UPDATE")
        assert rollups.roll_up() is None
        other.rollback()
    roll_up_all()
    assert stored() == expected()


@needs_postgresql
@pytest.mark.django_db(transaction=True)
def test_rollers_writers_and_deleters_at_once_leave_just_what_the_events_make():
    problems = []
    stop = threading.Event()

    def repeat(work):
        def run():
            try:
                turn = 0
                while not stop.is_set():
                    work(turn)
                    turn += 1
            except Exception as error:
                problems.append(error)
            finally:
                connection.close()

        return threading.Thread(target=run)

    def delete(turn):
        time.sleep(0.02)
        for event in Event.objects.order_by("?")[:2]:
            with suppress(Event.DoesNotExist):
                event.delete() if turn % 2 else Event.objects.filter(pk=event.pk).update(
                    value=turn / 8, timestamp=START
                )

    def read(turn):
        time.sleep(0.01)
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            assert asked() == by_hand()

    def write(turn):
        Event.objects.bulk_create(events(5, step=timedelta(minutes=1 + turn % 50)))
        time.sleep(0.01)

    works = [
        write,
        write,
        lambda turn: (rollups.roll_up(), time.sleep(0.005)),
        lambda turn: rollups.roll_up(),
        delete,
        read,
    ]
    threads = [repeat(work) for work in works]
    for thread in threads:
        thread.start()
    time.sleep(4)
    stop.set()
    for thread in threads:
        thread.join()

    assert problems == []
    assert Watermark.objects.get().event_id > 0
    assert stored() == expected()
    roll_up_all()
    assert stored() == expected()
    assert asked() == by_hand()


@pytest.mark.django_db(transaction=True)
def test_a_read_that_meets_a_long_tail_has_it_rolled_up_aside(settings):
    Event.objects.bulk_create(events(20))
    settings.ROLLUP_TAIL_EVENTS = Event.objects.latest("pk").pk  # ids go on from one test to the next
    assert asked() == by_hand()
    assert rollups.watermark().event_id == 0
    Event.objects.bulk_create(events(1))

    assert asked() == by_hand()

    assert rollups._stepping_aside.acquire(timeout=10)  # once the thread has let go of it
    rollups._stepping_aside.release()
    assert stored() == expected()
    assert rollups.event_count() == 7
