"""The events application."""

from django.apps import AppConfig


class EventsConfig(AppConfig):
    """Tracks events and answers aggregates of them."""

    name = "events"

    def ready(self) -> None:
        """Have the database functions ready before the first connection."""
        from events import functions  # noqa: F401
