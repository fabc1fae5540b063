"""Who is connected, how many of one address, and who goes first where there are too many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Generic, Protocol, TypeVar

from django.conf import settings

# Connections past the most that there may be.
_SPARE = 32


class Member(Protocol):
    """A connection, as far as it matters here."""

    @property
    def place(self) -> str | None:
        """Whom it counts for."""

    def abort(self) -> None:
        """Close it at once."""


_M = TypeVar("_M", bound=Member)


def place_of(host: str) -> str | None:
    """Return whom connections from this host count for: its address, or its network of IPv6; None for a known proxy."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    address = getattr(address, "ipv4_mapped", None) or address
    if any(address in network for network in settings.TRUSTED_PROXIES):
        return None
    return str(ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address)


class Roster(Generic[_M]):
    """The connections of this process.

    A new one always comes in. Where that makes too many, the one goes that has waited longest without a request that is
    whole: of the same address where that has too many, else of all. So neither idle connections nor unfinished requests
    keep anybody out, as long as one's own take less time than it takes to open all the others anew. Where all are
    worked on, a few more come in all the same: probes are answered, and others told so.
    """

    def __init__(self, most: int, most_of_an_address: int) -> None:
        self.most, self.most_of_an_address = most, most_of_an_address
        self._all: set[_M] = set()
        self._waiting: dict[_M, None] = {}
        self._spare: dict[_M, None] = {}
        self._of_place: defaultdict[str, set[_M]] = defaultdict(set)
        self._waiting_of_place: defaultdict[str, dict[_M, None]] = defaultdict(dict)

    def __iter__(self) -> Iterator[_M]:
        return iter(list(self._all))

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: _M) -> str:
        """Take a new connection in, and close another where there are too many.

        Returns why the connection is one too many where none can go; it is closed first where too many are.
        """
        place = connection.place
        too_many = ""
        if place is not None and self.most_of_an_address:
            if len(self._of_place[place]) >= self.most_of_an_address and not self._close_first(
                self._waiting_of_place[place]
            ):
                too_many = "Too many requests of this address are under way; try again."
            self._of_place[place].add(connection)
        if not too_many and len(self._all) >= self.most and not self._close_first(self._waiting):
            too_many = "Too many requests are under way; try again."
        if too_many:
            if len(self._spare) >= _SPARE:
                self._close_first(self._spare)
            self._spare[connection] = None
        self._all.add(connection)
        return too_many

    def remove(self, connection: _M) -> None:
        """Forget a connection that is closed."""
        self._all.discard(connection)
        self._spare.pop(connection, None)
        self.set_busy(connection)
        place = connection.place
        if place is not None:
            self._of_place[place].discard(connection)
            if not self._of_place[place]:
                del self._of_place[place]
                self._waiting_of_place.pop(place, None)

    def set_waiting(self, connection: _M) -> None:
        """Note that the connection has no whole request from now on; it comes last where one has to go."""
        self.set_busy(connection)
        self._waiting[connection] = None
        if connection.place is not None:
            self._waiting_of_place[connection.place][connection] = None

    def set_busy(self, connection: _M) -> None:
        """Note that the connection's request is worked on; it won't have to go."""
        self._waiting.pop(connection, None)
        if connection.place is not None and connection.place in self._waiting_of_place:
            self._waiting_of_place[connection.place].pop(connection, None)

    def close_first(self) -> bool:
        """Close the connection that has waited longest; return False where none waits."""
        return self._close_first(self._waiting)

    def _close_first(self, waiting: dict[_M, None]) -> bool:
        connection = next(iter(waiting), None)
        if connection is None:
            return False
        connection.abort()
        self.remove(connection)
        return True
