"""Runs commands that print a number."""

from __future__ import annotations

import shlex
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
                arguments = shlex.split(command)
                done = subprocess.run(  # noqa: S603 (of the host's own configuration)
                    arguments, capture_output=True, text=True, timeout=self._timeout_seconds, check=True
                )
                yield name, float(done.stdout)
            except (OSError, subprocess.SubprocessError, ValueError) as error:
                self._complaints.say(f"exec {name}", "exec %s: %s", name, error)
