"""``manage.py import_access``: store users, clients, grants and tokens from a file of export_access."""

import stat
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from typing_extensions import override

from events.management.system_checks import OWN_CHECKS
from events.transfer import access_files
from events.transfer.access_files import AccessError
from events.transfer.files import PIPE, standard_input


class Command(BaseCommand):
    help = (
        "Store what export_access wrote, all of it or nothing. Rows that are there already as in the file are left "
        "alone, so running it again does nothing."
    )
    requires_system_checks = OWN_CHECKS

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", help="the file to read; - for standard input")
        parser.add_argument(
            "--overwrite", action="store_true", help="replace rows of the same name that differ from the file"
        )

    @override
    def handle(self, *args: Any, path: str, overwrite: bool, **options: Any) -> None:
        try:
            with open(standard_input() if path == PIPE else path, encoding="utf-8", closefd=path != PIPE) as file:
                counts = access_files.read(file, overwrite=overwrite)
            is_open_to_others = path != PIPE and stat.S_IMODE(Path(path).stat().st_mode) & 0o077
        except AccessError as error:
            hint = "" if overwrite or "There already" not in str(error) else " --overwrite replaces it."
            raise CommandError(f"{error} Nothing was imported.{hint}") from None
        except (OSError, UnicodeDecodeError, DatabaseError) as error:
            raise CommandError(f"{str(error).strip()} Nothing was imported.") from None
        if is_open_to_others:
            self.stderr.write(f"Others can read {path}, which holds hashes of secrets: chmod 600, or remove it.")
        self.stdout.write(f"Added {counts.added} rows, replaced {counts.replaced}, found {counts.same} there already.")
