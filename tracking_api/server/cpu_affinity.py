"""Chooses the CPU that each process of the server runs on."""

import os
from contextlib import suppress

from django.conf import settings


def keep_to_one_cpu(number: int) -> None:
    """Keep process ``number``, counted from 1, to a CPU of its own, where there are as many processes as CPUs.

    A request goes from the loop's thread to another thread and back. Only one thread at a time runs Python anyway.
    Waking the other one takes a few microseconds on the same CPU, but ten times as long on another CPU that sleeps.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    with suppress(OSError):  # the system's rules may forbid it
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) == settings.SERVER_WORKERS:
            os.sched_setaffinity(0, {cpus[number - 1]})
