"""Processes of ``manage.py`` that are forked from one which has loaded the libraries, as loading them takes a second.

With ``--thorough``, and where a variable of Python's own is set, each is a Python that starts by itself, as in use.
"""

import atexit
import os
import runpy
import signal
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

from django.conf import settings
from setproctitle import setproctitle

from events.tests.support.examples import IS_THOROUGH

MANAGE = str(Path(__file__).resolve().parents[3] / "manage.py")

_context = get_context("forkserver")
_context.set_forkserver_preload(["events.tests.support.libraries", __name__])


class Forked:
    """A process that runs a command; what is told of it and to it is as with ``subprocess.Popen``."""

    def __init__(self, arguments, *options):
        self.args = arguments
        self._process = _context.Process(target=_run, args=(arguments, *options))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def start(arguments, env, out, err=None, cwd=None, umask=-1):
    """Start ``manage.py`` in a session of its own; what it writes is added to files, errors too where no ``err`` is named."""
    if not IS_THOROUGH and not any(name.startswith("PYTHON") for name in env):
        return Forked(arguments, env, out, err, cwd or os.getcwd(), umask)
    with open(out, "ab") as output, open(err or out, "ab") as errors:
        command = [sys.executable, MANAGE, *arguments]
        return subprocess.Popen(
            command, env=env, cwd=cwd, stdout=output, stderr=errors, start_new_session=True, umask=umask
        )


def _run(arguments, env, out, err, cwd, umask):
    """Become the process that runs the command, from what it may see of its start to how it ends."""
    assert not settings.configured  # the libraries came without, or these would be other settings
    os.setsid()
    setproctitle(" ".join([sys.executable, MANAGE, *arguments]))  # which needs the environment that it began with
    os.environ.clear()
    os.environ.update(env)
    for number, path in ((1, out), (2, err or out)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), number)
    os.chdir(cwd)
    if umask >= 0:
        os.umask(umask)
    sys.argv, sys.path[0] = [MANAGE, *arguments], str(Path(MANAGE).parent)
    try:
        runpy.run_path(MANAGE, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing doesn't
