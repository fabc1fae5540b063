"""``docs/archive.md``: what it shows of DuckDB and pandas, on an archive."""

import re
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO

import duckdb
import pytest

from events.models import Event
from events.tests.support.commands import run
from events.tests.support.rolling_up import roll_up_all
from events.tests.support.service import PROJECT_DIR

TEXT = (PROJECT_DIR / "docs/archive.md").read_text()


@pytest.fixture
def blocks(db, settings, tmp_path):
    """The examples by their language, about an archive with two series."""
    settings.ARCHIVE = str(tmp_path)
    start = datetime(2024, 2, 28, 23, tzinfo=UTC)
    for name, count in (("order", 4), ("click", 2)):
        Event.objects.bulk_create(
            Event(namespace="Shop", name=name, timestamp=start + timedelta(minutes=40) * number, value=number + 0.5)
            for number in range(count)
        )
    roll_up_all()
    run("prune_events", "--older-than", "1d")
    found = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return {language: code.replace("/var/lib/tracking-api/archive", str(tmp_path)) for language, code in found}


def test_duckdb_reads_the_files_as_they_are(blocks):
    with duckdb.connect() as connection:
        found = connection.execute(blocks["sql"]).fetchall()
        source = re.search("FROM .*", blocks["sql"])[0]
        columns = connection.execute(f"DESCRIBE SELECT * {source}").fetchall()

    assert found == [
        (datetime(2024, 2, 28, 23), 2, 1.0), (datetime(2024, 2, 29, 0), 1, 2.5), (datetime(2024, 2, 29, 1), 1, 3.5),
    ]  # fmt: skip
    assert [column[:2] for column in columns] == [
        ("namespace", "VARCHAR"), ("name", "VARCHAR"), ("timestamp", "TIMESTAMP WITH TIME ZONE"), ("value", "DOUBLE"),
    ]  # fmt: skip


def test_pandas_reads_the_files_as_they_are(blocks):
    out = StringIO()
    names = {}
    with redirect_stdout(out):
        exec(blocks["python"], names)

    assert [line.split() for line in out.getvalue().splitlines()[2:]] == [["click", "2", "1.0"], ["order", "4", "2.0"]]
    assert {column: str(kind) for column, kind in names["events"].dtypes.items()} == {
        "namespace": "object", "name": "object", "timestamp": "datetime64[us, UTC]", "value": "float64",
    }  # fmt: skip
