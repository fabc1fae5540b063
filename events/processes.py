"""Names processes, so that what one has begun can tell later whether it may still be at it."""

from __future__ import annotations

import os
import socket

_HOST_CHARACTERS = 250


def this_process() -> str:
    """Return the name of this process, with its host; it has 300 characters at most."""
    return f"{_host()}:{os.getpid()}"


def may_run(process: str) -> bool:
    """Tell whether a process may be running: not one of this host that has ended, nor one without a name."""
    host, _, pid = process.rpartition(":")
    return is_running(int(pid)) if host == _host() else bool(process)


def is_running(pid: int) -> bool:
    """Tell whether a process of this host is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _host() -> str:
    return socket.gethostname()[:_HOST_CHARACTERS]
