"""``manage.py export_access``: write users, clients, grants and tokens to a file for another database."""

import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from typing_extensions import override

from events.database.snapshot import snapshot
from events.management.system_checks import OWN_CHECKS
from events.transfer import access_files
from events.transfer.files import PIPE


class Command(BaseCommand):
    help = (
        "Write users, groups, OAuth2 clients with their grants, tokens that are valid, and what people wrote "
        "(annotations, boards, alerts, texts about series) to a new file that only its owner can read. It holds hashes "
        "and digests of their secrets. import_access reads it."
    )
    requires_system_checks = OWN_CHECKS

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", help="the file to write, which must not be there yet; - for standard output")

    @override
    def handle(self, *args: Any, path: str, **options: Any) -> None:
        try:
            count = self._write_pipe() if path == PIPE else self._write_file(Path(path))
        except FileExistsError:
            raise CommandError(f"{path} is there already. Choose another name, or remove it.") from None
        except BrokenPipeError:
            raise CommandError("The reader of the pipe has gone away.") from None
        except (OSError, DatabaseError) as error:
            raise CommandError(str(error).strip()) from None
        self.stderr.write(f"Exported {count} rows.", lambda text: text)

    def _write_pipe(self) -> int:
        with open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False) as pipe, snapshot():
            return access_files.write(pipe)

    def _write_file(self, path: Path) -> int:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file, snapshot():
                return access_files.write(file)
        except BaseException:
            path.unlink()
            raise
