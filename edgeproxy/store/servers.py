"""The servers behind a store's URL: one, the one that sentinels name, or the primaries of a cluster.

Which server of a cluster holds a key is redis-py's to know.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable

import redis.asyncio
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterError, MovedError, RedisClusterException, RedisError

from edgeproxy.store.connections import MAP_S, PATIENCE_S, Connections
from edgeproxy.store.server import Server, end, ended
from edgeproxy.store.url import StoreURL

_LOOK_S = 0.25  # between looks that nobody waits for: one is milliseconds of this process's time


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
        self._connections = Connections(url)
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
        await self._connections.close()

    def _server(self, name: str, host: str, port: int) -> Server:
        return Server(
            name,
            self._connections.hot(host, port),
            self._connections.calm(host, port),
            on_turn=self._turned,
            on_fault=self._on_fault,
            on_silence=self.find,
        )


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
            retry=Retry(NoBackoff(), 0), socket_timeout=MAP_S, socket_connect_timeout=MAP_S,
            **self._connections.login(), **self._connections.tls(),
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
            host=node.host, port=int(node.port), socket_connect_timeout=PATIENCE_S, decode_responses=True,
            **self._connections.login(), **self._connections.tls(),
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
            self._reading.add_done_callback(ended)
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
