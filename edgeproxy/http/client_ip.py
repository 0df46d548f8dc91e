"""Whose request it is: the client's IP, by the socket's peer and what trusted proxies say of it.

aiohttp ignores forwarded headers by design, and the filters there are do not look at the socket's peer, so the walk is
ours: it reads from the right, and believes an entry only if a trusted proxy wrote it (`dynamic/README.md`, *Limits*).
"""

import functools
import ipaddress
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple

from edgeproxy.settings import Network

Header = Literal["x-forwarded-for", "forwarded"]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# A pair of a Forwarded element (RFC 7239 §4), with the `;` after it; an address with colons is taken unquoted too.
# What it has taken it never gives back (`*+`), so that its time grows with the element's length, not with the square.
_PAIR = re.compile(
    r"""\s*+(?:([!#$%&'*+.^_`|~0-9A-Za-z-]++)\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s",;\\]*+))\s*+)?(?:;|$)"""
)
_QUOTE_OR_COMMA = re.compile('[",]')
_ESCAPED = re.compile(r"\\(.)")
_PORT = re.compile(r"(?::(?:[0-9]{1,5}|_[0-9A-Za-z._-]+))?", re.ASCII)
_NO_ADDRESS = ipaddress.IPv6Address(0)
_ADDRESSES_KEPT = 32_768
_PROXIES_MOST = 1000  # in a row, more than a line of a head can name; whom the last of them names is the client
_REMEMBERED_MOST = 128  # characters of a header line that is remembered: what comes before is the client's to lengthen


class Client(NamedTuple):
    """An address as the gateway goes by it."""

    counted: str  # what the limiter counts: an IPv4 address by itself, IPv6 by /64
    kept: str  # what may be kept of it: an IPv4 /24, an IPv6 /48, written as their first address


def read_address(text: str) -> Address | None:
    """An address as proxies write it: bare, in brackets, with or without a port or zone; None if it is none."""
    text = text.strip().strip('"')
    port = ""
    if text.startswith("["):
        text, closed, port = text[1:].partition("]")
        if not closed or ":" not in text:
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        port = ":" + port
    if not _PORT.fullmatch(port):
        return None
    try:
        address = ipaddress.ip_address(text.partition("%")[0] if ":" in text else text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _elements(line: str) -> Iterator[str]:
    """The elements of a `Forwarded` line from the right.

    Quotes are paired from the right too: what stands right of a client's own words was written by proxies and is well
    formed, and whatever a client leaves open, it cannot swallow their words.
    """
    end, quoted = len(line), False
    for found in reversed(list(_QUOTE_OR_COMMA.finditer(line))):
        at = found.start()
        if line[at] == ",":
            if not quoted:
                yield line[at + 1 : end]
                end = at
            continue
        before = at
        while before and line[before - 1] == "\\":
            before -= 1
        quoted ^= (at - before) % 2 == 0
    yield line[:end]


def _parameter(element: str, name: str) -> str:
    """A parameter of a `Forwarded` element; empty if it is not there, or the element is malformed."""
    value, at = None, 0
    while at < len(element):
        pair = _PAIR.match(element, at)
        if pair is None:
            return ""
        at = pair.end()
        if pair[1] is not None and pair[1].lower() == name:
            if value is not None:
                return ""
            value = pair[3] if pair[2] is None else _ESCAPED.sub(r"\1", pair[2])
    return value or ""


def _client(address: Address) -> Client:
    if address.version == 4:
        return Client(str(address), str(ipaddress.IPv4Address(int(address) >> 8 << 8)))
    whole = int(address)
    return Client(f"{ipaddress.IPv6Address(whole >> 64 << 64)}/64", str(ipaddress.IPv6Address(whole >> 80 << 80)))


@functools.lru_cache(_ADDRESSES_KEPT)
def read_client(text: str) -> Client | None:
    """The client that an address stands for; None if the text is none."""
    address = read_address(text)
    return None if address is None else _client(address)


class ClientIP:
    """Finds the client's address. `trusted` are the networks whose word is taken, `header` the one they write."""

    def __init__(self, trusted: Sequence[Network], header: Header) -> None:
        self._trusted = tuple(trusted)
        self.header = header
        self._remembered = functools.lru_cache(_ADDRESSES_KEPT)(self._find)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)

    def address(self, peer: str | None, values: tuple[str, ...]) -> Address:
        """The client's whole address, by the same walk as `find`."""
        return self._walk(peer, values)

    def is_https(self, peer: str | None, values: tuple[str, ...]) -> bool | None:
        """Tell whether the proxy at `peer` says that its client came by HTTPS; None if it says nothing, or is not
        trusted.

        `values` are the lines of `X-Forwarded-Proto`, or of `Forwarded` where that is the header trusted proxies write;
        the last entry is the peer's own.
        """
        address = read_address(peer) if peer else None
        if not values or (peer and (address is None or not self._is_trusted(address))):
            return None
        if self.header == "forwarded":
            said = _parameter(next(_elements(values[-1])), "proto")
        else:
            said = values[-1].rpartition(",")[2].strip()
        return said.lower() == "https"

    def find(self, peer: str | None, values: tuple[str, ...]) -> Client:
        """The client; `peer` is the socket's address, `values` the header's lines in order.

        A unix socket's peer has no address and counts as trusted. From the right, entries are walked over as long as
        they are trusted proxies; the first that is not is the client. An entry that cannot be read ends the walk: the
        proxy that wrote it is the last known address.
        """
        short = not values or (len(values) == 1 and len(values[0]) <= _REMEMBERED_MOST)
        return self._remembered(peer, values) if short else self._find(peer, values)

    def _find(self, peer: str | None, values: tuple[str, ...]) -> Client:
        return _client(self._walk(peer, values))

    def _walk(self, peer: str | None, values: tuple[str, ...]) -> Address:
        address = read_address(peer) if peer else _NO_ADDRESS
        if address is None:
            return _NO_ADDRESS
        if not values or (peer and not self._is_trusted(address)):
            return address
        for entry in islice(self._entries(values), _PROXIES_MOST):
            before = read_address(entry)
            if before is None:
                return address
            address = before
            if not self._is_trusted(address):
                return address
        return address

    def _entries(self, values: tuple[str, ...]) -> Iterator[str]:
        """What proxies say, each of who came to it, the nearest first."""
        for value in reversed(values):
            if self.header == "forwarded":
                for element in _elements(value):
                    yield _parameter(element, "for")
            else:
                yield from reversed(value.split(","))
