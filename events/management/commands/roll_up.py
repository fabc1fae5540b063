"""``manage.py roll_up``: move the watermark, once or as a worker."""

import logging
import os
import signal
import threading
import time
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone
from typing_extensions import override

from events.alerts.runner import AlertRunner
from events.management.progress import progress_bar
from events.management.system_checks import ARCHIVE_CHECKS
from events.models import Watermark
from events.observability.health import read_lag
from events.rollups.rebuild import MovingError, PrunedError
from events.worker import moving, retention, roll_up, thinning
from events.worker.expired_tokens import ExpiredTokens
from events.worker.pacing import Roller
from events.worker.settled import handed_out
from events.worker.turns import Turns

# For how long the worker deletes old events, leaves out minutes, or moves a series, before it looks for events again.
_PRUNING_SECONDS = _MOVING_SECONDS = _THINNING_SECONDS = 0.5
# A worker whose steps took long rests for a multiple of that time, up to some seconds, and leaves the machine to
# writers: the more events a step has, the fewer rollups are written for each. A read that meets a long tail meanwhile
# has it rolled up in the background.
_REST, _MOST_REST_SECONDS = 3, 8.0
# How long to wait before another try where somebody else holds the lock.
_LOCKED_SECONDS = 0.1

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Add every event that the rollups lack to them, and stop; or go on as a worker. Two at once do no harm: one "
        "works, and the other waits for it, or as a worker leaves the work to it."
    )
    requires_system_checks = ARCHIVE_CHECKS

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--watch",
            type=float,
            metavar="SECONDS",
            help="go on until SIGTERM or SIGINT, and look for new events every so many seconds",
        )
        parser.add_argument(
            "--rebuild",
            action="store_true",
            help="empty the rollups first, and fill them as ROLLUP_RESOLUTIONS says; answers stay right meanwhile",
        )
        parser.add_argument(
            "--accept-loss",
            action="store_true",
            help="with --rebuild: also where the rollups hold events that are not in the log any more, which are lost",
        )
        parser.add_argument("--parent", type=int, metavar="PID", help="also stop when this parent process is gone")

    @override
    def handle(
        self, *args: Any, watch: float | None, rebuild: bool, accept_loss: bool, parent: int | None, **options: Any
    ) -> None:
        if watch is not None and not 0 < watch <= threading.TIMEOUT_MAX:
            raise CommandError(f"--watch takes a number of seconds above 0, and at most {threading.TIMEOUT_MAX:.0f}.")
        self.parent = parent
        self.stopping = threading.Event()
        self.added = self.steps = self.deleted = 0
        self.roller = Roller()
        self.expired_tokens = ExpiredTokens()
        self.pruning, self.thinning = Turns(retention.carry_out), Turns(thinning.carry_out)
        if rebuild:
            try:
                roll_up.start_over(accept_loss=accept_loss)
            except (PrunedError, MovingError) as error:
                raise CommandError(str(error)) from None
        if watch is None:
            self._catch_up_whole()
        else:
            self._watch(watch)
            if self.deleted:
                self.stdout.write(f"Pruned {self.deleted} events.")
        self.stdout.write(
            f"Rolled up {self.added} events in {self.steps} steps; the watermark is at {Watermark.objects.highest()}."
        )

    def _catch_up_whole(self) -> None:
        """Roll up all events of by now, if need be after others who hold the lock, as changers of stored events do.

        Raises CommandError where these get no further for as long as others wait for the lock.
        """
        wanted = handed_out()
        self._catch_up(read_lag().events)
        reached, give_up = None, 0.0
        while wanted and roll_up.are_left(wanted):
            if (position := (self.steps, Watermark.objects.highest())) != reached:
                reached, give_up = position, time.monotonic() + settings.DATABASE_TIMEOUT_SECONDS
            elif time.monotonic() > give_up:
                raise CommandError(
                    f"{read_lag().events} events are not rolled up, as another process holds the lock of the rollups."
                )
            self.stopping.wait(_LOCKED_SECONDS)
            self._catch_up()

    def _watch(self, seconds: float) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        alerts = AlertRunner()
        alerts.start()
        try:
            self._watch_log(seconds)
        finally:
            alerts.stop()

    def _watch_log(self, seconds: float) -> None:
        while self._is_wanted():
            try:
                worked = self._catch_up()
                self._rest(max(seconds, min(_REST * worked, _MOST_REST_SECONDS)), seconds)
            except (DatabaseError, InterfaceError) as error:
                logger.error("The roller will try again: %s", str(error).strip())
                connection.close()
                self.pruning.forget()
                self.thinning.forget()
                self.stopping.wait(seconds)

    def _rest(self, rest: float, seconds: float) -> None:
        while rest > 0 and self._is_wanted():
            self._move()
            self._prune()
            self._thin()
            self.expired_tokens.delete_some()
            self.stopping.wait(min(seconds, rest))
            rest -= seconds

    def _move(self) -> None:
        """Go on for half a second with renaming, merging or deleting series, where that was asked for."""
        moving.go_on(time.monotonic() + _MOVING_SECONDS, self._is_wanted, self.stopping.wait)

    def _prune(self) -> None:
        """Go on with RETENTION for half a second; a new turn is due once an hour, as whole hours are deleted."""
        give_up = time.monotonic() + _PRUNING_SECONDS
        start = time.monotonic()
        while start < give_up and self._is_wanted() and (count := self._prune_step()) is not None:
            self.deleted += count
            self.stopping.wait(retention.pause_seconds(time.monotonic() - start))
            start = time.monotonic()

    def _thin(self) -> None:
        """Go on for half a second with leaving out minutes that aren't worth their room; a new turn is due each day."""
        give_up = time.monotonic() + _THINNING_SECONDS
        start = time.monotonic()
        while start < give_up and self._is_wanted() and self.thinning.step(timezone.now().date()) is not None:
            self.stopping.wait(retention.pause_seconds(time.monotonic() - start))
            start = time.monotonic()

    def _prune_step(self) -> int | None:
        try:
            return self.pruning.step(retention.hour_before(timedelta()))
        except retention.WouldDeleteMostError as error:
            logger.error("Nothing is pruned: %s", error)
            return None

    def _is_wanted(self) -> bool:
        return not self.stopping.is_set() and self.parent in {None, os.getppid()}

    def _catch_up(self, about: int | None = None) -> float:
        """Roll up all events, which are about so many; return for how many seconds the steps held their lock."""
        worked = 0.0
        with progress_bar(about) as bar:
            for step in self.roller.catch_up(self._is_wanted, self.stopping.wait):
                worked += step.seconds
                self.added += step.events
                self.steps += 1
                bar.update(step.events)
        return worked
