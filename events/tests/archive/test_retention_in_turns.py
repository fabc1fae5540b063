"""The worker's turns at retention with an archive: no file that is begun is given up, and no series holds up others."""

import threading
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace

import pytest
from django.utils import timezone

from events import renaming
from events.archive import archiving, faults
from events.archive.models import ArchivedFile
from events.log.series import SeriesKey
from events.management.commands import roll_up as roll_up_command
from events.models import Event
from events.tests.support.rolling_up import roll_up_all
from events.worker import retention
from events.worker.moving import Mover
from events.worker.turns import Turns

NOW = datetime(2024, 6, 1, 12, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock whose instant is set by its list of one."""
    now = [NOW]
    monkeypatch.setattr(timezone, "now", lambda: now[0])
    return now


@pytest.fixture(autouse=True)
def archive(db, settings, tmp_path):
    settings.ARCHIVE = str(tmp_path)
    settings.RETENTION, settings.RETENTION_MAY_DELETE_MOST = [("*", timedelta(days=30))], True
    return tmp_path


def add(name, *instants):
    Event.objects.bulk_create(Event(namespace="Shop", name=name, timestamp=each, value=1) for each in instants)


def files():
    return [(str(file), file.events) for file in ArchivedFile.objects.order_by("pk")]


def test_a_file_that_takes_more_than_an_hour_is_finished(archive, clock, monkeypatch):
    monkeypatch.setattr(archiving, "_BATCH_EVENTS", 2)
    monkeypatch.setattr(roll_up_command, "time", SimpleNamespace(monotonic=count().__next__))
    monkeypatch.setattr(roll_up_command, "_PRUNING_SECONDS", 2)  # which are over after one step
    add("a", *(datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=number) for number in range(10)))
    add("b", datetime(2024, 1, 1, tzinfo=UTC), NOW)
    roll_up_all()
    worker = roll_up_command.Command()
    worker.parent, worker.stopping, worker.deleted = None, threading.Event(), 0
    worker.pruning = Turns(retention.carry_out)
    monkeypatch.setattr(worker.stopping, "wait", lambda seconds: None)
    paths = set()

    for hour in range(50):
        clock[0] = NOW + timedelta(hours=hour)
        worker._prune()
        paths.update(archive.rglob("*.parquet*"))

    assert files() == [("Shop/a 2024-01 (kept)", 10), ("Shop/b 2024-01 (kept)", 1)]
    assert sorted({path.name.removesuffix(".part") for path in paths}) == sorted(
        path.name for path in archive.rglob("*.parquet")
    )
    assert (worker.deleted, Event.objects.count()) == (11, 1)


def first_of(month):
    return datetime(2024, month, 1, tzinfo=UTC)


@pytest.fixture
def much_and_little(monkeypatch):
    """A series with events of four months, and two with events of one, while a share is one month."""
    monkeypatch.setattr(retention, "_MONTHS_A_SHARE", 1)
    add("a", *map(first_of, (1, 2, 3, 4)))
    add("b", first_of(1), NOW)
    add("c", first_of(4))
    roll_up_all()


@pytest.mark.usefixtures("much_and_little")
def test_a_series_with_much_to_archive_does_not_hold_up_others():
    assert sum(retention.carry_out()) == 6

    assert files() == [
        ("Shop/a 2024-01 (kept)", 1), ("Shop/b 2024-01 (kept)", 1), ("Shop/c 2024-04 (kept)", 1),
        ("Shop/a 2024-02 (kept)", 1), ("Shop/a 2024-03 (kept)", 1), ("Shop/a 2024-04 (kept)", 1),
    ]  # fmt: skip


@pytest.mark.usefixtures("much_and_little")
def test_what_is_left_of_it_after_an_hour_is_left_to_the_next_turn(clock):
    of_each = [("Shop/a 2024-01 (kept)", 1), ("Shop/b 2024-01 (kept)", 1), ("Shop/c 2024-04 (kept)", 1)]
    steps = retention.carry_out()
    while not files():
        next(steps)

    clock[0] += timedelta(hours=1)

    list(steps)
    assert files() == of_each  # each has had its share
    add("b", first_of(2))
    add("c", first_of(3))
    roll_up_all()
    assert sum(retention.carry_out()) == 5
    assert files()[3:] == [
        ("Shop/a 2024-02 (kept)", 1), ("Shop/b 2024-02 (kept)", 1), ("Shop/c 2024-03 (kept)", 1),
        ("Shop/a 2024-03 (kept)", 1), ("Shop/a 2024-04 (kept)", 1),
    ]  # fmt: skip


@pytest.mark.usefixtures("much_and_little")
def test_a_file_that_is_begun_is_finished_when_the_hour_is_over(clock):
    steps = retention.carry_out()
    while ("Shop/a 2024-02 (writing)", 0) not in files():
        next(steps)

    clock[0] += timedelta(hours=1)

    assert sum(steps) == 1
    assert files()[3:] == [("Shop/a 2024-02 (kept)", 1)]


def test_merging_the_files_of_many_months_does_not_hold_up_others_either(monkeypatch):
    for name in ("a", "a of old"):
        add(name, *map(first_of, (1, 2, 3)))
    for name in ("c", "c of old"):
        add(name, first_of(1))
    add("b", NOW)
    roll_up_all()
    assert sum(retention.carry_out()) == 8
    for name in ("a", "c"):  # as where one series is merged into another
        ArchivedFile.objects.filter(name=f"{name} of old").update(name=name)
    monkeypatch.setattr(retention, "_MONTHS_A_SHARE", 1)

    assert sum(retention.carry_out()) == 0

    assert files() == [
        ("Shop/a 2024-01 (kept)", 2), ("Shop/c 2024-01 (kept)", 2), ("Shop/a 2024-02 (kept)", 2), ("Shop/a 2024-03 (kept)", 2),
    ]  # fmt: skip


def test_a_turn_can_be_stopped_after_each_file_that_it_removes(archive):
    add("a", *map(first_of, (1, 2, 3)))
    add("b", NOW)
    roll_up_all()
    assert sum(retention.carry_out()) == 3
    ArchivedFile.objects.update(state=ArchivedFile.State.REPLACED)
    steps = retention.carry_out()

    for left in (2, 1, 0):
        assert next(steps) == 0
        assert (len(files()), len(list(archive.rglob("*.parquet")))) == (left, left)
    assert sum(steps) == 0


@pytest.mark.parametrize("steps_taken", [1, 4, 5, 7], ids=["written", "written whole", "to be read back", "read back"])
def test_a_series_that_is_deleted_amid_its_archiving_does_not_stop_others(
    archive, monkeypatch, caplog, django_capture_on_commit_callbacks, steps_taken
):
    monkeypatch.setattr(archiving, "_BATCH_EVENTS", 2)
    add("a", *(first_of(1) + timedelta(minutes=number) for number in range(10)))
    add("b", first_of(1), NOW)
    roll_up_all()
    steps = retention.carry_out()
    while ("Shop/a 2024-01 (writing)", 0) not in files():
        next(steps)
    assert [next(steps) for _ in range(steps_taken - 1)] == [0] * (steps_taken - 1)

    with django_capture_on_commit_callbacks(execute=True):
        begun = renaming.move(SeriesKey("Shop", "a"), None)  # as another process does

    assert sum(steps) == 1
    assert (files(), caplog.messages, faults.count()) == ([("Shop/b 2024-01 (kept)", 1)], [], 0)
    list(Mover(begun).steps(lambda: True))
    assert list(Event.objects.values_list("name", "timestamp")) == [("b", NOW)]
    assert [path.name[:7] for path in archive.rglob("*") if path.is_file()] == ["2024-01"]
