"""Which addresses may be connected to, and that nothing is looked up between check and connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import anyio
import httpcore2
import pytest

from core.egress import AddressRefused, GuardedBackend, may_connect

PRIVATE = [
    "127.0.0.1",
    "0.0.0.0",  # noqa: S104 - an address to refuse
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:1::1",
    "fe80::1",
    "fc00::1",
    "ff02::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_within_are_refused_in_every_spelling(address: str) -> None:
    assert not may_connect(ip_address(address), [])


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_not(address: str) -> None:
    assert may_connect(ip_address(address), [])


def test_a_network_that_the_operator_allows_is_reached_and_no_other() -> None:
    allowed = [ip_network("10.1.0.0/16"), ip_network("fc00::/7")]
    assert may_connect(ip_address("10.1.2.3"), allowed)
    assert may_connect(ip_address("::ffff:10.1.2.3"), allowed)
    assert may_connect(ip_address("fc00::1"), allowed)
    assert not may_connect(ip_address("10.2.0.1"), allowed)


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    listener = socket.create_server((address, 0))
    listener.setblocking(False)
    with listener:
        yield listener


def has_a_caller(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def connect(backend: GuardedBackend, host: str, port: int) -> None:
    async def run() -> None:
        stream = await backend.connect_tcp(host, port, timeout=5.0)
        await stream.aclose()

    anyio.run(run)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "::ffff:127.0.0.1"])
def test_nothing_reaches_a_listener_on_this_machine(host: str) -> None:
    with listening("127.0.0.1") as listener:
        with pytest.raises(AddressRefused):
            connect(GuardedBackend([]), host, listener.getsockname()[1])
        assert not has_a_caller(listener)


def test_a_name_is_resolved_once_and_what_it_stands_for_later_counts_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter(["127.0.0.2", "127.0.0.1"])

    async def resolve(_host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(anyio, "getaddrinfo", resolve)
    with listening("127.0.0.2") as listener:
        connect(GuardedBackend([ip_network("127.0.0.2/32")]), "rebound.example", listener.getsockname()[1])
        assert has_a_caller(listener)
    assert next(answers) == "127.0.0.1"


def test_one_refused_address_among_several_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(_host: str, port: int, **_: Any) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")
        ]

    monkeypatch.setattr(anyio, "getaddrinfo", resolve)
    with listening("127.0.0.2") as listener:
        with pytest.raises(AddressRefused):
            connect(GuardedBackend([ip_network("127.0.0.2/32")]), "both.example", listener.getsockname()[1])
        assert not has_a_caller(listener)


def test_the_second_address_of_a_name_is_tried_where_the_first_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(_host: str, port: int, **_: Any) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.3", "127.0.0.2")
        ]

    monkeypatch.setattr(anyio, "getaddrinfo", resolve)
    with listening("127.0.0.2") as listener:
        connect(GuardedBackend([ip_network("127.0.0.0/8")]), "pair.example", listener.getsockname()[1])
        assert has_a_caller(listener)


def test_a_name_that_nobody_knows_is_a_failure_to_connect() -> None:
    with pytest.raises(httpcore2.ConnectError):
        connect(GuardedBackend([]), "no-such-name.invalid", 80)
