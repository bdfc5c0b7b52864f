"""Connections to addresses that somebody else has named: checked when they are made."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import anyio
import httpcore2

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

# Global by their registry, but not to be reached from outside: addresses that carry an IPv4 address, which a
# gateway would connect to (IPv4-compatible, NAT64, 6to4, Teredo), and Azure's host.
_NEVER = tuple(
    ip_network(network)
    for network in (
        "::/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "2001::/32",
        "192.88.99.0/24",
        "168.63.129.16/32",
    )
)


class AddressRefused(Exception):
    """The name stands for an address that may not be connected to."""


def may_connect(address: IpAddress, allowed: Iterable[IpNetwork]) -> bool:
    """Whether the address is a public one, or in one of the networks that the operator allows."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    address = mapped or address
    if any(address in network for network in allowed):
        return True
    return address.is_global and not address.is_multicast and not any(address in never for never in _NEVER)


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves a name once, refuses it if any of its addresses may not be reached, and connects to these.

    Nothing is looked up between check and connection, so a name that changes in between changes nothing.
    """

    def __init__(self, allowed: Sequence[IpNetwork]) -> None:
        self._allowed = tuple(allowed)
        self._plain = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the name is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Raises AddressRefused, and what httpcore raises."""
        addresses = await self._resolve(host, port, timeout)
        if not all(may_connect(address, self._allowed) for address in addresses):
            raise AddressRefused(f"{host} resolves to {', '.join(map(str, addresses))}")
        for address in addresses[:-1]:
            try:
                return await self._plain.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except httpcore2.ConnectError:
                continue
        return await self._plain.connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)

    async def _resolve(self, host: str, port: int, seconds: float | None) -> list[IpAddress]:
        try:
            with anyio.fail_after(seconds):
                found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(f"{host} was not resolved in time") from error
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} cannot be resolved") from error
        return list(dict.fromkeys(ip_address(str(place[0])) for *_, place in found))

    async def sleep(self, seconds: float) -> None:
        await self._plain.sleep(seconds)
