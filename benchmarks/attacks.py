"""Hostile clients, a process of their own: `python -m benchmarks.attacks KIND URL SECONDS`, against loopback only.

Each kind is bounded in connections and in time; floods send as fast as they are answered. At the end it prints what it
has done, as JSON: connections opened, requests sent, answers and connections closed by the gateway.
"""

import asyncio
import contextlib
import ipaddress
import itertools
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import uvloop

from benchmarks import workload
from benchmarks.workload import Target

FLOODING = 16  # connections of a flood
IDLE = 10_000
_AHEAD = 500  # requests that one connection sends ahead
_SOURCES = 8  # addresses that idle connections come from
_ANSWER_S = 5
_HOSTILE_IP = 200 << 16  # none of the good clients'
_BAD_SIGN = "0" * 40


@dataclass(slots=True)
class Done:
    """What an attack has done so far."""

    connections: int = 0
    requests: int = 0
    answers: int = 0
    closed: int = 0  # by the gateway


class Attack:
    """One attack on a gateway's edge port, until `end` (of time.monotonic)."""

    def __init__(self, host: str, port: int, end: float) -> None:
        self.done = Done()
        self._host, self._port, self._end = host, port, end

    def _lasts(self) -> bool:
        return time.monotonic() < self._end

    async def _open(self, source: str | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        streams = await asyncio.open_connection(self._host, self._port, local_addr=(source, 0) if source else None)
        self.done.connections += 1
        return streams

    async def idle(self) -> None:
        """Connections that send nothing."""
        held = []
        gate = asyncio.Semaphore(200)

        async def hold(number: int) -> None:
            async with gate:
                if self._lasts():
                    with contextlib.suppress(OSError):
                        held.append(await self._open(f"127.0.0.{2 + number % _SOURCES}"))

        await asyncio.gather(*map(hold, range(IDLE)))
        await asyncio.sleep(max(0, self._end - time.monotonic()))
        self.done.closed = sum(reader.at_eof() for reader, _ in held)
        for _, writer in held:
            writer.transport.abort()

    async def churn(self) -> None:
        """Connections that are closed as soon as they are open."""

        async def connect() -> None:
            while self._lasts():
                _, writer = await self._open()
                writer.transport.abort()
                await asyncio.sleep(0)

        await asyncio.gather(*(connect() for _ in range(FLOODING)))

    async def flood(self, requests: Iterator[bytes], ahead: int = 1) -> None:
        """Requests as fast as they are answered; after a close by the gateway, on a new connection."""

        async def send() -> None:
            while self._lasts():
                reader, writer = await self._open()
                with contextlib.suppress(ConnectionError, TimeoutError):
                    while self._lasts():
                        writer.write(b"".join(itertools.islice(requests, ahead)))
                        self.done.requests += ahead
                        await self._hear(reader, ahead)
                    continue
                self.done.closed += 1
                writer.transport.abort()

        await asyncio.gather(*(send() for _ in range(FLOODING)))

    async def _hear(self, reader: asyncio.StreamReader, answers: int) -> None:
        async with asyncio.timeout(_ANSWER_S):
            while answers > 0:
                data = await reader.read(65536)
                if not data:
                    raise ConnectionResetError
                count = data.count(b"HTTP/1.")
                self.done.answers += count
                answers -= count


_HEAD = b"POST /api HTTP/1.1\r\nHost: gateway\r\n"
_HIDDEN = b"POST /api HTTP/1.1\r\nHost: gateway\r\nContent-Length: 2\r\n\r\n{}"
_SMUGGLING = [
    _HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + _HIDDEN,
    _HEAD + b"Content-Length: 2\r\nContent-Length: 60\r\n\r\n{}" + _HIDDEN,
    _HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + _HIDDEN,
    _HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + _HIDDEN,
    _HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + _HIDDEN,
    _HEAD + b"A: b\nContent-Length: 0\r\n\r\n" + _HIDDEN,
]


def _badly_signed(account: Callable[[int], str], ips: int) -> Iterator[bytes]:
    """Requests with bad signatures. They are made beforehand, so that making them costs the flood nothing."""
    made = []
    for index in range(5000):
        target = Target(account=account(index))
        ip = workload.client_ip(_HOSTILE_IP + index % ips)
        made.append(workload.http_request(workload.body(target, index, ""), "", ip, "gateway", signed=_BAD_SIGN))
    return itertools.cycle(made)


def _known(index: int) -> str:
    return Target().account


def _unknown(index: int) -> str:
    return f"nobody-{index}"


KINDS: dict[str, Callable[[Attack], Awaitable[None]]] = {
    "idle connections": Attack.idle,
    "connection churn": Attack.churn,
    "requests sent ahead": lambda attack: attack.flood(
        itertools.repeat(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n"), _AHEAD
    ),
    "oversized heads": lambda attack: attack.flood(itertools.repeat(_HEAD + (b"A: " + b"b" * 8000 + b"\r\n") * 20)),
    "smuggling shapes": lambda attack: attack.flood(itertools.cycle(_SMUGGLING)),
    "oversized bodies": lambda attack: attack.flood(
        itertools.repeat(_HEAD + b"Content-Length: 1000000\r\n\r\n" + b" " * 1_000_000)
    ),
    "bad signatures, one IP": lambda attack: attack.flood(_badly_signed(_known, 1)),
    "bad signatures, many IPs": lambda attack: attack.flood(_badly_signed(_known, 5000)),
    "unknown accounts, one IP": lambda attack: attack.flood(_badly_signed(_unknown, 1)),
    "unknown accounts, many IPs": lambda attack: attack.flood(_badly_signed(_unknown, 5000)),
}


async def _run(kind: str, url: str, seconds: float) -> Done:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not ipaddress.ip_address(host).is_loopback:
        raise ValueError("attacks are for a gateway on this machine only")
    attack = Attack(host, parts.port or 80, time.monotonic() + seconds)
    await KINDS[kind](attack)
    return attack.done


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    json.dump(asdict(uvloop.run(_run(sys.argv[1], sys.argv[2], float(sys.argv[3])))), sys.stdout)
