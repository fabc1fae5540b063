"""Bodies of requests on their way in: in memory as long as they are small, in a file without a name after that."""

from __future__ import annotations

from collections.abc import Hashable
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO

from tracking_api.server.budget import Budget

_IN_MEMORY_BYTES = 1 << 20
# What every body may have, whatever others take up: events one by one, and forms.
_FREE_BYTES = 16 << 10
# Of one process, for bodies that are not answered yet.
_MOST_IN_MEMORY_BYTES = 64 << 20
_MOST_BYTES = 512 << 20
_SHARE = 4  # of these is what clients of one address may take


class Bodies:
    """What the bodies of this process may take up, in memory and on the disk."""

    def __init__(self) -> None:
        self.memory = Budget(_MOST_IN_MEMORY_BYTES, _MOST_IN_MEMORY_BYTES // _SHARE)
        self.disk = Budget(_MOST_BYTES, _MOST_BYTES // _SHARE)


class Body:
    """One body, written piece by piece and read once it is whole."""

    def __init__(self, bodies: Bodies, holder: Hashable) -> None:
        self.size = 0
        self._counted = 0
        self._bodies, self._holder = bodies, holder
        self._budget = bodies.memory
        self._file: IO[bytes] = BytesIO()

    def write(self, piece: bytes) -> bool:
        """Add a piece; return False where there is no room for it. Raises OSError where the disk has none."""
        more = max(0, self.size + len(piece) - _FREE_BYTES) - self._counted
        is_small = self._budget is self._bodies.memory
        if is_small and (self.size + len(piece) > _IN_MEMORY_BYTES or not self._budget.take(self._holder, more)):
            if not self._to_disk():
                return False
            is_small = False
        if not is_small and not self._budget.take(self._holder, more):
            return False
        self._counted += more
        self.size += len(piece)
        self._file.write(piece)
        return True

    def _to_disk(self) -> bool:
        if not self._bodies.disk.take(self._holder, self._counted):
            return False
        self._budget.give_back(self._holder, self._counted)
        self._budget = self._bodies.disk
        small, self._file = self._file, TemporaryFile()  # noqa: SIM115
        small.seek(0)
        self._file.write(small.read())
        return True

    def reader(self) -> IO[bytes]:
        """Return the body as a file at its beginning."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Give back what it takes up."""
        self._budget.give_back(self._holder, self._counted)
        self._counted = 0
        self._file.close()
