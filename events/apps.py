"""The events application."""

from django.apps import AppConfig


class EventsConfig(AppConfig):
    """Tracks events and answers aggregates of them."""

    name = "events"

    def ready(self) -> None:
        """Have the database functions ready before the first connection, and the checks before the first command."""
        from events import checks, functions  # noqa: F401
        from events.cookies import read_in_linear_time

        read_in_linear_time()
