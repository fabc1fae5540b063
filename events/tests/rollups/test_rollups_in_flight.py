"""The roller among open transactions, on PostgreSQL; on SQLite writers come one at a time, and this isn't collected."""

import threading
import time
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from io import StringIO

import psycopg2
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction

from events.database.partitions import ONLY, partition_of
from events.models import Event, Watermark
from events.tests.support.examples import IS_THOROUGH
from events.tests.support.rolling_up import START, asked, by_hand, events, expected, roll_up_all, stored
from events.tests.support.waiting import wait_until
from events.worker import roll_up

pytestmark = pytest.mark.usefixtures("partition_count", "short_steps")


def another_connection():
    parameters = connection.get_connection_params()
    parameters.pop("cursor_factory", None)
    parameters.pop("context", None)
    return psycopg2.connect(**parameters)


def insert(writer, count, name="cpu"):
    with writer.cursor() as cursor:
        for number in range(count):
            cursor.execute(
                "INSERT INTO events_event (namespace, name, timestamp, value, partition)"
                " VALUES ('Server-1', %s, %s, %s, %s)",
                [name, START + timedelta(seconds=40 * number), number / 8, partition_of("Server-1", name)],
            )


@contextmanager
def watermark_locked():
    """Lock the watermark as who changes stored events does; gives what ends that."""
    with closing(another_connection()) as other:
        with other.cursor() as cursor:
            key = partition_of("Server-1", "cpu") or ONLY  # a cluster locks a single shard's rows
            cursor.execute("SELECT event_id FROM events_watermark WHERE id = %s FOR UPDATE", [key])
        yield other.rollback


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
            assert roll_up.take_step() is None  # neither knows yet whether its ids count
            assert asked() == by_hand()
        watermark = Watermark.objects.highest()
        aborted.rollback()
        assert roll_up.take_step() is None
        assert Watermark.objects.highest() == watermark
        late.commit()

        roll_up_all()

    assert Watermark.objects.highest() == Event.objects.latest("pk").pk
    assert Event.objects.count() == 14
    assert stored() == expected()
    assert asked() == by_hand()


@pytest.mark.not_on_a_cluster
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

        assert roll_up.take_step(patience).events == 3
        assert stored() == expected()
        new.commit()
        roll_up_all()
    assert stored() == expected()


@pytest.mark.django_db(transaction=True)
def test_it_holds_no_writer_up():
    Event.objects.bulk_create(events(30))
    with closing(another_connection()) as open_one, closing(another_connection()) as writer:
        insert(open_one, 1)
        waits = threading.Event()
        thread = threading.Thread(target=lambda: (roll_up.take_step(lambda: waits.set() or True), connection.close()))
        thread.start()
        assert waits.wait(120)
        with writer.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
        insert(writer, 5)
        writer.commit()  # while the roller waits for the open one
        open_one.commit()
        thread.join()
    roll_up_all()
    assert stored() == expected()
    assert Event.objects.count() == 36


@pytest.mark.django_db(transaction=True)
def test_of_two_rollers_one_steps_aside():
    Event.objects.bulk_create(events(9))
    roll_up_all()
    Event.objects.bulk_create(events(9))
    with watermark_locked():
        assert roll_up.take_step() is None
    roll_up_all()
    assert stored() == expected()


@pytest.mark.django_db(transaction=True)
def test_of_two_rollers_one_steps_aside_at_the_very_first_step_too(monkeypatch):
    Event.objects.bulk_create(events(5))
    fill_step, found = roll_up.fill_step, []

    def take_step():
        try:
            found.append(roll_up.take_step())
        except OperationalError as error:  # it waited for the first one until it was cancelled
            found.append(error)
        connection.close()

    def fill_step_beside_another_roller(*arguments):
        other = threading.Thread(target=take_step)
        other.start()
        other.join()
        return fill_step(*arguments)

    monkeypatch.setattr(roll_up, "fill_step", fill_step_beside_another_roller)
    assert roll_up.take_step().events == 5
    assert found == [None]
    assert stored() == expected()


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
                if turn % 2:
                    event.delete()
                else:
                    Event.objects.filter(pk=event.pk).update(value=turn / 8, timestamp=START)

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
        lambda turn: (roll_up.take_step(), time.sleep(0.005)),
        lambda turn: roll_up.take_step(),
        delete,
        read,
    ]
    threads = [repeat(work) for work in works]
    for thread in threads:
        thread.start()
    time.sleep(4 if IS_THOROUGH else 2)
    try:
        wait_until(Watermark.objects.highest)  # which takes longer on a busy cluster
    finally:
        stop.set()
    for thread in threads:
        thread.join()

    assert problems == []
    assert Watermark.objects.highest() > 0
    assert stored() == expected()
    roll_up_all()
    assert stored() == expected()
    assert asked() == by_hand()


@pytest.mark.django_db(transaction=True)
def test_the_command_waits_for_who_holds_the_lock(monkeypatch):
    Event.objects.bulk_create(events(9))
    roll_up_all()
    last = Event.objects.bulk_create(events(9))[-1].pk
    take_step, output, steps = roll_up.take_step, StringIO(), []

    with watermark_locked() as unlock:

        def take_step_and_unlock(*arguments):
            steps.append(take_step(*arguments))
            if len(steps) == 3:
                unlock()
            return steps[-1]

        monkeypatch.setattr(roll_up, "take_step", take_step_and_unlock)
        call_command("roll_up", stdout=output)

    assert steps[:3] == [None] * 3
    assert output.getvalue() == f"Rolled up 9 events in {len(steps) - 3} steps; the watermark is at {last}.\n"
    assert stored() == expected()


@pytest.mark.django_db(transaction=True)
def test_the_command_says_what_it_could_not_roll_up(settings):
    Event.objects.bulk_create(events(9))
    roll_up_all()
    Event.objects.bulk_create(events(7))
    settings.DATABASE_TIMEOUT_SECONDS = 0.2

    with watermark_locked(), pytest.raises(CommandError) as raised:
        call_command("roll_up", stdout=StringIO())

    assert str(raised.value) == "7 events are not rolled up, as another process holds the lock of the rollups."
    roll_up_all()
    assert stored() == expected()
