"""``manage.py prune_idempotency_keys``: delete the keys of requests that nobody sends again."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from typing_extensions import override

from events.management.system_checks import OWN_CHECKS
from events.models import IdempotencyKey


class Command(BaseCommand):
    help = "Delete the idempotency keys older than IDEMPOTENCY_KEEP_HOURS."
    requires_system_checks = OWN_CHECKS

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say how many would be deleted")

    @override
    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        old = IdempotencyKey.objects.older_than(timedelta(hours=settings.IDEMPOTENCY_KEEP_HOURS))
        count = old.count() if dry_run else old.delete()[0]
        verb = "Would delete" if dry_run else "Deleted"
        self.stdout.write(f"{verb} {count} keys older than {settings.IDEMPOTENCY_KEEP_HOURS} hours.")
