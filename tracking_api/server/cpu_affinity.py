"""Which CPU each process of the server runs on."""

import os
from contextlib import suppress

from django.conf import settings


def keep_to_one_cpu(number: int) -> None:
    """Keep process ``number``, counted from 1, to a CPU of its own, where there are as many of them as CPUs.

    A request goes from the loop's thread to another and back. One of them at a time runs Python anyway, and to wake the
    other costs a few microseconds on the same CPU, but ten times as many on another one that sleeps.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    with suppress(OSError):  # where the system's rules forbid it
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) == settings.SERVER_WORKERS:
            os.sched_setaffinity(0, {cpus[number - 1]})
