"""Bodies of requests on their way in: in memory as long as they are small, in a file without a name after that."""

from __future__ import annotations

from collections.abc import Callable, Hashable
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
    """What the bodies of this process may take up, in memory and on the disk.

    Where they take up all of the disk, that one is refused that came in for longest: of the same address where
    that has more than its share, else of all. So bodies that never end keep nobody's out.
    """

    def __init__(self) -> None:
        self.memory = Budget(_MOST_IN_MEMORY_BYTES, _MOST_IN_MEMORY_BYTES // _SHARE)
        self.disk = Budget(_MOST_BYTES, _MOST_BYTES // _SHARE)
        self.coming_in: dict[Body, None] = {}  # to the disk

    def take_disk(self, body: Body, size: int) -> bool:
        """Count ``size`` more bytes on the disk for a body; return False where only whole ones are in its way."""
        while not self.disk.take(body.holder, size):
            is_own_fault = self.disk.exceeds_share(body.holder, size)
            others = (each for each in self.coming_in if each is not body)
            first = next((each for each in others if not is_own_fault or each.holder == body.holder), None)
            if first is None:
                return False
            del self.coming_in[first]
            first.push_out()
        return True


class Body:
    """One body, written piece by piece and read once it is whole."""

    def __init__(self, bodies: Bodies, holder: Hashable, push_out: Callable[[], object]) -> None:
        """``push_out`` closes the body while it is coming in, as others need its room."""
        self.size = 0
        self.holder = holder
        self.push_out = push_out
        self._counted = 0
        self._bodies = bodies
        self._budget = bodies.memory
        self._file: IO[bytes] = BytesIO()

    def write(self, piece: bytes) -> bool:
        """Add a piece; return False where there is no room for it. Raises OSError where the disk has none."""
        more = max(0, self.size + len(piece) - _FREE_BYTES) - self._counted
        if self._budget is self._bodies.disk:
            has_room = self._bodies.take_disk(self, more)
        else:
            is_small = self.size + len(piece) <= _IN_MEMORY_BYTES
            has_room = (is_small and self._budget.take(self.holder, more)) or self._to_disk(more)
        if not has_room:
            return False
        self._counted += more  # before what may fail
        self.size += len(piece)
        self._file.write(piece)
        return True

    def _to_disk(self, more: int) -> bool:
        """Move to the disk, and count ``more`` bytes there than are in memory."""
        file = TemporaryFile()  # noqa: SIM115
        if not self._bodies.take_disk(self, self._counted + more):
            file.close()
            return False
        self._budget.give_back(self.holder, self._counted)
        self._budget = self._bodies.disk
        self._bodies.coming_in[self] = None
        small, self._file = self._file, file
        small.seek(0)
        self._file.write(small.read())
        return True

    def finish(self) -> None:
        """Note that the body is whole."""
        self._bodies.coming_in.pop(self, None)

    def reader(self) -> IO[bytes]:
        """Return the body as a file at its beginning."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Give back what it takes up."""
        self.finish()
        self._budget.give_back(self.holder, self._counted)
        self._counted = 0
        self._file.close()
