"""What is asked of the gateway: the account, the sessions that live in it, and the signed requests."""

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import SplitResult, urlsplit

import orjson
import redis
import uvloop

from edgeproxy.accounts.account import Account
from edgeproxy.accounts.file import AccountFile
from edgeproxy.dynamic import signature
from edgeproxy.store import Store, inventory, keys

REQUESTS = (
    100_000  # distinct requests of a run: more than are sent, as who comes again without a session joins the first
)
IPS = 20_000  # clients that send them in turn
SESSIONS = 18_000  # that live when it begins
RENEWED = 0.9  # share of requests that renew a session
_FRESH = 8_000_000  # the first index of visitors who have no session
POOL_NAME = "berlin"
POOL = 50_000  # numbers; a run leases its sessions' and one for each request that brings a session

_IPS_BASE = 10 << 24  # client IPs are 10.0.0.0 and up
_FIRST_NUMBER = 493_020_000_000
_AGENTS = 200  # distinct browsers
_CHUNK = 1000  # commands in one pipeline
_UNANSWERED_S = 30
_CONNECTIONS = 16  # that begin sessions
_SETTLE_S = 0.3
_ATTEMPTS = 5  # a request that missed its budget, on a machine busy with something else, is sent again


@dataclass(frozen=True, slots=True)
class Target:
    """Whom requests are for: the account, its secret, and a number on the page that its pool replaces."""

    account: str = "bench"
    key: str = "benchmark-secret"
    number: str = "030 15 98 11 00"


def account_tree(pool: int, first: int = 0, overflow: str = "original") -> dict[str, Any]:
    """An account of an account file: one pool of `pool` numbers, from the `first` on; a budget that no run uses up."""
    return {
        "secrets": [Target().key],
        "region": "DE",
        "points": {"daily": str(10**12)},
        "pools": {
            POOL_NAME: {
                "replaces": ["+493015981100"],
                "numbers": [f"{number(first)}..{number(first + pool - 1)}"],
                "overflow": overflow,
            }
        },
    }


async def load_accounts(store_url: str, accounts: dict[str, dict[str, Any]]) -> None:
    """Bring accounts into a store, the way `edgeproxy load` does."""
    async with Store(store_url) as store:
        await store.load_functions(alone=True)
        names = iter(accounts)
        while part := list(islice(names, 500)):
            file = AccountFile.model_validate({"accounts": {name: accounts[name] for name in part}})
            await inventory.apply(store, await inventory.compare(store, file))


def read_account(store_url: str, name: str) -> Account:
    """An account as the store has it.

    Raises:
        LookupError: there is none of that name.
    """
    with contextlib.closing(redis.Redis.from_url(store_url)) as client:
        version, config = cast("list[bytes | None]", client.hmget(keys.account(name), ["version", "config"]))
    if version is None or config is None:
        raise LookupError(f"the store has no account {name}")
    return Account.from_config(name, int(version), orjson.loads(config))


def number(index: int) -> str:
    """A tracking number of the pool, E.164; 80 million differ."""
    return f"+{_FIRST_NUMBER + index}"


def client_ip(index: int) -> str:
    """The IP of a client; up to 16 million differ."""
    value = _IPS_BASE + index
    return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"


def user_agent(index: int) -> str:
    """A browser's user agent; 200 differ."""
    version = 100 + index % _AGENTS
    return f"Mozilla/5.0 (X11; Linux x86_64; rv:{version}.0) Gecko/20100101 Firefox/{version}.0"


class Session(NamedTuple):
    """A session that was begun, and the index of its visitor."""

    id: str
    visitor: int


def body(target: Target, index: int, session_id: str, page: int | None = None) -> bytes:
    """The body of a visitor's request; `session_id` "" begins a session. `page` is the index where it is not given."""
    page = index if page is None else page
    return orjson.dumps(
        {
            "advId": target.account,
            "numbers": target.number,
            "type": "web",
            "fullUrl": f"https://www.example.com/cars/{page}?utm_source=newsletter&utm_medium=email",
            "trackingId": f"visitor-{index}",
            "fullReferrer": "https://www.example.com/",
            "parameters": {"custnr": str(1000 + index % 500), "custname": "Autohaus Mitte"},
            "userAgent": user_agent(index),
            "requestIpAddress": client_ip(index),
            "sessionId": session_id,
        }
    )


def http_request(content: bytes, key: str, ip: str, host: str, *, signed: str | None = None) -> bytes:
    """A whole HTTP request. The real status is asked for, so that a load generator sees refusals."""
    sign = signature.sign(content, key.encode()) if signed is None else signed
    return (
        f"POST /api HTTP/1.1\r\nHost: {host}\r\nUser-Agent: edgeproxy-benchmark\r\nAccept: application/json\r\n"
        f"Content-Type: application/json\r\nX-SIGN: {sign}\r\nX-HTTP-STATUSES: 1\r\nX-Forwarded-For: {ip}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    ).encode() + content


def chosen(chance: random.Random, sessions: Sequence[Session], fresh: int) -> Session:
    """For 90 % of requests a session that was begun; for the others none, and the visitor `fresh` of those without."""
    return chance.choice(sessions) if sessions and chance.random() < RENEWED else Session("", _FRESH + fresh)


def mixed(
    targets: Sequence[Target],
    sessions: Sequence[Sequence[Session]],
    *,
    count: int = REQUESTS,
    ips: int = IPS,
    first: int = 0,
    host: str = "127.0.0.1",
) -> Iterator[bytes]:
    """`count` requests in random order.

    90 % of them come with a session of `sessions[target]`, from its visitor, of another page; the others with none,
    from fresh visitors, those from the `first` on. They come from `ips` clients in turn: each is let through as long as
    fewer than `ips` times the account's requests per second and client are sent.
    """
    chance = random.Random(1 + first)
    for index in range(first, first + count):
        at = chance.randrange(len(targets))
        session = chosen(chance, sessions[at], index)
        content = body(targets[at], session.visitor, session.id, index)
        yield http_request(content, targets[at].key, client_ip(index % ips), host)


def write_requests(path: Path, requests: Iterator[bytes]) -> None:
    """Keep requests as the load generators read them: each after a line with its length."""
    with path.open("wb") as file:
        for request in requests:
            file.write(b"%d\n" % len(request))
            file.write(request)


def read_requests(path: Path) -> list[bytes]:
    """What `write_requests` kept."""
    requests = []
    with path.open("rb") as file:
        while line := file.readline():
            requests.append(file.read(int(line)))
    return requests


# Sessions ----------------------------------------------------------------------------------------------------------


class SeedError(Exception):
    """The gateway did not answer with success, so that there is nothing to measure; the text is its answer."""


def begin_sessions(
    url: str, targets: Sequence[Target], count: int, on_progress: Callable[[int], None] = lambda _: None
) -> list[list[Session]]:
    """Begin `count` sessions through a gateway; gives them by target.

    Raises:
        SeedError: it refused one for good.
    """
    parts = urlsplit(url)
    sessions: list[list[Session]] = [[] for _ in targets]
    left = {index: index % len(targets) for index in range(count)}
    for _ in range(_ATTEMPTS):
        requests = (
            (index, http_request(body(targets[at], index, ""), targets[at].key, client_ip(index), parts.netloc))
            for index, at in left.items()
        )
        answers = uvloop.run(_send_all(parts, requests, on_progress))
        refusal = b""
        for index, answer in answers:
            tree = orjson.loads(answer)
            if tree.get("success"):
                sessions[left.pop(index)].append(Session(tree["sessionId"], index))
            else:
                refusal = answer
        if not left:
            return sessions
    raise SeedError(f"{url} answered {refusal.decode()}")


async def _send_all(
    url: SplitResult, requests: Iterator[tuple[int, bytes]], on_progress: Callable[[int], None]
) -> list[tuple[int, bytes]]:
    answers: list[tuple[int, bytes]] = []
    tls = ssl.create_default_context() if url.scheme == "https" else None
    port = url.port or (443 if tls else 80)

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(url.hostname, port, ssl=tls)
        try:
            for index, request in requests:
                writer.write(request)
                async with asyncio.timeout(_UNANSWERED_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                    answers.append((index, await reader.readexactly(size)))
                if len(answers) % 500 == 0:
                    on_progress(len(answers))
        finally:
            writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(_CONNECTIONS):
            group.create_task(connection())
    return answers


class Snapshot:
    """What requests have written into a store, to begin every timing from the same content.

    Configuration, which requests do not change, and the limiter, which lasts a second, are left alone.
    """

    _LEFT_ALONE = (b"ep1:accounts", b"ep1:owners", b"ep1:{ip}:")

    def __init__(self, store_url: str) -> None:
        self._redis = redis.Redis.from_url(store_url)
        self._kept: list[tuple[bytes, int, bytes]] = []

    def _written(self) -> list[bytes]:
        return [
            key
            for key in self._redis.scan_iter(count=_CHUNK)
            if not key.startswith(self._LEFT_ALONE) and not key.endswith((b":account", b":numbers"))
        ]

    def take(self) -> None:
        """Remember what is there."""
        self._kept = []
        names = self._written()
        for first in range(0, len(names), _CHUNK):
            part = names[first : first + _CHUNK]
            with self._redis.pipeline(transaction=False) as pipeline:
                for key in part:
                    pipeline.pttl(key)
                    pipeline.dump(key)
                replies = pipeline.execute()
            self._kept += [
                (key, max(0, ttl), dump)
                for key, ttl, dump in zip(part, replies[::2], replies[1::2], strict=True)
                if dump is not None
            ]

    def clear(self) -> None:
        """Remove what requests have written; pools are empty then."""
        names = self._written()
        for first in range(0, len(names), _CHUNK):
            self._redis.delete(*names[first : first + _CHUNK])

    def restore(self) -> None:
        """Bring the store back to what was there, once what was under way has ended."""
        time.sleep(_SETTLE_S)
        self.clear()
        for first in range(0, len(self._kept), _CHUNK):
            with self._redis.pipeline(transaction=False) as pipeline:
                for key, ttl, dump in self._kept[first : first + _CHUNK]:
                    pipeline.restore(key, ttl, dump, replace=True)
                pipeline.execute()

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()


def begin(url: str, store_url: str, snapshot: Snapshot, path: Path, target: Target) -> None:
    """Begin 18,000 sessions through our own gateway, in an otherwise empty store; keep 100,000 requests in `path`."""
    snapshot.clear()
    with contextlib.closing(redis.Redis.from_url(store_url)) as client:
        numbers = cast("list[bytes]", client.hkeys(keys.numbers(target.account)))
        client.zadd(keys.pool(target.account, POOL_NAME)[0], dict.fromkeys(numbers, 0))
    sessions = begin_sessions(url, [target], SESSIONS)
    write_requests(path, mixed([target], sessions))
    snapshot.take()
