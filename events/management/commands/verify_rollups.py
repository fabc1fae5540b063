"""``manage.py verify_rollups``: compare the rollups with the events that they are made from."""

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from typing_extensions import override

from events.management.progress import Bar, progress_bar
from events.management.system_checks import OWN_CHECKS
from events.models import Rollup
from events.rollups.rebuild import MovingError, PrunedError
from events.worker import verification
from events.worker.verification import AnyDifference


class Command(BaseCommand):
    help = (
        "Compare every rollup with the events up to the watermark, print what differs, and exit with 1 if anything "
        "does. Where events are pruned, coarser rollups are compared with finer ones. The service goes on meanwhile."
    )
    requires_system_checks = OWN_CHECKS

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--repair", action="store_true", help="rebuild rollups that differ, where no event is lost")
        parser.add_argument(
            "--accept-loss",
            action="store_true",
            help="with --repair: also rebuild rollups with events that are not in the log any more, which loses those",
        )

    @override
    def handle(self, *args: Any, repair: bool, accept_loss: bool, **options: Any) -> None:
        if accept_loss and not repair:
            raise CommandError("--accept-loss goes with --repair.")
        count = lost = kept = kept_events = 0
        series = verification.series()
        with progress_bar(Rollup.objects.event_count()) as bar:
            for namespace, name in series:
                found = list(self._compare(namespace, name, bar))
                for difference in found:
                    self.stdout.write(str(difference))
                count += len(found)
                lost += sum(difference.is_pruned for difference in found)
                repairable = [difference for difference in found if not difference.is_pruned]
                if repair and not accept_loss:
                    kept_events += verification.count_lost(repairable)
                    kept += len(repairable)
                    repairable = verification.lossless(repairable)
                    kept -= len(repairable)
                if repairable and repair:
                    self._repair(repairable)
        if kept:
            raise CommandError(
                f"{kept} rollups are left as they are: they hold {kept_events} events that are not in the log any more."
                " Rebuilding them loses these for good: --repair --accept-loss does it all the same."
            )
        if lost and repair:
            raise CommandError(f"{lost} rollups differ in hours that are pruned, and can't be rebuilt.")
        if count and not repair:
            raise CommandError(f"{count} rollups differ from their events. Rebuild them with --repair.")
        self.stdout.write(f"Repaired {count} rollups." if count else f"All rollups of {len(series)} series are right.")

    def _repair(self, repairable: list[AnyDifference]) -> None:
        try:
            verification.repair(repairable)
        except MovingError as error:
            raise CommandError(f"{error} Run this again then.") from None
        except PrunedError as error:
            raise CommandError(f"{error} They were pruned just now; run this again.") from None

    def _compare(self, namespace: str, name: str, bar: Bar) -> Iterator[AnyDifference]:
        differs = False
        for stretch in verification.stretches(namespace, name):
            events, found = verification.differences(stretch)
            bar.update(events)
            differs = differs or bool(found)
            yield from found
            yield from verification.histogram_differences(stretch)
        if not differs and (whole := verification.series_difference(namespace, name)):
            yield whole
