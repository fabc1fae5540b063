"""Keeps SQLite's files, which hold password hashes and the events, from other users of the machine."""

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
    """A connection to a database file of mode 600; SQLite gives its mode to the files that it makes beside it."""

    def __init__(self, database: str | Path, *args: Any, **options: Any) -> None:
        if not str(database).startswith((":memory:", "file:")):
            _make_private(Path(database))
        super().__init__(database, *args, **options)


def files_of(database: Path) -> list[Path]:
    """List the files that an SQLite database may have: its own, its log, and the others that SQLite makes beside it."""
    return [database, *(database.with_name(f"{database.name}-{kind}") for kind in ("wal", "shm", "journal"))]


def open_to_others(files: list[Path]) -> Iterator[Path]:
    """Yield the files that users other than their owner may read, write or run; files that aren't there are skipped."""
    for file in files:
        with suppress(FileNotFoundError):
            if file.stat().st_mode & OTHERS:
                yield file


def _make_private(database: Path) -> None:
    """Create a database's file with mode 600, or take away the access that an older release gave to others."""
    with suppress(OSError):  # SQLite will say so itself where the file can't be written
        os.close(os.open(database, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    for file in open_to_others(files_of(database)):
        try:
            file.chmod(stat.S_IMODE(file.stat().st_mode) & ~OTHERS)
        except PermissionError:  # the file belongs to another user, and `events.W002` warns of it
            continue
        except FileNotFoundError:  # another process closed the last connection, which removes the log
            continue
        logger.warning("Others could read %s, which holds password hashes; now they can't.", file)
