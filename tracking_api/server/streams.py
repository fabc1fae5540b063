"""Makes long answers, on threads and connections of their own, into files that are sent once they are whole.

Their length isn't known before they are made. Sent piece by piece, an answer that broke off would look like a whole
one, and a slow reader would hold a connection and a snapshot of the database for as long as it reads.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from tempfile import SpooledTemporaryFile
from threading import Lock
from typing import IO

from django.conf import settings
from django.db import connections
from rest_framework.exceptions import ValidationError

from events.http.exceptions import RateLimited, ServiceUnavailable
from tracking_api.server.budget import Budget
from tracking_api.server.handler import LongAnswer

_IN_MEMORY_BYTES = 1 << 20
_ANSWERS_ON_DISK = 4  # of STREAM_BYTES each; all answers of one client may take as much as one


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Streams:
    """The limits of long answers: how many are made at a time, and what they take up on the disk. Threads share it."""

    def __init__(self) -> None:
        self.most = settings.SERVER_STREAMS
        self.most_of_a_client = max(1, self.most // 2)
        self.disk = Budget(_ANSWERS_ON_DISK * settings.STREAM_BYTES, settings.STREAM_BYTES)
        self._of_client: Counter[Hashable] = Counter()
        self._lock = Lock()

    def admit(self, client: Hashable, most: int) -> None:
        """Count a client's answer, which is to be made now or later. ``most`` is how many all clients may have.

        The client None, who may be anybody, has no share of its own, only the limit of all.

        Raises RateLimited where the client has too many, and ServiceUnavailable where all clients have.
        """
        with self._lock:
            if client is not None and self._of_client[client] >= self.most_of_a_client:
                raise RateLimited(f"More than {self.most_of_a_client} long answers of a client at a time", 1)
            if self._of_client.total() >= most:
                raise ServiceUnavailable("Too many long answers are being made; try again.")
            self._of_client[client] += 1

    def release(self, client: Hashable) -> None:
        """Count a client's answer no longer, as it is made or given up."""
        with self._lock:
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]


class LongFile:
    """A file that holds a long answer, in memory while it is small; closing it gives its room back."""

    def __init__(self, streams: Streams, client: Hashable) -> None:
        self.size = 0
        self._streams, self._client = streams, client
        self._counted = 0
        self._file: IO[bytes] = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115

    def write(self, answer: LongAnswer, is_wanted: Callable[[], bool]) -> None:
        """Make the whole answer, and go back to its beginning.

        Raises whatever its view raises; ClientGone where ``is_wanted`` returns False; ServiceUnavailable past
        STREAM_SECONDS, and where all answers together take up too much; ValidationError where this one is larger than
        STREAM_BYTES.
        """
        deadline = time.monotonic() + settings.STREAM_SECONDS
        for piece in answer.response:
            if not is_wanted():
                raise ClientGone
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"Cancelled after {settings.STREAM_SECONDS} s; ask for less, or try again.")
            self._take(len(piece))
            self.append(piece)
            time.sleep(0)  # lets other threads run, which answer small requests
        self.rewind()

    def append(self, piece: bytes) -> None:
        """Write a piece, without asking for room."""
        self._file.write(piece)

    def rewind(self) -> None:
        """Go back to the beginning, to read the file."""
        self._file.seek(0)

    def _take(self, size: int) -> None:
        self.size += size
        if self.size > settings.STREAM_BYTES:
            advice = "choose a shorter window or a coarser granularity"
            raise ValidationError(
                {"granularity": [f"The answer has more than {settings.STREAM_BYTES} bytes; {advice}."]}
            )
        if not self._streams.disk.take(self._client, size):
            raise ServiceUnavailable("Too many long answers are being sent; try again.")
        self._counted += size

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, ``size`` at most, or all that are left."""
        return self._file.read(size)

    def close(self) -> None:
        """Close the file, which deletes it, and give its room back. May be called again."""
        with suppress(OSError):  # which closes it all the same, though there is no room for what its buffer has
            self._file.close()
        self._streams.disk.give_back(self._client, self._counted)
        self._counted = 0


def write_to_file(answer: LongAnswer, streams: Streams, client: Hashable, is_wanted: Callable[[], bool]) -> LongFile:
    """Make the whole answer and return its file; its length is set among the answer's headers.

    The database is read over connections of this thread, which are closed after. Raises what ``LongFile.write`` does.
    """
    file = LongFile(streams, client)
    try:
        file.write(answer, is_wanted)
    except BaseException:
        file.close()
        raise
    finally:
        answer.close()
        connections.close_all()
    answer.response["Content-Length"] = str(file.size)
    return file
