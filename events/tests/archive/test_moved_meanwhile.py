"""A series that one session renames, merges or deletes while another one archives it: neither is in the other's way."""

import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from events import renaming
from events.archive import archiving
from events.archive.archiving import BusyError
from events.archive.models import ArchivedFile, ArchivedFileQuerySet
from events.log.series import SeriesKey
from events.models import Event
from events.rollups.moves import Move
from events.tests.support import partitioned
from events.tests.support.rolling_up import roll_up_all
from events.tests.support.waiting import wait_until
from events.worker import retention
from events.worker.moving import Mover
from events.worker.retention import Series

# on SQLite writers come one at a time
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.only_on("postgresql"),
    pytest.mark.not_on_a_cluster,
    pytest.mark.usefixtures("partition_count"),
]

NOW = datetime(2024, 6, 1, 12, 30, tzinfo=UTC)
SHOP = SeriesKey("Shop", "order")


@pytest.fixture(autouse=True)
def archive(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    monkeypatch.setattr(retention, "_STEP_EVENTS", {"postgresql": 7, "sqlite": 7})
    settings.ARCHIVE = str(tmp_path)
    return tmp_path


def add(series, count):
    start = datetime(2024, 1, 30, tzinfo=UTC)
    Event.objects.bulk_create(
        Event(**series._asdict(), timestamp=start + timedelta(minutes=30) * number, value=number / 8)
        for number in range(count)
    )
    roll_up_all()


def pruning(before=NOW):
    return retention.prune(Series(*SHOP, before.replace(hour=0, minute=0)))


@pytest.fixture
def other():
    """Another series, which lies in the partition of the shop's."""
    return partitioned.name_beside(SHOP)


@pytest.fixture(params=["renamed", "merged", "merged into", "deleted"])
def move(request, other):
    """What becomes of the shop's series: the series that is moved, and into which."""
    if request.param.startswith("merged"):
        add(other, 4)
    return {
        "renamed": (SHOP, other, False), "merged": (SHOP, other, True), "merged into": (other, SHOP, True),
        "deleted": (SHOP, None, False),
    }[request.param]  # fmt: skip


@contextmanager
def another_session(old, into, is_merge):
    """Give what has another session begin the move, and returns once it has, or waits for this one; ends the move."""
    found = []

    def run():
        try:
            found.append(renaming.move(old, into, merge=is_merge))
        except Exception as error:
            found.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)

    def begin():
        thread.start()
        wait_until(lambda: not thread.is_alive() or is_waited_for())

    try:
        yield begin
    finally:
        if thread.ident:
            thread.join()
    [begun] = found
    assert isinstance(begun, Move), begun
    list(Mover(begun).steps(lambda: True))


def is_waited_for():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
        )
        return cursor.fetchone()[0]


def stored(archive):
    """The events of each file, how many are in the log, each by series, and whether the files are those of the list."""
    archiving.remove_replaced()
    files = ArchivedFile.objects.order_by("month", "pk")
    of_log = sorted(Event.objects.values_list("namespace", "name"))
    assert {path for path in archive.rglob("*") if path.is_file()} == {archive / file.path for file in files}
    return [(str(file), file.events) for file in files], of_log


def test_a_move_amid_the_deletion_of_what_is_archived_waits_for_a_step(archive, monkeypatch, move):
    add(SHOP, 18)
    is_listed, (_, into, is_merge) = ArchivedFileQuerySet.is_listed, move

    with another_session(*move) as begin, monkeypatch.context() as patch:

        def is_listed_as_it_is_moved(files, pk):
            patch.undo()
            found = is_listed(files, pk)
            begin()
            return found

        patch.setattr(ArchivedFileQuerySet, "is_listed", is_listed_as_it_is_moved)
        steps = pruning()
        assert next(count for count in steps if count) == 7
        with suppress(BusyError):  # where it is being moved by now
            list(steps)

    files = [] if into is None else [(f"{'/'.join(into)} 2024-01 (kept)", 18)]
    assert stored(archive) == (files, [into] * 4 if is_merge else [])


@pytest.mark.parametrize("is_kept", [False, True], ids=["before it is kept", "once it is kept"])
def test_a_move_amid_the_merging_of_files_waits_for_it_or_prevents_it(archive, monkeypatch, move, is_kept):
    add(SHOP, 100)
    assert sum(pruning(datetime(2024, 1, 31, tzinfo=UTC))) == 48
    move_on, (_, into, is_merge) = ArchivedFile.move_on, move

    with another_session(*move) as begin, monkeypatch.context() as patch:

        def move_on_as_it_is_moved(file, state, **values):
            if state == ArchivedFile.State.KEPT and not is_kept:
                begin()
            is_moved = move_on(file, state, **values)
            if state == ArchivedFile.State.KEPT and is_kept:
                begin()
            return is_moved

        patch.setattr(ArchivedFile, "move_on", move_on_as_it_is_moved)
        with suppress(BusyError):  # where the move was first
            list(pruning())

    of_months = [("2024-01", 96)] if is_kept else [("2024-01", 48), ("2024-01", 48)]
    files = [] if into is None else [(f"{'/'.join(into)} {each} (kept)", n) for each, n in [*of_months, ("2024-02", 4)]]
    assert stored(archive) == (files, [into] * 4 if is_merge else [])
