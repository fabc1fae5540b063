"""The archive: what is pruned is in files first, once, whenever a process is killed, and comes back from there."""

import json
import sys
from datetime import UTC, date, datetime, timedelta
from io import StringIO

import fsspec
import pyarrow.parquet
import pytest
from django.conf import settings
from django.core.checks import Error
from django.core.checks import Warning as Warned
from django.core.management import call_command, load_command_class
from django.db import OperationalError
from django.utils import timezone

from events import checks, renaming
from events.aggregation.answer import aggregate
from events.aggregation.question import Question
from events.archive import archiving, models, parquet, series_changes
from events.archive import store as stores
from events.archive.models import ArchivedFile
from events.archive.store import ArchiveError
from events.database import partitions
from events.log.series import SeriesKey
from events.models import Event, Pruned, Rollup, Watermark
from events.observability import health
from events.observability.metrics import Metrics
from events.processes import this_process
from events.tests.support.answers import catalogue
from events.tests.support.commands import fails, run
from events.tests.support.examples import IS_THOROUGH
from events.tests.support.rolling_up import roll_up_all, stored
from events.worker import retention
from events.worker.moving import Mover
from events.worker.retention import Series

NOW = datetime(2024, 6, 1, 12, 30, tzinfo=UTC)
JANUARY = datetime(2024, 1, 30, 22, 58, 30, 250_000, tzinfo=UTC)
SHOP = ("Shop", "order")


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(timezone, "now", lambda: NOW)


@pytest.fixture(autouse=True)
def archive(db, settings, tmp_path, monkeypatch):
    """An empty one, whose files are written and whose events are deleted seven at a time."""
    directory = tmp_path / "archive"
    directory.mkdir()
    settings.ARCHIVE = str(directory)
    monkeypatch.setattr(archiving, "_BATCH_EVENTS", 7)
    monkeypatch.setattr(retention, "_STEP_EVENTS", {"postgresql": 7, "sqlite": 7})
    return directory


def add(count, namespace="Shop", name="order", start=JANUARY, step=timedelta(hours=5)):
    Event.objects.bulk_create(
        Event(namespace=namespace, name=name, timestamp=start + number // 2 * step, value=number * 3 % 17 / 8)
        for number in range(count)
    )
    roll_up_all()


def prune(before=NOW, namespace="Shop", name="order", **options):
    return sum(retention.prune(Series(namespace, name, before.replace(hour=0, minute=0)), **options))


def files_of(archive):
    return sorted(path for path in archive.rglob("*") if path.is_file())


def listed():
    return [(str(file), file.events) for file in ArchivedFile.objects.order_by("month", "pk")]


def exported(*arguments):
    """The events of the archive and the log, sorted, as each export has an order of its own."""
    path = f"{settings.ARCHIVE}.ndjson"
    run("export_events", path, "--archived", *arguments)
    with open(path) as lines:
        found = [tuple(json.loads(line).values()) for line in lines]
    return sorted(found)


def content(path):
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == ["namespace", "name", "timestamp", "value"]
    return [tuple(row.values()) for row in table.to_pylist()]


def log():
    return list(Event.objects.order_by("timestamp", "pk").values_list("namespace", "name", "timestamp", "value"))


@pytest.mark.usefixtures("partition_count")
def test_events_are_in_files_before_they_are_deleted_and_aggregates_stay(archive):
    add(30)
    add(4, name="click")
    before, events = exported(), log()
    questions = [
        Question(namespace="Shop", name="order", granularity=each, aggregation_type="sum")
        for each in ("hour", "day", "month")
    ]
    answers, rolled_up, series = [aggregate(each) for each in questions], stored(), catalogue()

    out, _ = run("prune_events", "--older-than", "90d")

    assert out == "Deleted 34 events before 2024-03-03T00:00:00Z.\n"
    assert listed() == [
        ("Shop/click 2024-01 (kept)", 4), ("Shop/order 2024-01 (kept)", 12), ("Shop/order 2024-02 (kept)", 18),
    ] or listed() == [
        ("Shop/order 2024-01 (kept)", 12), ("Shop/click 2024-01 (kept)", 4), ("Shop/order 2024-02 (kept)", 18),
    ]  # fmt: skip
    assert Event.objects.count() == 0
    assert ([aggregate(each) for each in questions], stored(), catalogue()) == (answers, rolled_up, series)
    assert exported() == before
    paths = files_of(archive)
    assert sorted(row for path in paths for row in content(path)) == sorted(events)
    assert {path.relative_to(archive).parts[0] for path in paths} == {"Shop"}
    assert sorted(path.name[:7] for path in paths) == ["2024-01", "2024-01", "2024-02"]
    for file in ArchivedFile.objects.all():
        of_file = content(archive / file.path)
        assert [row[2] for row in of_file] == sorted(row[2] for row in of_file)
        assert file.sum == sum(row[3] for row in of_file)
        assert file.bytes == (archive / file.path).stat().st_size
    assert run("prune_events", "--older-than", "90d")[0] == "Deleted 0 events before 2024-03-03T00:00:00Z.\n"


# A kill.


class Killed(BaseException):
    pass


# What changes something that outlasts the process, and what comes between.
CALLS = [
    (archiving, "_begin"),
    (stores._PartFile, "__init__"),
    (parquet.Writer, "write"),
    (stores._PartFile, "sync"),
    (stores._PartFile, "reading"),
    (stores._PartFile, "publish"),
    (ArchivedFile, "move_on"),
    (retention, "_first"),
    (models.ArchivedFileQuerySet, "listed"),
    (stores._Directory, "remove"),
    (ArchivedFile, "delete"),
]


def killing(original, name, calls, number):
    def call(*arguments, **options):
        found = original(*arguments, **options)
        calls.append(name)
        if len(calls) == number:
            raise Killed
        return found

    return call


def kill_after(patch, number):
    """Have the process seem killed after so many of the calls; nothing clears up then."""
    calls = []
    patch.setattr(archiving, "_clear_up", lambda making: None)
    patch.setattr(stores._PartFile, "close", lambda self: self.file.close())
    for owner, name in CALLS:
        patch.setattr(owner, name, killing(getattr(owner, name), name, calls, number))
    return calls


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of files that are left open
def test_a_kill_at_any_step_loses_nothing_and_repeats_nothing(archive, monkeypatch, partition_count):
    """Also in the merging of a month that is over, and the removal of what is merged."""
    monkeypatch.setattr(archiving, "_BATCH_EVENTS", 3)
    monkeypatch.setattr(retention, "_STEP_EVENTS", {"postgresql": 3, "sqlite": 3})
    seen = {}
    for number in range(1, 100, 1 if IS_THOROUGH else 2 if partition_count == 1 else 7):
        name = f"order-{number}"
        add(14, name=name)
        prune(JANUARY + timedelta(days=1), name=name)  # a part of a month, to be merged with the rest
        before = exported("--name", name)
        assert len(before) == 14
        with monkeypatch.context() as patch:
            calls = kill_after(patch, number)
            try:
                prune(name=name)
            except Killed:
                seen[number] = calls[-1]

        assert exported("--name", name) == before, calls

        prune(name=name)

        assert exported("--name", name) == before, calls
        files = ArchivedFile.objects.filter(name=name).order_by("month")
        assert [str(each)[-14:] for each in files] == ["2024-01 (kept)", "2024-02 (kept)"], calls
        assert [each.events for each in files] == [12, 2], calls
        assert files_of(archive) == sorted(archive / file.path for file in ArchivedFile.objects.all()), calls
        if number not in seen:
            break

    assert max(seen) > 30
    assert not IS_THOROUGH or set(seen.values()) == {name for _, name in CALLS}
    assert Event.objects.count() == 0


@pytest.mark.usefixtures("partition_count")
def test_a_file_whose_listing_was_committed_unheard_stays(archive, monkeypatch):
    """As where the connection breaks before the answer to the commit."""
    add(6)
    before, move_on = exported(), ArchivedFile.move_on

    def unheard(self, *arguments, **options):
        assert move_on(self, *arguments, **options)
        raise OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as patch:
        patch.setattr(ArchivedFile, "move_on", unheard)
        with pytest.raises(OperationalError):
            prune()

    assert (len(files_of(archive)), exported()) == (1, before)
    assert (prune(), exported(), listed()) == (6, before, [("Shop/order 2024-01 (kept)", 6)])


def test_a_file_whose_listing_is_committed_after_the_end_of_its_maker_holds_its_events_alone(archive, monkeypatch):
    """As where the database goes on with a statement whose sender was killed, while the next run begins."""
    add(6)
    before = exported()
    with monkeypatch.context() as patch:
        patch.setattr(archiving, "_clear_up", lambda making: None)
        patch.setattr(ArchivedFile, "move_on", killing(lambda *_, **__: None, "move_on", [], 1))
        with pytest.raises(Killed):
            prune()
    [row] = ArchivedFile.objects.all()
    listing = {"state": ArchivedFile.State.LISTED, "events": 6, "sum": 5.625}
    give_up = archiving._give_up

    def after_the_commit(rows, file):
        ArchivedFile.objects.filter(pk=row.pk).update(**listing)
        give_up(rows, file)

    with monkeypatch.context() as patch:
        patch.setattr(archiving, "_give_up", after_the_commit)
        patch.setattr(models, "may_run", lambda process: False)
        patch.setattr(models, "this_process", lambda: "here:1")
        with pytest.raises(archiving.BusyError, match="Another process has archived it just now"):
            prune()

    assert (listed(), exported(), len(files_of(archive))) == ([("Shop/order 2024-01 (listed)", 6)], before, 1)
    assert (prune(), listed(), exported()) == (6, [("Shop/order 2024-01 (kept)", 6)], before)


def test_no_event_is_deleted_for_a_listed_file_that_is_gone(archive):
    add(18)
    steps = retention.prune(Series(*SHOP, NOW.replace(hour=0, minute=0)))
    assert next(count for count in steps if count) == 7
    steps.close()
    [path] = files_of(archive)
    path.unlink()

    with pytest.raises(ArchiveError, match="can't be read, so its events stay in the log: FileNotFoundError"):
        prune()

    assert Event.objects.count() == 11


# Months.


@pytest.mark.usefixtures("partition_count")
def test_a_month_is_one_file_once_it_is_over_however_often_it_is_pruned(archive):
    add(40, start=datetime(2024, 2, 25, tzinfo=UTC))
    before = exported()
    for day in (26, 27, 28):
        prune(datetime(2024, 2, day, tzinfo=UTC))
    assert listed() == [("Shop/order 2024-02 (kept)", 10)] * 3

    prune(datetime(2024, 3, 1, tzinfo=UTC))

    assert listed() == [("Shop/order 2024-02 (kept)", 40)]
    assert len(files_of(archive)) == 1
    assert exported() == before


@pytest.mark.usefixtures("partition_count")
@pytest.mark.parametrize("with_rollups", [False, True])
def test_late_events_are_archived_too(archive, with_rollups):
    add(12)
    prune()
    add(3, start=JANUARY + timedelta(minutes=1))
    before = exported()

    run("prune_events", "--older-than", "30d", *(["--with-rollups"] if with_rollups else []))

    assert Event.objects.count() == 0
    assert Rollup.objects.exists() != with_rollups
    assert exported() == before
    assert [count for _, count in listed()] == [15]
    [path] = files_of(archive)
    assert [row[2] for row in content(path)] == sorted(row[2] for row in content(path))


@pytest.mark.usefixtures("partition_count")
def test_what_is_rolled_up_between_archiving_and_the_end_of_the_rollups_is_kept(archive, monkeypatch):
    """Deleting the rollups of a past deletes its late events, which nobody may have archived yet."""
    add(12)
    prune()
    series, locked = Series(*SHOP, NOW.replace(hour=0, minute=0)), type(Watermark.objects).locked
    with monkeypatch.context() as patch:

        def locked_after_an_event(manager, partition):
            patch.undo()
            add(1, start=JANUARY)
            return locked(manager, partition)

        patch.setattr(type(Watermark.objects), "locked", locked_after_an_event)
        assert sum(retention.prune_rollups(series)) > 0

    assert (Event.objects.count(), Rollup.objects.count(), Pruned.objects.count()) == (0, 0, 0)
    assert len(exported()) == 13


@pytest.mark.usefixtures("partition_count")
def test_the_policy_makes_at_most_one_file_of_a_month_a_day(archive, settings, monkeypatch):
    settings.RETENTION = [("*", timedelta(days=90))]
    settings.RETENTION_MAY_DELETE_MOST = True
    add(6, start=datetime(2024, 3, 1, tzinfo=UTC))
    add(1, start=NOW)
    assert sum(retention.carry_out()) == 6
    add(2, start=datetime(2024, 3, 1, tzinfo=UTC))
    add(2)
    assert sum(retention.carry_out()) == 2  # of January, which has no file of today

    monkeypatch.setattr(timezone, "now", lambda: NOW + timedelta(days=1))

    assert sum(retention.carry_out()) == 2
    assert [count for _, count in listed()] == [2, 6, 2]
    assert len(exported()) == 11


# One at a time.


def another(maker, **fields):
    values = {"start": JANUARY, "end": JANUARY, "marks": {}, "month": date(2024, 1, 1), "maker": maker}
    return ArchivedFile.objects.create(namespace="Shop", name="order", **{**values, **fields})


def test_two_processes_do_not_archive_a_series_at_once(archive, settings, caplog):
    add(6)
    row = another("other.example:1")
    settings.RETENTION, settings.RETENTION_MAY_DELETE_MOST = [("*", timedelta(days=1))], True

    said = fails("prune_events", "--older-than", "1d")
    assert said == "Shop/order is not pruned: Another process archives it: other.example:1."
    add(1, start=NOW)
    assert sum(retention.carry_out()) == 0
    assert (Event.objects.count(), ArchivedFile.objects.get(), caplog.messages) == (7, row, [])


@pytest.mark.parametrize(
    "maker", ["other.example:1", "{here}:999999999"], ids=["silent for ten minutes", "gone from this host"]
)
def test_what_a_process_has_left_is_taken_over_and_it_may_come_back(archive, maker):
    add(6)
    changed = NOW - timedelta(minutes=11) if "other" in maker else NOW
    left = archive / "Shop/x/2024-01-left.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half of it")
    here = this_process().rpartition(":")[0]
    row = another(maker.format(here=here), changed=changed, path="Shop/x/2024-01-left.parquet")

    assert prune() == 6

    assert not left.exists()
    assert row.move_on(ArchivedFile.State.LISTED) is False  # what the other one makes counts for nothing
    assert [count for _, count in listed()] == [6]


def test_a_process_that_was_taken_for_gone_leaves_what_it_made(archive):
    add(18)
    steps = retention.prune(Series(*SHOP, NOW.replace(hour=0, minute=0)))
    next(steps)
    ArchivedFile.objects.all().delete()

    with pytest.raises(archiving.BusyError, match="Another process has taken over"):
        list(steps)

    assert files_of(archive) == []
    assert Event.objects.count() == 18


def test_a_run_that_is_stopped_leaves_nothing_behind(archive):
    add(18)
    steps = retention.prune(Series(*SHOP, NOW.replace(hour=0, minute=0)))
    next(steps)
    assert len(files_of(archive)) == 1
    steps.close()

    assert (files_of(archive), listed(), Event.objects.count()) == ([], [], 18)


# Faults.


@pytest.mark.usefixtures("partition_count")
def test_what_is_read_back_otherwise_is_not_listed_and_nothing_is_deleted(archive, settings, monkeypatch, caplog):
    settings.RETENTION, settings.RETENTION_MAY_DELETE_MOST = [("*", timedelta(days=1))], True
    add(6)
    add(2, name="click")
    add(2, start=NOW)
    read = parquet.read

    def read_otherwise(file, path):
        for stretch in read(file, path):
            yield stretch._replace(
                values=[value + 1 if len(stretch.values) == 6 else value for value in stretch.values]
            )

    monkeypatch.setattr(parquet, "read", read_otherwise)
    assert sum(retention.carry_out()) == 2  # the other series is pruned all the same

    said = "The file was not read back as it was written: 11.625 as sum and not 5.625."
    assert caplog.messages == [f"Nothing more of Shop/order is pruned: {said}"]
    assert Event.objects.of_series(*SHOP).count() == 8
    assert files_of(archive) == [archive / ArchivedFile.objects.get(name="click").path]
    assert ArchivedFile.objects.get(name="order").fault == said
    found = health.check()
    assert found.is_ready
    assert found.report()["checks"]["archive"] == {
        "ok": False, "detail": "1 series could not be archived and pruned; the worker's log says why.",
    }  # fmt: skip
    assert b"tracking_archive_faults 1.0" in Metrics().exposition(found)
    assert fails("prune_events", "--older-than", "1d") == f"Shop/order is not pruned: {said}"

    monkeypatch.setattr(parquet, "read", read)
    assert sum(retention.carry_out()) == 6
    assert health.check().report()["checks"]["archive"] == {"ok": True}


def test_an_archive_that_is_not_there_stops_all_pruning_and_no_answer_changes(archive, settings, caplog):
    settings.RETENTION, settings.RETENTION_MAY_DELETE_MOST = [("*", timedelta(days=1))], True
    settings.ARCHIVE = f"{archive}/missing"
    add(6)
    add(2, name="click")
    add(1, start=NOW)

    assert sum(retention.carry_out()) == 0

    assert caplog.messages == [f"Nothing more of Shop/click is pruned: {archive}/missing is no directory; make it."]
    assert (Event.objects.count(), Pruned.objects.count(), health.check().archive_faults) == (9, 0, 1)


@pytest.mark.parametrize(
    "rows", [[(1, 1.5), (2, 2.5)], [(1, 2.5), (2, 1.5)], [(1, 1.5)], [(1, 1.5), (3, 2.5)], [(1, 1e308), (2, 1e308)]]
)
def test_content_differs_by_any_bit(rows):
    first, other = parquet.Content(), parquet.Content()
    first.add(parquet.Stretch([1, 2], [1.5, 2.5]))
    other.add(parquet.Stretch(*map(list, zip(*rows, strict=True))))

    assert (first.differs_from(other) is None) == (rows == [(1, 1.5), (2, 2.5)])


def test_a_file_that_is_gone_is_told(archive):
    add(6)
    prune()
    [path] = files_of(archive)
    path.unlink()

    assert fails("export_events", "-", "--archived", "--format", "csv").startswith(
        f"{path.relative_to(archive)} is not in the archive."
    )


# What comes of the files.

ODD = [
    ("Ünïcode 🙂", 'a "name"\\\n', datetime(1, 1, 1, tzinfo=UTC), -0.0),
    ("..x", "%2E", datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), 5e-324),
    ("n" * 255, "ü" * 255, datetime(2024, 2, 29, 0, 0, 0, 250_000, tzinfo=UTC), -1.7976931348623157e308),
    ("n" * 255, "ü" * 255, datetime(2024, 2, 29, 0, 0, 0, 250_000, tzinfo=UTC), -1.7976931348623157e308),
    ("Shop", "order", datetime(2024, 2, 1, tzinfo=UTC), 0.1),
]


@pytest.mark.usefixtures("partition_count")
def test_what_is_imported_from_the_archive_is_what_was_sent_to_the_bit(archive):
    Event.objects.bulk_create(
        Event(namespace=namespace, name=name, timestamp=timestamp, value=value)
        for namespace, name, timestamp, value in ODD
    )
    roll_up_all()
    before, lines = log(), exported()
    run("prune_events", "--older-than", "1d")
    assert (log(), exported()) == ([], lines)

    for path in files_of(archive):
        assert run("import_events", path)[0].startswith(f"Imported {len(content(path))} events ")
        assert run("import_events", path)[0].startswith("Imported 0 events ")

    assert sorted(map(repr, log())) == sorted(map(repr, before))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-", "--format", "parquet"], "-: A Parquet file is not read in order, so it can't come from a pipe."),
        (["{path}", "--encoding", "cp1252"], "{path}: A Parquet file has no encoding; leave --encoding out."),
        (["{path}"], "{path}: No file of an archive, or a damaged one: "),
    ],
)
def test_an_import_says_what_it_can_not_read(tmp_path, arguments, said):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"no Parquet at all")

    assert fails("import_events", *(each.format(path=path) for each in arguments)).startswith(said.format(path=path))


@pytest.mark.usefixtures("partition_count")
def test_an_export_chooses_of_the_archive_as_of_the_log(archive):
    add(18)
    add(4, name="click")
    add(4, namespace="Server")
    every = exported()
    prune(JANUARY + timedelta(days=1))
    prune(name="click")

    assert exported("--namespace", "Sh*", "--name", "order") == [each for each in every if each[:2] == SHOP]
    window = "2024-01-31T03:58:30.25Z", "2024-02-01T04:58:30.25Z"
    assert exported("--from", window[0], "--to", window[1]) == [
        each for each in every if window[0] <= each[2] <= window[1]
    ]


def test_an_export_of_the_archive_needs_one(settings, tmp_path):
    settings.ARCHIVE = ""

    said = "--archived needs ARCHIVE, which says where the archive is."
    assert fails("export_events", tmp_path / "x.csv", "--archived") == said


def test_a_store_of_objects_holds_the_same(settings):
    settings.ARCHIVE = "memory://bucket/archive"
    add(18)
    before = exported_from_objects()
    prune(JANUARY + timedelta(days=1))

    prune()

    assert listed() == [("Shop/order 2024-01 (kept)", 12), ("Shop/order 2024-02 (kept)", 6)]
    assert exported_from_objects() == before
    series_changes.deleted(SeriesKey(*SHOP))
    archiving.remove_replaced()
    assert exported_from_objects() == []


def exported_from_objects():
    files = fsspec.filesystem("memory")
    kept = [each for each in files.find("/bucket/archive") if each.endswith(".parquet")]
    rows = [tuple(row.values()) for each in kept for row in pyarrow.parquet.read_table(files.open(each)).to_pylist()]
    return sorted([*rows, *log()])


# Other names.


@pytest.mark.usefixtures("partition_count")
@pytest.mark.parametrize("is_there", [False, True], ids=["to a new name", "into another series"])
def test_a_series_that_is_renamed_keeps_its_files(archive, is_there):
    new = in_the_partition_of_shop()
    add(18)
    if is_there:
        add(18, name=new.name)
        prune(JANUARY + timedelta(days=1), name=new.name)
    pruned_in_part().close()
    assert ("Shop/order 2024-01 (listed)", 12) in listed()
    before = exported()

    move(SeriesKey(*SHOP), new, merge=is_there)

    assert exported() == sorted((*new, *each[2:]) for each in before)
    assert exported("--name", "order") == []


def in_the_partition_of_shop():
    """Another series, which that of the shop may be renamed to."""
    names = (f"click {number}" for number in range(200))
    same = partitions.partition_of(*SHOP)
    return SeriesKey("Shop", next(name for name in names if partitions.partition_of("Shop", name) == same))


def pruned_in_part(name="order"):
    """The steps of a series' pruning, taken up to the first that deletes: its first file is listed."""
    steps = retention.prune(Series("Shop", name, NOW.replace(hour=0, minute=0)))
    assert next(count for count in steps if count) == 7
    return steps


@pytest.mark.usefixtures("partition_count")
@pytest.mark.parametrize("goes_on", [False, True], ids=["the pruner is killed", "the pruner goes on"])
def test_a_merge_into_a_series_amid_its_deletion_loses_nothing(archive, goes_on):
    new = in_the_partition_of_shop()
    add(18)
    add(18, name=new.name)
    steps = pruned_in_part(new.name)
    if not goes_on:
        steps.close()
    before = exported()

    begun = renaming.move(SeriesKey(*SHOP), new, merge=True)
    list(Mover(begun).steps(lambda: True))
    if goes_on:
        list(steps)
    prune(name=new.name)

    assert Event.objects.count() == 0
    assert exported() == sorted((*new, *each[2:]) for each in before)
    assert len(before) == 36


@pytest.mark.usefixtures("partition_count")
def test_a_merge_into_a_series_whose_file_is_being_written_loses_nothing(archive):
    new = in_the_partition_of_shop()
    add(18)
    add(18, name=new.name)
    steps = retention.prune(Series(new.namespace, new.name, NOW.replace(hour=0, minute=0)))
    while f"{'/'.join(new)} 2024-01 (writing)" not in dict(listed()):
        next(steps)

    move(SeriesKey(*SHOP), new, merge=True)
    with pytest.raises(archiving.BusyError, match="Another process has taken over"):
        list(steps)
    prune(name=new.name)

    assert len(exported("--name", new.name)) == 36


@pytest.mark.usefixtures("partition_count")
@pytest.mark.parametrize("is_renamed", [True, False], ids=["renamed", "deleted"])
def test_a_pruner_begins_no_file_of_a_series_that_is_moved(archive, django_capture_on_commit_callbacks, is_renamed):
    new = in_the_partition_of_shop() if is_renamed else None
    add(18)
    before = exported()
    steps = pruned_in_part()

    with django_capture_on_commit_callbacks(execute=True):
        begun = renaming.move(SeriesKey(*SHOP), new)
    with pytest.raises(archiving.BusyError, match=r"Shop/order is being (renamed to|deleted)"):
        list(steps)

    list(Mover(begun).steps(lambda: True))
    assert exported("--name", "order") == []
    assert exported() == ([] if new is None else sorted((*new, *each[2:]) for each in before))


@pytest.mark.usefixtures("partition_count")
def test_a_file_that_is_listed_amid_a_renaming_is_that_of_the_new_name(archive, monkeypatch):
    new = in_the_partition_of_shop()
    add(18)
    before = exported()
    steps = retention.prune(Series(*SHOP, NOW.replace(hour=0, minute=0)))
    while "Shop/order 2024-01 (writing)" not in dict(listed()):
        next(steps)
    in_the_making = models.ArchivedFileQuerySet.in_the_making

    def listed_meanwhile(files):
        """As another session's commit does, for which the next statement waits."""
        if files.filter(state="writing").exists():
            next(count for count in steps if count)  # it deletes some of what it has listed
        return in_the_making(files)

    monkeypatch.setattr(models.ArchivedFileQuerySet, "in_the_making", listed_meanwhile)
    begun = renaming.move(SeriesKey(*SHOP), new)
    list(Mover(begun).steps(lambda: True))

    assert exported() == sorted((*new, *each[2:]) for each in before)


def move(old, into, *, merge=False):
    begun = renaming.move(old, into, merge=merge)
    for _ in Mover(begun).steps(lambda: True):
        pass
    assert Watermark.objects.moves() == []


def test_a_series_that_is_renamed_is_pruned_once_it_has_its_name(archive):
    add(18)
    new = in_the_partition_of_shop()
    name = new.name
    begun = renaming.move(SeriesKey(*SHOP), new)

    prune()

    assert listed() == []
    assert Event.objects.count() == 18
    for _ in Mover(begun).steps(lambda: True):
        pass
    prune(name=name)
    assert listed() == [(f"Shop/{name} 2024-01 (kept)", 12), (f"Shop/{name} 2024-02 (kept)", 6)]


@pytest.mark.usefixtures("partition_count")
def test_the_files_of_a_series_that_is_deleted_are_removed(archive, django_capture_on_commit_callbacks):
    add(18)
    add(4, name="click")
    prune()
    prune(name="click")

    with django_capture_on_commit_callbacks(execute=True):
        move(SeriesKey(*SHOP), None)

    assert listed() == [("Shop/click 2024-01 (kept)", 4)]
    assert len(files_of(archive)) == 1
    assert len(list(archive.rglob("*"))) == 3  # no empty directory is left either


def test_a_file_is_small(archive, monkeypatch):
    monkeypatch.setattr(archiving, "_BATCH_EVENTS", 50_000)
    add(500, start=datetime(2024, 2, 1, tzinfo=UTC), step=timedelta(seconds=31))

    prune()

    assert ArchivedFile.objects.get().bytes / 500 < 4


def test_archiving_stops_where_the_log_has_other_events_than_the_file(archive, monkeypatch):
    add(6)
    monkeypatch.setattr(archiving, "_in_order", lambda events: iter([parquet.Stretch([1], [1.0])]))

    with pytest.raises(ArchiveError, match=r"^The file holds 1 events, of 6 in the log\.$"):
        prune()

    assert (Event.objects.count(), files_of(archive)) == (6, [])
    assert call_command("verify_rollups", stdout=StringIO()) is None


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", None),
        ("{directory}", None),
        ("memory://bucket", None),
        ("{directory}/missing", "{directory}/missing is no directory; make it."),
        ("/proc", "FileNotFoundError: [Errno 2] No such file or directory: '/proc/"),
        ("nothing://bucket", "ValueError: Protocol not known: nothing"),
        ("s3://bucket", "ImportError: Install s3fs to access S3"),
    ],
)
def test_an_archive_that_can_not_be_is_an_error(archive, settings, address, reason):
    settings.ARCHIVE = address.format(directory=archive)

    messages = [(type(each), each.id, each.msg) for each in checks.check_archive(None)]

    if reason is None:
        assert messages == []
        return
    [(kind, number, message)] = messages
    assert (kind, number) == (Error, "events.E009")
    said = f"ARCHIVE can't be written, so no events are deleted for their age: {reason.format(directory=archive)}"
    assert message.startswith(said)


def test_an_archive_that_is_away_for_now_is_warned_of(settings, monkeypatch):
    settings.ARCHIVE = "memory://bucket"

    class AwayError(Exception):
        """As the libraries of stores raise, each its own."""

    def away(*arguments, **options):
        raise AwayError("no route to host\nand more")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", away)

    said = "ARCHIVE can't be written, so no events are deleted for their age: AwayError: no route to host"
    assert [(type(each), each.id, each.msg) for each in checks.check_archive(None)] == [(Warned, "events.W010", said)]


@pytest.mark.parametrize("name", ["pyarrow", "fsspec"])
def test_a_package_that_is_missing_is_named(settings, monkeypatch, name):
    settings.ARCHIVE = "memory://bucket"
    monkeypatch.setitem(sys.modules, name, None)

    said = f"{name} is missing; install it: pip install -r requirements-archive.txt"
    assert [each.msg.rpartition("age: ")[2] for each in checks.check_archive(None)] == [said]


@pytest.mark.parametrize("command", ["prune_events", "roll_up"])
def test_what_prunes_looks_at_the_archive_first(command):
    assert "archive" in load_command_class("events", command).requires_system_checks
