"""The store: accounts, pools, leases, limiter and budget in Redis or Valkey, decided by its own functions."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from types import TracebackType
from typing import Any, Self

import hiredis
import orjson
import redis.asyncio
from cachetools import LRUCache, TTLCache
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from edgeproxy.errors import Fault, Kind
from edgeproxy.model import ACCOUNT_NAME, Account
from edgeproxy.store import keys
from edgeproxy.store.batching import Ask, Batcher, Resolution

__all__ = ["Ask", "Facts", "Resolution", "Store", "StoreError", "store_time"]

# Library → the files that it consists of, in this order.
LIBRARIES = {
    "resolve": ("limits", "history", "resolve"),
    "accounts": ("limits", "history", "accounts"),
    "partner": ("partner",),
    "static": ("limits", "static"),
    "calls": ("limits", "history", "calls"),
}
OLDEST_REDIS = (7, 0)

_log = logging.getLogger(__name__)
_ACCOUNTS_MOST = 10_000  # accounts that a worker remembers
_UNKNOWN_S = 2  # how long a worker remembers that there is no such account
_READ_S = 0.25  # for an account; those who ask for it wait as long as their own budget lasts
_PATIENCE_S = 5  # for everything but a visitor's request
_CALM_CONNECTIONS = 32  # of a worker, beside those of visitors' requests
_TELL_AGAIN_S = 60.0  # between log lines of failed calls
_RETRY_S = 0.5  # between attempts to follow configuration changes


class StoreError(Exception):
    """The store cannot be used as it is, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What `edgeproxy check` tells of the store."""

    server: str  # product and version
    durable: bool  # it keeps an append-only file
    functions: dict[str, bool | None]  # library → True: ours, False: another release's code, None: missing
    time_ms: int  # its clock, epoch ms


def _library_code(name: str) -> str:
    texts = [files(__package__).joinpath(f"{file}.lua").read_text() for file in LIBRARIES[name]]
    return "\n".join([f"#!lua name={keys.RELEASE}_{name}", *texts])


def store_time() -> int:
    """The clock that leaves time to the store."""
    return 0


def _ignore(*_: object) -> None:
    pass


class Store:
    """Typed access to the store.

    `clock` gives the epoch ms that functions go by, for tests; 0 leaves time to the store. `on_batch` is told each
    batch's size and what it did (`granted`, `renewed`, `recycled`, `original`, `shared`), `on_up` whether the store
    began or ceased to answer. Use as an async context manager, or call `open` and `close`.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], int] = store_time,
        on_batch: Callable[[int, dict[str, int]], None] = _ignore,
        on_up: Callable[[bool], None] = _ignore,
    ) -> None:
        self._clock = clock
        self._on_batch = on_batch
        self._on_up = on_up
        # RESP2: no maintenance notifications, with which an idle connection's end is missed (redis-py#4252).
        options: dict[str, Any] = {"protocol": 2, "retry": Retry(NoBackoff(), 0)}
        self._url = url
        # Times out by the batch's one timer, which cancels it and so drops the connection.
        self._hot = redis.asyncio.Redis.from_url(
            url, socket_timeout=None, socket_connect_timeout=None, driver_info=None, **options
        )
        self._calm = redis.asyncio.Redis.from_pool(
            redis.asyncio.BlockingConnectionPool.from_url(
                url, max_connections=_CALM_CONNECTIONS, timeout=_PATIENCE_S, socket_timeout=_PATIENCE_S,
                socket_connect_timeout=_PATIENCE_S, decode_responses=True, **options,
            )
        )  # fmt: skip
        self._ready: list[AbstractConnection] = []  # of `_hot`, between two batches
        self._accounts: LRUCache[str, Account] = LRUCache(_ACCOUNTS_MOST)
        self._unknown: TTLCache[str, bool] = TTLCache(_ACCOUNTS_MOST, _UNKNOWN_S)
        self._changes = 0  # how often an account was forgotten
        self._reading: dict[str, asyncio.Task[Account | None]] = {}
        self._follower: asyncio.Task[None] | None = None
        self.up = True  # whether it answered lately
        self._turned = 0.0  # when `up` last changed
        self._failure_told = -_TELL_AGAIN_S  # when a failed call was last logged

    async def open(self) -> None:
        """Start batching, and following configuration changes. Needs no store to be there yet."""
        self._batcher = Batcher(self._call, clock=self._clock, on_batch=self._on_batch)
        self.resolve = self._batcher.resolve
        self._follower = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Finish what is under way and close every connection."""
        await self._batcher.close()
        while self._follower is not None and not self._follower.done():
            self._follower.cancel()  # again: redis-py swallows one that comes while it connects
            await asyncio.wait([self._follower], timeout=0.1)
        await self._hot.aclose()
        await self._calm.aclose()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # A visitor's request ------------------------------------------------------------------------------------------

    async def _call(self, commands: list[tuple[Any, ...]]) -> list[bytes | None]:
        """Run function calls in one pipeline; None for each that failed."""
        started = time.monotonic()
        try:
            replies = await self._pipeline(commands)
            missing = [i for i, reply in enumerate(replies) if _is_missing(reply)]
            if missing:  # a store that lost its functions has not run these calls: nothing happens twice
                await self.load_functions()
                repeated = await self._pipeline([commands[i] for i in missing])
                for i, reply in zip(missing, repeated, strict=True):
                    replies[i] = reply
        except (RedisError, OSError, StoreError) as error:
            self._seen(started, error)
            return [None] * len(commands)
        except asyncio.CancelledError:
            self._seen(started, TimeoutError("no answer within the budget"))
            raise
        failed = [reply for reply in replies if isinstance(reply, Exception)]
        if len(failed) == len(replies):
            self._seen(started, failed[0])
        else:
            self._seen(started, None)
            if failed and started - self._failure_told > _TELL_AGAIN_S:
                self._failure_told = started
                _log.error("a call of the store failed: %s", failed[0])
        return [None if isinstance(reply, Exception) else reply for reply in replies]

    async def _pipeline(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands on one connection and read their replies; those that failed are exceptions.

        redis-py's own pipeline, its packing in Python, and its pool's locks and events would be most of a batch's time.
        """
        connection = await self._connection()
        try:
            await connection.send_packed_command(map(hiredis.pack_command, commands), check_health=False)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except BaseException:
            await self._hot.connection_pool.release(connection)
            raise
        self._ready.append(connection)
        return replies

    async def _connection(self) -> AbstractConnection:
        """A connection that is ready for commands; one that the store closed meanwhile is left to the pool."""
        pool = self._hot.connection_pool
        while self._ready:
            connection = self._ready.pop()
            if connection.is_connected and not await connection.can_read():
                return connection
            await pool.release(connection)
        return await pool.get_connection()  # type: ignore[no-untyped-call,no-any-return]

    def _seen(self, started: float, error: Exception | None) -> None:
        """Note whether a call was answered, and log the turns; one begun before the last turn is no evidence."""
        up = error is None
        if up == self.up or started < self._turned:
            return
        self.up, self._turned = up, time.monotonic()
        self._on_up(up)
        if up:
            _log.warning("the store answers again")
        else:
            _log.warning("the store is unavailable: %s: %s", type(error).__name__, error)

    # Accounts -----------------------------------------------------------------------------------------------------

    def known_account(self, name: str) -> Account | None:
        """The account, if this worker remembers it."""
        return self._accounts.get(name)

    async def account(self, name: str, deadline: float) -> Account | None:
        """The account as the store has it, or None where there is none; many callers at once cost one call.

        `deadline` is by `time.monotonic`.

        Raises:
            Fault: `STORE_UNAVAILABLE`, also where the store holds no account at all: it has lost its data.
        """
        if name in self._unknown or not ACCOUNT_NAME.fullmatch(name):
            return None
        started = time.monotonic()
        reading = self._reading.get(name)
        if reading is None:
            reading = self._reading[name] = asyncio.create_task(self._read_account(name))
            reading.add_done_callback(lambda done: self._account_was_read(name, done))
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(reading)
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            self._seen(started, error)
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
        fields = ["version", "config"]
        version, config = await self._hot.hmget(keys.account(name), fields)
        if version is None:
            if not await self._hot.exists(keys.ACCOUNTS):
                raise RedisError("it holds no accounts")
            version, config = await self._hot.hmget(keys.account(name), fields)  # it may have been loaded just then
        if version is None:
            if changes == self._changes:
                self._unknown[name] = True
            return None
        account = self._accounts[name] = Account.from_config(name, int(version), orjson.loads(config or b"null"))
        return account

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
                async with self._calm.pubsub() as channel:
                    await channel.subscribe(keys.CHANGED)
                    self._accounts.clear()
                    self._unknown.clear()
                    async for message in channel.listen():
                        if message["type"] == "message":
                            self.forget(message["data"])
            except (RedisError, OSError):
                await asyncio.sleep(_RETRY_S)

    async def learn_time(self) -> None:
        """Compare the store's clock with ours, so that the first calls have a deadline too.

        Raises:
            RedisError, OSError: the store cannot be reached.
        """
        seconds, micros = await self._calm.time()
        self._batcher.store_is_at(seconds * 1000 + micros // 1000)

    # Set-up -------------------------------------------------------------------------------------------------------

    async def load_functions(self, *, replace: bool = False) -> None:
        """Load our function libraries where the store has none of their names.

        `replace` also puts them over other code of the same name: only for a store that no other release uses.

        Raises:
            StoreError: another release's code stands there under the same name, or the server is too old.
            RedisError, OSError: the store cannot be reached.
        """
        for name in LIBRARIES:
            code = _library_code(name)
            try:
                await self._calm.function_load(code, replace=replace)
            except ResponseError as error:
                if "already exists" in str(error):
                    if not replace and await self._function_code(name) != code:
                        raise StoreError(
                            f"the store's functions {keys.RELEASE}_{name} are another release's; "
                            "one store serves two releases only if their function names differ"
                        ) from None
                elif "unknown command" in str(error).lower():
                    raise StoreError(f"the store is too old: Redis {OLDEST_REDIS[0]} or Valkey 8 is needed") from None
                else:
                    raise

    async def _function_code(self, name: str) -> str | None:
        libraries = await self._calm.function_list(f"{keys.RELEASE}_{name}", withcode=True)
        for library in libraries:
            fields = dict(zip(library[::2], library[1::2], strict=True))
            return str(fields["library_code"])
        return None

    async def facts(self) -> Facts:
        """Look the store over.

        Raises:
            RedisError, OSError: it cannot be reached, or it refuses.
        """
        info = await self._calm.info()
        seconds, micros = await self._calm.time()
        functions: dict[str, bool | None] = {}
        for name in LIBRARIES:
            code = await self._function_code(name)
            functions[f"{keys.RELEASE}_{name}"] = None if code is None else code == _library_code(name)
        server = info.get("server_name", "redis")
        version = info.get(f"{server}_version", info["redis_version"])
        return Facts(
            server=f"{server} {version}",
            durable=bool(info.get("aof_enabled")),
            functions=functions,
            time_ms=seconds * 1000 + micros // 1000,
        )

    @property
    def clock(self) -> Callable[[], int]:
        """What gives the `now_ms` of the store's functions."""
        return self._clock

    @property
    def calm(self) -> "redis.asyncio.Redis":
        """A client for set-up work, with patience of 5 s instead of the request's budget."""
        return self._calm


def _is_missing(reply: object) -> bool:
    return isinstance(reply, ResponseError) and "Function not found" in str(reply)
