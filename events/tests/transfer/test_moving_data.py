"""``manage.py export_events`` and ``import_events``: every event arrives once and as it was."""

import csv
import gzip
import json
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from datetime import datetime
from io import StringIO

import psycopg2
import pytest
from django.db import OperationalError

from events.database import partitions
from events.ingest import decoding
from events.models import Bookmark, Event
from events.tests.support import originals, service
from events.tests.support.commands import fails, run
from events.tests.support.errors import NO_TIMESTAMP
from events.tests.support.examples import IS_THOROUGH
from events.tests.support.service import PROJECT_DIR
from events.tests.support.waiting import wait_until
from events.tests.transfer.logs import lines, log
from events.transfer import files, importing
from events.transfer.import_formats import NDJSON

ODD = [
    ("Shop", "order", "2020-11-12T11:10:00Z", 142.0),
    ('quoted "Shop", with a \\ and a\nline', "ünïcode 🎉\t|", "2020-11-12T11:10:00.000001Z", 0.1),
    ("\\.", " blanks ", "0001-01-01T00:00:00Z", -1.7976931348623157e308),
    ("Shop", "\x01\x02\r\x03", "9999-12-31T23:59:59.999999Z", 5e-324),
    ("Shop", "order", "1969-12-31T23:59:59.5Z", 1 / 3),
    ("Shop", "order", "1969-12-31T23:59:59.5Z", 1e22),
    ("shop", "null", "2024-02-29T00:00:00Z", -0.0),
]
FORMATS = ["csv", "csv.gz", "ndjson", "ndjson.gz"]


def store(rows):
    Event.objects.bulk_create(
        Event(namespace=namespace, name=name, timestamp=datetime.fromisoformat(timestamp), value=value)
        for namespace, name, timestamp, value in rows
    )


def in_order_of_export(rows):
    """The rows in the order of an export: one partition after the other, each in the order that its events came."""
    return sorted(rows, key=lambda row: partitions.partition_of(*row[:2]) or 0)


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_exported_is_imported_as_it_was(db, tmp_path, form):
    store(ODD)
    before, path = in_order_of_export(log()), tmp_path / f"events.{form}"

    assert run("export_events", path)[1].startswith("Exported 7 events in ")
    Event.objects.all().delete()
    output, errors = run("import_events", path)

    assert (log(), errors) == (before, "")
    assert [str(value) for *_, value in log()] == [str(value) for *_, value in before]  # the sign of zero too
    assert output.startswith("Imported 7 events in ")
    assert list(tmp_path.iterdir()) == [path]


def test_the_lines_are_those_that_the_api_takes(db, tmp_path, client_with_scopes):
    store(ODD)
    before = in_order_of_export(log())
    run("export_events", tmp_path / "events.ndjson")
    body = (tmp_path / "events.ndjson").read_bytes()
    Event.objects.all().delete()

    answer = client_with_scopes("write").post("/api/track/", body, content_type="application/x-ndjson")

    assert (answer.status_code, answer.json(), log()) == (201, {"accepted": 7}, before)
    assert [json.loads(line)["timestamp"] for line in body.splitlines()] == [row[2] for row in in_order_of_export(ODD)]


@pytest.mark.only_on("postgresql")  # SQLite stores no sign of zero
def test_zero_keeps_its_sign_for_readers_to_whom_an_integer_has_none(db, tmp_path):
    (tmp_path / "events.csv").write_text("namespace,name,timestamp,value\nS,n,+1,-0.0\nS,-0\x02-0,+1,0\n")
    run("import_events", tmp_path / "events.csv")

    run("export_events", tmp_path / "events.ndjson")

    assert (tmp_path / "events.ndjson").read_text() == (
        '{"namespace":"S","name":"n","timestamp":"1970-01-01T00:00:01Z","value":-0.0}\n'
        '{"namespace":"S","name":"-0\\u0002-0","timestamp":"1970-01-01T00:00:01Z","value":0}\n'
    )


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_lines_are_whole_however_many_there_are(db, tmp_path, form):
    events = [
        (f"S{number % 7}" * (number % 40 + 1), "n", "2024-02-29T00:00:00.25Z", number / 8) for number in range(5000)
    ]
    store(events)

    run("export_events", tmp_path / f"events.{form}")

    text = (tmp_path / f"events.{form}").read_text()
    if form == "csv":
        found = [tuple(record) for record in csv.reader(StringIO(text))]
        assert found.pop(0) == ("namespace", "name", "timestamp", "value")
    else:
        found = [tuple(json.loads(line).values()) for line in text.splitlines()]
    assert [(*names, float(value)) for *names, value in found] == in_order_of_export(events)


@pytest.mark.parametrize(
    ("filters", "chosen"),
    [
        ([], [0, 1, 2, 3, 4, 5, 6]),
        (["--namespace", "Shop"], [0, 3, 4, 5]),
        (["--namespace", "sh*"], [6]),
        (["--namespace", "none"], []),
        (["--name", "order"], [0, 4, 5]),
        (["--from", "1969-12-31T23:59:59.5Z", "--to", "1605179400"], [0, 4, 5]),
        (["--from", "2024-02-29"], [3, 6]),
    ],
)
def test_filters_choose_what_is_exported(db, tmp_path, filters, chosen):
    store(ODD)

    run("export_events", tmp_path / "events.ndjson", *filters)

    found = [json.loads(line) for line in (tmp_path / "events.ndjson").read_text().splitlines()]
    assert [tuple(event.values()) for event in found] == in_order_of_export([ODD[number] for number in chosen])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["events"], "The format must be told by --format or a suffix: csv, csv.gz, ndjson, ndjson.gz."),
        (["/nowhere/events.csv"], "[Errno 2] No such file or directory: '/nowhere/events.csv."),
        (["-", "--from", "yesterday"], "Error: argument --from: Must be ISO 8601 text such as"),
        (["-", "--format", "xml"], "Error: argument --format: invalid choice: 'xml'"),
    ],
)
def test_an_export_says_what_it_can_not_do(db, arguments, said):
    assert fails("export_events", *arguments).startswith(said)


def test_a_failed_export_leaves_no_file_and_the_old_one(db, tmp_path, monkeypatch):
    path = tmp_path / "events.csv"
    path.write_text("old")
    store(ODD)
    monkeypatch.setattr("events.transfer.exporting.COLUMNS", (1,))

    with pytest.raises(TypeError):
        run("export_events", path)

    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])


@pytest.mark.parametrize("form", ["ndjson", "ndjson.gz"])
@pytest.mark.parametrize("is_first_longer", [False, True])
def test_of_two_exports_to_one_path_each_gives_it_a_whole_file(tmp_path, form, is_first_longer):
    path = tmp_path / f"events.{form}"
    first, second = (lines(2000 if is_longer else 2) for is_longer in (is_first_longer, not is_first_longer))

    def read():
        content = path.read_bytes()
        return (gzip.decompress(content) if form.endswith(".gz") else content).decode()

    with files.writing(str(path), form) as slow:
        slow.write(second[:50].encode())
        slow.flush()
        with files.writing(str(path), form) as quick:
            quick.write(first.encode())
        assert read() == first
        assert len(list(tmp_path.iterdir())) == 2  # the slow one goes on
        slow.write(second[50:].encode())

    assert read() == second
    assert list(tmp_path.iterdir()) == [path]


def test_an_export_that_fails_leaves_the_draft_of_another_alone(tmp_path):
    path = tmp_path / "events.ndjson"
    with files.writing(str(path), "ndjson") as file:
        with pytest.raises(OSError, match="full"), files.writing(str(path), "ndjson"):
            raise OSError("full")
        file.write(b"whole")

    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"whole", [path])


def test_an_exported_file_has_the_permissions_of_any_other(db, tmp_path):
    (tmp_path / "other").touch()

    run("export_events", tmp_path / "events.ndjson")

    assert (tmp_path / "events.ndjson").stat().st_mode == (tmp_path / "other").stat().st_mode


# Bad lines.

BAD = [
    ('{"namespace":"S","name":"n","timestamp":1,"value":"1"}', "value: Must be a JSON number, without quotes."),
    ('{"namespace":"S","name":"n","timestamp":1}', "value: This field is required."),
    ('{"namespace":"a/b","name":"","timestamp":1,"value":1}', "namespace: This field may not contain “/” nor be “.” or “..”. name: This field may not be blank."),
    ('{"namespace":"S","name":"n","timestamp":1,"value":1,"value":2}', "value: This field may be given only once."),
    ("[]", "non_field_errors: Invalid data. Expected a dictionary, but got list."),
    ("{", "JSON parse error - Expecting property name enclosed in double quotes: line 2 column 1 (char 2)."),
    ("\xff", "It is not UTF-8 from its byte 1 on: tell its encoding by --encoding, such as cp1252."),
]  # fmt: skip
BAD_RECORDS = [
    ("S,n,1", "3 fields where the header has 4."),
    ("S,n,+1,NaN", "value: A valid number is required."),
    ("S,n,+1,1_0", "value: A valid number is required."),
    ("S,n,12-11-2020,1", f"timestamp: {NO_TIMESTAMP}"),
    ("S,n,44147.46,1", "timestamp: “44147.46” may mean a spreadsheet's day, 2020-11-12T11:02:24Z, or unix time, 1970-01-01T12:15:47.460000Z. Write 2020-11-12T11:02:24Z for the first, +44147.46 (in a URL %2B44147.46) for the second."),
    (",n,+1,1", "namespace: This field may not be blank."),
    (f"S,{'n' * 256},+1,1", "name: Ensure this field has no more than 255 characters."),
    ("S,\xff,+1,1", "It is not UTF-8 from its byte 1 on: tell its encoding by --encoding, such as cp1252."),
    ('S,"n"x,+1,1', "',' expected after '\"'."),
]  # fmt: skip
HEADERS = {"ndjson": "", "csv": "name,value,timestamp,namespace\n"}
GOOD = {"ndjson": lines(1), "csv": "n,0,1600000000,S\n"}


def content(form, count):
    """So many events as a file, with the header that the format has."""
    if form == "ndjson":
        return lines(count)
    return HEADERS[form] + "".join(f"n,{number},{1_600_000_000 + number},S\n" for number in range(count))


CASES = [("ndjson", *case) for case in BAD] + [
    ("csv", ",".join([(fields := record.split(","))[1], *fields[3:], fields[2], fields[0]]), reason)
    for record, reason in BAD_RECORDS
]


@pytest.mark.parametrize(("form", "bad", "reason"), CASES)
def test_a_bad_line_stops_the_import_after_those_before_it(db, tmp_path, short_steps, form, bad, reason):
    path = tmp_path / f"events.{form}"
    head = HEADERS[form] + 4 * GOOD[form] + "\n"
    path.write_bytes((head + bad + "\n" + 4 * GOOD[form]).encode("latin-1"))
    number = head.count("\n") + 1

    assert fails("import_events", path) == f"{path}: Line {number}: {reason} The lines before it are imported."
    assert Event.objects.count() == 4
    assert Bookmark.objects.get().lines == number - 1

    path.write_bytes((head + 5 * GOOD[form]).encode("latin-1"))
    assert run("import_events", path)[0].startswith("Imported 5 events in ")
    assert Event.objects.count() == 9


@pytest.mark.parametrize(("form", "bad", "reason"), CASES)
def test_bad_lines_go_to_the_rejects_as_they_are(db, tmp_path, short_steps, form, bad, reason):
    path, rejects = tmp_path / f"events.{form}", tmp_path / f"rejects.{form}"
    head = HEADERS[form] + 4 * GOOD[form] + "\n"
    path.write_bytes((head + bad + "\n" + 2 * GOOD[form] + bad + "\n" + GOOD[form]).encode("latin-1"))
    number = head.count("\n") + 1

    output, errors = run("import_events", path, "--rejects", rejects)

    assert errors.splitlines() == [f"Line {number}: {reason}", f"Line {number + 3}: {reason}"]
    assert output.endswith(f" Rejected 2, which are in {rejects}.\n")
    assert Event.objects.count() == 7
    assert rejects.read_bytes() == (HEADERS[form] + 2 * (bad + "\n")).encode("latin-1")
    assert fails("import_events", rejects).startswith(f"{rejects}: Line {1 + bool(HEADERS[form])}: {reason}")


def test_a_record_of_several_lines_is_told_by_its_first(db, tmp_path, short_steps):
    path, rejects = tmp_path / "events.csv", tmp_path / "rejects.csv"
    good, bad = 'S,"a\nb\r\nc",2024-01-01,1\r\n', 'S,"a\n\nb",2024-01-01,x\n'
    path.write_text(f"namespace,name,timestamp,value\r\n{good}{bad}{good}{good}{bad}", newline="")

    _, errors = run("import_events", path, "--rejects", rejects)

    assert [line.split(":")[0] for line in errors.splitlines()] == ["Line 5", "Line 14"]
    assert {name for _, name, _, _ in log()} == {"a\nb\r\nc"}
    assert rejects.read_bytes() == f"namespace,name,timestamp,value\r\n{bad}{bad}".encode()


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff" + lines(2)])
def test_blank_lines_and_a_byte_order_mark_are_no_events(db, tmp_path, content):
    (tmp_path / "events.ndjson").write_text(content)

    assert run("import_events", tmp_path / "events.ndjson")[0].startswith(f"Imported {content.count('S')} events")


def test_a_damaged_packed_file_is_told(db, tmp_path):
    path = tmp_path / "events.ndjson.gz"
    path.write_bytes(gzip.compress(lines(1000).encode())[:-20])
    assert "end-of-stream" in fails("import_events", path)
    path.write_bytes(b"{}")
    assert "Not a gzipped file" in fails("import_events", path)
    packed = bytearray(gzip.compress(lines(1000).encode()))
    packed[10] = 7  # no block is of this type
    path.write_bytes(packed)
    assert f"{path}: Error -3 while decompressing data: invalid block type" in fails("import_events", path)


def test_text_is_read_as_in_a_form(db, tmp_path):
    """The fast way of CSV gives the serializer's rows, or none."""
    texts = ["1", "-1.5e3", "+.5", "1.", " 1", "1_0", "inf", "1e999", "0x1", "", "²"]
    instants = ["2020-11-12", "2020-11-12T11:10:00+01:00", "2020-11-12T11:10:00 01:00", "20201112T1110", "2020-W46-4",
                "1605179400", "1605179400000", "-1.5", "2020-11-12T24:00:00Z", "2020-11-12t11:10:00.1234567z", "1e3", "now", ""]  # fmt: skip
    names = ["n", " n", " ", "", "a/b", "..", "x" * 255, "x" * 256, "\0", "\udcff", "é"]
    cases = [("S", "n", "1", text) for text in texts] + [("S", "n", text, "1") for text in instants]
    for case in cases + [("S", text, "1", "1") for text in names] + [(text, "n", "1", "1") for text in names]:
        try:
            expected = decoding.decode_text(dict(zip(("namespace", "name", "timestamp", "value"), case, strict=True)))
        except Exception:
            with pytest.raises(decoding.DECODE_ERRORS):
                decoding.decode_texts([case])
        else:
            assert decoding.decode_texts([case]) == [expected]


# Interrupted, and run again.


def interrupt_at(monkeypatch, step):
    """Have an import be interrupted in that step, counted from 0, before what it stores is committed."""
    append, turns = importing.append.append, []

    def fail(rows):
        append(rows)
        turns.append(rows)
        if len(turns) == step + 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(importing.append, "append", fail)


def test_an_import_that_was_done_does_nothing_again(db, tmp_path, short_steps):
    path = tmp_path / "events.ndjson"
    path.write_text(lines(10))
    run("import_events", path)

    output, errors = run("import_events", path)

    assert (Event.objects.count(), errors) == (10, "10 events were imported before.\n")
    assert output.startswith("Imported 0 events in ")
    run("import_events", path, "--restart")
    assert Event.objects.count() == 20


def test_of_a_file_that_grew_only_the_rest_is_imported(db, tmp_path, short_steps):
    path = tmp_path / "events.ndjson"
    path.write_text(lines(10))
    run("import_events", path)
    path.write_text(lines(14))

    run("import_events", path)

    assert [value for *_, value in log()] == list(range(14))


@pytest.mark.parametrize("count", [1, 9, 10])
def test_of_a_file_that_grew_past_a_line_without_an_end_only_the_rest_is_imported(db, tmp_path, short_steps, count):
    path = tmp_path / "events.ndjson"
    for end in ("\n", "\r\n"):
        path.write_text(lines(count).removesuffix("\n"))
        run("import_events", path, "--bookmark", repr(end))
        path.write_bytes(lines(14).encode().replace(b"\n", end.encode()) if count == 1 else lines(14).encode())
        run("import_events", path, "--bookmark", repr(end))

        assert [value for *_, value in log()] == list(range(14))
        Event.objects.all().delete()


@pytest.mark.parametrize("count", [1, 9])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_of_one_in_a_wide_encoding_that_grew_so_only_the_rest_is_imported(db, tmp_path, short_steps, encoding, count):
    path = tmp_path / "events.ndjson"
    path.write_text(lines(count).removesuffix("\n"), encoding)
    run("import_events", path)
    path.write_text(lines(14), encoding)

    run("import_events", path)

    assert [value for *_, value in log()] == list(range(14))


def test_of_a_done_file_that_is_another_in_its_middle_nothing_is_stored(db, tmp_path, short_steps):
    path = tmp_path / "events.ndjson"
    path.write_text(lines(6))
    run("import_events", path)
    path.write_text(lines(3) + lines(1, start=100) + lines(4, start=3))

    assert "It doesn't begin with the 6 lines that were imported before. Import all of it" in fails(
        "import_events", path
    )

    assert [value for *_, value in log()] == list(range(6))


@pytest.mark.parametrize("form", ["ndjson", "csv"])
@pytest.mark.parametrize("count", [1, 3, 6, 9])
def test_of_a_done_file_that_has_become_shorter_nothing_is_stored(db, tmp_path, short_steps, form, count):
    path = tmp_path / f"events.{form}"
    path.write_text(content(form, 10))
    run("import_events", path)
    path.write_text(content(form, count))

    number = 10 + bool(HEADERS[form])
    for _ in range(2):
        assert fails("import_events", path) == (
            f"{path}: It doesn't begin with the {number} lines that were imported before."
            " Import all of it with --restart, or choose another --bookmark."
        )

    path.write_text(content(form, 12))
    run("import_events", path)
    assert [value for *_, value in log()] == list(range(12))


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_a_done_file_that_is_empty_for_a_while_is_not_forgotten(db, tmp_path, short_steps, form):
    path = tmp_path / f"events.{form}"
    path.write_text(content(form, 10))
    run("import_events", path)
    path.write_text(HEADERS[form])

    output, errors = run("import_events", path)

    assert (output.split(" in ")[0], errors) == ("Imported 0 events", "10 events were imported before.\n")
    path.write_text(content(form, 12))
    run("import_events", path)
    assert [value for *_, value in log()] == list(range(12))


def test_another_file_by_the_name_of_a_done_one_is_imported_whole(db, tmp_path, short_steps):
    path = tmp_path / "events.ndjson"
    path.write_text(lines(10))
    run("import_events", path)
    for other in (lines(5, start=100), lines(3, start=200) + lines(1), lines(20, start=300)):
        path.write_text(other)
        assert run("import_events", path)[0].startswith(f"Imported {len(other.splitlines())} events in ")

    assert Event.objects.count() == 39


@pytest.mark.parametrize("cut", ["{", "\n\nbad\n"])
def test_a_done_file_is_still_known_after_a_run_that_stored_nothing(db, tmp_path, short_steps, cut):
    path = tmp_path / "events.ndjson"
    path.write_text(lines(10))
    run("import_events", path)
    path.write_text(cut)
    fails("import_events", path)
    path.write_text(lines(12))

    assert run("import_events", path)[0].startswith("Imported 2 events in ")
    assert [value for *_, value in log()] == list(range(12))


@pytest.mark.parametrize("form", ["ndjson", "csv"])
@pytest.mark.parametrize("interrupted_at", [0, 1, 2, 3])
def test_an_interrupted_import_neither_loses_nor_repeats(db, tmp_path, short_steps, monkeypatch, form, interrupted_at):
    path, rejects = tmp_path / f"events.{form}", tmp_path / f"rejects.{form}"
    records = {
        "ndjson": lines(10).splitlines(keepends=True),
        "csv": [f"S,n,{1_600_000_000 + number},{number}\n" for number in range(10)],
    }[form]
    records[4:5] = ["bad\n", records[4], "worse\n"]
    path.write_text(("namespace,name,timestamp,value\n" if form == "csv" else "") + "".join(records))
    interrupt_at(monkeypatch, interrupted_at)
    said = fails("import_events", path, "--rejects", rejects)
    stored = Event.objects.count()
    assert said == f"Interrupted after {stored} events; run it again to go on."

    run("import_events", path, "--rejects", rejects)

    assert [value for *_, value in log()] == list(range(10))
    assert [line for line in rejects.read_text().splitlines() if "namespace" not in line] == ["bad", "worse"]
    assert (Bookmark.objects.get().rejected, Bookmark.objects.get().is_done) == (2, True)


def test_an_interrupted_import_does_not_go_on_with_something_else(db, tmp_path, short_steps):
    path = tmp_path / "events.ndjson"
    path.write_text(lines(6) + "bad\n")
    fails("import_events", path)
    path.write_text(lines(6, start=1))

    assert fails("import_events", path) == (
        f"{path}: It doesn't begin with the 6 lines that were imported before."
        " Import all of it with --restart, or choose another --bookmark."
    )
    assert Event.objects.count() == 6
    run("import_events", path, "--bookmark", "another")
    assert Event.objects.count() == 12


def test_two_imports_of_one_source_do_not_both_store_it(db, tmp_path, short_steps):
    path = tmp_path / "events.ndjson"
    path.write_text(lines(9))
    bookmark = importing.bookmark_of("here", restart=False)
    with path.open("rb") as first, path.open("rb") as second:
        steps = importing.steps(NDJSON(first, "utf-8"), bookmark, None)
        others = importing.steps(NDJSON(second, "utf-8"), Bookmark.objects.get(), None)
        for each in (steps, others, steps):
            next(each)
        with pytest.raises(importing.ImportFailed, match="Another import"):
            next(others)
        list(steps)
    assert Event.objects.count() == 9


@pytest.mark.parametrize("with_rejects", [False, True])
def test_nor_do_they_where_another_one_by_its_name_was_done(db, tmp_path, short_steps, with_rejects):
    path = tmp_path / "events.ndjson"
    path.write_text(lines(4))
    run("import_events", path, "--bookmark", "here")
    path.write_text(lines(9, start=100))
    rejects = tmp_path / "rejects" if with_rejects else None
    bookmark, same = Bookmark.objects.get(), Bookmark.objects.get()
    with path.open("rb") as first, path.open("rb") as second:
        steps = importing.steps(NDJSON(first, "utf-8"), bookmark, rejects)
        others = importing.steps(NDJSON(second, "utf-8"), same, rejects)
        for each in (steps, steps):
            next(each)
        with pytest.raises(importing.ImportFailed, match="Another import"):
            list(others)
        list(steps)
    assert [value for *_, value in log()] == [*range(4), *range(100, 109)]


def test_an_error_of_the_database_is_told_and_the_import_goes_on_later(db, tmp_path, short_steps, monkeypatch):
    path = tmp_path / "events.ndjson"
    path.write_text(lines(9))
    with monkeypatch.context() as patched:
        patched.setattr(importing.append, "append", locked)
        assert fails("import_events", path) == f"{path}: database is locked"

    run("import_events", path)
    assert [value for *_, value in log()] == list(range(9))


def locked(rows):
    raise OperationalError("database is locked\n")


@pytest.mark.parametrize("command", ["import_events", "import_access"])
def test_closed_standard_input_is_told(db, monkeypatch, command):
    monkeypatch.setattr(sys, "stdin", None)

    assert "Standard input is closed." in fails(command, "-")


def test_rejects_are_not_put_into_a_file_of_something_else(db, tmp_path):
    (tmp_path / "events.ndjson").write_text("bad")
    (tmp_path / "kept").write_text("mine")

    said = fails("import_events", tmp_path / "events.ndjson", "--rejects", tmp_path / "kept")

    assert said.endswith("kept holds something else than rejects of this import; choose another file.")
    assert (tmp_path / "kept").read_text() == "mine"


@pytest.mark.parametrize("mended", [lines(1, start=100), "ba\n", lines(3, start=100)])
def test_rejects_that_were_mended_in_their_file_stay_as_they_are(db, tmp_path, short_steps, mended):
    path, rejects = tmp_path / "events.ndjson", tmp_path / "rejects.ndjson"
    path.write_text(lines(2) + "bad\n")
    run("import_events", path, "--rejects", rejects)
    assert rejects.read_text() == "bad\n"
    rejects.write_text(mended)
    path.write_text(lines(2) + "bad\n" + lines(2, start=2) + "worse\n")

    said = fails("import_events", path, "--rejects", rejects)

    assert said == f"{path}: {rejects} holds something else than rejects of this import; choose another file."
    assert (rejects.read_text(), Event.objects.count()) == (mended, 2)
    run("import_events", path, "--rejects", tmp_path / "more.ndjson")
    assert ((tmp_path / "more.ndjson").read_text(), Event.objects.count()) == ("worse\n", 4)


@pytest.mark.parametrize("is_removed", [False, True])
def test_rejects_of_a_file_that_grew_come_after_those_before(db, tmp_path, short_steps, is_removed):
    path, rejects = tmp_path / "events.ndjson", tmp_path / "rejects.ndjson"
    path.write_text(lines(2) + "bad\n")
    run("import_events", path, "--rejects", rejects)
    if is_removed:  # as they were mended and imported
        rejects.unlink()
    path.write_text(lines(2) + "bad\n" + lines(2, start=2) + "worse\n")

    run("import_events", path, "--rejects", rejects)

    assert rejects.read_text() == ("worse\n" if is_removed else "bad\nworse\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_reject_without_an_end_is_not_joined_to_the_next(db, tmp_path, encoding):
    path, rejects = tmp_path / "events.ndjson", tmp_path / "rejects.ndjson"
    for content in ("bad", "bad\nworse"):
        path.write_text(content, encoding)
        run("import_events", path, "--rejects", rejects)

    assert rejects.read_text(encoding) == "bad\nworse\n"


@pytest.mark.parametrize(
    "edited", ["{mended}\nworse\n", "bad\n{mended}\n", "bad\nworse\n{mended}\n", "{mended}\n{mended}\n"]
)
@pytest.mark.parametrize("interrupted_at", [0, 1])
def test_rejects_of_an_unfinished_import_that_were_mended_stay_as_they_are(
    db, tmp_path, short_steps, monkeypatch, edited, interrupted_at
):
    path, rejects = tmp_path / "events.ndjson", tmp_path / "rejects.ndjson"
    path.write_text(("bad\nworse\n" if interrupted_at == 0 else "bad\n" + lines(2) + "worse\n") + lines(2, start=2))
    interrupt_at(monkeypatch, interrupted_at)
    fails("import_events", path, "--rejects", rejects)
    monkeypatch.undo()
    assert rejects.read_text() == "bad\nworse\n"
    edited = edited.format(mended=lines(1, start=100).strip())
    rejects.write_text(edited)
    before = Event.objects.count()

    said = fails("import_events", path, "--rejects", rejects)

    assert said == f"{path}: {rejects} holds something else than rejects of this import; choose another file."
    assert (rejects.read_text(), Event.objects.count()) == (edited, before)
    run("import_events", path, "--rejects", tmp_path / "more.ndjson")
    assert (tmp_path / "more.ndjson").read_text() == ("bad\nworse\n" if interrupted_at == 0 else "worse\n")


# As processes.


@pytest.fixture
def env(migrated, tmp_path):
    with migrated(tmp_path) as env:
        yield env


def exported(env):
    return service.manage("export_events", "-", env=env).stdout


@contextmanager
def importing_from(env, source, content):
    """An import of a file, or of a pipe that is filled from it; killed after, if it still runs."""
    command = [sys.executable, str(PROJECT_DIR / "manage.py"), "import_events", "-" if source == "pipe" else content]
    with (
        subprocess.Popen(["cat", content], stdout=subprocess.PIPE) as pipe,
        subprocess.Popen(command, env=env, stdin=pipe.stdout, stdout=subprocess.PIPE) as process,
    ):
        pipe.stdout.close()
        yield process
        process.kill()


def stored_count(env):
    return service.query(env, "SELECT count(*) FROM events_event")[0][0]


WAITING = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def is_waiting_for_a_lock(env):
    return service.query(env, f"SELECT count(*) {WAITING}") == [(1,)]


@pytest.mark.parametrize("source", ["file", pytest.param("pipe", marks=pytest.mark.only_on("sqlite"))])
def test_an_import_killed_again_and_again_neither_loses_nor_repeats(env, tmp_path, source):
    count, kills, codes = 60_000, 2, []  # in a dozen steps
    if not env["DATABASE_URL"].startswith("sqlite"):
        count, kills = 100_000, 1  # in two steps
    content = tmp_path / "events.ndjson"
    content.write_text(lines(count))
    if not env["DATABASE_URL"].startswith("sqlite"):
        # as it stores events, and as it moves the bookmark: neither is done without the other
        for table in ("events_event", "events_bookmark"):
            with closing(psycopg2.connect(env["DATABASE_URL"])) as holder:
                holder.cursor().execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
                with importing_from(env, source, content) as process:
                    wait_until(lambda: is_waiting_for_a_lock(env))
                codes.append(process.returncode)
                service.query(
                    env, f"SELECT pg_terminate_backend(pid) {WAITING}"
                )  # or its statement would be done later
                wait_until(lambda: not is_waiting_for_a_lock(env))
    for _ in range(2 * kills if IS_THOROUGH else kills):
        before = stored_count(env)
        with importing_from(env, source, content) as process:
            wait_until(lambda before=before: stored_count(env) > before or process.poll() is not None)
        codes.append(process.returncode)
    assert codes[0] == -signal.SIGKILL  # a quick machine may have been through at the last one
    with importing_from(env, source, content) as process:
        assert process.wait() == 0

    stored = [json.loads(line)["value"] for line in exported(env).splitlines()]
    assert stored == list(range(count))
    if source == "pipe":  # the next one is another
        content.write_text(lines(3, start=5))
        with importing_from(env, source, content) as process:
            assert process.stdout.read().startswith(b"Imported 3 events in ")


def test_a_reader_that_goes_away_ends_the_export(env, tmp_path):
    (tmp_path / "events.ndjson").write_text(lines(50_000))
    assert service.manage("import_events", str(tmp_path / "events.ndjson"), env=env).returncode == 0
    command = [sys.executable, str(PROJECT_DIR / "manage.py"), "export_events", "-"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(10)
    process.stdout.close()

    _, errors = process.communicate(timeout=60)

    assert (process.returncode, errors) == (1, b"CommandError: The reader of the pipe has gone away.\n")


# one process for all, as each takes a second to start
FILL = """
import sys
from django.core.management import call_command
for arguments in (["loaddata", "-v", "0", {demo!r}], ["roll_up"], ["import_events", {odd!r}]):
    call_command(*arguments, stdout=sys.stderr)
"""
SHOW = """
import sys
from django.core.management import call_command
from events.tests.support.answers import catalogue
print(list(catalogue()), flush=True)
call_command("roll_up", stdout=sys.stderr)
print(list(catalogue()), flush=True)
call_command("export_events", "-")
"""


@pytest.mark.only_on("postgresql")
def test_every_series_moves_from_sqlite_in_two_commands(env, tmp_path):
    old = {**env, "DATABASE_URL": f"sqlite:///{tmp_path / 'old.sqlite3'}"}
    service.create_database(old["DATABASE_URL"], originals.original("migrated_sqlite")["DATABASE_URL"])
    odd = "".join(json.dumps({"namespace": a, "name": b, "timestamp": c, "value": d}) + "\n" for a, b, c, d in ODD)
    (tmp_path / "odd.ndjson").write_text(odd)
    fill = FILL.format(demo=str(PROJECT_DIR / "data.json"), odd=str(tmp_path / "odd.ndjson"))
    assert service.manage("shell", "--no-imports", "-c", fill, env=old).returncode == 0

    path = str(tmp_path / "events.ndjson.gz")
    assert service.manage("export_events", path, env=old).returncode == 0
    assert service.manage("import_events", path, env=env).returncode == 0

    def found(env):
        done = service.manage("shell", "--no-imports", "-c", SHOW, env=env)
        assert done.returncode == 0, done.stderr
        *catalogues, events = done.stdout.split("\n", 2)
        by_series = {}
        for event in map(json.loads, events.splitlines()):
            by_series.setdefault((event["namespace"], event["name"]), []).append((event["timestamp"], event["value"]))
        return catalogues, by_series

    catalogues, moved = found(env)
    assert len(moved) == 8 + 5
    assert (catalogues, moved) == found(old)
    assert catalogues[0] == catalogues[1]
