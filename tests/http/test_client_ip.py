import time
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.http.client_ip import Client, ClientIP, Header, read_client

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("2001:db8:f::/48")]

V4, V6, OWN = "198.51.100.1", "2001:db8::1", "10.0.0.1"  # the client by IPv4, by IPv6; the proxy that we see

# The socket's peer, the header's lines → the client's address. 10.* are trusted proxies, 192.0.2.66 is an invention.
FORWARDED_FOR: list[tuple[str | None, list[str], str]] = [
    # Who may say it.
    ("203.0.113.9", [], "203.0.113.9"),
    ("203.0.113.9", [V4], "203.0.113.9"),
    ("203.0.113.9", [f"{V4}, 10.0.0.2"], "203.0.113.9"),
    (OWN, [], OWN),
    (OWN, [V4], V4),
    ("2001:db8:f::1", [V4], V4),
    ("::ffff:10.0.0.1", [V4], V4),  # IPv4 on an IPv6 socket
    (None, [V4], V4),  # a unix socket
    # From the right, over trusted proxies; what stands further left is the client's own.
    (OWN, [f"192.0.2.66, {V4}"], V4),
    (OWN, [f"10.0.0.9, {V4}"], V4),
    (OWN, [f"{V4}, 10.0.0.2"], V4),
    (OWN, [f"192.0.2.66, {V4}, 10.0.0.3,10.0.0.2"], V4),
    (OWN, [f"{V4}, ::ffff:10.0.0.2"], V4),
    (OWN, [f"{V6}, 2001:db8:f::5"], V6),
    (OWN, ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # proxies all the way
    (OWN, [", ".join(["192.0.2.66"] * 500 + [V4])], V4),
    (OWN, [", ".join([V4] + ["10.0.0.2"] * 500)], V4),
    # Several lines are one list.
    (OWN, ["192.0.2.66", V4], V4),
    (OWN, ["192.0.2.66", V4, "10.0.0.2"], V4),
    (OWN, ["192.0.2.66", f"{V4}, 10.0.0.2", "10.0.0.3"], V4),
    (OWN, ["", V4], V4),
    # How addresses are written.
    (OWN, [f" \t{V4} \t"], V4),
    (OWN, [f"{V4}:4711"], V4),
    (OWN, [f"{V4}:_port"], V4),
    (OWN, [f'"{V4}:4711"'], V4),
    (OWN, [V6], V6),
    (OWN, ["2001:DB8:0:0::1"], V6),
    (OWN, [f"[{V6}]"], V6),
    (OWN, [f"[{V6}]:4711"], V6),
    (OWN, ["2001:db8::1:4711"], "2001:db8::1:4711"),  # without brackets the last group is no port
    (OWN, ["fe80::1%eth0"], "fe80::1"),
    (OWN, ["[fe80::1%25eth0]:4711"], "fe80::1"),
    (OWN, [f"::ffff:{V4}"], V4),
    (OWN, [f"[::ffff:{V4}]:4711"], V4),
    # An entry that cannot be read ends the walk: the proxy that wrote it is the client.
    (OWN, [""], OWN),
    (OWN, [" "], OWN),
    (OWN, [","], OWN),
    (OWN, [f"{V4},"], OWN),
    (OWN, [f"{V4}, , 10.0.0.2"], "10.0.0.2"),
    (OWN, [V4, ""], OWN),
    (OWN, ["unknown"], OWN),
    (OWN, [f"{V4}, unknown"], OWN),
    (OWN, [f"{V4}, _hidden, 10.0.0.2"], "10.0.0.2"),
    (OWN, [f"{V4}, garbage, 10.0.0.2"], "10.0.0.2"),
    (OWN, [f"for={V4}"], OWN),
    (OWN, ["x" * 8000], OWN),
    (OWN, ["198.51.100.999"], OWN),
    (OWN, ["198.051.100.1"], OWN),  # octal or decimal?
    (OWN, ["3324798977"], OWN),
    (OWN, ["1.2.3.4.5"], OWN),
    (OWN, [f"{V4}/32"], OWN),
    (OWN, [f"{V4}%eth0"], OWN),
    (OWN, [f"{V4} 192.0.2.66"], OWN),
    (OWN, [f"{V4}:"], OWN),
    (OWN, [f"{V4}:port"], OWN),
    (OWN, [f"{V4}:123456"], OWN),
    (OWN, [f"[{V4}]"], OWN),
    (OWN, [f"[{V6}"], OWN),
    (OWN, [f"{V6}]"], OWN),
    (OWN, [f"[{V6}]garbage"], OWN),
    (OWN, ["[]"], OWN),
    (OWN, ["１９８.51.100.1"], OWN),
]

FORWARDED: list[tuple[str | None, list[str], str]] = [
    # Who may say it, and from the right.
    ("203.0.113.9", [f"for={V4}"], "203.0.113.9"),
    (None, [f"for={V4}"], V4),
    (OWN, [f"for={V4}"], V4),
    (OWN, [f"for=192.0.2.66, for={V4};proto=https;by=10.0.0.9"], V4),
    (OWN, [f"proto=https;for={V4}", "for=10.0.0.2"], V4),
    (OWN, ["for=192.0.2.66", f"for={V4}, for=10.0.0.3", "for=10.0.0.2"], V4),
    (OWN, ["for=10.0.0.3, for=10.0.0.2"], "10.0.0.3"),
    (OWN, [", ".join(["for=192.0.2.66;host=x"] * 300 + [f"for={V4}"])], V4),
    # How it is written: names without case, quoted or not, in any order.
    (OWN, [f'For="[{V6}]:4711"'], V6),
    (OWN, [f'FOR="{V4}:4711"'], V4),
    (OWN, [f'for="{V4}:_port"'], V4),
    (OWN, [f'for="[{V6}]"'], V6),
    (OWN, [f"for=[{V6}]"], V6),
    (OWN, [f"for={V4}:4711"], V4),
    (OWN, [f'for="::ffff:{V4}"'], V4),
    (OWN, ['for="[fe80::1%25eth0]"'], "fe80::1"),
    (OWN, [f"by=10.0.0.9;host=example.com;for={V4};proto=http"], V4),
    (OWN, [f" for = {V4} ; proto = https "], V4),
    (OWN, [f";for={V4};;proto=https;"], V4),
    (OWN, [f'for="\\{V4}"'], V4),  # a quoted pair
    (OWN, [f"xfor=192.0.2.66;for={V4};before=192.0.2.66"], V4),
    # Commas, semicolons and quotes within quotes; `host` is the client's to choose.
    (OWN, [f'for={V4};host="a,b"'], V4),
    (OWN, [f'for={V4};host="a, for=192.0.2.66"'], V4),
    (OWN, [f'host="a;for=192.0.2.66";for={V4}'], V4),
    (OWN, [f'host="a, for=192.0.2.66, for=10.0.0.2";for={V4}'], V4),
    (OWN, [f'host="a\\";for=192.0.2.66;b=\\"c";for={V4}'], V4),
    (OWN, [f'host="a\\\\";for={V4}'], V4),
    (OWN, [f'host="a\\", for=192.0.2.66;b=\\"";for={V4}, for="10.0.0.2"'], V4),
    # What a client left open swallows nothing that proxies wrote after it.
    (OWN, [f'for=192.0.2.66;x=", for={V4}'], V4),
    (OWN, [f'for=192.0.2.66;x=", for="{V4}";host="x"'], V4),
    (OWN, [f'for=192.0.2.66;x="\\, for={V4}'], V4),
    (OWN, ['for=192.0.2.66;x="', f"for={V4}"], V4),
    (OWN, ['for=192.0.2.66;x=", for=10.0.0.2'], "10.0.0.2"),
    # An element that cannot be read, or names nobody, ends the walk.
    (OWN, [""], OWN),
    (OWN, [f"for={V4},"], OWN),
    (OWN, [f"for={V4},,for=10.0.0.2"], "10.0.0.2"),
    (OWN, ["for=_hidden"], OWN),
    (OWN, ['for="_hidden:_port"'], OWN),
    (OWN, ["for=unknown"], OWN),
    (OWN, [f"for={V4}, for=unknown, for=10.0.0.2"], "10.0.0.2"),
    (OWN, ["for="], OWN),
    (OWN, ['for=""'], OWN),
    (OWN, ["proto=https"], OWN),
    (OWN, [V4], OWN),
    (OWN, [f'for="{V4}'], OWN),
    (OWN, [f'for={V4}"'], OWN),
    (OWN, [f'for="{V4}"x'], OWN),
    (OWN, [f"for={V4};for=192.0.2.66"], OWN),  # a parameter stands once
    (OWN, [f"for={V4} for=192.0.2.66"], OWN),
    (OWN, [f"for={V4};garbage"], OWN),
    (OWN, [f"for:{V4}"], OWN),
    (OWN, ['"' * 8000], OWN),
    (OWN, ['\\"' * 4000], OWN),
    (OWN, ["," * 8000], OWN),
]

# The lines of `Forwarded`, or of X-Forwarded-Proto → whether a trusted proxy's client came by HTTPS.
PROTO: list[tuple[Header, list[str], bool | None]] = [
    ("forwarded", [], None),
    ("forwarded", [f"for={V4};proto=https"], True),
    ("forwarded", [f'for={V4};Proto="HTTPS"'], True),
    ("forwarded", [f"for={V4};proto=http"], False),
    ("forwarded", [f"for={V4}"], False),
    ("forwarded", [f"proto=https, for={V4}"], False),  # the last element is the peer's own
    ("forwarded", ["proto=https", f"for={V4};proto=http"], False),
    ("forwarded", [f'for={V4};proto=http;host="x;proto=https"'], False),
    ("forwarded", [f'host="x\\";proto=https;y=\\"";for={V4};proto=http'], False),
    ("forwarded", [f'for={V4};proto=https;host="a,b"'], True),
    ("x-forwarded-for", [], None),
    ("x-forwarded-for", ["https"], True),
    ("x-forwarded-for", ["HTTPS "], True),
    ("x-forwarded-for", ["https, http"], False),
    ("x-forwarded-for", ["http", "https"], True),
    ("x-forwarded-for", ["https,"], False),
]


@pytest.mark.parametrize(("peer", "lines", "client"), FORWARDED_FOR)
def test_x_forwarded_for(peer: str | None, lines: list[str], client: str) -> None:
    found = ClientIP(TRUSTED, "x-forwarded-for")
    assert found.address(peer, tuple(lines)) == ip_address(client)
    assert found.find(peer, tuple(lines)) == read_client(client)


@pytest.mark.parametrize(("peer", "lines", "client"), FORWARDED)
def test_forwarded(peer: str | None, lines: list[str], client: str) -> None:
    found = ClientIP(TRUSTED, "forwarded")
    assert found.address(peer, tuple(lines)) == ip_address(client)
    assert found.find(peer, tuple(lines)) == read_client(client)


@pytest.mark.parametrize(("header", "lines", "https"), PROTO)
def test_https_by_the_word_of_a_trusted_proxy(header: Header, lines: list[str], https: bool | None) -> None:
    assert ClientIP(TRUSTED, header).is_https(OWN, tuple(lines)) is https
    assert ClientIP(TRUSTED, header).is_https("203.0.113.9", tuple(lines)) is None


@given(
    st.text('"\\,;= for10.abx', max_size=40),
    st.sampled_from([f"for={V4}", f'for="{V4}"', f'for={V4};host="x,y"', f'host="a\\"b";for={V4}']),
)
def test_nothing_that_a_client_sent_before_changes_what_the_proxy_said(sent: str, said: str) -> None:
    assert ClientIP(TRUSTED, "forwarded").find(OWN, (f"{sent}, {said}",)) == read_client(V4)


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


@pytest.mark.alone
def test_no_more_proxies_are_walked_over_than_a_line_can_name() -> None:
    found = ClientIP([ip_network("10.0.0.0/8")], "x-forwarded-for")
    lines = tuple(", ".join(["10.0.0.2"] * 800) for _ in range(100))
    began = time.thread_time()
    assert str(found.address("10.0.0.1", ("198.51.100.1", *lines))) == "10.0.0.2"
    assert time.thread_time() - began < 0.05  # the whole walk takes 0.3 s


@pytest.mark.alone
@pytest.mark.parametrize("element", ['a={}"', "a=b{}c", "{}a", 'a="b"{}c', "a{}b"])
def test_a_forwarded_element_takes_no_time_by_blanks_that_end_in_nothing(element: str) -> None:
    found = ClientIP(TRUSTED, "forwarded")
    began = time.thread_time()
    assert str(found.address(OWN, (element.format(" " * 8000),))) == OWN
    assert time.thread_time() - began < 0.05  # the first took 0.6 s
