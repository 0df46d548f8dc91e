"""The store: accounts, pools, leases, limiter and budget in Redis or Valkey, decided by its own functions."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson
import redis.asyncio
from cachetools import LRUCache, TTLCache
from redis.exceptions import MovedError, RedisError, ResponseError

from edgeproxy.accounts.account import ACCOUNT_NAME, Account
from edgeproxy.errors import Fault, Kind, SealError, StoreError
from edgeproxy.store import keys
from edgeproxy.store.batching import Ask, Batcher, Resolution
from edgeproxy.store.faults import fault_of
from edgeproxy.store.lua_libraries import libraries
from edgeproxy.store.sealing import Seal
from edgeproxy.store.server import Server, end
from edgeproxy.store.servers import connect

__all__ = ["Ask", "Resolution", "ServerFacts", "Store", "StoreError", "store_time"]

OLDEST_REDIS = (7, 0)

_log = logging.getLogger(__name__)
_ACCOUNTS_MOST = 10_000  # accounts that a worker remembers
_UNKNOWN_S = 2  # how long a worker remembers that there is no such account
_READ_S = 0.25  # for an account; those who ask for it wait as long as their own budget lasts
_TELL_AGAIN_S = 60.0  # between log lines of failed calls
_RETRY_S = 0.5  # between attempts to follow configuration changes
_REPLICAS_MS = 30  # that a visitor's lease may take to reach its replicas


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What `edgeproxy check` tells of a server of the store."""

    place: str  # of a cluster's
    product: str  # and version
    durable: bool  # it keeps an append-only file
    eviction: str  # its `maxmemory-policy`: `noeviction`, or how it forgets keys
    replicas: int  # that follow it, and are up with it
    functions: dict[str, bool]  # library → whether it is loaded
    others: tuple[str, ...]  # libraries of other releases
    ahead_ms: float  # its clock less this host's


def store_time() -> int:
    """The clock that leaves time to the store."""
    return 0


def _ignore(*_: object) -> None:
    pass


class Store:
    """Typed access to the store.

    `clock` gives the epoch ms that functions go by, for tests; 0 leaves time to the store. So many replicas as
    `lease_replicas` must have what a visitor's request wrote before it is answered. `on_batch` is told each batch's
    size and what it did (`granted`, `renewed`, `recycled`, `original`, `shared`, `source`), `on_up` whether the store
    began or ceased to answer, `on_back` of an account at whose request the store's clock had gone back, by how many ms,
    `on_fault` why a call failed (see `metrics.STORE_FAULTS`). `seal` seals and opens the
    secrets in it; without one they are plain. Use as an async context manager, or call `open` and `close`.

    Raises:
        ValueError: the URL is none (see `StoreURL.parse`).
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], int] = store_time,
        lease_replicas: int = 0,
        on_batch: Callable[[int, dict[str, int]], None] = _ignore,
        on_back: Callable[[str, int], None] = _ignore,
        on_up: Callable[[bool], None] = _ignore,
        on_fault: Callable[[str], None] = _ignore,
        seal: Seal | None = None,
    ) -> None:
        self.seal = seal or Seal()
        self._clock = clock
        self._lease_replicas = lease_replicas
        self._on_batch = on_batch
        self._on_back = on_back
        self._on_fault = on_fault
        self._url = url
        self.servers = connect(url, on_up=on_up, on_fault=on_fault)
        self._accounts: LRUCache[str, Account] = LRUCache(_ACCOUNTS_MOST)
        self._unknown: TTLCache[str, bool] = TTLCache(_ACCOUNTS_MOST, _UNKNOWN_S)
        self._changes = 0  # how often an account was forgotten
        self._reading: dict[str, asyncio.Task[Account | None]] = {}
        self._follower: asyncio.Task[None] | None = None
        self._refusal_told = -_TELL_AGAIN_S  # when a call that alone failed was last logged

    async def open(self) -> None:
        """Start batching, and following configuration changes. Needs no store to be there yet."""
        with contextlib.suppress(RedisError, OSError):  # a cluster's servers are looked for again when they are needed
            await self.servers.find()
        self._batcher = Batcher(
            self.servers,
            self._call,
            replicas=self._lease_replicas,
            clock=self._clock,
            on_batch=self._on_batch,
            on_back=self._on_back,
        )
        self.resolve = self._batcher.resolve
        self._follower = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Finish what is under way and close every connection."""
        await self._batcher.close()
        if self._follower is not None:
            await end(self._follower)
        await self.servers.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # A visitor's request ------------------------------------------------------------------------------------------

    async def _call(self, server: Server, commands: list[tuple[Any, ...]], replicas: int) -> list[bytes | None]:
        """Run function calls in one pipeline; None for each that failed, and of all if replicas do not have them.

        Those for which the server has no functions, or not the keys any more, have not been run, and are run once more
        where they can be.
        """
        replies = await self._attempt(server, commands, replicas)
        again: dict[Server, list[int]] = {}
        missing = False
        for i, reply in enumerate(replies):
            if _is_missing(reply):
                missing = True
                again.setdefault(server, []).append(i)
            elif isinstance(reply, MovedError):
                again.setdefault(await self.servers.moved(reply), []).append(i)
        if missing:
            try:
                await load_libraries(server)
            except (RedisError, OSError, StoreError) as error:
                server.failed(time.monotonic(), error)
        for other, places in again.items():
            repeated = await self._attempt(other, [commands[i] for i in places], replicas)
            for i, reply in zip(places, repeated, strict=True):
                replies[i] = reply
                if isinstance(reply, MovedError):
                    other.failed(time.monotonic(), reply)
        return [None if isinstance(reply, Exception) else reply for reply in replies]

    async def _attempt(self, server: Server, commands: list[tuple[Any, ...]], replicas: int) -> list[Any]:
        """Run commands in one pipeline, and note how the server does; those that failed are exceptions."""
        wait = [("WAIT", replicas, _REPLICAS_MS)] if replicas else []
        started = time.monotonic()
        try:
            replies = await server.call([*commands, *wait])
        except (RedisError, OSError) as failure:
            server.failed(started, failure)
            return [failure] * len(commands)
        except asyncio.CancelledError:
            server.failed(started, TimeoutError("no answer within the budget"))
            raise
        reached = replies.pop() if wait else 0
        refusals = [
            reply
            for reply in replies
            if isinstance(reply, Exception) and not (isinstance(reply, MovedError) or _is_missing(reply))
        ]
        if refusals and len(refusals) == len(replies):
            server.failed(started, refusals[0])
        elif wait and (not isinstance(reached, int) or reached < replicas):
            error = ResponseError(f"NOREPLICAS {reached} of {replicas} replicas have a visitor's lease")
            server.failed(started, error)
            return [reply if _is_missing(reply) or isinstance(reply, MovedError) else error for reply in replies]
        else:
            server.answered(started)
            for refusal in refusals:
                self._on_fault(fault_of(refusal))
            if refusals and started - self._refusal_told > _TELL_AGAIN_S:
                self._refusal_told = started
                _log.error("a call of the store failed: %s", refusals[0])
        return replies

    # Accounts -----------------------------------------------------------------------------------------------------

    def known_account(self, name: str) -> Account | None:
        """The account, if this worker remembers it."""
        return self._accounts.get(name)

    async def account(self, name: str, deadline: float) -> Account | None:
        """The account as the store has it, or None where there is none; many callers at once cost one call.

        `deadline` is by `time.monotonic`.

        Raises:
            Fault: `STORE_UNAVAILABLE`, also where the store holds no account at all: it has lost its data; and where
                the account's secrets cannot be opened, so that nobody takes it for a bad signature.
        """
        if name in self._unknown or not ACCOUNT_NAME.fullmatch(name):
            return None
        server = self.servers.server(keys.account(name))
        if server.silent:
            raise Fault(Kind.STORE_UNAVAILABLE)
        started = time.monotonic()
        reading = self._reading.get(name)
        if reading is None:
            reading = self._reading[name] = asyncio.create_task(self._read_account(name))
            reading.add_done_callback(lambda done: self._account_was_read(name, done))
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(reading)
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            server.failed(started, error)
            raise Fault(Kind.STORE_UNAVAILABLE) from None
        except SealError as error:
            self.seal.tell(error)
            raise Fault(Kind.STORE_UNAVAILABLE) from None

    def _account_was_read(self, name: str, reading: "asyncio.Task[Account | None]") -> None:
        del self._reading[name]
        if not reading.cancelled():
            reading.exception()  # those who still waited have it; nobody may be left to

    async def _read_account(self, name: str) -> Account | None:
        async with asyncio.timeout(_READ_S):
            return await self._fetch_account(name)

    async def _fetch_account(self, name: str) -> Account | None:
        changes = self._changes
        read = ("HMGET", keys.account(name), "version", "config")
        version, config = await self._read(read)
        if version is None:
            if not await self._read(("EXISTS", keys.ACCOUNTS)):
                raise ResponseError("EMPTY it holds no accounts")
            version, config = await self._read(read)  # it may have been loaded just then
        if version is None:
            if changes == self._changes:
                self._unknown[name] = True
            return None
        opened = self.seal.open_config(name, orjson.loads(config or b"null"))
        account = self._accounts[name] = Account.from_config(name, int(version), opened)
        return account

    async def _read(self, command: tuple[Any, ...]) -> Any:
        """The reply to a command that reads the key which it names first."""
        (reply,) = await self.servers.server(command[1]).call([command])
        if isinstance(reply, MovedError):
            (reply,) = await (await self.servers.moved(reply)).call([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def forget(self, name: str) -> None:
        """Drop what is remembered of an account, so that it is read again."""
        self._changes += 1
        self._accounts.pop(name, None)
        self._unknown.pop(name, None)
        self._batcher.forget(name)

    async def _follow(self) -> None:
        """Drop accounts as the store tells that they changed; drop all whenever a message may have been missed."""
        while True:
            try:
                async with await self.servers.listener() as client, client.pubsub() as channel:
                    await channel.subscribe(keys.CHANGED)
                    self._accounts.clear()
                    self._unknown.clear()
                    async for message in channel.listen():
                        if message["type"] == "message":
                            self.forget(message["data"])
            except (RedisError, OSError):
                await asyncio.sleep(_RETRY_S)

    async def learn_time(self) -> None:
        """Compare the servers' clocks with ours, so that the first calls have a deadline too.

        Raises:
            RedisError, OSError: a cluster does not tell its servers.
        """
        for server in await self.servers.all():
            with contextlib.suppress(RedisError, OSError):  # the first call there will tell
                (time_there,) = await server.call_calmly([("TIME",)])
                server.is_at(_time_ms(time_there))

    # Set-up -------------------------------------------------------------------------------------------------------

    async def load_functions(self, *, alone: bool = False) -> None:
        """Load our function libraries where a server has none of their names.

        `alone` takes away those of other releases: only for a store that no other release uses. A server of a cluster
        that is away gets them when it is first asked.

        Raises:
            StoreError: the server is too old.
            RedisError, OSError: no server can be reached, or it refuses.
        """
        failures: list[RedisError | OSError] = []
        servers = await self.servers.all()
        for server in servers:
            try:
                await load_libraries(server, alone=alone)
            except (RedisError, OSError) as failure:
                failures.append(failure)
        if len(failures) == len(servers):
            raise failures[0]

    async def facts(self) -> list[ServerFacts]:
        """Look the store over.

        Raises:
            RedisError, OSError: it cannot be reached, or it refuses.
        """
        found = []
        for server in await self.servers.all():
            began = time.time()
            time_there, text = await server.call_calmly([("TIME",), ("INFO",)])
            host_ms = (began + time.time()) / 2 * 1000
            if isinstance(text, Exception):
                raise text
            info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
            product = info.get("server_name", "redis")
            functions, others = await _functions_of(server)
            found.append(
                ServerFacts(
                    place=server.name,
                    product=f"{product} {info.get(f'{product}_version', info['redis_version'])}",
                    durable=info.get("aof_enabled") == "1",
                    eviction=info.get("maxmemory_policy", ""),
                    replicas=sum(
                        name[:5] == "slave" and name[5:].isdigit() and ",state=online," in value
                        for name, value in info.items()
                    ),
                    functions=functions,
                    others=others,
                    ahead_ms=_time_ms(time_there) - host_ms,
                )
            )
        return found

    @property
    def clock(self) -> Callable[[], int]:
        """What gives the `now_ms` of the store's functions."""
        return self._clock

    def client(self, key: str) -> "redis.asyncio.Redis":
        """A client of the server that holds a key, with patience of 5 s instead of a request's budget."""
        return self.servers.server(key).client


async def load_libraries(server: Server, *, alone: bool = False) -> None:
    """Load our function libraries where the server lacks them; see `Store.load_functions`.

    Raises:
        StoreError: the server is too old.
        RedisError, OSError: it cannot be reached, or it refuses.
    """
    commands = [("FUNCTION", "LOAD", library.code) for library in libraries()]
    if alone:
        commands += [("FUNCTION", "DELETE", name) for name in (await _functions_of(server))[1]]
    for reply in await server.call_calmly(commands):
        if isinstance(reply, ResponseError) and "unknown command" in str(reply).lower():
            raise StoreError(f"the store is too old: Redis {OLDEST_REDIS[0]} or Valkey 8 is needed")
        if isinstance(reply, Exception) and "already exists" not in str(reply):
            raise reply


async def _functions_of(server: Server) -> tuple[dict[str, bool], tuple[str, ...]]:
    """Our libraries, and whether the server has them; and those that it has of other releases."""
    (reply,) = await server.call_calmly([("FUNCTION", "LIST", "LIBRARYNAME", f"{keys.RELEASE}_*")])
    if isinstance(reply, Exception):
        raise reply
    there = {dict(zip(fields[::2], fields[1::2], strict=True))["library_name"] for fields in reply}
    ours = {library.name: library.name in there for library in libraries()}
    return ours, tuple(sorted(there - ours.keys()))


def _time_ms(reply: Sequence[Any]) -> int:
    return int(reply[0]) * 1000 + int(reply[1]) // 1000


def _is_missing(reply: object) -> bool:
    return isinstance(reply, ResponseError) and "Function not found" in str(reply)
