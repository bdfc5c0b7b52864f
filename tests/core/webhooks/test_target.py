from __future__ import annotations

from ipaddress import ip_network

import pytest

from core.errors import InvalidRequest
from core.webhooks.target import Target, check_target, parse_target


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hooks.example.org", Target("https", "hooks.example.org", 443, "/")),
        ("http://h:8080/a%20b?c=%2F&d", Target("http", "h", 8080, "/a%20b?c=%2F&d")),
        ("https://[2606:4700::1]/x", Target("https", "2606:4700::1", 443, "/x")),
        ("https://h?q=<>", Target("https", "h", 443, "/?q=%3C%3E")),
    ],
)
def test_an_address_in_its_parts(url: str, target: Target) -> None:
    assert parse_target(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/",
        "h/path",
        "https:///path",
        "https://user:password@h/",
        "https://h/#part",
        "https://h:0/",
        "https://h:99999/",
        "https://h:x/",
        "https://[::1/",
        "https://a b/",
        "https://h\u00e9/",
        "javascript:alert(1)",
    ],
)
def test_what_is_no_plain_address_is_refused_with_its_place(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_target(url)
    assert refused.value.errors[0].pointer == "/url"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0x7f.1",
        "169.254.169.254",
        "10.1.2.3",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ],
)
def test_an_address_within_is_refused_when_it_is_read(host: str) -> None:
    with pytest.raises(InvalidRequest):
        check_target(f"https://{host}/", [])


def test_names_public_addresses_and_allowed_networks_are_taken() -> None:
    for url in ("https://hooks.example.org/", "https://8.8.8.8/"):
        check_target(url, [])
    check_target("https://10.1.2.3/", [ip_network("10.0.0.0/8")])
