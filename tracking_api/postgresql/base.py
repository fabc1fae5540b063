"""The backend's wrapper, where Django looks for it."""

import select

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """Judges a kept connection by its socket, where Django's own asks the server ``SELECT 1`` before each request."""

    def is_usable(self) -> bool:
        """Whether the connection is open and silent: between requests a server says nothing but that it goes away."""
        if self.connection is None or self.connection.closed:
            return False
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN | select.POLLRDHUP)
        return not poll.poll(0)
