"""Owns the configuration of the application ``events``."""

from django.apps import AppConfig
from typing_extensions import override


class EventsConfig(AppConfig):
    """Tracks events and answers aggregates of them."""

    name = "events"

    @override
    def ready(self) -> None:
        """Register what must be there before the first connection, command and form: functions, checks, names."""
        from oauth2_provider.models import Application

        from events import checks  # noqa: F401
        from events.access.oauth2 import client_names, client_secrets
        from events.aggregation import event_sql  # noqa: F401
        from events.database import trunc_clock  # noqa: F401
        from events.http.cookies import read_in_linear_time

        read_in_linear_time()
        client_secrets.guard(Application)
        client_names.call_clients_so(Application)
