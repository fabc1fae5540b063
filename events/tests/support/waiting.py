"""Waiting in tests for what other threads and processes do."""

import time


def wait_until(is_so, seconds=120, explain=str):
    """Returns once it is so, looking again and again; fails with the explanation where that takes too long."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.02)


def ask_until(ask, is_good):
    """The first good answer, asking again and again; fails with the last one where that takes too long."""
    answers = []
    wait_until(lambda: answers.append(ask()) or is_good(answers[-1]), explain=lambda: str(answers[-1]))
    return answers[-1]
