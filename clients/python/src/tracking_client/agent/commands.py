"""Runs commands that print a number."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping

from tracking_client.agent.host import Reading
from tracking_client.complaints import Complaints


class Commands:
    """Commands by the name that their number is tracked under."""

    def __init__(self, commands: Mapping[str, str], timeout_seconds: float, complaints: Complaints) -> None:
        self._commands = commands
        self._timeout_seconds = timeout_seconds
        self._complaints = complaints

    def read(self) -> Iterator[Reading]:
        """Read the number that each command prints; one that fails is left out and logged."""
        for name, command in self._commands.items():
            try:
                yield name, float(self._run(shlex.split(command)))
            except (OSError, subprocess.SubprocessError, ValueError) as error:
                self._complaints.say(f"exec {name}", "exec %s: %s", name, error)

    def _run(self, arguments: list[str]) -> str:
        """Return what a command prints. Where it takes too long it is killed with all that it has started."""
        with subprocess.Popen(  # noqa: S603 (of the host's own configuration)
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            try:
                output, errors = process.communicate(timeout=self._timeout_seconds)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                if process.returncode is None:  # or the id may be another's by now
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, arguments, output, errors)
        return output
