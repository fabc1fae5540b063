"""Keeps SQLite's files from others: they hold password hashes, and the events."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

OTHERS = stat.S_IRWXG | stat.S_IRWXO


class PrivateConnection(sqlite3.Connection):
    """A connection to a file with mode 600, which SQLite gives to the files that it makes beside it too."""

    def __init__(self, database: str | Path, *args: Any, **options: Any) -> None:
        if not str(database).startswith((":memory:", "file:")):
            _make_private(Path(database))
        super().__init__(database, *args, **options)


def files_of(database: Path) -> list[Path]:
    """The file of an SQLite database, its log, and what else SQLite makes beside it; whether or not they are there."""
    return [database, *(database.with_name(f"{database.name}-{kind}") for kind in ("wal", "shm", "journal"))]


def open_to_others(files: list[Path]) -> Iterator[Path]:
    """Those of the files that others than their owner may read, write or run."""
    for file in files:
        with suppress(FileNotFoundError):
            if file.stat().st_mode & OTHERS:
                yield file


def _make_private(database: Path) -> None:
    """Make the file of a database with mode 600, or take from others what an older release let them have."""
    with suppress(OSError):  # who can't write there is told so by SQLite
        os.close(os.open(database, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    for file in open_to_others(files_of(database)):
        try:
            file.chmod(stat.S_IMODE(file.stat().st_mode) & ~OTHERS)
        except PermissionError:  # another's, of which `events.W002` warns
            continue
        except FileNotFoundError:  # whoever closed the last connection took the log away
            continue
        logger.warning("Others could read %s, which holds password hashes; now they can't.", file)
