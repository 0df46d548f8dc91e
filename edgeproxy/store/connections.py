"""Connections to the servers behind a store's URL: one pool for visitors' requests, one for all else."""

import asyncio
from typing import Any

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

from edgeproxy.store.url import StoreURL

PATIENCE_S = 5  # for everything but a visitor's request
MAP_S = 0.5  # for a node, or a sentinel, to tell where the servers are
_CONNECT_S = 1  # that a connection for visitors' requests may take
_CALM_CONNECTIONS = 32  # of a worker to a server, beside those of visitors' requests


class Connections:
    """Makes pools of connections to the servers of a URL, or to the one that its sentinels name."""

    def __init__(self, url: StoreURL) -> None:
        self._url = url
        self._sentinels: list[Sentinel] = []

    def hot(self, host: str, port: int) -> ConnectionPool:
        """Connections for visitors' requests, which time out by a timer of their callers."""
        return self._pool(host, port, socket_timeout=None, socket_connect_timeout=_CONNECT_S)

    def calm(self, host: str, port: int) -> ConnectionPool:
        """Connections for all else: 32 at most, with a patience of 5 s; replies are text."""
        return self._pool(
            host, port, calm=True, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S, decode_responses=True
        )

    async def close(self) -> None:
        """Close the connections to sentinels; the pools are their users' to close."""
        for sentinel in self._sentinels:
            await sentinel.aclose()

    def _pool(self, host: str, port: int, *, calm: bool = False, **options: Any) -> ConnectionPool:
        url = self._url
        options |= self.login() | {"db": url.database, "retry": Retry(NoBackoff(), 0)}
        if url.kind == "sentinel":
            # No retries: of redis-py's own, with growing pauses, one sentinel that is away takes seconds; the next is
            # asked instead.
            of_sentinels: dict[str, Any] = {
                "socket_timeout": MAP_S, "socket_connect_timeout": MAP_S, "retry": Retry(NoBackoff(), 0), "protocol": 2,
            }  # fmt: skip
            if url.sentinel_password is not None:
                of_sentinels |= {"username": url.sentinel_username, "password": url.sentinel_password}
            sentinel = Sentinel(url.hosts, sentinel_kwargs=of_sentinels | self.tls())  # type: ignore[no-untyped-call]
            self._sentinels.append(sentinel)
            return _SentinelPool(url.service, sentinel, **options, **self.tls())
        place: dict[str, Any] = {"path": url.path} if url.path else {"host": host, "port": port}
        kind: type[AbstractConnection] = UnixDomainSocketConnection if url.path else Connection
        if url.tls:
            kind = SSLConnection
            place |= dict(url.tls_files)
        if calm:
            return BlockingConnectionPool(
                connection_class=kind, max_connections=_CALM_CONNECTIONS, timeout=PATIENCE_S, **place, **options
            )
        return ConnectionPool(connection_class=kind, **place, **options)

    def login(self) -> dict[str, Any]:
        """Arguments of redis-py by which any client logs in."""
        # RESP2: no maintenance notifications, with which an idle connection's end is missed (redis-py#4252).
        options: dict[str, Any] = {"protocol": 2, "driver_info": None}
        if self._url.password is not None:
            options |= {"username": self._url.username, "password": self._url.password}
        return options

    def tls(self) -> dict[str, Any]:
        """Arguments of redis-py by which clients, but no pools, speak TLS."""
        return {"ssl": True, **dict(self._url.tls_files)} if self._url.tls else {}


class _SentinelPool(SentinelConnectionPool):
    """Waits for a connection that is free, as redis-py's pool for one server can; each new one asks the sentinels."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        self._free = asyncio.Semaphore(_CALM_CONNECTIONS)
        self._taken: set[AbstractConnection] = set()  # redis-py releases one that does not connect, too

    async def get_connection(self, *arguments: Any, **options: Any) -> Any:
        async with asyncio.timeout(PATIENCE_S):
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
