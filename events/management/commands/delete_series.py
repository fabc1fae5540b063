"""``manage.py delete_series``: delete a series with all of its events."""

from typing import Any

from typing_extensions import override

from events.management.moving_series import MovingCommand


class Command(MovingCommand):
    help = (
        "Delete a series: its events, its rollups and what is said of it. No answer shows it from the beginning on; "
        "what is stored goes in short steps. Interrupted, it goes on when it is run again. The service goes on "
        "meanwhile, and what comes under the name then is a new series."
    )

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        self.move(options["series"], None, merge=False, dry_run=options["dry_run"])
