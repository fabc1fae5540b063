"""Keeps the connections of a process, and chooses which one to close where there are too many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Generic, Protocol, TypeVar

from django.conf import settings

# So many connections may be open past the limits, to answer probes and to refuse everything else.
_SPARE = 32


class TrackedConnection(Protocol):
    """A connection, as far as the table uses it."""

    @property
    def client_network(self) -> str | None:
        """Return the network that the connection counts for; None for a trusted proxy, which has no limit."""

    def abort(self) -> None:
        """Close the connection at once."""


_C = TypeVar("_C", bound=TrackedConnection)


def client_network_of(host: str) -> str | None:
    """Return the network that a client's connections count for; None for one of TRUSTED_PROXIES.

    That is an address of IPv4, the /64 network of one of IPv6, or the host as it is where it is no address.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    address = getattr(address, "ipv4_mapped", None) or address
    if any(address in network for network in settings.TRUSTED_PROXIES):
        return None
    return str(ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address)


class ConnectionTable(Generic[_C]):
    """The connections of this process.

    A new connection is always accepted. Where that makes too many, the one that has waited longest without a whole
    request is closed: of the same network where that has too many, else of all. So neither idle connections nor
    unfinished requests keep anybody out, as long as a client's own request comes faster than others can open as many
    connections as there may be. Where requests are worked on for all of them, a few more connections are accepted all
    the same: probes on them are answered, and other requests refused with that reason.
    """

    def __init__(self, most: int, most_of_an_address: int) -> None:
        self.most, self.most_of_an_address = most, most_of_an_address
        self._all: set[_C] = set()
        self._waiting: dict[_C, None] = {}
        self._spare: dict[_C, None] = {}
        self._of_network: defaultdict[str, set[_C]] = defaultdict(set)
        self._waiting_of_network: defaultdict[str, dict[_C, None]] = defaultdict(dict)

    def __iter__(self) -> Iterator[_C]:
        return iter(list(self._all))

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: _C) -> str:
        """Add a new connection, and close another where there are too many.

        Returns an empty text; where none can be closed, why the new connection is one too many. Of connections that are
        too many, the first one is closed where there are more than _SPARE.
        """
        network = connection.client_network
        too_many = ""
        if network is not None and self.most_of_an_address:
            if len(self._of_network[network]) >= self.most_of_an_address and not self._close_first(
                self._waiting_of_network[network]
            ):
                too_many = "Too many requests of this address are under way; try again."
            self._of_network[network].add(connection)
        if not too_many and len(self._all) >= self.most and not self._close_first(self._waiting):
            too_many = "Too many requests are under way; try again."
        if too_many:
            if len(self._spare) >= _SPARE:
                self._close_first(self._spare)
            self._spare[connection] = None
        self._all.add(connection)
        return too_many

    def remove(self, connection: _C) -> None:
        """Forget a connection that is closed."""
        self._all.discard(connection)
        self._spare.pop(connection, None)
        self.set_busy(connection)
        network = connection.client_network
        if network is not None:
            self._of_network[network].discard(connection)
            if not self._of_network[network]:
                del self._of_network[network]
                self._waiting_of_network.pop(network, None)

    def set_waiting(self, connection: _C) -> None:
        """Note that a connection has no whole request from now on; it is the last that would be closed."""
        self.set_busy(connection)
        self._waiting[connection] = None
        if connection.client_network is not None:
            self._waiting_of_network[connection.client_network][connection] = None

    def set_busy(self, connection: _C) -> None:
        """Note that a connection's request is worked on, so the connection must not be closed."""
        self._waiting.pop(connection, None)
        if connection.client_network is not None and connection.client_network in self._waiting_of_network:
            self._waiting_of_network[connection.client_network].pop(connection, None)

    def close_first(self) -> bool:
        """Close the connection that has waited longest; return False where none waits."""
        return self._close_first(self._waiting)

    def _close_first(self, waiting: dict[_C, None]) -> bool:
        connection = next(iter(waiting), None)
        if connection is None:
            return False
        connection.abort()
        self.remove(connection)
        return True
