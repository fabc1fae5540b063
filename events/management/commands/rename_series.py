"""``manage.py rename_series``: give a series another name, or merge it into another one."""

from argparse import ArgumentParser
from typing import Any

from typing_extensions import override

from events.management.moving_series import MovingCommand, series_key


class Command(MovingCommand):
    help = (
        "Give a series another name, or merge it into another one. All of it has the new name in every answer at once; "
        "what is stored follows in short steps. Interrupted, it goes on when it is run again. The service goes on "
        "meanwhile."
    )

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("new", type=series_key, metavar="NEW", help="the new name: NAMESPACE/NAME")
        parser.add_argument("--merge", action="store_true", help="add it to the series that has the new name already")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        self.move(options["series"], options["new"], merge=options["merge"], dry_run=options["dry_run"])
