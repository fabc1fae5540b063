"""Which CPU each process of the server runs on."""

import os
import re
from contextlib import suppress

from django.conf import settings
from setproctitle import getproctitle

PROCESS_NAME = "tracking-api"
_numbered = re.compile(rf"{PROCESS_NAME} worker-(\d+)").fullmatch  # as granian names its processes


def keep_to_one_cpu() -> None:
    """Keep this process to a CPU of its own, where there are as many of the server's processes as CPUs.

    A request goes from the server's thread to ours and back. One of them at a time runs Python anyway, and to wake the
    other costs a few microseconds on the same CPU, but ten times as many on another one that sleeps.
    """
    number = _numbered(getproctitle())
    if number is None or not hasattr(os, "sched_setaffinity"):
        return
    with suppress(OSError):  # where the system's rules forbid it
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) == settings.SERVER_WORKERS:
            os.sched_setaffinity(0, {cpus[int(number[1]) - 1]})
