"""Clients that mean harm, over raw sockets: what each is answered, and that nothing hidden in a request runs."""

import asyncio
import contextlib
import gc
import gzip
import logging
import re
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import orjson
import pytest

from edgeproxy.calls import handler as calls
from edgeproxy.dynamic import signature
from edgeproxy.http.connections import Connection
from edgeproxy.telemetry.metrics import OUTCOMES, REFUSALS, STATUSES
from tests.conftest import Edge, serving, web_request

MARK = "0ddba11"  # stands in what clients send, and must stand in no log
_EDGE_BODY = orjson.dumps(web_request(trackingId=MARK))
_CALLS_BODY = orjson.dumps({"call_id": MARK, "event": "started", "number": "+79990000006"})
_SIGN = f"X-SIGN: {signature.sign(_EDGE_BODY, b'freespee')}\r\nX-HTTP-STATUSES: 1\r\n"
_TOKEN = f"Access-Token: demo-token\r\nX-Mark: {MARK}\r\n"


@dataclass(frozen=True)
class Port:
    """One of the gateway's ports: a path, the body and the headers with which a request to it succeeds."""

    name: str
    path: str
    body: bytes
    headers: str

    def number(self, edge: Edge) -> int:
        return int((edge.url if self.name == "edge" else edge.manage).rpartition(":")[2])

    def fill(self, text: str | bytes) -> bytes:
        """Replace the words in capitals by what they stand for at this port."""
        raw = text.encode("latin-1") if isinstance(text, str) else text
        size = len(self.body)
        whole = b"POST PATH HTTP/1.1\r\nHEADERSContent-Length: SIZE\r\n\r\nBODY"
        for word, meaning in (
            (b"NEXT", whole),
            (b"PATH", self.path.encode()),
            (b"HEADERS", b"Host: gateway\r\n" + self.headers.encode()),
            (b"SIZE", b"%d" % size),
            (b"HEX", b"%x" % size),
            (b"BODY", self.body),
        ):
            raw = raw.replace(word, meaning)
        return raw


EDGE = Port("edge", "/api", _EDGE_BODY, _SIGN)
MANAGE = Port("manage", calls.PATH, _CALLS_BODY, _TOKEN)

_ONE = "POST PATH HTTP/1.1\r\nHEADERS"
_SIZED = _ONE + "Content-Length: SIZE\r\n"
_TINY = "1\r\n \r\n"
_CHUNKS = "HEX\r\nBODY\r\n0\r\n\r\n"


def chunked(field: str, chunks: str = _CHUNKS) -> str:
    return f"{_ONE}{field}\r\n\r\n{chunks}NEXT"


def sized(field: str) -> str:
    return f"{_SIZED}{field}\r\n\r\nBODYNEXT"


def of_length(length: str) -> str:
    return f"{_ONE}Content-Length: {length}\r\n\r\nabcNEXT"


# Refused on both ports: one answer, then the end, and neither the request nor the one behind it has run.
REFUSED = {
    # two lengths
    "Content-Length and chunked": (400, f"{_SIZED}Transfer-Encoding: chunked\r\n\r\n{_CHUNKS}NEXT"),
    "two Content-Lengths": (400, f"{_ONE}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcdNEXT"),
    "the same Content-Length twice": (400, sized("Content-Length: SIZE")),
    "a list of Content-Lengths": (400, of_length("3, 3")),
    "chunked twice": (400, chunked("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
    "chunked, chunked": (400, chunked("Transfer-Encoding: chunked, chunked")),
    "chunked, then another coding": (400, chunked("Transfer-Encoding: chunked, identity")),
    "chunked, then nothing": (400, chunked("Transfer-Encoding: chunked,")),
    # obscured
    "a space before the colon": (400, chunked("Transfer-Encoding : chunked")),
    "an unknown coding": (400, chunked("Transfer-Encoding: xchunked")),
    "identity": (400, chunked("Transfer-Encoding: identity")),
    "a quoted coding": (400, chunked('Transfer-Encoding: "chunked"')),
    "a vertical tab before the coding": (400, chunked("Transfer-Encoding: \x0bchunked")),
    "a folded coding": (400, chunked("Transfer-Encoding:\r\n chunked")),
    "an empty coding": (400, sized("Transfer-Encoding: ")),
    "HTTP/1.0 with chunks": (400, chunked("Transfer-Encoding: chunked").replace("HTTP/1.1", "HTTP/1.0", 1)),
    # numbers
    "a negative length": (400, of_length("-3")),
    "a length with a plus": (400, of_length("+3")),
    "a length in hex": (400, of_length("0x3")),
    "two numbers as a length": (400, of_length("3 3")),
    "an empty length": (400, of_length("")),
    "a length with letters behind": (400, of_length("3abc")),
    "a length over 64 bits": (400, of_length("9" * 30)),
    # line ends and characters
    "line feeds alone": (400, f"{_SIZED}\r\nBODY".replace("\r\n", "\n")),
    "a carriage return alone": (400, f"{_ONE}A: b\rContent-Length: 0\r\n\r\nNEXT"),
    "a line feed alone in the head": (400, f"{_ONE}A: b\nContent-Length: 0\r\n\r\nNEXT"),
    "a folded field": (400, sized("A: b\r\n c")),
    "a NUL in a value": (400, sized("A: b\0c")),
    "a control character in a value": (400, sized("A: b\x01c")),
    "a NUL in a name": (400, sized("A\0B: c")),
    "a space in a name": (400, sized("A B: c")),
    "a field without a name": (400, sized(": c")),
    "a field without a colon": (400, sized("abc")),
    "a space before the first field": (400, "POST PATH HTTP/1.1\r\n Host: gateway\r\n\r\nNEXT"),
    "a NUL in the target": (400, "GET /a\0b HTTP/1.1\r\nHEADERS\r\nNEXT"),
    "bytes beyond ASCII in the target": (400, "GET /\xff\xfe HTTP/1.1\r\nHEADERS\r\nNEXT"),
    "a space in the target": (400, "GET /a b HTTP/1.1\r\nHEADERS\r\nNEXT"),
    "a target that is no URL": (400, f"POST http://gateway:99999PATH HTTP/1.1{_SIZED.partition('1.1')[2]}\r\nBODYNEXT"),
    # other protocols and versions
    "HTTP/0.9": (400, "GET PATH\r\n\r\nNEXT"),
    "HTTP/1.0 and a request behind": (400, f"{_SIZED}\r\nBODYNEXT".replace("1.1", "1.0", 1)),
    "HTTP/2.0 and a request behind": (400, f"{_SIZED}\r\nBODYNEXT".replace("1.1", "2.0", 1)),
    "HTTP/1.2": (400, "POST PATH HTTP/1.2\r\nHEADERS\r\nNEXT"),
    "HTTP in lower case": (400, "POST PATH http/1.1\r\nHEADERS\r\nNEXT"),
    "the preface of HTTP/2": (400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nNEXT"),
    "TLS": (400, "\x16\x03\x01\0\xc8\x01\0\0\xc4\x03\x03" + "\0" * 190),
    "an old WebSocket": (400, sized("Sec-WebSocket-Key1: x")),
    "an unknown method": (400, "FOO PATH HTTP/1.1\r\nHEADERS\r\nNEXT"),
    "no Host": (400, "GET PATH HTTP/1.1\r\n\r\nNEXT"),
    "two Hosts": (400, sized("Host: other")),
    # too large
    "a long request line": (431, f"GET /{'a' * 9000} HTTP/1.1\r\nHEADERS\r\nNEXT"),
    "a long value": (431, sized(f"A: {'b' * 9000}")),
    "a long name": (431, sized(f"{'A' * 9000}: b")),
    "many fields": (431, sized("A: b\r\n" * 200 + "A: b")),
}  # fmt: skip

# Refused once the body is read, so that an answer of the path may come before: at most one, and nothing behind it runs.
BROKEN_CHUNKS = {
    "a chunk's size over 64 bits": "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "a chunk of negative size": "-3\r\nabc\r\n0\r\n\r\n",
    "a chunk's size with 0x": "0x3\r\nabc\r\n0\r\n\r\n",
    "a space behind a chunk's size": "HEX \r\nBODY\r\n0\r\n\r\n",
    "a chunk longer than it says": "3\r\nabcd\r\n0\r\n\r\n",
    "line feeds alone between chunks": "HEX\nBODY\n0\n\n",
    "a line feed in a chunk's extension": "HEX;a=\n\r\nBODY\r\n0\r\n\r\n",
    "a length among the trailers": "HEX\r\nBODY\r\n0\r\nContent-Length: 5\r\n\r\n",
}

# Taken, as RFC 9110 and 9112 have it: what is answered, whether the connection then ends, how many requests have run.
TAKEN = {
    "a good one": (f"{_SIZED}\r\nBODY", [200], False, 1),
    "chunks": (f"{_ONE}Transfer-Encoding: chunked\r\n\r\n{_CHUNKS}", [200], False, 1),
    "chunks, in capitals": (f"{_ONE}Transfer-Encoding: CHUNKED\r\n\r\n{_CHUNKS}", [200], False, 1),
    "a chunk's extension": (f"{_ONE}Transfer-Encoding: chunked\r\n\r\nHEX;a=b\r\nBODY\r\n0\r\n\r\n", [200], False, 1),
    "a long extension": (
        f"{_ONE}Transfer-Encoding: chunked\r\n\r\nHEX;a={'b' * 300_000}\r\nBODY\r\n0\r\n\r\n", [200], False, 1
    ),
    "a coding before chunked": (chunked("Transfer-Encoding: gzip, chunked").removesuffix("NEXT"), [501], False, 0),
    "a length with zeros before it": (f"{_ONE}Content-Length: 000SIZE\r\n\r\nBODY", [200], False, 1),
    "a length of 2^63": (of_length(str(2**63)), [400], True, 1),
    "a length of 2^64 - 1": (of_length(str(2**64 - 1)), [400], True, 1),
    "HTTP/1.0": (f"{_SIZED}\r\nBODY".replace("1.1", "1.0", 1), [200], True, 1),
    "HTTP/2.0 in text": (f"{_SIZED}\r\nBODY".replace("1.1", "2.0", 1), [200], True, 1),
    "empty lines first": (f"\r\n\r\n{_SIZED}\r\nBODY", [200], False, 1),
    "the target of a proxy": (f"POST http://gateway{_SIZED.removeprefix('POST ')}\r\nBODY", [200], False, 1),
    "the target of a server": ("OPTIONS * HTTP/1.1\r\nHEADERS\r\n", [404], False, 0),
    "a body where none is read": ("GET /healthz HTTP/1.1\r\nHEADERSContent-Length: SIZE\r\n\r\nBODY", [200], False, 0),
    "a request in the body of another": (
        f"GET /healthz HTTP/1.1\r\nHEADERSContent-Length: {len(EDGE.fill('NEXT'))}\r\n\r\nNEXT", [200], False, 0
    ),
    "a WebSocket": (sized("Upgrade: websocket\r\nConnection: Upgrade"), [200], True, 1),
    "HTTP/2 as an upgrade": (sized("Upgrade: h2c\r\nConnection: Upgrade"), [200], True, 1),
    "a tunnel": ("CONNECT gateway:80 HTTP/1.1\r\nHEADERS\r\nNEXT", [404], True, 0),
    "an expectation": (f"{_SIZED}Expect: 100-Continue\r\n\r\nBODY", [100, 200], False, 1),
    "an unknown expectation": (f"{_SIZED}Expect: 200-maybe\r\n\r\nBODY", [417], False, 0),
    "an expectation in HTTP/1.0": (
        f"{_SIZED}Expect: 100-continue\r\n\r\nBODY".replace("1.1", "1.0", 1), [200], True, 1
    ),
    "a body too large": (f"{_ONE}Content-Length: 300000\r\n\r\n{' ' * 300_000}", [400], True, 1),
    "chunks too large": (
        f"{_ONE}Transfer-Encoding: chunked\r\n\r\n493e0\r\n{' ' * 300_000}\r\n0\r\n\r\n", [400], True, 1
    ),
    "very small chunks": (
        f"{_ONE}Transfer-Encoding: chunked\r\n\r\n{_TINY * 20_000}0\r\n\r\n", [400], True, 1
    ),
}  # fmt: skip


def names_no_version(answers: bytes) -> bool:
    return b"\r\nServer: edgeproxy\r\n" in answers and not re.search(rb"(?i)aiohttp|python|/[0-9]+\.[0-9]+\.", answers)


@dataclass
class Heard:
    """What a client was answered: the statuses, and whether the connection was then closed."""

    statuses: list[int]
    closed: bool
    text: bytes


async def send(port: Port, edge: Edge, raw: bytes, *, answers: int | None = None) -> Heard:
    """Send bytes; listen until the connection ends, or until so many `answers` are there and a little longer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port.number(edge))
    heard = Heard([], False, b"")
    with contextlib.suppress(ConnectionError):
        writer.write(raw)
        end = asyncio.get_running_loop().time() + 5
        while True:
            enough = answers is not None and len(heard.statuses) >= answers
            try:
                async with asyncio.timeout(0.05 if enough else end - asyncio.get_running_loop().time()):
                    data = await reader.read(65536)
            except TimeoutError:
                assert enough, f"nothing came but {heard.text[:1000]!r}"
                break
            if not data:
                heard.closed = True
                break
            heard.text += data
            heard.statuses = [int(part[4:7]) for part in heard.text.split(b"HTTP/")[1:]]
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return heard


async def hear(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the connection ends, in whichever way."""
    heard = b""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            heard += data
    return heard


def ran(edge: Edge) -> float:
    """The requests that the APIs have answered."""
    outcomes = sum(edge.board.total(f"outcome:{outcome}") for outcome in OUTCOMES)
    return outcomes + sum(edge.board.total(f"calls:{status}") for status in STATUSES["calls"])


def refused(edge: Edge) -> dict[str, float]:
    counted = {reason: edge.board.total(f"refused:{reason}") for reason in REFUSALS}
    return {reason: count for reason, count in counted.items() if count}


@pytest.mark.parametrize("port", [EDGE, MANAGE], ids=lambda port: port.name)
@pytest.mark.parametrize("shape", REFUSED)
async def test_a_broken_request_is_refused_once_and_nothing_behind_it_runs(
    edge: Edge, port: Port, shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    status, text = REFUSED[shape]
    heard = await send(port, edge, port.fill(text))
    assert heard.statuses == [status]
    assert ran(edge) == 0
    assert refused(edge) == {"large_head" if status == 431 else "broken": 1}
    assert heard.closed
    assert MARK.encode() not in heard.text
    assert names_no_version(heard.text)
    assert not [record for record in caplog.records if record.name.startswith("edgeproxy")]
    assert MARK not in caplog.text


@pytest.mark.parametrize("port", [EDGE, MANAGE], ids=lambda port: port.name)
@pytest.mark.parametrize("shape", BROKEN_CHUNKS)
async def test_nothing_behind_broken_chunks_runs(
    edge: Edge, port: Port, shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    heard = await send(port, edge, port.fill(chunked("Transfer-Encoding: chunked", BROKEN_CHUNKS[shape])))
    assert heard.statuses == [400]
    assert edge.board.total("outcome:success") + edge.board.total("calls:200") == 0
    assert not [record for record in caplog.records if record.name.startswith("edgeproxy")]
    assert MARK not in caplog.text


@pytest.mark.parametrize("shape", TAKEN)
async def test_an_odd_request_is_answered_for_what_it_is(
    edge: Edge, shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    text, statuses, closes, runs = TAKEN[shape]
    heard = await send(EDGE, edge, EDGE.fill(text), answers=None if closes else len(statuses))
    assert (heard.statuses, ran(edge)) == (statuses, runs)
    assert not [record for record in caplog.records if record.name.startswith("edgeproxy")]
    assert MARK not in caplog.text


@pytest.mark.parametrize("port", [EDGE, MANAGE], ids=lambda port: port.name)
@pytest.mark.parametrize("path", ["/nowhere", "/healthz", "/readyz", "/2.4.9/customers", "/calls/lookup", "/docs"])
async def test_no_answer_names_a_server_s_version(edge: Edge, port: Port, path: str) -> None:
    for method in ("GET", "POST", "OPTIONS", "TRACE"):
        heard = await send(port, edge, f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert names_no_version(heard.text.partition(b"\r\n\r\n")[0] + b"\r\n"), heard.text[:500]


async def test_a_packed_body_is_not_unpacked_at_the_edge_port(edge: Edge) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    port = replace(EDGE, body=bomb, headers=_SIGN + "Content-Encoding: gzip\r\n")
    assert (await send(port, edge, port.fill(f"{_SIZED}\r\nBODY"), answers=1)).statuses == [400]
    half = gzip.compress(b"".join(b"%d" % number for number in range(100_000)))
    port = replace(port, body=half)
    assert (await send(port, edge, port.fill(f"{_SIZED}\r\nBODY"))).statuses == [400]


# Time ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def hasty(store_url: str) -> AsyncIterator[Edge]:
    """A gateway whose clients have 0.3 s for a head, and as long for a body."""
    async with serving(store_url, header_s=0.3, body_s=0.3) as edge:
        yield edge


@pytest.mark.parametrize("port", [EDGE, MANAGE], ids=lambda port: port.name)
async def test_a_head_that_comes_slowly_is_refused_at_its_time(hasty: Edge, port: Port) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port.number(hasty))
    begun = time.monotonic()
    answer = asyncio.create_task(hear(reader))
    for letter in port.fill(_SIZED):
        writer.write(bytes([letter]))
        await asyncio.sleep(0.01)
        if answer.done():
            break
    assert (await answer).startswith(b"HTTP/1.1 408 ")
    assert 0.25 < time.monotonic() - begun < 1.5
    assert refused(hasty) == {"slow_head": 1}
    writer.close()


async def test_a_head_in_pieces_is_taken_within_its_time_again_and_again(hasty: Edge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", EDGE.number(hasty))
    await asyncio.sleep(0.4)  # the time of a head begins with its first byte
    for _ in range(3):
        request = EDGE.fill("NEXT")
        for piece in (request[:10], request[10:30], request[30:]):
            writer.write(piece)
            await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head
            await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0]))
        await asyncio.sleep(0.2)
    assert refused(hasty) == {}
    writer.write(b"POST /api")
    async with asyncio.timeout(2):
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_a_body_that_comes_slowly_is_refused_at_its_time(hasty: Edge) -> None:
    begun = time.monotonic()
    heard = await send(EDGE, hasty, EDGE.fill(f"{_SIZED}\r\n") + b"{")
    assert (heard.statuses, heard.closed) == ([408], True)
    assert 0.25 < time.monotonic() - begun < 4  # what is left of the body may come for 2 s more
    assert hasty.board.total("unread:408") == 1
    assert ran(hasty) == 0


async def test_a_head_without_end_is_refused_at_its_size(store_url: str) -> None:
    async with serving(store_url, head_bytes=4096) as edge:
        reader, writer = await asyncio.open_connection("127.0.0.1", EDGE.number(edge))
        answer = asyncio.create_task(hear(reader))
        sent = 0
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        while not answer.done() and sent < 100_000:
            writer.write(b"A: %b\r\n" % (b"b" * 995))
            sent += 1000
            await asyncio.sleep(0.01)
        assert (await answer).startswith(b"HTTP/1.1 431 ")
        assert 4000 <= sent < 20_000
        assert refused(edge) == {"large_head": 1}
        writer.close()


def _read_all(client: socket.socket) -> None:
    while client.recv(65536):
        pass


async def test_a_client_that_reads_no_answers_is_dropped_at_its_time(hasty: Edge) -> None:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", MANAGE.number(hasty)))
    client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
    async with asyncio.timeout(10):
        while refused(hasty) != {"slow_reader": 1}:
            await asyncio.sleep(0.02)
    client.settimeout(5)
    with client, pytest.raises(ConnectionResetError):
        await asyncio.to_thread(_read_all, client)


@pytest.mark.parametrize("left", ["POST PATH HTTP/1.1\r\nHEADERSContent-Length: 99999\r\n\r\n{", "broken\r\n\r\n"])
async def test_what_a_client_left_unhandled_is_freed_with_its_connection(edge: Edge, left: str) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", EDGE.number(edge))
            writer.write(EDGE.fill("NEXT" + left))
            writer.transport.abort()
        async with asyncio.timeout(5):
            while any(isinstance(thing, Connection) for thing in gc.get_objects()):
                await asyncio.sleep(0.05)
    finally:
        gc.enable()


# Places --------------------------------------------------------------------------------------------------------------


async def test_a_new_connection_takes_the_place_of_one_that_never_asked_then_of_the_longest_idle(
    store_url: str,
) -> None:
    async with serving(store_url, connections_most=3) as edge:

        async def opened(*, asks: bool) -> asyncio.StreamReader:
            reader, writer = await asyncio.open_connection("127.0.0.1", EDGE.number(edge))
            writers.append(writer)
            if asks:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                async with asyncio.timeout(2):
                    await reader.readuntil(b"alive\n")
            await asyncio.sleep(0.05)
            return reader

        writers: list[asyncio.StreamWriter] = []
        first = await opened(asks=True)
        silent = await opened(asks=False)
        second = await opened(asks=True)
        third = await opened(asks=True)
        assert [reader.at_eof() for reader in (first, silent, second, third)] == [False, True, False, False]
        fourth = await opened(asks=True)
        assert [reader.at_eof() for reader in (first, second, third, fourth)] == [True, False, False, False]
        assert refused(edge) == {"idle": 2}
        for writer in writers:
            writer.close()


async def test_a_new_connection_is_refused_while_none_is_idle(store_url: str) -> None:
    async with serving(store_url, connections_most=2) as edge:
        busy = [await asyncio.open_connection("127.0.0.1", EDGE.number(edge)) for _ in range(2)]
        for _, writer in busy:
            writer.write(EDGE.fill(f"{_SIZED}\r\n"))
        await asyncio.sleep(0.1)
        assert (await send(EDGE, edge, b"")).statuses == [503]
        assert refused(edge) == {"too_many": 1}
        for reader, writer in busy:
            writer.write(EDGE.body)
            async with asyncio.timeout(2):
                assert b" 200 " in await reader.readline()
            writer.close()


async def test_requests_sent_ahead_are_all_answered_in_their_order(edge: Edge) -> None:
    paths = ["/healthz", "/nowhere"] * 200
    raw = b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths)
    heard = await send(EDGE, edge, raw, answers=len(paths))
    assert heard.statuses == [200, 404] * 200
