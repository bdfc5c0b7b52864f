"""Where a request comes from: what the connection says, or a proxy that the operator trusts."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.datastructures import Headers
from starlette.types import Scope

IpNetwork = IPv4Network | IPv6Network
IpAddress = IPv4Address | IPv6Address


def client_address(scope: Scope, trusted_proxies: Sequence[IpNetwork]) -> str | None:
    """The connection's other end, or, where that is a trusted proxy, whom it names in X-Forwarded-For.

    Read from the right: what stands left of the last proxy we trust was written by whoever called it. None
    for a connection that has no address, such as a Unix socket.
    """
    connected = _parse(scope["client"][0]) if scope.get("client") else None
    if connected is None:
        return None
    named = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",") if trusted_proxies else []
    while named and _is_in(connected, trusted_proxies):
        before = _parse(named.pop().strip())
        if before is None:
            break
        connected = before
    return str(connected)


def _is_in(address: IpAddress, networks: Sequence[IpNetwork]) -> bool:
    return any(address in network for network in networks)


def _parse(text: str) -> IpAddress | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
