"""Owns the backend's connection wrapper, in the file where Django looks for it."""

import select
from typing import Any

from django.db.backends.postgresql import base
from typing_extensions import override

from events.database.postgresql import session


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's wrapper, made to work behind poolers and to check a kept connection without a round trip.

    It looks at the connection's socket, where Django would send ``SELECT 1`` before each request.
    """

    is_pooled = False  # whether a pooler may give each transaction another session

    @override
    def init_connection_state(self) -> None:
        try:
            super().init_connection_state()
            with self.wrap_database_errors:
                self.is_pooled = session.hold(self.connection, self.settings_dict[session.SETTINGS])
        except BaseException:
            self.close()  # a connection that stayed open would be used without its settings
            raise

    @override
    def is_usable(self) -> bool:
        """Tell whether the connection is open and silent: between requests a server only sends that it goes away."""
        if self.connection is None or self.connection.closed:
            return False
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN | select.POLLRDHUP)
        return not poll.poll(0)

    @override
    def chunked_cursor(self) -> Any:
        self.ensure_connection()
        # outside a transaction, a pooler may send the next FETCH to another session than the one that holds the rows
        return self.cursor() if self.is_pooled and self.get_autocommit() else super().chunked_cursor()
