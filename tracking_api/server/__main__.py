"""``python -m tracking_api.server``: runs one process of the server, as ``manage.py serve`` starts it."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import socket
from contextlib import suppress
from functools import partial

from setproctitle import setproctitle

_FILES_A_CONNECTION = 2  # the socket, and a body or an answer on the disk


def _raise_file_limit() -> int:
    """Raise the number of files that this process may open as far as the system lets it; return that number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def main() -> None:
    """Serve on the socket that the parent has opened."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listener", type=int, required=True, help="the socket's file descriptor")
    parser.add_argument("--ready", type=int, required=True, help="a pipe to write to once connections are accepted")
    parser.add_argument("--parent", type=int, required=True, help="a pipe whose other end closes when the parent ends")
    parser.add_argument("--number", type=int, required=True, help="which of the processes this is, from 1")
    options = parser.parse_args()
    # Ctrl+C reaches the parent too, which then stops its children in order
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    setproctitle(f"tracking-api worker-{options.number}")
    files = _raise_file_limit()

    from tracking_api.server import handler  # sets Django up, which all other modules need

    # isort: split
    from django.conf import settings

    from tracking_api.server.cpu_affinity import keep_to_one_cpu
    from tracking_api.server.process import serve
    from tracking_api.server.supervisor import READY_BYTES

    handler.freeze()
    keep_to_one_cpu(options.number)
    listener = socket.socket(fileno=options.listener)
    listener.setblocking(False)
    tell_ready = partial(os.write, options.ready, options.number.to_bytes(READY_BYTES, "big"))
    most = max(1, min(settings.MAX_CONNECTIONS, files // _FILES_A_CONNECTION - 100))
    serve(listener, most, tell_ready, options.parent)


if __name__ == "__main__":
    main()
