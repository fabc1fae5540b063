"""One step of the roller: the next events are added to the rollups, and the watermark moves past them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from events.models import Event, Pruned, Resolution, Rollup, Watermark
from events.rollups.rebuild import PrunedError
from events.rollups.statements import add_step, fill_step

# What a step has where nobody knows how long it will take.
_STEP_EVENTS = {"postgresql": 100_000, "sqlite": 150}
_SETTLE_POLL_SECONDS = 0.005
# How often a roller that has nothing to do says so; each time is a write.
_IDLE = timedelta(seconds=10)


class Step(NamedTuple):
    """What a step of the roller did; ``is_full`` where it has as many events as it may take."""

    events: int
    event_id: int
    is_full: bool
    seconds: float  # for which it held its lock


def take_step(patience: Callable[[], bool] = lambda: False, most_events: int | None = None) -> Step | None:
    """Add the next events to the rollups and move the watermark past them, in one transaction.

    None where there is nothing to do: every event is rolled up, another roller is at work, or transactions with ids
    on both sides of the new watermark are still open. Those are waited for as long as ``patience`` says so.
    """
    looked = timezone.now()
    settled = _settled_id(patience)
    if settled is None:
        return None
    Watermark.objects.ensure_stored()  # before the transaction: whoever else made it would wait for that to end
    with transaction.atomic():
        mark = Watermark.objects.select_for_update(skip_locked=True).first()
        if mark is None:
            return None
        locked = time.monotonic()
        new = Event.objects.after(mark.event_id)
        ids = new.up_to(settled).order_by("pk").values_list("pk", flat=True)
        limit = most_events or step_events()
        full = ids[limit - 1 : limit].first()
        last = full or ids.last()
        if last is None:
            # ahead of now where the clock was set back, and then the lag would count from there
            if mark.complete_at is None or abs(looked - mark.complete_at) > _IDLE:
                Watermark.objects.update(complete_at=looked)
            return None
        _give_room()
        resolutions = mark.finest_first
        count = fill_step(new.up_to(last), resolutions[0])
        add_step([*resolutions, Resolution.SERIES], finest=resolutions[0])
        Watermark.objects.update(event_id=last, complete_at=mark.complete_at if full else looked)
    return Step(count, last, full is not None, time.monotonic() - locked)


def step_events() -> int:
    """How many events a step has where its caller doesn't say."""
    return _STEP_EVENTS[connection.vendor]


def _give_room() -> None:
    """Let PostgreSQL group a step's events in memory, by their hashes, for the rest of the transaction.

    By default it has 4 MB, and of a table that grows fast it knows so little that it sorts instead, on the disk.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL work_mem = '64MB'; SET LOCAL enable_sort = off")


def start_over(*, accept_loss: bool = False) -> None:
    """Empty the rollups, to hold from now on what ROLLUP_RESOLUTIONS says; until they are full, events are read.

    Raises PrunedError where the events that they were made from are not all there any more; with ``accept_loss`` only
    where that is known, as they are pruned.
    """
    with transaction.atomic():
        mark = Watermark.objects.locked()
        if count := Pruned.objects.count():
            raise PrunedError(f"Events of {count} series are pruned; their rollups can't be made anew.")
        held, there = Rollup.objects.event_count(), Event.objects.up_to(mark.event_id).count()
        if there < held and not accept_loss:
            raise PrunedError(
                f"The rollups hold {held} events, of which {there} are in the log: the others would be lost for good. "
                "--accept-loss does it all the same."
            )
        Rollup.objects.all()._raw_delete(connection.alias)
        Watermark.objects.update(event_id=0, resolutions=",".join(settings.ROLLUP_RESOLUTIONS))
        Watermark.objects.bump_changes()


def _settled_id(patience: Callable[[], bool]) -> int | None:
    """An id up to which every transaction has ended, whether it committed or not; None where patience ran out.

    Ids are handed out before they are committed, so the highest visible one says nothing about lower ones. As
    CREATE INDEX CONCURRENTLY does, this waits for the transactions that hold a writer's lock on the log at this moment:
    a writer takes the lock before its ids, so an id handed out by now belongs to one of those or to one that has
    ended. Unlike LOCK TABLE it holds no writer up. On SQLite writers come one at a time, and leave no gaps.
    """
    if connection.vendor == "sqlite":
        return Event.objects.order_by("pk").values_list("pk", flat=True).last()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", [Event._meta.db_table])
        sequence = cursor.fetchone()[0]
        cursor.execute(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}")  # noqa: S608
        last = int(cursor.fetchone()[0])
        waited_for = _writers()
        while waited_for:
            if not patience():
                return None
            time.sleep(_SETTLE_POLL_SECONDS)
            waited_for &= _writers()
    return last


def _writers() -> set[str]:
    """The other transactions that hold a lock on the log of the kind that writers take, or a stronger one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND relation = %s::regclass"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
            " AND granted AND pid IS DISTINCT FROM pg_backend_pid()",
            [Event._meta.db_table],
        )
        return {transaction for (transaction,) in cursor.fetchall()}
