"""The worker's turns at retention with an archive: no file that is begun is given up, and no series holds up others."""

import threading
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace

import pytest
from django.utils import timezone

from events.archive import archiving
from events.archive.models import ArchivedFile
from events.management.commands import roll_up as roll_up_command
from events.models import Event
from events.tests.support.rolling_up import roll_up_all
from events.worker import retention
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
