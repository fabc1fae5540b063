"""An archive in a store of objects that goes away, is gone, or lacks directories: nothing is lost, nothing is left."""

import asyncio
import shutil
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pyarrow.parquet
import pytest
from django.core.checks import Error
from django.core.checks import Warning as Warned
from django.utils import timezone
from fsspec.asyn import AsyncFileSystem

from events import checks
from events.archive import archiving
from events.archive import store as stores
from events.archive.models import ArchivedFile
from events.archive.store import ArchiveAwayError
from events.models import Event
from events.tests.support.commands import fails, run
from events.tests.support.rolling_up import roll_up_all
from events.worker import retention

NOW = datetime(2024, 6, 1, 12, 30, tzinfo=UTC)
MEMORY = fsspec.get_filesystem_class("memory")


@pytest.fixture(autouse=True)
def archive(db, settings, monkeypatch):
    """An empty one in memory, and a policy that has all events but the last in it."""
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    monkeypatch.setattr(MEMORY, "store", {})
    monkeypatch.setattr(MEMORY, "pseudo_dirs", [""])
    settings.ARCHIVE = "memory://bucket/archive"
    settings.RETENTION, settings.RETENTION_MAY_DELETE_MOST = [("*", timedelta(days=1))], True


def add(name, count, start=datetime(2024, 1, 30, 22, tzinfo=UTC)):
    Event.objects.bulk_create(
        Event(namespace="Shop", name=name, timestamp=start + timedelta(hours=5) * number, value=number / 8)
        for number in range(count)
    )
    roll_up_all()


def kept():
    """Every event of the list's files and of the log, and the names of the objects that are not in the list."""
    events = list(Event.objects.values_list("name", "timestamp", "value"))
    paths = {f"/bucket/archive/{file.path}" for file in ArchivedFile.objects.holding()}
    for path in paths:
        table = pyarrow.parquet.read_table(MEMORY().open(path))
        events += [tuple(row.values())[1:] for row in table.to_pylist()]
    return sorted(events), sorted(set(MEMORY().find("/bucket")) - paths)


class AwayError(Exception):
    """As the libraries of stores raise, each its own."""


def away(*arguments, **options):
    raise AwayError("no route to host\nand more")


@pytest.mark.parametrize("call", ["pipe_file", "put_file", "open", "read"])
def test_a_store_that_goes_away_ends_the_turn_and_nothing_is_lost(monkeypatch, caplog, call):
    """Also where it is gone once a file was sent, or while it is read back."""
    add("click", 3)
    add("order", 9)
    Event.objects.create(namespace="Shop", name="order", timestamp=NOW, value=1)
    roll_up_all()
    before = kept()[0]

    with monkeypatch.context() as patch:
        patch.setattr(fsspec.implementations.memory.MemoryFile if call == "read" else MEMORY, call, away)
        assert sum(retention.carry_out()) == 0

    assert caplog.messages == ["Nothing more of Shop/click is pruned: AwayError: no route to host"]
    assert kept() == (before, [])
    assert sum(retention.carry_out()) == 12
    assert kept() == (before, [])
    assert Event.objects.count() == 1


def test_a_store_that_goes_away_amid_the_deletion_ends_it(monkeypatch, caplog):
    add("click", 3)
    add("order", 9)
    before, open_object = kept()[0], MEMORY.open
    monkeypatch.setattr(retention, "_STEP_EVENTS", {"postgresql": 2, "sqlite": 2})
    for name in ("click", "order"):
        steps = retention.prune(retention.Series("Shop", name, NOW.replace(hour=0, minute=0)))
        assert next(count for count in steps if count) == 2
        steps.close()
    monkeypatch.setattr(MEMORY, "open", away)

    assert sum(retention.carry_out()) == 0
    assert fails("prune_events", "--older-than", "1d") == "Shop/click is not pruned: AwayError: no route to host"
    assert fails("export_events", "-", "--archived", "--format", "csv") == "AwayError: no route to host"

    assert caplog.messages == ["Nothing more of Shop/click is pruned: AwayError: no route to host"]
    assert Event.objects.count() == 8
    monkeypatch.setattr(MEMORY, "open", open_object)
    assert kept_once() == before
    run("prune_events", "--older-than", "1d")
    assert (kept(), Event.objects.count()) == ((before, []), 0)


def kept_once():
    """Every event, those once that are in a file and not yet deleted from the log."""
    files = ArchivedFile.objects.listed()
    there_too = [event for file in files for event in file.in_log().values_list("name", "timestamp", "value")]
    events = kept()[0]
    for event in there_too:
        events.remove(event)
    return events


def test_an_object_that_is_gone_has_its_events_stay_and_others_go_on(monkeypatch, caplog):
    add("click", 3)
    add("order", 9)
    monkeypatch.setattr(retention, "_STEP_EVENTS", {"postgresql": 2, "sqlite": 2})
    steps = retention.prune(retention.Series("Shop", "click", NOW.replace(hour=0, minute=0)))
    assert next(count for count in steps if count) == 2
    steps.close()
    [path] = MEMORY().find("/bucket")
    MEMORY().rm_file(path)

    assert sum(retention.carry_out()) == 6

    left = list(Event.objects.order_by("pk").values_list("name", flat=True))
    assert left == ["click", "order", "order", "order"]  # those of the newest day stay, as ages count from it
    [said] = caplog.messages
    assert said.startswith("Nothing more of Shop/click is pruned: Shop/")
    assert "can't be read, so its events stay in the log: FileNotFoundError: " in said


class Silent(AsyncFileSystem):
    """Takes every call, and never answers."""

    protocol = "silent"

    async def _pipe_file(self, *arguments, **options):
        await asyncio.sleep(3600)

    async def _info(self, *arguments, **options):
        await asyncio.sleep(3600)


def test_a_silent_store_is_not_waited_for(settings, monkeypatch):
    monkeypatch.setattr(stores, "_ANSWER_SECONDS", 0.05)
    fsspec.register_implementation("silent", Silent, clobber=True)
    settings.ARCHIVE = "silent://bucket"

    [message] = checks.check_archive(None)

    assert (type(message), message.id) == (Warned, "events.W010")
    assert message.msg.endswith("age: The store doesn't answer.")
    with pytest.raises(ArchiveAwayError, match=r"^The store doesn't answer\.$"):
        archiving.check_there(ArchivedFile(path="Shop/x/2024-01.parquet"))


def test_a_store_with_directories_gets_those_of_a_file_and_never_its_own(settings, tmp_path):
    root = tmp_path / "bucket"
    root.mkdir()
    settings.ARCHIVE = f"file://{root}"
    add("order", 3)

    run("prune_events", "--older-than", "1d")

    [path] = (each for each in root.rglob("*") if each.is_file())
    assert str(path.relative_to(root)) == ArchivedFile.objects.get().path
    shutil.rmtree(root)
    [message] = checks.check_archive(None)
    assert (type(message), message.id) == (Error, "events.E009")
    with (
        closing(stores.store().draft("Shop/x/2024-01.parquet")) as draft,
        pytest.raises(ArchiveAwayError, match="FileNotFoundError"),
    ):
        draft.sync()
    assert not root.exists()


def test_no_file_with_a_name_is_made_on_the_way(monkeypatch, tmp_path):
    """A process that is killed would leave it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    add("order", 3)
    seen, put_file = [], MEMORY.put_file

    def looking(self, *arguments, **options):
        seen.append(list(Path(tmp_path).iterdir()))
        return put_file(self, *arguments, **options)

    monkeypatch.setattr(MEMORY, "put_file", looking)
    run("prune_events", "--older-than", "1d")

    assert seen == [[]]


def test_looking_at_a_store_leaves_nothing_that_the_next_look_does_not_remove(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(MEMORY, "rm_file", lambda self, path: None)  # as where the process is killed before
        archiving.check()
        archiving.check()
        assert MEMORY().find("/bucket") == ["/bucket/archive/.check"]

    archiving.check()

    assert MEMORY().find("/bucket") == []
