"""Lets events wait in an SQLite file, which outlives the process."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from tracking_client.batches import Batch, new_key

_MOST_FILES = 1_000
# An insert writes a page to SQLite's log: the smaller, the quicker. A larger log is copied into the file, which takes
# a sync of the disk, so it is done by who sends and not by who tracks. Where nothing is sent for long, as the service
# is away, who tracks does it at so many pages, 21 MB, or the log would grow with each event, kept or dropped.
_PAGE_BYTES = 1_024
_MOST_LOG_BYTES = 8_000_000
_MOST_LOG_PAGES = 20_000
# how long a file is left alone that can't be used: the first time, and at most
_FIRST_REST_SECONDS = 0.1
_MOST_REST_SECONDS = 30.0
# ids are never given out again, or a batch might seem to hold other events
_TABLES = """
CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batch (key TEXT PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL) WITHOUT ROWID;
"""


class SpoolInUseError(Exception):
    """Another process, or another tracker of this one, has the file open."""


class Spool:
    """One file of events, which one tracker has for itself.

    ``put`` returns once the event is in the file: then a process that is killed loses it no longer. A power cut loses
    what came last, as the disk is not waited for.
    """

    def __init__(self, path: Path, sending: set[str]) -> None:
        """Open the file, made where it is not there; ``sending`` is shared and has the keys of batches under way.

        Raises SpoolInUseError, or sqlite3.Error where it can't be used.
        """
        self.path = path
        self.rests_until = 0.0
        self._rest_seconds = 0.0
        self._sending = sending
        self._connection = connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
            # from the first read on the file is locked, for as long as the connection lives
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")  # a power cut leaves the file whole
            connection.execute(f"PRAGMA wal_autocheckpoint={_MOST_LOG_PAGES}")
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT")
            self._read_state()
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise SpoolInUseError(path) from None
            raise
        except sqlite3.Error:
            connection.close()
            raise

    def _read_state(self) -> None:
        execute = self._connection.execute
        [self._last_batched] = execute("SELECT coalesce(max(last), 0) FROM batch").fetchone()
        self._keys = [key for (key,) in execute("SELECT key FROM batch ORDER BY first")]
        [self.unbatched] = execute("SELECT count(*) FROM event WHERE id > ?", (self._last_batched,)).fetchone()
        # how many events are in the file
        [self.count] = execute("SELECT count(*) FROM event").fetchone()

    @property
    def has_batches(self) -> bool:
        """Tell whether there are batches that nobody is sending."""
        return not self._sending.issuperset(self._keys)

    @property
    def has_failed(self) -> bool:
        """Tell whether the file could not be used when it was last tried."""
        return self._rest_seconds > 0

    def put(self, line: str) -> None:
        """Let an event wait. Raises sqlite3.Error where it can't be written."""
        self._change("INSERT INTO event (line) VALUES (?)", (line,), 1)

    def _change(self, sql: str, arguments: tuple[object, ...], by: int) -> None:
        """Change by one statement how many events are in no batch."""
        try:
            self._connection.execute(sql, arguments)
            self.unbatched += by
            self.count += by
        except sqlite3.Error:
            raise  # nothing was written
        except BaseException:
            # raised by a signal's handler: the file alone knows whether that was written
            self._read_state()
            raise

    def take(self, most_events: int) -> Batch | None:
        """Return the oldest batch that nobody is sending, or make one; None where nothing waits."""
        for key in self._keys:
            if key not in self._sending:
                batch = self._read(key)
                self._sending.add(key)
                return batch
        if not self.unbatched:
            return None
        rows = self._connection.execute(
            "SELECT id, line FROM event WHERE id > ? ORDER BY id LIMIT ?", (self._last_batched, most_events)
        ).fetchall()
        batch = Batch(self, [line for _, line in rows], [event_id for event_id, _ in rows])
        self._add(batch.key, batch.ids)
        self._keys.append(batch.key)
        self._sending.add(batch.key)
        self._last_batched = batch.ids[-1]
        self.unbatched -= len(rows)
        return batch

    def _add(self, key: str, ids: list[int]) -> None:
        self._connection.execute("INSERT INTO batch VALUES (?, ?, ?)", (key, ids[0], ids[-1]))

    def _read(self, key: str) -> Batch:
        rows = self._connection.execute(
            "SELECT id, line FROM batch JOIN event ON id BETWEEN first AND last WHERE key = ? ORDER BY id", (key,)
        ).fetchall()
        return Batch(self, [line for _, line in rows], [event_id for event_id, _ in rows], key)

    def give_back(self, batch: Batch) -> None:
        """Let a batch that was taken be taken again."""
        self._sending.discard(batch.key)

    def done(self, batch: Batch) -> None:
        """Forget a batch and its events."""
        self._replace(batch, [])

    def replace(self, batch: Batch, parts: list[list[int]]) -> None:
        """Make batches with keys of their own of a batch."""
        self._replace(batch, [[batch.ids[index] for index in part] for part in parts])

    def _replace(self, batch: Batch, parts: list[list[int]]) -> None:
        self._sending.discard(batch.key)  # sent again, under its key, where the file can't be written
        keys = [new_key() for _ in parts]
        kept = {event_id for ids in parts for event_id in ids}
        gone = [(event_id,) for event_id in batch.ids if event_id not in kept]
        with self._connection as connection:
            connection.execute("BEGIN")
            if kept or not gone:
                connection.executemany("DELETE FROM event WHERE id = ?", gone)
            else:
                connection.execute("DELETE FROM event WHERE id BETWEEN ? AND ?", (batch.ids[0], batch.ids[-1]))
            connection.execute("DELETE FROM batch WHERE key = ?", (batch.key,))
            for key, ids in zip(keys, parts, strict=True):
                self._add(key, ids)
        at = self._keys.index(batch.key)
        self._keys[at : at + 1] = keys
        self.count -= len(gone)
        self._rest_seconds = 0.0
        self._shorten_log()

    def _shorten_log(self) -> None:
        log = Path(f"{self.path}-wal")
        with suppress(OSError, sqlite3.Error):  # the next batch tries again
            if log.stat().st_size > _MOST_LOG_BYTES:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def rest(self) -> None:
        """Have nothing taken for a while that doubles each time, until a batch can be taken and forgotten again."""
        self._rest_seconds = min(2 * self._rest_seconds or _FIRST_REST_SECONDS, _MOST_REST_SECONDS)
        self.rests_until = time.monotonic() + self._rest_seconds

    def drop_oldest(self) -> int:
        """Forget the oldest event that is in no batch, and return its id; 0 where there is none."""
        if not self.unbatched:
            return 0
        event_id: int
        [event_id] = self._connection.execute(
            "SELECT min(id) FROM event WHERE id > ?", (self._last_batched,)
        ).fetchone()
        self._change("DELETE FROM event WHERE id = ?", (event_id,), -1)
        return event_id

    def newest(self) -> int:
        """Return the id of the event that came last, of those that wait. Raises sqlite3.Error."""
        event_id: int
        [event_id] = self._connection.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()
        return event_id

    def has_up_to(self, event_id: int) -> bool:
        """Tell whether that event or an earlier one waits. Raises sqlite3.Error."""
        return bool(self._connection.execute("SELECT 1 FROM event WHERE id <= ? LIMIT 1", (event_id,)).fetchone())

    def owns(self, batch: Batch) -> bool:
        """Tell whether the batch is in this file, also where the file was closed and opened again meanwhile."""
        return isinstance(batch.source, Spool) and batch.source.path == self.path and batch.key in self._keys

    def close(self) -> None:
        """Close the file, which another process may use from then on."""
        self._connection.close()


def open_own(path: Path, sending: set[str]) -> Spool:
    """Open the file at ``path``, or where that is in use, the first one beside it that isn't: ``path-2``, ``path-3`` …

    Raises sqlite3.Error where it can't be used.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for candidate in _files(path):
        try:
            return Spool(candidate, sending)
        except SpoolInUseError:
            continue
    raise sqlite3.OperationalError(f"more than {_MOST_FILES} processes use the spool {path}")


def open_left(path: Path, except_for: set[Path], sending: set[str]) -> list[Spool]:
    """Open the files that other processes left with events in them, as they were killed or the service was away."""
    left: list[Spool] = []
    for candidate in _files(path):
        if not candidate.exists():
            break
        if candidate in except_for:
            continue
        try:
            spool = Spool(candidate, sending)
        except (SpoolInUseError, sqlite3.Error):
            continue
        if spool.count:
            left.append(spool)
        else:
            spool.close()
    return left


def _files(path: Path) -> list[Path]:
    return [path, *(path.with_name(f"{path.name}-{number}") for number in range(2, _MOST_FILES + 1))]
