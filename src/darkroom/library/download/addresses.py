"""Which addresses a download may connect to: those of the public internet.

A link from a stranger must not make this machine ask its own services, its router or a cloud's
metadata service. So a name is resolved once, every address it has is checked, and the connection
is made to one of those very addresses: a name that answers differently the second time gains
nothing.
"""

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any

from darkroom.core.errors import DownloadError, shorten

Address = tuple[int, tuple[Any, ...]]  # family, and what `socket.connect` takes
Resolve = Callable[..., Iterable[tuple[Any, ...]]]

# IPv6 addresses that stand for an IPv4 one, and by how many bits it lies above the lowest.
_CARRIERS = (
    (IPv6Network("::ffff:0:0/96"), 0),  # mapped
    (IPv6Network("::/96"), 0),  # compatible, RFC 4291 2.5.5.1
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
)
_GLOBAL_V6 = IPv6Network("2000::/3")  # all that is given out
_SPECIAL = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments; one cloud's metadata
    IPv4Network("168.63.129.16/32"),  # another cloud's, though it looks public
)


def is_public(ip: IPv4Address | IPv6Address) -> bool:
    """Whether `ip` belongs to the public internet, as itself or as the IPv4 address it stands for.

    Not public: loopback, private, link-local (cloud metadata), shared, multicast, reserved.
    """
    if isinstance(ip, IPv6Address):
        for network, shift in _CARRIERS:
            if ip in network:
                return is_public(IPv4Address(int(ip) >> shift & 0xFFFFFFFF))
        return ip in _GLOBAL_V6 and ip.is_global and not ip.is_multicast
    special = any(ip in network for network in _SPECIAL)
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or special)


@dataclass(frozen=True, slots=True)
class Guard:
    """Resolves names to addresses that may be connected to.

    `allow` names networks that may be, besides the public ones. Only code can say so, for its
    tests: an environment variable or a flag could be talked into by a web page.
    """

    allow: tuple[str, ...] = ()
    resolve: Resolve = socket.getaddrinfo

    def addresses(self, host: str, port: int) -> list[Address]:
        """Every address of `host`; DownloadError if one of them is not public.

        Raises OSError when the name cannot be resolved.
        """
        found = [(row[0], row[4]) for row in self.resolve(host, port, type=socket.SOCK_STREAM)]
        for _, where in found:
            self._check(host, str(where[0]))
        return found

    def check_literal(self, host: str) -> bool:
        """Whether `host` is an address and no name; DownloadError if that is not public."""
        try:
            ip_address(host)
        except ValueError:
            return False
        self._check(host, host)
        return True

    def _check(self, host: str, address: str) -> None:
        ip = ip_address(address.partition("%")[0])
        allowed = any(ip in network for network in map(ip_network, self.allow))
        if not allowed and not is_public(ip):
            where = shorten(host, 80)
            what = where if where == address else f"{where} ({address})"
            raise DownloadError(
                f"{what} is an address of this machine or its own network, not of the internet",
                hint="Darkroom fetches from public addresses only: copy the file by hand.",
            )
