"""Tells which addresses a webhook may lead to, and finds those of a host: none inside, unless a setting says so."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from django.conf import settings

Address = IPv4Address | IPv6Address

# RFC 6052 and RFC 8215: the last 32 bits are the IPv4 address that a gateway leads to.
_NAT64 = IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_IPV4_COMPATIBLE = IPv6Network("::/96")
# RFC 5214: an interface whose last 64 bits say that the last 32 of them are an IPv4 address, be that local or not.
_ISATAP, _BUT_LOCAL = 0x5EFE, 0xFDFF_FFFF
# Special by the registries of IANA, which not every Python knows: protocol assignments (one cloud's metadata), relays
# of 6to4, documentation, segment routing; and the address at which another cloud's hosts serve their guests.
_SPECIAL: tuple[IPv4Network | IPv6Network, ...] = (
    *map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")),
    *map(IPv6Network, ("3fff::/20", "5f00::/16", "100:0:0:1::/64")),
)


class Refused(Exception):
    """A host that a webhook may not lead to, or that there is not."""


def is_public(address: Address) -> bool:
    """Tell whether an address is of the internet at large.

    Loopback, private, link-local, multicast, reserved and unspecified addresses are not, nor is an IPv6 address that
    stands for an IPv4 address which is not: mapped (``::ffff:10.0.0.1``), by NAT64, 6to4, Teredo or ISATAP.
    """
    if any(address in network for network in _SPECIAL):
        return False
    if isinstance(address, IPv6Address):
        if address in _LOCAL_NAT64 or address.is_site_local or address.scope_id is not None:
            return False
        inner = _inner(address)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_link_local or address.is_private
        or address.is_loopback or address.is_unspecified
    )  # fmt: skip


def _inner(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if address in _NAT64 or address in _IPV4_COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    if (int(address) >> 32) & _BUT_LOCAL == _ISATAP:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def addresses_of(host: str, port: int) -> list[str]:
    """Look up the addresses of a host, to connect to one of them and to no other.

    Raises Refused where there are none, or where any of them is not public: whoever controls a name could answer with
    both kinds, and choose which one counts. With ALERT_PRIVATE_TARGETS every address will do.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refused("The host is not known.") from None
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    if not settings.ALERT_PRIVATE_TARGETS and not all(is_public(ip_address(each)) for each in addresses):
        raise Refused("The host has an address that is not public, which ALERT_PRIVATE_TARGETS would allow.")
    return addresses


def is_of_this_host(connected: socket.socket) -> bool:
    """Tell whether a connection leads to this host itself, by an address of its own that may well be public."""
    return bool(connected.getsockname()[0] == connected.getpeername()[0])
