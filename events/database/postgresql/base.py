"""The backend's wrapper, where Django looks for it."""

import select
from typing import Any

from django.db.backends.postgresql import base
from typing_extensions import override

from events.database.postgresql import session


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own, on connections that poolers may be in the way of, and that are judged without a question.

    A kept connection is judged by its socket, where Django's asks the server ``SELECT 1`` before each request.
    """

    is_pooled = False  # whether a pooler may give each transaction another session

    @override
    def init_connection_state(self) -> None:
        try:
            super().init_connection_state()
            with self.wrap_database_errors:
                self.is_pooled = session.hold(self.connection, self.settings_dict[session.SETTINGS])
        except BaseException:
            self.close()  # or it would be used without
            raise

    @override
    def is_usable(self) -> bool:
        """Whether the connection is open and silent: between requests a server says nothing but that it goes away."""
        if self.connection is None or self.connection.closed:
            return False
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN | select.POLLRDHUP)
        return not poll.poll(0)

    @override
    def chunked_cursor(self) -> Any:
        self.ensure_connection()
        # outside a transaction its rows would be in a session that the next statement may not meet
        return self.cursor() if self.is_pooled and self.get_autocommit() else super().chunked_cursor()
