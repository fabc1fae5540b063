"""Opens the socket that all processes of the server accept connections on."""

import socket

_BACKLOG = 2_048


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address and a port. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)
