"""The events application."""

from django.apps import AppConfig


class EventsConfig(AppConfig):
    """Tracks events and answers aggregates of them."""

    name = "events"

    def ready(self) -> None:
        """Have ready what goes before the first connection (functions), command (checks) and form (secrets)."""
        from oauth2_provider.models import Application

        from events import checks, functions  # noqa: F401
        from events.cookies import read_in_linear_time
        from tracking_api import client_secrets

        read_in_linear_time()
        client_secrets.guard(Application)
