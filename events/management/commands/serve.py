"""``manage.py serve``: the service under granian, the server meant for production."""

import os
import shutil
import socket
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from tracking_api.affinity import PROCESS_NAME
from tracking_api.connection_pool import MOST_THREADS

KILL_SECONDS = 8
DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client looks when it is loaded


class Command(BaseCommand):
    help = "Serve on HOST and PORT with SERVER_WORKERS processes of SERVER_THREADS threads, until SIGTERM or SIGINT."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--prepare", action="store_true", help="first migrate, and create what a first visit needs where missing"
        )

        parser.add_argument(
            "--worker", action="store_true", help="also run the worker beside it, as manage.py roll_up --watch does"
        )

    def handle(self, *args: Any, prepare: bool, worker: bool, **options: Any) -> None:
        self._check_port()
        if prepare:
            call_command("migrate", verbosity=0)
            call_command("prepare_first_visit")
        if settings.METRICS_TOKEN:
            os.environ[DIRECTORY_VARIABLE] = str(self._metrics_directory())
        if worker:
            # It ends with the server, which this process becomes.
            command = [sys.executable, sys.argv[0], "roll_up", "--watch", "1", "--parent", str(os.getpid())]
            subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603
        self.stdout.write(f"Serving on http://{settings.HOST}:{settings.PORT}/ – stop with Ctrl+C.")
        self.stdout.flush()
        # where the server finds the code, wherever it was started from
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(settings.BASE_DIR), os.getenv("PYTHONPATH")]))
        # The server replaces this process, so that signals and exit codes are its own.
        os.execv(sys.executable, [sys.executable, "-m", "granian", *self._server_arguments()])  # noqa: S606

    def _check_port(self) -> None:
        try:
            family = socket.AF_INET6 if ":" in settings.HOST else socket.AF_INET
            socket.create_server((settings.HOST, settings.PORT), family=family).close()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise CommandError(
                f"Can't listen on {settings.HOST}:{settings.PORT}: {reason}. "
                "Stop what uses it, or choose another with the variables HOST and PORT."
            ) from None

    def _metrics_directory(self) -> Path:
        """An empty directory in which the workers count: what an earlier run counted is gone with it."""
        directory: Path = settings.LOCAL_DIR / f"metrics-{settings.HOST}-{settings.PORT}"
        shutil.rmtree(directory, ignore_errors=True)
        try:
            directory.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise CommandError(f"LOCAL_DIR must be a directory to write to: {error}.") from None
        return directory

    def _server_arguments(self) -> list[str]:
        return [
            *("--interface", "wsgi"),
            *("--host", settings.HOST),
            *("--port", str(settings.PORT)),
            *("--workers", str(settings.SERVER_WORKERS)),
            *("--process-name", PROCESS_NAME),
            *("--http", "1"),
            # Most of them wait for a client or a connection; tracking_api/wsgi.py lets SERVER_THREADS work at a time.
            *("--blocking-threads", str(MOST_THREADS)),
            # What was taken is finished; a worker that takes longer is stuck.
            *("--workers-kill-timeout", str(KILL_SECONDS)),
            "--respawn-failed-workers",
            "--no-ws",
            *("--log-level", "error"),  # a warning would tell that these are many threads
            "tracking_api.wsgi:application",
        ]
