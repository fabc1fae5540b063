"""An archive that is away: no file is forgotten that is still to be removed, and none is taken to be gone."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from events import renaming
from events.archive import archiving, faults
from events.archive.models import ArchivedFile
from events.archive.store import ArchiveAwayError
from events.log.series import SeriesKey
from events.models import Event
from events.tests.support.commands import fails
from events.tests.support.rolling_up import roll_up_all
from events.worker import retention
from events.worker.moving import Mover
from events.worker.retention import Series

NOW = datetime(2024, 6, 1, 12, 30, tzinfo=UTC)
SHOP = SeriesKey("Shop", "order")


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(timezone, "now", lambda: NOW)


@pytest.fixture(autouse=True)
def archive(db, settings, tmp_path):
    directory = tmp_path / "archive"
    directory.mkdir()
    settings.ARCHIVE = str(directory)
    return directory


def add(count, name="order"):
    start = datetime(2024, 1, 30, tzinfo=UTC)
    Event.objects.bulk_create(
        Event(namespace="Shop", name=name, timestamp=start + timedelta(hours=5) * number, value=number / 8)
        for number in range(count)
    )
    roll_up_all()


def pruning(name="order"):
    return retention.prune(Series("Shop", name, NOW.replace(hour=0, minute=0)))


def files_of(archive):
    return sorted(str(path.relative_to(archive)) for path in archive.rglob("*") if path.is_file())


def rows():
    return [(str(file), file.path) for file in ArchivedFile.objects.order_by("month", "pk")]


def unset(settings, archive):
    settings.ARCHIVE = ""


def take_away(settings, archive):
    archive.rename(f"{archive} away")


def take_away_objects(settings, archive):
    settings.ARCHIVE = f"file://{archive}"
    take_away(settings, archive)


def bring_back(settings, archive):
    settings.ARCHIVE = str(archive)
    if not archive.exists():
        archive.with_name("archive away").rename(archive)


@pytest.mark.parametrize("go_away", [unset, take_away, take_away_objects])
def test_the_files_of_a_series_that_is_deleted_meanwhile_are_removed_once_it_is_back(
    archive, settings, django_capture_on_commit_callbacks, go_away
):
    add(18)
    assert sum(pruning()) == 18
    paths = files_of(archive)
    assert len(paths) == 2

    go_away(settings, archive)
    with django_capture_on_commit_callbacks(execute=True):
        begun = renaming.move(SHOP, None)
    list(Mover(begun).steps(lambda: True))
    assert list(retention.carry_out()) == []

    bring_back(settings, archive)
    assert [state for state, _ in rows()] == ["Shop/order 2024-01 (replaced)", "Shop/order 2024-02 (replaced)"]
    assert sorted(path for _, path in rows()) == files_of(archive) == paths
    assert list(retention.carry_out()) == [0, 0]  # as the worker does each hour
    assert (rows(), files_of(archive)) == ([], [])


def test_what_was_written_as_it_went_away_is_removed_once_it_is_back(archive, settings):
    add(18)
    steps = pruning()
    while not files_of(archive):
        next(steps)
    [(_, path)] = rows()

    take_away(settings, archive)
    steps.close()

    bring_back(settings, archive)
    assert rows() == [("Shop/order 2024-01 (replaced)", path)]
    assert files_of(archive) == [f"{path}.part"]
    archiving.remove_replaced()
    assert (rows(), files_of(archive), Event.objects.count()) == ([], [], 18)


@pytest.mark.parametrize("is_of_objects", [False, True])
def test_a_file_that_is_gone_already_is_forgotten(archive, settings, is_of_objects):
    """As where the process was killed once it had removed the file."""
    if is_of_objects:
        settings.ARCHIVE = f"file://{archive}"
    add(3)
    assert sum(pruning()) == 3
    ArchivedFile.objects.update(state=ArchivedFile.State.REPLACED)
    (archive / files_of(archive)[0]).unlink()

    archiving.remove_replaced()

    assert (rows(), files_of(archive)) == ([], [])


def test_what_reads_a_file_says_that_the_archive_is_away_and_not_the_file(archive, settings):
    add(18)
    add(3, name="click")
    sum(pruning())
    steps = pruning("click")
    assert next(count for count in steps if count) == 3  # its file is listed
    steps.close()
    take_away(settings, archive)
    said = f"{archive} is no directory; make it."

    assert fails("export_events", "-", "--archived", "--format", "csv") == said
    [listed] = ArchivedFile.objects.listed()
    with pytest.raises(archiving.ArchiveError) as raised:
        archiving.check_there(listed)
    assert str(raised.value) == f"{listed.path} can't be read, so its events stay in the log: {said}"


@pytest.mark.parametrize("address", ["{archive}", "memory://faults"])
def test_what_was_wrong_with_a_series_is_forgotten_with_it(
    archive, settings, django_capture_on_commit_callbacks, address
):
    """No file belongs to it, and the archive's own directory is none."""
    settings.ARCHIVE = address.format(archive=archive)
    add(3)
    add(3, name="click")
    faults.note("Shop", "order", NOW, ArchiveAwayError("The store doesn't answer."))
    assert [(str(file), file.path) for file in ArchivedFile.objects.all()] == [("Shop/order 2024-06 (failed)", "")]

    with django_capture_on_commit_callbacks(execute=True):
        begun = renaming.move(SHOP, None)
    list(Mover(begun).steps(lambda: True))

    assert rows() == []
    assert sum(pruning("click")) == 3
    assert [state for state, _ in rows()] == ["Shop/click 2024-01 (kept)"]
