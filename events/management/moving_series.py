"""What the commands have in common that rename, merge and delete a series."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError

from django.core.management.base import BaseCommand, CommandError
from typing_extensions import override

from events import renaming
from events.aggregation.catalogue import find
from events.log.series import SeriesKey
from events.management.progress import progress_bar
from events.management.system_checks import OWN_CHECKS
from events.rollups.models import Watermark
from events.rollups.moves import Move
from events.worker import moving
from events.worker.moving import CannotMoveError, Mover


def series_key(text: str) -> SeriesKey:
    """Read the name of a series. Raises ArgumentTypeError."""
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise ArgumentTypeError(f"“{text}” is no series: it takes NAMESPACE/NAME.")
    return SeriesKey(namespace, name)


class MovingCommand(BaseCommand):
    """A command that moves a series to another name, or to none."""

    requires_system_checks = OWN_CHECKS

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("series", type=series_key, metavar="SERIES", help="the series: NAMESPACE/NAME")
        parser.add_argument(
            "--dry-run", action="store_true", help="only say what would be done, and to how many events"
        )

    def move(self, old: SeriesKey, into: SeriesKey | None, *, merge: bool, dry_run: bool) -> None:
        """Move a series and change all that is stored of it, or go on with that; say what was done."""
        try:
            if dry_run:
                count = renaming.check(old, into, merge=merge)["count"]
                self.stdout.write(f"Would {_sentence(old, into, merge, is_done=False)}: {count} events.")
                return
            begun = renaming.move(old, into, merge=merge)
        except CannotMoveError as error:
            raise CommandError(str(error)) from None
        count = self._take_steps(begun)
        self.stdout.write(f"{_sentence(old, into, merge, is_done=True)}: {count} rows were changed.")
        if later := find(old):
            self.stdout.write(
                f"{later['count']} events came as {'/'.join(old)} since then: a sender still goes by that name."
            )

    def _take_steps(self, begun: Move) -> int:
        count = 0
        with progress_bar(moving.count_left(begun), unit=" rows") as bar:
            mover = Mover(begun)
            for step in mover.steps(lambda: True):
                count += step
                bar.update(step)
                time.sleep(mover.pause_seconds)
        if any(move.old == begun.old for move in Watermark.objects.moves()):
            raise CommandError("A node of the cluster is away. Run this again when it is back; every answer is right.")
        return count


def _sentence(old: SeriesKey, into: SeriesKey | None, merge: bool, *, is_done: bool) -> str:
    series = "/".join(old)
    if into is None:
        return f"{'Deleted' if is_done else 'delete'} {series}"
    if merge:
        return f"{'Merged' if is_done else 'merge'} {series} into {'/'.join(into)}"
    return f"{'Renamed' if is_done else 'rename'} {series} to {'/'.join(into)}"
