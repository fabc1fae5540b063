"""Keeps the files of the archive: in a directory, or in a store of objects that fsspec knows."""

from __future__ import annotations

import io
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
from typing_extensions import override

_DIRECTORY_CHARACTERS = 120
# analysts may be given the files by their group, and nobody else
_DIRECTORY_MODE, _FILE_MODE = 0o750, 0o640
# always the same one, so that no more than one is ever left by processes that are killed
_CHECK = ".check"
# Libraries of stores try again for minutes, for which the worker would roll nothing up.
_ANSWER_SECONDS = 30
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
        """Remove a file and a draft of it, where they are. Raises ArchiveAwayError where that can't be told."""


def store() -> Store:
    """Return the store that ARCHIVE names. Raises ArchiveAwayError where it names none, or its library is missing."""
    if not settings.ARCHIVE:
        raise ArchiveAwayError("ARCHIVE is not set.", is_wrong=True)
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
    except OSError as error:
        raise _as_away(error) from error


class _Directory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def check(self) -> None:
        self._check_root()
        with told(), tempfile.TemporaryFile(dir=self._root) as file:
            file.write(b"\0")
            file.flush()

    def draft(self, path: str) -> _PartFile:
        with told():
            return _PartFile(self._root, path)

    def open(self, path: str) -> BinaryIO:
        self._check_root()
        return (self._root / path).open("rb")

    def remove(self, path: str) -> None:
        self._check_root()  # or a file that is away would be taken to be gone, and stay for good
        with told():
            file = self._root / path
            for each in (file, _part(file)):
                each.unlink(missing_ok=True)
            with suppress(OSError):  # other files are in it
                file.parent.rmdir()

    def _check_root(self) -> None:
        with told():
            is_there = self._root.is_dir()
        if not is_there:
            # not made here, as it may lie on a disk that is not mounted yet
            raise ArchiveAwayError(f"{self._root} is no directory; make it.", is_wrong=True)


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
        path = self._at(_CHECK)
        with _told_of_objects():
            self._files.pipe_file(path, b"\0", **_in_time(self._files))
            with suppress(FileNotFoundError):  # another process looks too
                self._files.rm_file(path, **_in_time(self._files))

    def draft(self, path: str) -> _Upload:
        with told():
            return _Upload(self._files, self._at(path))

    def open(self, path: str) -> BinaryIO:
        return _open_object(self._files, self._at(path))

    def remove(self, path: str) -> None:
        try:
            with _told_of_objects(FileNotFoundError):
                self._files.rm_file(self._at(path))
        except FileNotFoundError:
            self.check()  # a bucket that is missing is told in the same way as an object that is

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"


class _Upload:
    def __init__(self, files: Any, path: str) -> None:
        self._files, self._path = files, path
        self._is_published = self._is_sent = False
        # one without a name, of which nothing is left where this process is killed
        self.file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115

    def sync(self) -> None:
        self.file.flush()
        with _told_of_objects():
            self._is_sent = True
            try:
                self._send()
            except FileNotFoundError:  # the store has directories, and lacks these
                directory = self._path.rpartition("/")[0]
                for each in (directory.rpartition("/")[0], directory):
                    with suppress(FileExistsError):
                        self._files.mkdir(each, create_parents=False)
                self._send()

    def _send(self) -> None:
        self.file.seek(0)
        self._files.put_file(f"/dev/fd/{self.file.fileno()}", self._path)

    def reading(self) -> BinaryIO:
        return _open_object(self._files, self._path)

    def publish(self) -> None:
        self._is_published = True  # it has its name since it was sent

    def close(self) -> None:
        self.file.close()
        if self._is_sent and not self._is_published:
            with _told_of_objects(), suppress(FileNotFoundError):
                self._files.rm_file(self._path)


class _Object(io.RawIOBase):
    """An object that is read, whose library's errors are told as ArchiveAwayError."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    @override
    def tell(self) -> int:
        return self._file.tell()

    @override
    def readinto(self, buffer: Any) -> int:
        with _told_of_objects():
            piece = self._file.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    @override
    def close(self) -> None:
        self._file.close()
        super().close()


def _open_object(files: Any, path: str) -> BinaryIO:
    """Open an object for reading. Raises FileNotFoundError, and ArchiveAwayError where its store doesn't answer."""
    with _told_of_objects(FileNotFoundError):
        files.info(path, **_in_time(files))
        return io.BufferedReader(_Object(files.open(path, "rb")))


def _in_time(files: Any) -> dict[str, float]:
    """Return the option that has a call end with TimeoutError where a store is silent, if its library has it."""
    return {"timeout": _ANSWER_SECONDS} if files.async_impl else {}


@contextmanager
def _told_of_objects(*passed_on: type[Exception]) -> Iterator[None]:
    """Turn what the library of a store raises, each of which has errors of its own, into an ArchiveAwayError."""
    try:
        yield
    except passed_on:
        raise
    except ArchiveError:
        raise
    except TimeoutError as error:
        raise ArchiveAwayError(_as_text(error) if str(error) else "The store doesn't answer.") from error
    except Exception as error:
        raise _as_away(error) from error


def _as_away(error: Exception) -> ArchiveAwayError:
    is_wrong = isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError)
    return ArchiveAwayError(_as_text(error), is_wrong=is_wrong)


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
