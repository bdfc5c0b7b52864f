"""Where a webhook may point: what its address alone shows. Names are checked when they are connected to."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from core.egress import IpAddress, IpNetwork, may_connect
from core.errors import FieldProblem, InvalidRequest

PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")
# Of a target, percent signs stay as they are: what is escaped already is not escaped again.
_PATH_CHARACTERS = "%/:@!$&'()*+,;=~?"


@dataclass(frozen=True)
class Target:
    """An address, in the parts that a connection needs; `path` has the query in it."""

    scheme: str
    host: str
    port: int
    path: str


def parse_target(url: str) -> Target:
    """Raises InvalidRequest for what is no plain http or https address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("wrong_form", "This is not an address; write it like https://host/path.") from None
    host = parts.hostname or ""
    if parts.scheme not in PORTS or _HOST.fullmatch(host) is None or port == 0:
        raise _refused("wrong_form", "The address starts with https:// or http:// and a plain host name.")
    if parts.username is not None or parts.fragment:
        raise _refused("wrong_form", "The address has no login and no #fragment; the signature is the login.")
    asked = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    return Target(parts.scheme, host, port or PORTS[parts.scheme], quote(asked, safe=_PATH_CHARACTERS))


def check_target(url: str, allowed: Sequence[IpNetwork]) -> None:
    """Raises InvalidRequest where the address itself shows that it may not be connected to."""
    address = _literal(parse_target(url).host)
    if address is not None and not may_connect(address, allowed):
        raise _refused(
            "not_allowed",
            "Webhooks go to public addresses; the operator lists private networks that may be in "
            "FORETRAIN_WEBHOOK_NETWORKS.",
        )


def _literal(host: str) -> IpAddress | None:
    """The address that the host is, in any spelling that a resolver takes; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return ip_address(socket.inet_aton(host))
    except OSError:
        return None


def _refused(code: str, detail: str) -> InvalidRequest:
    return InvalidRequest(detail, [FieldProblem(code, detail, "/url")])
