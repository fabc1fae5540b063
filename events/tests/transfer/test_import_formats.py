"""``manage.py import_events`` of what spreadsheets and other systems write: encodings, delimiters, headers."""

import gzip
from datetime import UTC, datetime

import pytest

from events.models import Bookmark, Event
from events.tests.support.commands import fails, run
from events.tests.transfer.logs import lines, log
from events.transfer import files

HEADER = "namespace,name,timestamp,value\n"
ORDER = ("Bäck", "order €", datetime(2020, 11, 12, 11, 10, tzinfo=UTC), 142.5)
RECORD = "Bäck,order €,2020-11-12T11:10:00Z,142.5\n"
NEEDED = "A header must name namespace, name, timestamp and value, in any order"
BY = "separated by commas, semicolons, tabs or the --delimiter."


# Encodings.

ENCODED = [
    ("utf-8", b"", []),
    ("utf-8", b"\xef\xbb\xbf", []),
    ("utf-8", b"\xef\xbb\xbf", ["--encoding", "utf-8"]),
    ("utf-8", b"\xef\xbb\xbf", ["--encoding", "UTF_8_SIG"]),
    ("cp1252", b"", ["--encoding", "cp1252"]),
    ("iso8859-15", b"", ["--encoding", "Latin9"]),
    ("utf-16-le", b"\xff\xfe", []),
    ("utf-16-be", b"\xfe\xff", []),
    ("utf-16-be", b"\xfe\xff", ["--encoding", "utf-16"]),
    ("utf-16-le", b"\xff\xfe", ["--encoding", "utf-16-le"]),
    ("utf-16-le", b"", ["--encoding", "utf-16"]),
    ("utf-16-be", b"", ["--encoding", "utf-16-be"]),
    ("utf-32-le", b"\xff\xfe\0\0", []),
    ("utf-32-be", b"\0\0\xfe\xff", []),
    ("cp1140", b"", ["--encoding", "cp1140"]),  # where a newline is another byte
    ("gb18030", b"", ["--encoding", "gb18030"]),
]


@pytest.mark.parametrize("form", ["csv", "csv.gz", "ndjson"])
@pytest.mark.parametrize(("encoding", "mark", "arguments"), ENCODED)
def test_it_reads_encodings(db, tmp_path, short_steps, form, encoding, mark, arguments):
    path = tmp_path / f"events.{form}"
    event = '{"namespace":"Bäck","name":"order €","timestamp":"2020-11-12T11:10:00Z","value":142.5}\n'
    body = mark + (4 * f"{event}\n" if form == "ndjson" else HEADER + 2 * f"{RECORD}\n" + 2 * f'"{RECORD[:4]}"{RECORD[4:]}').encode(encoding)  # fmt: skip
    path.write_bytes(gzip.compress(body) if form.endswith(".gz") else body)

    output, errors = run("import_events", path, *arguments)

    assert (log(), errors) == ([ORDER] * 4, "")
    assert output.startswith("Imported 4 events in ")


@pytest.mark.parametrize(
    ("encoding", "mark", "arguments", "bad", "reason"),
    [
        ("utf-8", b"", [], b"B\xe4ck,n,+1,1\n", "It is not UTF-8 from its byte 2 on: tell its encoding by --encoding, such as cp1252."),
        ("utf-8", b"", [], b'"a\nb\n\xe4",n,+1,1\n', "It is not UTF-8 from its byte 6 on: tell its encoding by --encoding, such as cp1252."),
        ("cp1252", b"", ["--encoding", "cp1252"], b"\xe4\x81,n,+1,1\n", "It is not CP1252 from its byte 2 on: tell its encoding by --encoding, such as utf-8."),
        ("ascii", b"", ["--encoding", "us-ascii"], b"a,\xe4,+1,1\n", "It is not ASCII from its byte 3 on: tell its encoding by --encoding, such as utf-8."),
        ("utf-16-le", b"\xff\xfe", [], "a,n,+1,1".encode("utf-16-le") + b"\0\xd8\n\0", "It is not UTF-16-LE from its byte 17 on: tell its encoding by --encoding, such as utf-8."),
        ("utf-16-be", b"\xfe\xff", [], "a,n,+1,x\n".encode("utf-16-be"), "value: A valid number is required."),
    ],
)  # fmt: skip
def test_what_is_not_in_the_encoding_is_told_by_line_and_kept(
    db, tmp_path, short_steps, encoding, mark, arguments, bad, reason
):
    path, rejects = tmp_path / "events.csv", tmp_path / "rejects.csv"
    head, good = HEADER.encode(encoding), "a,n,+1,1\n".encode(encoding)
    path.write_bytes(mark + head + 4 * good + bad + good + bad + 2 * good)

    said = fails("import_events", path, *arguments)
    assert said == f"{path}: Line 6: {reason} The lines before it are imported."
    assert Event.objects.count() == 4
    _, errors = run("import_events", path, "--rejects", rejects, *arguments)

    several = bad.count(b"\n") - 1
    assert errors == f"4 events were imported before.\nLine 6: {reason}\nLine {8 + several}: {reason}\n"
    assert Event.objects.count() == 7
    assert rejects.read_bytes() == mark + head + 2 * bad  # so that they are read as the file is
    assert fails("import_events", rejects, *arguments).startswith(f"{rejects}: Line 2: {reason}")


def test_an_import_goes_on_once_its_encoding_is_told(db, tmp_path, short_steps):
    path = tmp_path / "events.csv"
    path.write_bytes((HEADER + 5 * "plain,n,+1,1\n" + RECORD).encode("cp1252"))
    assert fails("import_events", path) == (
        f"{path}: Line 7: It is not UTF-8 from its byte 2 on: tell its encoding by --encoding, such as cp1252."
        " The lines before it are imported."
    )

    output, errors = run("import_events", path, "--encoding", "cp1252")

    assert (errors, output[:18]) == ("5 events were imported before.\n", "Imported 1 events ")
    assert (Event.objects.count(), log()[-1], Bookmark.objects.get().lines) == (6, ORDER, 7)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-be"])
@pytest.mark.parametrize("piece", [2, 3, 64, 1 << 20])
def test_wide_lines_are_split_wherever_they_are_read(tmp_path, monkeypatch, encoding, piece):
    text = "ab\n\u0a00\u000a\u0a0a\n\n\u010a\u0a01last"  # whose bytes are newlines in all places but the right ones
    monkeypatch.setattr(files, "_BUFFER_BYTES", piece)
    (tmp_path / "events.csv").write_bytes(text.encode(encoding) + b"\n")

    with files.reading(str(tmp_path / "events.csv"), "csv", encoding) as source:
        found = list(source.lines)

    expected = [line.encode(encoding) for line in text.splitlines(keepends=True)]
    assert found == [*expected[:-1], expected[-1] + b"\n"]


@pytest.mark.parametrize(
    ("arguments", "body", "said"),
    [
        (["--encoding", "cp1252"], b"\xef\xbb\xbf" + HEADER.encode(), "It begins with the byte order mark of utf-8; leave --encoding out."),
        (["--encoding", "utf-16-le"], b"\xfe\xff" + HEADER.encode("utf-16-be"), "It begins with the byte order mark of utf-16-be; leave --encoding out."),
        ([], HEADER.encode("utf-16-le"), "It looks like UTF-16: tell it by --encoding utf-16-le."),
        ([], HEADER.encode("utf-16-be"), "It looks like UTF-16: tell it by --encoding utf-16-be."),
        ([], b"namespace,name,timestamp,value,gr\xf6\xdfe\n", "Line 1: It is not UTF-8 from its byte 34 on: tell its encoding by --encoding, such as cp1252."),
        (["--encoding", "utf-16"], (HEADER + RECORD).encode(), "Line 1, the header, names 慮敭灳捡ⱥ慮敭琬浩獥慴"),
        (["--encoding", "utf-16"], b" " * 20_000_000, "It has a line of more than 16777216 bytes, so it is hardly in utf-16-le."),
    ],
)  # fmt: skip
def test_another_encoding_than_told_is_noticed(db, tmp_path, arguments, body, said):
    (tmp_path / "events.csv").write_bytes(body)

    assert said in fails("import_events", tmp_path / "events.csv", *arguments)
    assert not Event.objects.exists()


@pytest.mark.parametrize("name", ["klingon", "hex", "rot13", "", "é", "undefined"])
def test_an_unknown_encoding_is_told(db, name):
    assert fails("import_events", "events.csv", "--encoding", name) == (
        f"Error: argument --encoding: “{name}” is no encoding that Python knows; utf-8, cp1252 and utf-16 are some."
    )


# Headers and delimiters.


@pytest.mark.parametrize(
    ("header", "delimiter", "arguments"),
    [
        ("namespace;name;timestamp;value", ";", []),
        ("namespace\tname\ttimestamp\tvalue", "\t", []),
        ("sep=;\r\nnamespace;name;timestamp;value", ";", []),
        ("SEP=|\nnamespace|name|timestamp|value", "|", []),
        ('"sep=;"\nnamespace;name;timestamp;value', ";", []),
        ("\n\nsep=;\n\nnamespace;name;timestamp;value", ";", []),
        ("sep=,\nnamespace;name;timestamp;value", ";", ["--delimiter", ";"]),
        ("namespace|name|timestamp|value", "|", ["--delimiter", "|"]),
        ("namespace\tname\ttimestamp\tvalue", "\t", ["--delimiter", "Tab"]),
        ("namespace\tname\ttimestamp\tvalue", "\t", ["--delimiter", "\\t"]),
        (" Namespace , NAME,\tTimestamp ,Value ", ",", []),
        ('"Namespace";" name";"timestamp";"VALUE"', ";", []),
        ("\n \r\n;;;\nnamespace;name;timestamp;value", ";", []),
        ("\nnamespace,name,timestamp,value", ",", []),
    ],
)
@pytest.mark.parametrize("quote", ["", '"'])
def test_it_reads_headers_as_they_come(db, tmp_path, short_steps, header, delimiter, arguments, quote):
    record = delimiter.join(f"{quote}{field}{quote}" for field in RECORD.strip().split(",")) + "\n"
    (tmp_path / "events.csv").write_text(header + "\n" + 4 * record + "\n", newline="")

    _, errors = run("import_events", tmp_path / "events.csv", *arguments)

    assert (log(), errors) == ([ORDER] * 4, "")
    assert Bookmark.objects.get().lines == header.count("\n") + 6


def test_other_characters_are_no_delimiters(db, tmp_path):
    """A comma in a field that semicolons separate is one, and so is a semicolon that a tab does."""
    (tmp_path / "events.csv").write_text("namespace;name;timestamp;value\na,b;c\td;+1;1\n")
    run("import_events", tmp_path / "events.csv")
    (tmp_path / "tabs.csv").write_text("namespace\tname\ttimestamp\tvalue\na,b\tc;d\t+1\t1\n")
    run("import_events", tmp_path / "tabs.csv")

    assert [row[:2] for row in log()] == [("a,b", "c\td"), ("a,b", "c;d")]


EXTRA = [
    ("id,Namespace,name,timestamp,value,note", ["7,a,n,+1,2,x", "8,a,n,+1,3,"], ","),
    ("namespace;name;timestamp;value;a,b;12\" pipe", ["a;n;+1;2;;", "a;n;+1;3;;"], ";"),
    ('"two\nlines","three\n\n""",value,timestamp,name,namespace', ['x,"y\nz",2,+1,n,a', ",,3,+1,n,a"], ","),
]  # fmt: skip


@pytest.mark.parametrize(("header", "records", "delimiter"), EXTRA)
def test_extra_columns_are_left_out_if_told(db, tmp_path, short_steps, header, records, delimiter):
    path, rejects = tmp_path / "events.csv", tmp_path / "rejects.csv"
    bad = delimiter.join(["a"] * 5)
    path.write_text("\n".join([header, *records, bad, *records]) + "\n")
    number = header.count("\n") + 2 + sum(1 + record.count("\n") for record in records)

    _, errors = run("import_events", path, "--ignore-extra", "--rejects", rejects)

    assert errors == f"Line {number}: 5 fields where the header has 6.\n"
    assert [row[0::3] for row in log()] == [("a", 2.0), ("a", 3.0)] * 2
    assert rejects.read_text() == f"{header}\n{bad}\n"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("", f"There is no header. {NEEDED}."),
        ("\n ;;\n", f"There is no header. {NEEDED}."),
        ("namespace,name,time", f"Line 1, the header, names namespace, name, time (separated by commas) and not timestamp, value. {NEEDED}, {BY}"),
        ("\n\nNamespace ;name; time\n", f"Line 3, the header, names namespace, name, time (separated by semicolons) and not timestamp, value. {NEEDED}, {BY}"),
        ("namespace|name|timestamp|value", f"Line 1, the header, names namespace|name|timestamp|value (separated by commas) and not namespace, name, timestamp, value. {NEEDED}, {BY}"),
        ("sep=|\na;b", f"Line 2, the header, names a;b (separated by “|”) and not namespace, name, timestamp, value. {NEEDED}, {BY}"),
        ("Shop,order,1605179400,1", f"Line 1, the header, names shop, order, 1605179400, 1 (separated by commas) and not namespace, name, timestamp, value. {NEEDED}, {BY}"),
        ("namespace,name,timestamp,value,Note,id", "Line 1, the header, names namespace, name, timestamp, value, note, id (separated by commas); --ignore-extra imports it without note, id."),
        ("namespace,name,timestamp,value,Value", "Line 1, the header, names namespace, name, timestamp, value, value (separated by commas): value more than once."),
        ("x" * 300, f"Line 1, the header, names {'x' * 200}… (separated by commas) and not namespace, name, timestamp, value. {NEEDED}, {BY}"),
        ("a\x1b[1m,b", f"Line 1, the header, names a\\x1b[1m, b (separated by commas) and not namespace, name, timestamp, value. {NEEDED}, {BY}"),
        ('"namespace', "Line 1: unexpected end of data."),
        ("sep=a\n", "Line 1: A delimiter is one character such as ; or the word tab, not “a”."),
    ],
)  # fmt: skip
def test_a_header_is_told_what_was_found_and_what_is_needed(db, tmp_path, header, said):
    path = tmp_path / "events.csv"
    path.write_text(header)

    assert fails("import_events", path) == f"{path}: {said}"


@pytest.mark.parametrize("text", ["", "ab", "a", "7", '"', " ", "\n"])
def test_a_delimiter_is_one_character(db, text):
    shown = "\\n" if text == "\n" else text
    assert fails("import_events", "events.csv", f"--delimiter={text}") == (
        f"Error: argument --delimiter: A delimiter is one character such as ; or the word tab, not “{shown}”."
    )


@pytest.mark.parametrize("arguments", [["--delimiter", ";"], ["--ignore-extra"]])
def test_what_is_of_csv_is_refused_elsewhere(db, tmp_path, arguments):
    path = tmp_path / "events.ndjson"
    path.write_text(lines(1))

    said = fails("import_events", path, *arguments)

    assert said == f"{path}: NDJSON has no columns; --delimiter and --ignore-extra are for CSV."
    assert not Event.objects.exists()


# Suffixes, and going on.


@pytest.mark.parametrize("suffix", ["CSV", "Csv.Gz", "NDJSON", "ndjson.GZ"])
def test_suffixes_are_read_in_any_case(db, tmp_path, suffix):
    path = tmp_path / f"EVENTS.{suffix}"
    body = (HEADER + 3 * "S,n,+1,1\n" if "csv" in suffix.lower() else lines(3)).encode()
    path.write_bytes(gzip.compress(body) if "gz" in suffix.lower() else body)

    assert run("import_events", path)[0].startswith("Imported 3 events in ")
    path.unlink()
    run("export_events", path)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == ("gz" in suffix.lower())
    assert Event.objects.count() == 3


@pytest.mark.parametrize(
    "head", ["sep=;\nNamespace;name;timestamp;value;id\n", "\n\nvalue;timestamp;name;namespace;id\n"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_import_goes_on_where_it_stopped(db, tmp_path, short_steps, head, encoding):
    path = tmp_path / "events.csv"

    def write(first, count, more=""):
        records = [(f"{number}", "+1", "n", "S") for number in range(first, first + count)]
        if head.startswith("sep"):
            records = [record[::-1] for record in records]
        path.write_text(
            head + "".join(f"{';'.join(record)};x\n" for record in records) + more, encoding=encoding, newline=""
        )

    write(0, 10, more="bad\n")
    said = fails("import_events", path, "--ignore-extra")
    assert (
        said
        == f"{path}: Line {13 + head.startswith(chr(10))}: 1 field where the header has 5. The lines before it are imported."
    )
    write(0, 14)
    assert run("import_events", path, "--ignore-extra")[1] == "10 events were imported before.\n"
    assert run("import_events", path, "--ignore-extra")[1] == "14 events were imported before.\n"
    assert [value for *_, value in log()] == list(range(14))
    write(100, 3)  # another file by its name
    assert run("import_events", path, "--ignore-extra")[1] == ""
    assert [value for *_, value in log()] == [*range(14), 100, 101, 102]
