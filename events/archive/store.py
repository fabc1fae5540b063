"""Keeps the files of the archive: in a directory, or in a store of objects that fsspec knows."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote

from django.conf import settings

_DIRECTORY_CHARACTERS = 120
# analysts may be given the files by their group, and nobody else
_DIRECTORY_MODE, _FILE_MODE = 0o750, 0o640
INSTALL = "install it: pip install -r requirements-archive.txt"


class ArchiveError(Exception):
    """Something stands in the way of archiving a series; nothing of it is deleted."""


class ArchiveAwayError(ArchiveError):
    """The whole archive can't be written or read.

    ``is_wrong`` tells that it will not get better by itself, as ARCHIVE names what is not there or may not be written.
    """

    def __init__(self, reason: str, *, is_wrong: bool = False) -> None:
        super().__init__(reason)
        self.is_wrong = is_wrong


class Draft(Protocol):
    """A file on its way into the archive."""

    file: BinaryIO

    def sync(self) -> None:
        """Have what was written outlast a power cut."""

    def reading(self) -> BinaryIO:
        """Open what is kept of it for reading; to be called once it is synced."""

    def publish(self) -> None:
        """Give it its name."""

    def close(self) -> None:
        """Remove what is not published."""


class Store(Protocol):
    """Where the files of the archive lie, by their paths within it."""

    def check(self) -> None:
        """Raise ArchiveAwayError unless a file can be written."""

    def draft(self, path: str) -> Draft:
        """Begin a new file."""

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading. Raises FileNotFoundError."""

    def remove(self, path: str) -> None:
        """Remove a file and a draft of it, where they are."""


def store() -> Store:
    """Return the store that ARCHIVE names. Raises ArchiveAwayError where its library is missing."""
    return _Objects(settings.ARCHIVE) if "://" in settings.ARCHIVE else _Directory(Path(settings.ARCHIVE))


def new_path(namespace: str, name: str, month: str) -> str:
    """Make the path of a new file, which no other has: a restored database would otherwise write over later files."""
    directory = quote(namespace, safe=" ")[:_DIRECTORY_CHARACTERS]
    if directory.startswith("."):
        directory = f"%2E{directory[1:]}"
    series = blake2b(f"{namespace}/{name}".encode(), digest_size=8).hexdigest()
    return f"{directory}/{series}/{month}-{secrets.token_hex(4)}.parquet"


@contextmanager
def told() -> Iterator[None]:
    """Turn what a store raises in the block into an ArchiveAwayError."""
    try:
        yield
    except (ArchiveError, GeneratorExit):
        raise
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise ArchiveAwayError(_as_text(error), is_wrong=True) from error
    except OSError as error:
        raise ArchiveAwayError(_as_text(error)) from error


class _Directory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def check(self) -> None:
        if not self._root.is_dir():
            # not made here, as it may lie on a disk that is not mounted yet
            raise ArchiveAwayError(f"{self._root} is no directory; make it.", is_wrong=True)
        with told(), tempfile.TemporaryFile(dir=self._root) as file:
            file.write(b"\0")
            file.flush()

    def draft(self, path: str) -> _PartFile:
        with told():
            return _PartFile(self._root, path)

    def open(self, path: str) -> BinaryIO:
        return (self._root / path).open("rb")

    def remove(self, path: str) -> None:
        with told():
            file = self._root / path
            for each in (file, _part(file)):
                each.unlink(missing_ok=True)
            with suppress(OSError):  # other files are in it
                file.parent.rmdir()


class _PartFile:
    def __init__(self, root: Path, path: str) -> None:
        self._path = root / path
        for directory in (self._path.parent.parent, self._path.parent):
            if not directory.is_dir():
                directory.mkdir(_DIRECTORY_MODE, exist_ok=True)
                _sync_directory(directory.parent)
        self._part = _part(self._path)
        descriptor = os.open(self._part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, _FILE_MODE)
        self.file: BinaryIO = os.fdopen(descriptor, "wb")

    def sync(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())

    def reading(self) -> BinaryIO:
        return self._part.open("rb")

    def publish(self) -> None:
        self._part.rename(self._path)
        _sync_directory(self._path.parent)

    def close(self) -> None:
        self.file.close()
        self._part.unlink(missing_ok=True)


class _Objects:
    """A store of objects, in which a file is there as soon as it is whole."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError:
            raise ArchiveAwayError(f"fsspec is missing; {INSTALL}", is_wrong=True) from None
        try:
            self._files, self._root = fsspec.core.url_to_fs(url.rstrip("/"))
        except (ImportError, ValueError) as error:  # its own library is missing, or nothing knows the protocol
            raise ArchiveAwayError(_as_text(error), is_wrong=True) from None

    def check(self) -> None:
        path = self._at(f"check-{secrets.token_hex(4)}")
        with _told_of_objects():
            self._files.pipe_file(path, b"\0")
            self._files.rm_file(path)

    def draft(self, path: str) -> _Upload:
        with told():
            return _Upload(self._files, self._at(path))

    def open(self, path: str) -> BinaryIO:
        file: BinaryIO = self._files.open(self._at(path), "rb")
        return file

    def remove(self, path: str) -> None:
        with _told_of_objects(), suppress(FileNotFoundError):
            self._files.rm_file(self._at(path))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"


class _Upload:
    def __init__(self, files: Any, path: str) -> None:
        self._files, self._path = files, path
        self._is_published = self._is_sent = False
        self.file: BinaryIO = tempfile.NamedTemporaryFile(suffix=".parquet")  # type: ignore[assignment]  # noqa: SIM115

    def sync(self) -> None:
        self.file.flush()
        with _told_of_objects():
            self._files.makedirs(self._path.rpartition("/")[0], exist_ok=True)
            self._is_sent = True
            self._files.put_file(self.file.name, self._path)

    def reading(self) -> BinaryIO:
        file: BinaryIO = self._files.open(self._path, "rb")
        return file

    def publish(self) -> None:
        self._is_published = True  # it has its name since it was sent

    def close(self) -> None:
        self.file.close()
        if self._is_sent and not self._is_published:
            with _told_of_objects(), suppress(FileNotFoundError):
                self._files.rm_file(self._path)


@contextmanager
def _told_of_objects() -> Iterator[None]:
    try:
        with told():
            yield
    except (ArchiveError, GeneratorExit):
        raise
    except Exception as error:  # each library of a store has errors of its own
        raise ArchiveAwayError(_as_text(error)) from error


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _as_text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().partition("\n")[0]
