"""Long answers: made on threads and connections of their own, into a file that is sent once it is whole.

Sent as they come, they would end alike whether all was there or something broke, as their length is not known before.
And a client that reads slowly would hold a connection and a snapshot of the database for as long.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable
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
_ANSWERS_ON_DISK = 4  # of STREAM_BYTES each; one client's take as much as one


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Streams:
    """Who may have a long answer made, and what these take up on the disk. Threads share it."""

    def __init__(self) -> None:
        self.most = settings.SERVER_STREAMS
        self.most_of_a_client = max(1, self.most // 2)
        self.disk = Budget(_ANSWERS_ON_DISK * settings.STREAM_BYTES, settings.STREAM_BYTES)
        self._of_client: Counter[Hashable] = Counter()
        self._lock = Lock()

    def admit(self, client: Hashable, most: int) -> None:
        """Take a client's answer in, to be made or to wait for that. Raises RateLimited or ServiceUnavailable.

        ``most`` is how many of all clients may be taken in.
        """
        with self._lock:
            if self._of_client[client] >= self.most_of_a_client:
                raise RateLimited(f"More than {self.most_of_a_client} long answers of a client at a time", 1)
            if self._of_client.total() >= most:
                raise ServiceUnavailable("Too many long answers are being made; try again.")
            self._of_client[client] += 1

    def release(self, client: Hashable) -> None:
        """Note that an answer is made, or never will be."""
        with self._lock:
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]


class LongFile:
    """A long answer in a file, in memory as long as it is small; closing it gives its room back."""

    def __init__(self, streams: Streams, client: Hashable) -> None:
        self.size = 0
        self._streams, self._client = streams, client
        self._counted = 0
        self._file: IO[bytes] = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115

    def write(self, answer: LongAnswer, is_wanted: Callable[[], bool]) -> None:
        """Have the whole answer made. Raises whatever its view raises, and ClientGone.

        Raises ServiceUnavailable past STREAM_SECONDS, and where all answers together take up too much;
        ValidationError where this one is larger than STREAM_BYTES.
        """
        deadline = time.monotonic() + settings.STREAM_SECONDS
        for piece in answer.response:
            if not is_wanted():
                raise ClientGone
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"Cancelled after {settings.STREAM_SECONDS} s; ask for less, or try again.")
            self._take(len(piece))
            self.append(piece)
            time.sleep(0)  # lets a small request in between
        self.rewind()

    def append(self, piece: bytes) -> None:
        """Write a piece, whatever room there is."""
        self._file.write(piece)

    def rewind(self) -> None:
        """Go back to the beginning, to be read."""
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
        """Return the next piece."""
        return self._file.read(size)

    def close(self) -> None:
        """Delete the file."""
        self._file.close()
        self._streams.disk.give_back(self._client, self._counted)
        self._counted = 0


def written(answer: LongAnswer, streams: Streams, client: Hashable, is_wanted: Callable[[], bool]) -> LongFile:
    """Return the whole answer, with its length among the headers. Raises what ``LongFile.write`` does.

    Over a connection of this thread, which is closed after.
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
