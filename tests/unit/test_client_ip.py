from ipaddress import ip_network

import pytest

from edgeproxy.client_ip import Client, ClientIP, read_client

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("2001:db8:f::/48")]

# The socket's peer, the lines of X-Forwarded-For → the client's address. 10.* are trusted proxies.
FORWARDED_FOR: list[tuple[str | None, list[str], str]] = [
    ("203.0.113.9", [], "203.0.113.9"),
    ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # nobody trusted wrote it
    ("10.0.0.1", [], "10.0.0.1"),
    ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
    ("10.0.0.1", ["192.0.2.66, 198.51.100.1"], "198.51.100.1"),  # the left entry is the client's own invention
    ("10.0.0.1", ["192.0.2.66", "198.51.100.1"], "198.51.100.1"),  # several lines are one list
    ("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
    ("10.0.0.1", ["192.0.2.66, 198.51.100.1, 10.0.0.3,10.0.0.2"], "198.51.100.1"),
    ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # proxies all the way
    ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
    ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
    ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
    ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
    ("10.0.0.1", ["2001:db8::1, 2001:db8:f::5"], "2001:db8::1"),
    ("2001:db8:f::1", ["198.51.100.1"], "198.51.100.1"),
    ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),  # IPv4 on an IPv6 socket
    ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
    ("10.0.0.1", [""], "10.0.0.1"),
    ("10.0.0.1", ["unknown"], "10.0.0.1"),
    ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),  # an entry that cannot be read ends the walk
    ("10.0.0.1", ["198.51.100.1, garbage, 10.0.0.2"], "10.0.0.2"),
    ("10.0.0.1", ["198.51.100.1,"], "10.0.0.1"),
    ("10.0.0.1", ["198.51.100.999"], "10.0.0.1"),
    ("10.0.0.1", ["x" * 8000], "10.0.0.1"),
    (None, ["198.51.100.1"], "198.51.100.1"),  # a unix socket
]

FORWARDED = [
    ("10.0.0.1", ["for=198.51.100.1"], "198.51.100.1"),
    ("10.0.0.1", ['For="[2001:db8::1]:4711"'], "2001:db8::1"),
    ("10.0.0.1", ["for=192.0.2.66, for=198.51.100.1;proto=https;by=10.0.0.9"], "198.51.100.1"),
    ("10.0.0.1", ["proto=https;for=198.51.100.1", "for=10.0.0.2"], "198.51.100.1"),
    ("10.0.0.1", ["for=_hidden"], "10.0.0.1"),
    ("10.0.0.1", ["for=unknown"], "10.0.0.1"),
    ("10.0.0.1", ["198.51.100.1"], "10.0.0.1"),
    ("203.0.113.9", ["for=198.51.100.1"], "203.0.113.9"),
]


@pytest.mark.parametrize(("peer", "lines", "client"), FORWARDED_FOR)
def test_x_forwarded_for(peer: str | None, lines: list[str], client: str) -> None:
    assert ClientIP(TRUSTED, "x-forwarded-for").find(peer, tuple(lines)) == read_client(client)


@pytest.mark.parametrize(("peer", "lines", "client"), FORWARDED)
def test_forwarded(peer: str, lines: list[str], client: str) -> None:
    assert ClientIP(TRUSTED, "forwarded").find(peer, tuple(lines)) == read_client(client)


def test_without_trusted_proxies_nothing_is_believed() -> None:
    assert ClientIP([], "x-forwarded-for").find("127.0.0.1", ("198.51.100.1",)) == read_client("127.0.0.1")


@pytest.mark.parametrize(
    ("address", "counted", "kept"),
    [
        ("198.51.100.77", "198.51.100.77", "198.51.100.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64", "2001:db8:1::"),
    ],
)
def test_what_is_counted_and_what_is_kept(address: str, counted: str, kept: str) -> None:
    assert read_client(address) == Client(counted, kept)
