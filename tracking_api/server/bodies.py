"""Keeps bodies of requests on their way in: in memory while they are small, then in a file without a name."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO

from django.conf import settings

from tracking_api.server.budget import Budget

_IN_MEMORY_BYTES = 1 << 20
# Every body may have these, whatever others take up: enough for single events and for forms.
_FREE_BYTES = 16 << 10
# The budgets of one process, for bodies of requests that are not answered yet.
_MOST_IN_MEMORY_BYTES = 64 << 20
_MOST_BYTES = 512 << 20
_SHARE = 4  # clients of one network may take the fourth part of a budget


class Bodies:
    """The bodies of this process, and the budgets of memory and disk that they share.

    Where they use up the disk's budget, the unfinished body that came to the disk first is refused: the first of the
    same owner where the owner has more than its share, else the first of all. So bodies that never end keep no others
    out.
    """

    def __init__(self) -> None:
        self.memory = Budget(_MOST_IN_MEMORY_BYTES, _MOST_IN_MEMORY_BYTES // _SHARE)
        most = max(_MOST_BYTES, _SHARE * settings.MAX_BODY_BYTES)  # so that one which is allowed always fits
        self.disk = Budget(most, most // _SHARE)
        self.coming_in: dict[Body, None] = {}  # unfinished bodies on the disk, in the order in which they came there

    def take_disk(self, body: Body, size: int) -> bool:
        """Count ``size`` more bytes on the disk for a body, and refuse unfinished bodies to make room.

        Returns False where there is too little room and no other unfinished body to refuse.
        """
        while not self.disk.take(body.owner, size):
            is_own_fault = self.disk.exceeds_share(body.owner, size)
            others = (each for each in self.coming_in if each is not body)
            first = next((each for each in others if not is_own_fault or each.owner == body.owner), None)
            if first is None:
                return False
            del self.coming_in[first]
            first.push_out()
        return True


class Body:
    """A body that is written piece by piece, and read once it is whole."""

    def __init__(self, bodies: Bodies, owner: Hashable, push_out: Callable[[], object]) -> None:
        """Make an empty body of an owner; ``push_out`` refuses it while it is unfinished, as others need its room."""
        self.size = 0
        self.owner = owner
        self.push_out = push_out
        self._counted = 0
        self._bodies = bodies
        self._budget = bodies.memory
        self._file: IO[bytes] = BytesIO()

    def write(self, piece: bytes) -> bool:
        """Add a piece; return False where the budgets have no room for it. Raises OSError where the disk has none."""
        more = max(0, self.size + len(piece) - _FREE_BYTES) - self._counted
        is_small = self._budget is self._bodies.memory and self.size + len(piece) <= _IN_MEMORY_BYTES
        fits_in_memory = is_small and self._budget.take(self.owner, more)
        if not fits_in_memory and not (self._to_disk() and self._bodies.take_disk(self, more)):
            return False
        self._counted += more  # before the write, so that close() gives it back where the write fails
        self.size += len(piece)
        self._file.write(piece)
        self._file.flush()  # or it would be found out only once the body is read or closed that there is no room
        return True

    def _to_disk(self) -> bool:
        """Move the body to the disk, unless it is there; return False where the budget has no room for it."""
        if self._budget is self._bodies.disk:
            return True
        file = TemporaryFile()  # noqa: SIM115
        if not self._bodies.take_disk(self, self._counted):
            file.close()
            return False
        self._budget.give_back(self.owner, self._counted)
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
        """Close the file, and give back what the body takes up. May be called again."""
        self.finish()
        self._budget.give_back(self.owner, self._counted)
        self._counted = 0
        with suppress(OSError):  # which closes it all the same, though there is no room for what its buffer has
            self._file.close()
