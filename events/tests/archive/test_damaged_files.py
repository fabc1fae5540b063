"""A file of the archive that is damaged: it is named, and stands in the way of its own series alone."""

from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest
from django.utils import timezone

from events.archive import parquet
from events.archive.models import ArchivedFile
from events.archive.store import ArchiveError
from events.calendar.timestamps import microseconds_of
from events.models import Event
from events.tests.support.commands import fails
from events.tests.support.rolling_up import roll_up_all
from events.worker import retention

NOW = datetime(2024, 6, 1, 12, 30, tzinfo=UTC)
START = datetime(2024, 1, 3, tzinfo=UTC)


@pytest.fixture(autouse=True)
def archive(db, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    settings.ARCHIVE = str(tmp_path)
    settings.RETENTION, settings.RETENTION_MAY_DELETE_MOST = [("*", timedelta(days=30))], True
    return tmp_path


def add(name, count, start=START):
    Event.objects.bulk_create(
        Event(namespace="Shop", name=name, timestamp=start + timedelta(hours=number), value=number / 8)
        for number in range(count)
    )


def beginning(data):
    return data[:20]


def zeros(data):
    """As where a block of the disk is lost."""
    return data[:4] + bytes(296) + data[300:]


def name_of_a_column(data):
    """A bit of it."""
    return data.replace(b"timestamp", b"\xf4imestamp")


REASONS = {
    beginning: "Parquet magic bytes not found in footer. Either the file is corrupted or this is not a parquet file.",
    zeros: "Couldn't deserialize thrift: TProtocolException: Invalid data",
    name_of_a_column: "'utf-8' codec can't decode byte 0xf4 in position 0: invalid continuation byte",
}


@pytest.fixture(params=REASONS)
def damaged(request, archive):
    """What is said of a file of a series, while another series has a whole one; both have late events."""
    return f"{damage(archive, request.param)}: No file of an archive, or a damaged one: {REASONS[request.param]}"


def damage(archive, change):
    add("click", 40)
    add("order", 40)
    add("order", 1, NOW)
    roll_up_all()
    assert sum(retention.carry_out()) == 80
    path = ArchivedFile.objects.get(name="click").path
    (archive / path).write_bytes(change((archive / path).read_bytes()))
    ArchivedFile.objects.update(changed=NOW - timedelta(days=1))
    add("click", 1, START + timedelta(days=3))
    add("order", 2, START + timedelta(days=3))
    roll_up_all()
    return path


def test_other_series_are_pruned_all_the_same(damaged, caplog):
    assert sum(retention.carry_out()) == 3

    assert caplog.messages == [f"Nothing more of Shop/click is pruned: {damaged}"]
    assert [(str(file), file.events, file.fault) for file in ArchivedFile.objects.order_by("name", "pk")] == [
        ("Shop/click 2024-01 (kept)", 40, ""),
        ("Shop/click 2024-01 (kept)", 1, ""),
        ("Shop/click 2024-05 (failed)", 0, damaged),
        ("Shop/order 2024-01 (kept)", 42, ""),
    ]
    assert list(Event.objects.values_list("name", "timestamp")) == [("order", NOW)]


def test_commands_name_it(damaged, archive):
    assert fails("export_events", "-", "--archived", "--format", "csv") == damaged
    assert fails("import_events", archive / damaged.partition(":")[0]).endswith(damaged)


@pytest.mark.parametrize(
    ("divisor", "count", "unit", "reason"),
    [
        (1_000, 40, 8, "{} holds events that are not of its time; it may be damaged."),
        (1, 39, 8, "{} doesn't hold the 40 events that it held; it may be damaged."),
        (1, 40, 4, "{} doesn't hold the 40 events that it held; it may be damaged."),
    ],
)
def test_a_file_with_other_events_than_it_held_is_not_merged(archive, caplog, divisor, count, unit, reason):
    """As where a disk has changed what describes them, the type of timestamps say."""
    start, hour = microseconds_of(START), 3_600_000_000
    instants = [(start + number * hour) // divisor for number in range(count)]
    other = written(parquet.Stretch(instants, [number / unit for number in range(count)]))
    path = damage(archive, lambda data: other)

    assert sum(retention.carry_out()) == 3
    assert caplog.messages == [f"Nothing more of Shop/click is pruned: {reason.format(path)}"]
    assert (archive / path).read_bytes() == other
    kept = ArchivedFile.objects.filter(name="click").kept()
    assert [(str(file), file.events) for file in kept] == [
        ("Shop/click 2024-01 (kept)", 40), ("Shop/click 2024-01 (kept)", 1),
    ]  # fmt: skip


def test_other_months_of_the_series_are_archived_and_merged(archive, caplog, monkeypatch):
    monkeypatch.setattr(retention, "_MONTHS_A_SHARE", 1)
    path = damage(archive, beginning)
    for month in (2, 3, 4):
        add("click", 1, datetime(2024, month, 1, tzinfo=UTC))
    roll_up_all()
    assert sum(retention.carry_out()) == 6
    ArchivedFile.objects.update(changed=NOW - timedelta(days=1))
    for month in (2, 3):
        add("click", 1, datetime(2024, month, 2, tzinfo=UTC))
    roll_up_all()

    assert sum(retention.carry_out()) == 2
    damaged = f"No file of an archive, or a damaged one: {REASONS[beginning]}"
    assert caplog.messages == [f"Nothing more of Shop/click is pruned: {path}: {damaged}"] * 2
    kept = ArchivedFile.objects.filter(name="click").kept().order_by("month", "pk")
    assert [(str(file), file.events) for file in kept] == [
        ("Shop/click 2024-01 (kept)", 40), ("Shop/click 2024-01 (kept)", 1),
        ("Shop/click 2024-02 (kept)", 2), ("Shop/click 2024-03 (kept)", 2), ("Shop/click 2024-04 (kept)", 1),
    ]  # fmt: skip


def written(stretch):
    file = BytesIO()
    writer = parquet.Writer(file, "Shop", "click")
    writer.write(stretch)
    writer.close()
    return file.getvalue()


def test_no_byte_of_events_that_a_disk_has_changed_gives_others():
    stretch = parquet.Stretch([*range(0, 40_000_000, 1_000_000)], [number / 8 for number in range(40)])
    data = written(stretch)
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")  # where the events end, and what describes them begins
    found = {"as written": 0, "refused": 0}

    for place in range(end):
        changed = bytearray(data)
        changed[place] ^= 1
        try:
            [(instants, values)] = parquet.read(BytesIO(changed), "a.parquet")
        except ArchiveError:
            found["refused"] += 1
        else:
            assert (instants, values) == stretch
            found["as written"] += 1  # a byte of the names, which the list says too

    assert found["refused"] > 100
