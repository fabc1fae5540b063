"""``manage.py serve``: run the service under its own server, which is meant for production."""

import os
import shutil
import socket
import sys
from argparse import ArgumentParser
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from typing_extensions import override

from events.management.commands import roll_up
from tracking_api.server.supervisor import Supervisor, listening

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is loaded


class Command(BaseCommand):
    help = "Serve on HOST and PORT with SERVER_WORKERS processes of SERVER_THREADS threads, until SIGTERM or SIGINT."

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--prepare", action="store_true", help="first migrate, and create what a first visit needs and is missing"
        )

        parser.add_argument(
            "--worker", action="store_true", help="also run the worker, as manage.py roll_up --watch does"
        )

    @override
    def handle(self, *args: Any, prepare: bool, worker: bool, **options: Any) -> None:
        self._listen().close()
        if prepare:
            call_command("migrate", verbosity=0)
            call_command("prepare_first_visit")
        if settings.METRICS_TOKEN:
            os.environ[DIRECTORY_VARIABLE] = str(self._metrics_directory())
        work = partial(_roll_up, sys.argv[0], os.getpid())
        code = Supervisor(self._listen(), work if worker else None).run(self._tell)
        if code:
            raise CommandError("A process of the server can't be started, or ended before it served; see above.")

    def _tell(self) -> None:
        self.stdout.write(f"Serving on http://{self._address()}/ – stop with Ctrl+C.")
        self.stdout.flush()

    def _address(self) -> str:
        host = f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST
        return f"{host}:{settings.PORT}"

    def _listen(self) -> socket.socket:
        try:
            return listening(settings.HOST, settings.PORT)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise CommandError(
                f"Can't listen on {self._address()}: {reason}. "
                "Stop what uses it, or choose another with the variables HOST and PORT."
            ) from None

    def _metrics_directory(self) -> Path:
        """Make an empty directory for the counts of the server's processes; those of an earlier run are deleted."""
        directory: Path = settings.LOCAL_DIR / f"metrics-{settings.HOST}-{settings.PORT}"
        shutil.rmtree(directory, ignore_errors=True)
        try:
            directory.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise CommandError(f"LOCAL_DIR must be a directory to write to: {error}.") from None
        return directory


def _roll_up(program: str, parent: int) -> None:
    """Be the worker until the parent process is gone, and say nothing of what was done, as the server goes on."""
    with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):
        roll_up.Command().run_from_argv([program, "roll_up", "--watch", "1", "--parent", str(parent)])
