"""No request holds the loop for longer than 20 ms, whatever is in it: every endpoint with the largest legal requests.

A beat on the loop measures the CPU time of this process from one turn to the next, so that neither other processes nor
waiting counts, and what holds the interpreter in another thread does. Clients are blocking sockets in a thread.
"""

import asyncio
import base64
import functools
import gzip
import itertools
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

import orjson
import phonenumbers
import pytest

from edgeproxy.accounts import display, number
from edgeproxy.accounts.account import PoolState
from edgeproxy.calls import handler as calls
from edgeproxy.calls import wire as calls_wire
from edgeproxy.commands import demo_records as demo
from edgeproxy.dynamic import handler, signature, wire
from edgeproxy.numbers import handler as static
from edgeproxy.numbers import wire as numbers_wire
from edgeproxy.partner.resources import OPERATIONS
from edgeproxy.partner.resources.customers import ADDRESS
from edgeproxy.partner.resources.greetings import SOUND_MOST
from edgeproxy.partner.resources.operation import BODY_MOST, SMALL_BODY_MOST, Operation
from edgeproxy.store.partner import Partner
from edgeproxy.store.pools import Pools
from tests.conftest import DEMO, Desk, Edge, serving, web_request
from tests.partner.client import authorization
from tests.servers import configured

pytestmark = pytest.mark.alone

HELD_MOST_S = 0.020
TRIES = 3  # a machine may be noisy, and what a request costs comes again,
# also by the second try, as what the first made a worker remember is forgotten.
REMEMBERED = (
    number._read_short, number._read_long, number.is_valid, display._show_remembered, display._formatted_by_library,
    handler.crawler_mark,
)  # fmt: skip
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
TOKEN = {"Access-Token": "demo-token", "SiteId": "1001"}
FULL = """
  full:
    secrets: [full-key]
    region: DE
    points: {daily: 1000000}
    pools:
      all: {replaces: all, numbers: [+493015981301..+493015981390]}
  us:
    secrets: [full-key]
    region: US
    points: {daily: 1000000}
    pools:
      all: {replaces: all, numbers: [+12015550100..+12015550190]}
"""
CUSTOMS = "custom_fields: {customers: [custom_1, custom_2], sources: [custom_1]}"
_TWENTY = "[" + ", ".join(f"custom_{i}" for i in range(1, 21)) + "]"
ALL_CUSTOMS = f"custom_fields: {{customers: {_TWENTY}, sources: {_TWENTY}}}"


def talk(port: int, raw: bytes) -> bytes:
    """Send a request that ends its connection, and give all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        heard = bytearray()
        try:
            connection.sendall(raw)
            while more := connection.recv(1 << 16):
                heard += more
        except OSError:  # the gateway has closed before it read all
            pass
        return bytes(heard)


@dataclass
class Desktop:
    """A gateway, and requests to it of which the longest hold of the loop is told."""

    edge: Edge
    challenge: str
    _serial: Iterator[int]
    _worst_s: float = 0.0
    _last: float = 0.0
    _beating: bool = False

    def _beat(self) -> None:
        now = time.process_time()
        self._worst_s = max(self._worst_s, now - self._last)
        self._last = now
        if self._beating:
            asyncio.get_running_loop().call_soon(self._beat)

    async def send(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, float]:
        """Status, and for how long the loop was held."""
        serial = next(self._serial)
        sent = {"X-Forwarded-For": f"10.{serial >> 16}.{serial >> 8 & 255}.{serial & 255}"} | (headers or {})
        if target.startswith("/2.4.9/"):
            sent["X-Forwarded-For"] = "127.0.0.1"
            sent["Authorization"] = authorization(method, target, self.challenge, count=serial)
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in sent.items()) + "\r\n"
        url = self.edge.url if target.startswith("/api") else self.edge.manage
        self._worst_s, self._last, self._beating = 0.0, time.process_time(), True
        self._beat()
        try:
            heard = await asyncio.to_thread(talk, int(url.rpartition(":")[2]), head.encode() + body)
        finally:
            self._beating = False
            await asyncio.sleep(0)
        return int(heard.split(b" ", 2)[1]) if heard else 0, self._worst_s

    async def holds(self, what: str, *request: Any) -> int:
        """Send a request that must not hold the loop for too long; its status."""
        held = []
        for _ in range(TRIES):
            for remembered in REMEMBERED:
                remembered.cache_clear()
            status, worst_s = await self.send(*request)
            assert status != 500, what
            held.append(worst_s)
            if worst_s <= HELD_MOST_S:
                return status
        pytest.fail(f"{what}: the loop was held for {', '.join(f'{worst * 1000:.0f} ms' for worst in held)}")


@pytest.fixture
async def desktop(store_url: str, desk: Desk) -> AsyncIterator[Desktop]:
    async with serving(store_url, allow_plain_http=True) as edge:
        await desk.load(DEMO.read_text().replace(CUSTOMS, ALL_CUSTOMS) + FULL)
        await demo.fill(desk.store)
        with configured(store_url, appendfsync="always"):
            async with edge.client.get(f"{edge.manage}/2.4.9/customers") as response:
                challenge = response.headers.getall("WWW-Authenticate")[0]
            desktop = Desktop(edge, challenge, itertools.count(1))
            for _ in range(5):  # what is made with a first request is not its cost
                await desktop.send("GET", "/2.4.9/customers")
            yield desktop


# Shapes of JSON that are slow to read, as large as a body may be -----------------------------------------------------


def _list_of(item: bytes) -> Callable[[int], bytes]:
    return lambda size: b'{"a":[' + b",".join([item] * ((size - 8) // (len(item) + 1))) + b"]}"


def _text_of(piece: bytes) -> Callable[[int], bytes]:
    return lambda size: b'{"a":"' + piece * ((size - 8) // len(piece)) + b'"}'


def _members(value: bytes) -> Callable[[int], bytes]:
    return lambda size: b"{" + b",".join(b'"%06x":%b' % (i, value) for i in range(size // (len(value) + 10))) + b"}"


SHAPES: dict[str, Callable[[int], bytes]] = {
    "numbers": _list_of(b"1"),
    "fractions": _list_of(b"1.1"),
    "long numbers": _list_of(b"9" * 4300),
    "texts": _list_of(b'"b"'),
    "objects": _list_of(b"{}"),
    "objects with a member": _list_of(b'{"":0}'),
    "lists in lists": _list_of(b"[" * 400 + b"]" * 400),
    "one long fraction": lambda size: b'{"a":1.' + b"7" * (size - 10) + b"}",
    "members": _members(b"0"),
    "members that are objects": _members(b'{"a":0}'),
    "one key again and again": lambda size: b"{" + b",".join([b'"a":0'] * (size // 6 - 1)) + b"}",
    "deep": lambda size: b'{"a":' * (size // 7) + b"1" + b"}" * (size // 7),
    "escapes": _text_of(b"\\u0041"),
    "escaped slashes": _text_of(b"\\/"),
    "backslashes": _text_of(b"\\\\"),
    "NULs": _text_of(b"\\\\\\u0000"),
    "beyond ASCII": _text_of("aü".encode()),
    "blanks": lambda size: b" " * (size - 2) + b"{}",
}


async def test_dynamic_numbers(desktop: Desktop) -> None:
    for shape, made in SHAPES.items():
        body = made(wire.BODY_MOST - 100)
        in_parameters = b'{"advId":"demo","numbers":"1","type":"web","fullUrl":"x","parameters":' + body + b"}"
        for raw in (body, b'{"advId":"demo",' + body[1:], in_parameters):
            headers = {"X-SIGN": signature.sign(raw, b"freespee"), "X-HTTP-STATUSES": "1"}
            assert await desktop.holds(shape, "POST", "/api", raw, headers) == 400


async def test_static_numbers_and_calls(desktop: Desktop) -> None:
    for path, most in [
        *((static.PATH + method, numbers_wire.BODY_MOST) for method in numbers_wire.METHODS),
        (calls.PATH, calls_wire.BODY_MOST),
        (f"{calls.PATH}/erase", calls_wire.BODY_MOST),
    ]:
        for shape, made in SHAPES.items():
            assert await desktop.holds(f"{path}: {shape}", "POST", path, made(most), TOKEN) == 400


GREETINGS = "/2.4.9/customers/1/voicemail_greetings"


PARTNERS = (("/2.4.9/sources", SMALL_BODY_MOST), (GREETINGS, BODY_MOST))


async def test_partners(desktop: Desktop) -> None:
    for (path, most), (shape, made) in itertools.product(PARTNERS, SHAPES.items()):
        if most == BODY_MOST and shape in ("fractions", "texts", "objects", "members that are objects"):
            continue  # as slow as those of numbers and members, and refused alike
        assert await desktop.holds(f"{path}: {shape}", "POST", path, made(most), JSON) == 400
    packed = JSON | {"Content-Encoding": "gzip"}
    for shape in ("numbers", "deep", "blanks"):
        body = gzip.compress(SHAPES[shape](BODY_MOST), 1)
        assert await desktop.holds(f"{shape}, packed", "POST", GREETINGS, body, packed) == 400


async def test_forms(desktop: Desktop) -> None:
    pieces = (b"&", b"a=&", b"%41", b"%", b"%4", b"+", b",", "ü".encode(), "aü".encode(), b"%C3%BC", b"&a=%")
    for (path, most), piece in itertools.product(PARTNERS, pieces):
        body = b"name=%41" + piece * ((most - 8) // len(piece))
        assert await desktop.holds(f"{path}: {piece!r}", "POST", path, body, FORM) == 400


# Legal requests, each as large as it can be --------------------------------------------------------------------------

_WIDE = "\U0001f600"  # four bytes, and two escapes of six


@functools.cache
def abroad() -> list[str]:
    """Numbers of all countries."""
    examples = (phonenumbers.example_number(region) for region in sorted(phonenumbers.SUPPORTED_REGIONS))
    return [phonenumbers.format_number(number, 0) for number in examples if number is not None]


def other_numbers(count: int, seed: int) -> list[str]:
    """Numbers of all countries whose last digits nobody has read before."""
    rnd = random.Random(seed)
    return [rnd.choice(abroad())[:-3] + f"{rnd.randrange(1000):03}" for _ in range(count)]


async def test_pages_of_numbers_of_all_countries(desktop: Desktop) -> None:
    texts = {f"utm_{i:02}": "a%&=ü" * 20 for i in range(wire.DIMENSIONS_MOST)}
    links = {"fullUrl": "https://example.com/?" + "&a" * 1000, "fullReferrer": "http://" + "a." * 1000}
    for seed in range(6):
        numbers, more = other_numbers(wire.NUMBERS_MOST, seed), {"parameters": texts, **links}
        if seed % 2:  # as they may stand on a page
            numbers = [f"{'<b>' * 20}{'%20' * 5}tel:{number}{'(0)' * 10}{'</b>' * 10}"[:250] for number in numbers]
            more = {"parameters": {}}
        for account, key in (("full", b"full-key"), ("demo", b"freespee")):
            raw = orjson.dumps(web_request(advId=account, numbers=numbers, **more))
            headers = {"X-SIGN": signature.sign(raw, key), "X-HTTP-STATUSES": "1"}
            assert await desktop.holds(f"{account} {seed}", "POST", "/api", raw, headers) == 200


async def test_pages_of_texts_that_are_slow_to_read(desktop: Desktop) -> None:
    rnd = random.Random(2)
    for pieces in (["(0)", "["], ["-", "1-800-FLOWERS "], ["12 ", "[", "0"], ["&nbsp;", "<b>", "1"], ["030/", "0049"]):
        for length, account in itertools.product((40, 250), ("full", "us")):
            texts = [
                "".join(f"{rnd.choice(pieces)}{rnd.randrange(10)}" for _ in range(125))[:length] for _ in range(50)
            ]
            raw = orjson.dumps(web_request(advId=account, numbers=texts, parameters={}, fullUrl="x"))
            headers = {"X-SIGN": signature.sign(raw, b"full-key"), "X-HTTP-STATUSES": "1"}
            assert await desktop.holds(f"{pieces}", "POST", "/api", raw, headers) == 200


async def test_user_agents(desktop: Desktop) -> None:
    for agent in ("a", "bot/", "Mozilla/5.0 (X11; Linux) ", "(", "-", "http", "1.", "compatible; "):
        raw = orjson.dumps(web_request(userAgent=(agent * 1024)[:1024]))
        assert await desktop.holds(agent, "POST", "/api", raw, {"X-SIGN": signature.sign(raw, b"freespee")}) == 200


async def test_lists_of_static_numbers(desktop: Desktop) -> None:
    def body(numbers: list[Any]) -> bytes:
        return orjson.dumps({"phoneNumbers": numbers})

    for seed in range(3):
        numbers = [number[1:] for number in other_numbers(1000, seed)]
        assert await desktop.holds("abroad", "POST", f"{static.PATH}list", body(numbers), TOKEN) in (400, 404)
    assert await desktop.holds("known", "POST", f"{static.PATH}list", body(["79990000006"] * 1000), TOKEN) == 200
    too_many: tuple[list[Any], ...] = (["1"] * 15_000, list(range(11_000)), [{}] * 20_000)
    for items in too_many:
        assert await desktop.holds("too many", "POST", f"{static.PATH}list", body(items), TOKEN) == 400


LARGEST: dict[str, Any] = {
    "name": _WIDE * 60, "custnr": _WIDE * 45, "corporateid": _WIDE * 40, "email": _WIDE * 150,
    "dncs_class_name": _WIDE * 60, "media": _WIDE * 60, "campaign_id": _WIDE * 45,
    "customer_id": "1", "source_id": "643967", "vm_greeting_id": "2", "cdr_id": "1",
    "recording_id": "1", **dict.fromkeys(ADDRESS, _WIDE * 40),
    **{f"custom_{i}": _WIDE * 255 for i in range(1, 21)},
    "alt_numbers": [f"+4930159812{i:02}" for i in range(10)],
    "destnr": "+493012345601", "smsnumber": "+493012345601", "phonenr": "+49890510",
    "expire": "2090-01-01 00:00:00",
}  # fmt: skip


def largest(operation: Operation) -> dict[str, Any]:
    sound = base64.b64encode(random.Random(1).randbytes(SOUND_MOST)).decode()
    values = LARGEST | {"sounddata": sound}
    names = (field.alias or name for name, field in operation.fields.model_fields.items())
    return {name: values[name] for name in names if name in values}


async def test_partner_requests_with_every_field_full(desktop: Desktop) -> None:
    for operation in sorted(OPERATIONS, key=lambda operation: operation.method == "DELETE"):
        await every_field_full(desktop, operation)


async def every_field_full(desktop: Desktop, operation: Operation) -> None:
    fields = largest(operation)
    path = "/2.4.9/" + operation.paths[-1].format(**fields)
    what = f"{operation.method} {path}"
    if operation.method == "GET":
        query = urlencode({name: value for name, value in fields.items() if name not in LARGEST or name == "custnr"})
        for target in (path, f"{path}?{query}"):
            await desktop.holds(what, "GET", target, b"", {"Accept": "application/xml"})
        return
    lists = {name: ",".join(value) if isinstance(value, list) else value for name, value in fields.items()}
    everything = "&".join(f"{name}={quote_from_bytes(value.encode(), safe='')}" for name, value in lists.items())
    good = (200, 403, 404, *([400] if "extend" in path else []))  # it has been extended so far
    escaped = json.dumps(fields).replace("/", "\\/").replace("+", "\\u002b").encode()
    for body, headers in (
        (orjson.dumps(fields), JSON),
        (escaped, JSON),
        (urlencode(lists).encode(), FORM),
        (everything.encode(), FORM),
    ):
        assert await desktop.holds(what, operation.method, path, body, headers) in good, headers


async def test_pages_of_full_records_and_a_large_sound(desktop: Desktop, desk: Desk) -> None:
    account = await desk.account("demo")
    partner = Partner(desk.store, None)
    for _ in range(300):
        await partner.create_customer(account, {name: str(LARGEST.get(name, "")) for name in _CUSTOMER})
    sound = base64.b64encode(random.Random(1).randbytes(SOUND_MOST))
    await partner.create_greeting(account, {"customer_id": "1", "name": "large", "datalength": "1"}, sound, wanted="77")
    for accept in ("application/json", "application/xml"):
        for target in ("customers", "sources", "customers/1/voicemail_greetings/77", "statistics/cdrs?extended=1"):
            assert await desktop.holds(f"{target} {accept}", "GET", f"/2.4.9/{target}", b"", {"Accept": accept}) == 200


_CUSTOMER = (*(name for name in LARGEST if name.startswith("custom_")), "name", "custnr", "email", "corporateid")


# Heads ---------------------------------------------------------------------------------------------------------------

_LINE = 8000  # characters of a line of a head that may have 8,190


HEADS = (
    ("X-Forwarded-For", "127.0.0.1,"),
    ("X-Forwarded-For", ","),
    ("X-SIGN", "0"),
    ("Accept", "a/b;q=1;q=1,"),
    ("Accept", ","),
    ("Authorization", 'Digest a="b",'),
    ("Authorization", 'Digest "'),
    ("Authorization", 'Digest "\\'),
    ("Access-Token", "x"),
    ("Content-Type", ";"),
    ("Content-Encoding", "gzip,"),
    ("Cookie", "a=b;"),
    ("X-Forwarded-Proto", "http,"),
)


async def test_heads(desktop: Desktop) -> None:
    for name, value in HEADS:
        await head(desktop, name, value)


async def head(desktop: Desktop, name: str, value: str) -> None:
    long = (value * _LINE)[:_LINE]
    raw = orjson.dumps(web_request())
    lines = "\r\n".join([long, *(f"{name}: {long}" for _ in range(100))])
    for method, target in (
        ("POST", "/api"), ("GET", "/api"), ("POST", f"{static.PATH}list"), ("GET", "/calls/lookup?number=1"),
        ("GET", "/healthz"), ("GET", "/openapi.json"), ("GET", "/nowhere"),
    ):  # fmt: skip
        await desktop.holds(f"{target} {name}", method, target, raw if method == "POST" else b"", {name: lines})
    if name != "Authorization":
        await desktop.holds(name, "GET", "/2.4.9/miscellaneous/ping", b"", {name: lines})


async def test_scrapes_with_many_pools(desktop: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    states = [[PoolState(f"account{at}", "pool", at, 2, 3, 4, 5, 6) for at in range(20_000)] for _ in range(TRIES + 1)]
    looks = iter(states)

    async def look(self: Pools) -> list[PoolState]:
        return next(looks, states[-1])

    monkeypatch.setattr(Pools, "look", look)
    assert await desktop.holds("metrics", "GET", "/metrics") == 200
    for _ in looks:  # so that the last was told
        pass
    assert await desktop.holds("metrics", "GET", "/metrics") == 200
    began = time.process_time()
    for _ in range(5):
        assert await desktop.holds("metrics, told again", "GET", "/metrics") == 200
    assert (time.process_time() - began) / 5 < 0.02  # what 500 pools by name take


async def test_targets(desktop: Desktop) -> None:
    for piece in ("&", "sign=0&", "a=b&", "%FF", "a/", "%2F", ".", "+", "number=1&", "page=0&"):
        await target_of(desktop, piece)


async def target_of(desktop: Desktop, piece: str) -> None:
    long = (piece * _LINE)[: _LINE - _LINE % len(piece)]
    for method, target in (
        ("POST", f"/api?{long}"), ("GET", f"/{long}"), ("GET", f"/calls/lookup?{long}"), ("GET", f"/calls/{long}"),
        ("POST", f"{static.PATH}{long}"), ("GET", f"/2.4.9/{long}"), ("GET", f"/2.4.9/customers?{long}"),
        ("GET", f"/2.4.9/customers&{long}"), ("GET", f"/openapi.json?{long}"),
    ):  # fmt: skip
        headers = TOKEN if target.startswith(("/calls", static.PATH)) else {}
        await desktop.holds(f"{method} {piece}", method, target, b"", headers)


async def test_many_numbers_are_read_in_several_turns_of_the_loop(
    desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = number.read_number

    def slow(text: str, region: str) -> str | None:
        if text not in known:
            known.add(text)
            end = time.thread_time() + 0.001
            while time.thread_time() < end:
                pass
        return read(text, region)

    known: set[str] = set()
    monkeypatch.setattr("edgeproxy.dynamic.handler.read_number", slow)
    for seed in range(3):
        known.clear()
        raw = orjson.dumps(web_request(numbers=other_numbers(50, seed)))
        headers = {"X-SIGN": signature.sign(raw, b"freespee"), "X-HTTP-STATUSES": "1"}
        status, held_s = await desktop.send("POST", "/api", raw, headers)
        assert status == 200
        assert held_s < 0.04  # of the 50 ms that all of them take
