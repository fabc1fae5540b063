"""Sends requests over kept connections, and returns whole answers."""

from __future__ import annotations

import gzip
import json
import queue
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import urllib3

from tracking_client.errors import Unreachable


class _Unused(queue.LifoQueue[Any]):
    """Connections of a pool that are not in use, without the lock of a LifoQueue.

    A process that forks while another thread holds that lock leaves it locked in the child for good, where the
    pool's end would wait for it.
    """

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return a connection. Raises queue.Empty; it never waits."""
        try:
            return self.queue.pop()
        except IndexError:
            raise queue.Empty from None

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Take a connection in. Raises queue.Full; it never waits."""
        if len(self.queue) >= self.maxsize:
            raise queue.Full
        self.queue.append(item)

    def qsize(self) -> int:
        """Return how many there are."""
        return len(self.queue)


class _Pool(urllib3.HTTPConnectionPool):
    QueueCls = _Unused


class _SecurePool(urllib3.HTTPSConnectionPool):
    QueueCls = _Unused


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]  # in any case
    body: bytes

    @property
    def text(self) -> str:
        """Return the body as text, not too much of it for a line of log."""
        return self.body[:2_000].decode(errors="replace")

    def json(self) -> Any:
        """Return what the body holds; None where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Transport:
    """Requests to one service, by any thread."""

    def __init__(self, url: str, timeout_seconds: float, connections: int = 4) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"The address of the service begins with http:// or https://; this doesn't: {url!r}.")
        self.url = url.rstrip("/")
        self._timeout = urllib3.Timeout(connect=min(timeout_seconds, 5.0), read=timeout_seconds)
        self._connections = connections
        self.forget_connections()

    def forget_connections(self) -> None:
        """Begin without connections, as in a forked process, where those there are belong to the parent."""
        self._pool = urllib3.PoolManager(maxsize=self._connections, timeout=self._timeout, retries=False)
        self._pool.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def close(self) -> None:
        """Close all connections that are not in use."""
        self._pool.clear()

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | str | None = None
    ) -> Answer:
        """Send a request and return its answer, whatever its status. Raises Unreachable."""
        try:
            response = self._pool.request(method, self.url + path, headers=headers, body=body, redirect=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"{self.url}: {error}") from error
        return Answer(response.status, response.headers, response.data)


def packed(lines: list[str]) -> bytes:
    """Return the lines as a gzipped body of NDJSON."""
    # most of what packing gains, at a sixth of the usual time
    return gzip.compress("\n".join(lines).encode(), compresslevel=1, mtime=0)
