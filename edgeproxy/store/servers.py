"""The servers behind a store's URL: one, the one that sentinels name, or the primaries of a cluster.

A `Server` sends what visitors' requests ask in one pipeline, and is not asked while it is silent: a circuit breaker,
which a PING that it answers closes again. Which server of a cluster holds a key is redis-py's to know.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import hiredis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import (
    AbstractConnection,
    BlockingConnectionPool,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from edgeproxy.store.url import StoreURL

_BY_TYPE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    ((TimeoutError, RedisTimeoutError), "timeout"),
    ((AuthenticationError, AuthorizationError, NoPermissionError), "denied"),
    (OutOfMemoryError, "memory"),
    (ReadOnlyError, "readonly"),
    (BusyLoadingError, "loading"),
    ((ClusterDownError, ClusterError, AskError, RedisClusterException), "cluster"),
)
_BY_CODE = {"MISCONF": "disk", "NOREPLICAS": "replicas", "TRYAGAIN": "cluster", "EMPTY": "empty"}

_log = logging.getLogger(__name__)
_SILENT_S = 0.1  # that calls go unanswered before the server counts as silent
_KNOCK_S, _KNOCK_MOST_S = 0.05, 0.5  # between PINGs to a silent server, at first and as it stays silent
_PATIENCE_S = 5  # for everything but a visitor's request
_CONNECT_S = 1  # that a connection for visitors' requests may take
_MAP_S = 0.5  # for a node, or a sentinel, to tell where the servers are
_CALM_CONNECTIONS = 32  # of a worker to a server, beside those of visitors' requests
_TOLD_MOST = 5  # lines a minute on a server that comes and goes
_CANCEL_S = 0.1
_LOOK_S = 0.25  # between looks that nobody waits for: one is milliseconds of this process's time


class ReplyLostError(RedisError):
    """Commands were sent, and their replies did not come."""


def fault_of(error: BaseException) -> str:
    """Which of `telemetry.STORE_FAULTS` an exception is."""
    for kind, fault in _BY_TYPE:
        if isinstance(error, kind):
            return fault
    if isinstance(error, ResponseError):
        if "unauthenticated" in str(error):  # who is not logged in may not send as much as a batch
            return "denied"
        return _BY_CODE.get(str(error).partition(" ")[0], "other")
    return "unreachable" if isinstance(error, (RedisError, OSError)) else "other"


async def exchange(connection: AbstractConnection, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Send commands on one connection and read their replies; those that failed are exceptions.

    redis-py's own pipeline and its packing in Python would be most of a batch's time.

    Raises:
        RedisError, OSError: the connection failed; what was sent may have been run.
    """
    await connection.send_packed_command(map(hiredis.pack_command, commands), check_health=False)
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies


async def end(task: "asyncio.Task[Any]") -> None:
    """Cancel a task until it ends: redis-py swallows a cancellation that comes while it connects."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_S)


class Server:
    """A server that takes writes.

    `hot` gives the connections for visitors' requests, which time out by their turn's one timer: it cancels the call,
    and so drops the connection. `calm` gives those for all else. `on_turn` is called when `up` changed, `on_fault` with
    each fault (see `telemetry.STORE_FAULTS`), `on_silence` after each PING that was not answered.
    """

    def __init__(
        self,
        name: str,
        hot: ConnectionPool,
        calm: ConnectionPool,
        *,
        on_turn: Callable[[], None],
        on_fault: Callable[[str], None],
        on_silence: Callable[[], Awaitable[None]],
    ) -> None:
        self.name = name
        self._hot = hot
        self.calm = calm
        self.client = redis.asyncio.Redis(connection_pool=calm)
        self._on_turn, self._on_fault, self._on_silence = on_turn, on_fault, on_silence
        self._ready: list[AbstractConnection] = []  # of `hot`, between two calls
        self.lane: object = None  # what `batching` keeps of it
        self.ahead_ms: float | None = None  # its clock less `time.monotonic`, once it is known
        self.up = True  # whether its last call was answered as it should be
        self.silent = False  # it does not answer, and is not asked until it does
        self._turned = 0.0  # when `up` last changed
        self._told: set[str] = set()  # faults that were logged since it is down
        self._told_at: deque[float] = deque(maxlen=_TOLD_MOST)  # when they were logged lately
        self._answered = time.monotonic()
        self._knocking: asyncio.Task[None] | None = None
        self._closed = False

    async def call(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run commands in one pipeline for visitors' requests; see `exchange`."""
        connection = await self._connection()
        try:
            replies = await exchange(connection, commands)
        except BaseException:
            await self._drop(connection)
            raise
        if self._closed or any(isinstance(reply, ReadOnlyError) for reply in replies):
            await self._drop(connection)  # of a primary that is one no longer: its name may lead elsewhere by now
        else:
            self._ready.append(connection)
        return replies

    async def _connection(self) -> AbstractConnection:
        """A connection that is ready for commands; one that the server closed meanwhile is left to the pool."""
        while self._ready:
            connection = self._ready.pop()
            if connection.is_connected and not await connection.can_read():
                return connection
            await self._drop(connection)
        return await self._hot.get_connection()  # type: ignore[no-untyped-call,no-any-return]

    async def _drop(self, connection: AbstractConnection) -> None:
        await connection.disconnect(nowait=True)
        await self._hot.release(connection)

    async def call_calmly(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run commands in one pipeline, with patience; replies are text. See `exchange`.

        Raises:
            RedisError, OSError: nothing was sent.
            ReplyLostError: it was, and the replies did not come.
        """
        connection = await self.calm.get_connection()  # type: ignore[no-untyped-call]
        try:
            replies = await exchange(connection, commands)
            if any(isinstance(reply, ReadOnlyError) for reply in replies):
                await connection.disconnect(nowait=True)
            return replies
        except (RedisError, OSError) as error:
            await connection.disconnect()
            raise ReplyLostError(f"{type(error).__name__}: {error}") from None
        except BaseException:
            await connection.disconnect()
            raise
        finally:
            await self.calm.release(connection)

    # Whether it answers -------------------------------------------------------------------------------------------

    def is_at(self, now_ms: int) -> None:
        """Note the server's clock, as a reply that just came tells it."""
        self.ahead_ms = now_ms - time.monotonic() * 1000

    def answered(self, started: float) -> None:
        """Note that a call begun at `started` (of `time.monotonic`) was answered as it should be."""
        self._answered = time.monotonic()
        self._turn(True, started)

    def failed(self, started: float, error: BaseException) -> None:
        """Note that a call begun at `started` failed."""
        fault = fault_of(error)
        self._on_fault(fault)
        self._turn(False, started)
        if not self.up:
            self._tell(fault, error)
        if isinstance(error, ResponseError):  # it answers, if not as it should
            self._answered = time.monotonic()
        elif not (self.silent or self._closed) and (
            fault != "timeout" or time.monotonic() - self._answered > _SILENT_S
        ):
            self.silent = True
            self._knocking = asyncio.create_task(self._knock())

    def _turn(self, up: bool, started: float) -> None:
        """Note whether the server is up; a call begun before that changed last is no evidence."""
        if up == self.up or started < self._turned:
            return
        self.up, self._turned = up, time.monotonic()
        self._on_turn()
        if up and self._told:
            _log.warning("the store%s answers again", self._suffix)
        self._told = set()

    def _tell(self, fault: str, error: BaseException) -> None:
        """Log why the server is down: each fault once, and no more than some a minute of one that comes and goes."""
        now, times = time.monotonic(), self._told_at
        if fault in self._told or (len(times) == times.maxlen and now - times[0] < 60):
            return
        self._told.add(fault)
        times.append(now)
        detail = f": {error}" if str(error) else ""
        _log.warning("the store%s is unavailable: %s%s", self._suffix, fault, detail)

    @property
    def _suffix(self) -> str:
        return f" ({self.name})" if self.name else ""

    async def _knock(self) -> None:
        """Ask a silent server for a sign of life until it gives one, then let calls through again."""
        pause = _KNOCK_S
        while True:
            started = time.monotonic()
            ping = asyncio.create_task(self.call([("PING",)]))
            ping.add_done_callback(_ended)
            try:
                await asyncio.wait([ping], timeout=_PATIENCE_S)
            finally:
                await end(ping)
            error: BaseException | None = TimeoutError("no answer to a PING")
            if not ping.cancelled():
                error = ping.exception() or next(
                    (reply for reply in ping.result() if isinstance(reply, Exception)), None
                )
            if error is None:
                break
            self.failed(started, error)
            with contextlib.suppress(RedisError, OSError):
                await self._on_silence()
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _KNOCK_MOST_S)
        self.silent = False
        self.answered(started)

    async def close(self) -> None:
        """Close its connections."""
        self._closed = True
        if self._knocking is not None:
            await end(self._knocking)
        for connection in self._ready:
            await self._drop(connection)
        self._ready.clear()
        await self._hot.aclose()
        await self.calm.aclose()


def connect(url: str, *, on_up: Callable[[bool], None], on_fault: Callable[[str], None]) -> "Servers":
    """The servers behind a URL; nothing is connected before it is needed.

    `on_up` is told whether all servers answer, when that changes; `on_fault` each fault.

    Raises:
        ValueError: it is no URL of a store (see `StoreURL.parse`).
    """
    where = StoreURL.parse(url)
    return (_Cluster if where.kind == "cluster" else Servers)(where, on_up, on_fault)


class Servers:
    """One server, or the one that sentinels name.

    `spread` tells whether keys lie on several servers, so that a call may name keys of one slot only.
    """

    spread = False

    def __init__(self, url: StoreURL, on_up: Callable[[bool], None], on_fault: Callable[[str], None]) -> None:
        self._url = url
        self._on_up, self._on_fault = on_up, on_fault
        self._up = True
        self._sentinels: list[Sentinel] = []
        self._servers: dict[str, Server] = {}
        self._open()

    def _open(self) -> None:
        self._servers[""] = self._server("", *(self._url.hosts[0] if self._url.hosts else ("", 0)))

    def server(self, key: str) -> Server:
        """The server that holds a key; where none is known, one that is silent."""
        return self._servers[""]

    async def all(self) -> list[Server]:
        """Every server that takes writes.

        Raises:
            RedisError, OSError: a cluster does not tell.
        """
        return list(self._servers.values())

    async def listener(self) -> redis.asyncio.Redis:
        """A client to one of the servers, to hear what is published on any of them. The caller closes it.

        Raises:
            RedisError, OSError: a cluster does not tell its servers.
        """
        return redis.asyncio.Redis(connection_pool=self._servers[""].calm)  # whose close leaves the pool open

    async def moved(self, error: MovedError) -> Server:
        """The server that a key has moved to, as its former one tells; one that is silent, if it does not tell."""
        return self._servers[""]

    async def find(self) -> None:
        """Read anew which servers there are, and which holds what.

        Raises:
            RedisError, OSError: nobody tells.
        """

    def look(self) -> None:
        """Begin to `find`, without waiting for it."""

    def _turned(self) -> None:
        up = all(server.up for server in self._servers.values())
        if up != self._up:
            self._up = up
            self._on_up(up)

    async def close(self) -> None:
        """Close every connection."""
        for server in list(self._servers.values()):
            await server.close()
        for sentinel in self._sentinels:
            await sentinel.aclose()

    # Connections --------------------------------------------------------------------------------------------------

    def _server(self, name: str, host: str, port: int) -> Server:
        return Server(
            name,
            self._pool(host, port, socket_timeout=None, socket_connect_timeout=_CONNECT_S),
            self._pool(
                host, port, calm=True, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S,
                decode_responses=True,
            ),
            on_turn=self._turned,
            on_fault=self._on_fault,
            on_silence=self.find,
        )  # fmt: skip

    def _pool(self, host: str, port: int, *, calm: bool = False, **options: Any) -> ConnectionPool:
        url = self._url
        options |= self._options() | {"db": url.database, "retry": Retry(NoBackoff(), 0)}
        if url.kind == "sentinel":
            of_sentinels: dict[str, Any] = {"socket_timeout": _MAP_S, "socket_connect_timeout": _MAP_S, "protocol": 2}
            if url.sentinel_password is not None:
                of_sentinels |= {"username": url.sentinel_username, "password": url.sentinel_password}
            sentinel = Sentinel(url.hosts, sentinel_kwargs=of_sentinels | self._tls())  # type: ignore[no-untyped-call]
            self._sentinels.append(sentinel)
            return _SentinelPool(url.service, sentinel, **options, **self._tls())
        place: dict[str, Any] = {"path": url.path} if url.path else {"host": host, "port": port}
        kind: type[AbstractConnection] = UnixDomainSocketConnection if url.path else Connection
        if url.tls:
            kind = SSLConnection
            place |= dict(url.tls_files)
        if calm:
            return BlockingConnectionPool(
                connection_class=kind, max_connections=_CALM_CONNECTIONS, timeout=_PATIENCE_S, **place, **options
            )
        return ConnectionPool(connection_class=kind, **place, **options)

    def _options(self) -> dict[str, Any]:
        # RESP2: no maintenance notifications, with which an idle connection's end is missed (redis-py#4252).
        options: dict[str, Any] = {"protocol": 2, "driver_info": None}
        if self._url.password is not None:
            options |= {"username": self._url.username, "password": self._url.password}
        return options

    def _tls(self) -> dict[str, Any]:
        return {"ssl": True, **dict(self._url.tls_files)} if self._url.tls else {}


class _SentinelPool(SentinelConnectionPool):
    """Waits for a connection that is free, as redis-py's pool for one server can; each new one asks the sentinels."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        self._free = asyncio.Semaphore(_CALM_CONNECTIONS)
        self._taken: set[AbstractConnection] = set()  # redis-py releases one that does not connect, too

    async def get_connection(self, *arguments: Any, **options: Any) -> Any:
        async with asyncio.timeout(_PATIENCE_S):
            await self._free.acquire()
        try:
            connection = await super().get_connection(*arguments, **options)  # type: ignore[no-untyped-call]
        except BaseException:
            self._free.release()
            raise
        self._taken.add(connection)
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        try:
            await super().release(connection)
        finally:
            if connection in self._taken:
                self._taken.remove(connection)
                self._free.release()


class _Cluster(Servers):
    """The primaries of a cluster."""

    spread = True

    def _open(self) -> None:
        self._closing: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[None] | None = None
        self._looked = -_LOOK_S
        self._nowhere = self._server("", "127.0.0.1", 0)
        self._nowhere.silent = True
        # Asked for nothing but which node holds a slot. Without full coverage: while one primary is away, the others'
        # accounts are served.
        self._slots = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in self._url.hosts], require_full_coverage=False,
            retry=Retry(NoBackoff(), 0), socket_timeout=_MAP_S, socket_connect_timeout=_MAP_S,
            **self._options(), **self._tls(),
        )  # fmt: skip
        options = self._slots.nodes_manager.connection_kwargs
        self._seeds = [ClusterNode(host, port, **options) for host, port in self._url.hosts]

    def server(self, key: str) -> Server:
        try:
            node = self._slots.get_node_from_key(key)
        except RedisClusterException:
            node = None
        if node is None:
            self.look()
            return self._nowhere
        return self._at(node.host, int(node.port))

    def _at(self, host: str, port: int) -> Server:
        name = f"{host}:{port}"
        server = self._servers.get(name)
        if server is None:
            server = self._servers[name] = self._server(name, host, port)
        return server

    async def all(self) -> list[Server]:
        await self.find()
        return [self._at(node.host, int(node.port)) for node in self._slots.get_primaries()]

    async def listener(self) -> redis.asyncio.Redis:
        await self.find()
        node = random.choice(self._slots.get_primaries())  # noqa: S311 - any will do
        return redis.asyncio.Redis(
            host=node.host, port=int(node.port), socket_connect_timeout=_PATIENCE_S, decode_responses=True,
            **self._options(), **self._tls(),
        )  # fmt: skip

    async def moved(self, error: MovedError) -> Server:
        # redis-py's, of a slot that it knows no more, and of no host.
        with contextlib.suppress(KeyError, RedisError, RedisClusterException):
            await self._slots.nodes_manager.move_slot(error)
        self.look()
        return self._at(error.host, int(error.port)) if error.host else self._nowhere

    async def find(self) -> None:
        await asyncio.shield(self._read())

    def look(self) -> None:
        if time.monotonic() - self._looked > _LOOK_S:
            self._read()

    def _read(self) -> "asyncio.Task[None]":
        if self._reading is None or self._reading.done():
            self._looked = time.monotonic()
            self._reading = asyncio.create_task(self._find())
            self._reading.add_done_callback(_ended)
        return self._reading

    async def _find(self) -> None:
        manager = self._slots.nodes_manager
        manager.startup_nodes = {node.name: node for node in self._seeds} | manager.startup_nodes
        try:
            await manager.initialize()
        except IndexError:  # redis-py's, of a cluster without slots
            raise ClusterError("the cluster has no slots") from None
        except RedisClusterException as error:  # which is no RedisError
            raise ClusterError(str(error)) from None
        names = {f"{node.host}:{node.port}" for node in self._slots.get_primaries()}
        for name in self._servers.keys() - names:  # it is a primary no longer, or gone
            closing = asyncio.create_task(self._servers.pop(name).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self._turned()

    async def close(self) -> None:
        if self._reading is not None:
            await end(self._reading)
        for closing in list(self._closing):
            await closing
        await self._nowhere.close()
        await super().close()
        await self._slots.nodes_manager.aclose()
        await self._slots.nodes_manager.aclose("startup_nodes")


def _ended(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()  # whoever waits for it has it; nobody may
