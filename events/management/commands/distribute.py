"""``manage.py distribute``: spread the log over the nodes of a Citus cluster."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from typing_extensions import override

from events.database import partitions
from events.database.dialect import is_postgresql
from events.distribution import cluster, layout
from events.management.system_checks import OWN_CHECKS
from events.observability.health import missing_migrations

_LEAST, _MOST = 2, 1_000


class Command(BaseCommand):
    help = (
        "Distribute events, rollups and watermarks over the nodes of a Citus cluster; once, after migrate, on an empty "
        "or a filled database, with the service stopped. Run again, it sets up nodes and shares tables that came since."
    )
    requires_system_checks = OWN_CHECKS

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--shards",
            type=int,
            default=32,
            help="how many parts: two to four times as many as there may ever be nodes, as it can't be changed later",
        )

    @override
    def handle(self, *args: Any, shards: int, **options: Any) -> None:
        if not _LEAST <= shards <= _MOST:
            raise CommandError(f"--shards takes a number from {_LEAST} to {_MOST}.")
        if not is_postgresql():
            raise CommandError("Only PostgreSQL with Citus can be distributed, and DATABASE_URL leads to SQLite.")
        if missing_migrations():
            raise CommandError("There are migrations to apply: run manage.py migrate first.")
        if cluster.is_cluster() and cluster.is_coordinator(connection):
            layout.set_up_nodes()
            layout.share_tables(self.stdout.write)
            self.stdout.write(f"The tables are distributed already, in {len(partitions.keys())} shards.")
            return
        if obstacles := list(cluster.find_obstacles()):
            raise CommandError("\n".join(obstacles))
        layout.distribute(shards, self.stdout.write)
        layout.share_tables(self.stdout.write)
        self.stdout.write(f"Distributed in {len(partitions.keys())} shards. Start the service again.")
