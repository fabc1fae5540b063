"""Forks the server's processes from a parent that has loaded the code, which each then has at once and shares."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import get_context

from django.conf import settings
from setproctitle import setproctitle

from events.database.statement_timeout import limit_statements
from tracking_api.server.connection_counts import ConnectionCount
from tracking_api.server.cpu_affinity import keep_to_one_cpu
from tracking_api.server.process import serve

READY_BYTES = 2  # a process that serves writes its number to the parent, as so many bytes
_FILES_A_CONNECTION = 2  # the socket, and a body or an answer on the disk
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ForkedProcess:
    """A process that calls a function and ends; what is told of it and to it is as with ``subprocess.Popen``."""

    def __init__(self, name: str, function: Callable[[], object], parents_files: Sequence[int]) -> None:
        """Fork the process. In the child, the files with these descriptors are closed, as only the parent uses them."""
        self._process = get_context("fork").Process(target=_begin, args=(name, function, parents_files), name=name)
        # A signal that came before the process has handlers of its own would be taken by the parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once the process has ended. Raises TimeoutExpired after ``timeout`` seconds."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()


def _begin(name: str, function: Callable[[], object], parents_files: Sequence[int]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Ctrl+C reaches the parent too, which then stops its children in order
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    for descriptor in parents_files:
        os.close(descriptor)
    setproctitle(name)
    function()


def _raise_file_limit() -> int:
    """Raise the number of files that this process may open as far as the system lets it; return that number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def run(number: int, listener: socket.socket, count: ConnectionCount, ready: int, parent: int) -> None:
    """Serve on a socket, as the process with this number, whose connections ``count`` has.

    ``ready`` is a pipe to write to once connections are accepted, ``parent`` one whose other end closes when the parent
    ends.
    """
    files = _raise_file_limit()
    limit_statements()
    keep_to_one_cpu(number)
    listener.setblocking(False)
    tell_ready = partial(os.write, ready, number.to_bytes(READY_BYTES, "big"))
    most = max(1, min(settings.MAX_CONNECTIONS, files // _FILES_A_CONNECTION - 100))
    serve(listener, most, count, tell_ready, parent)
