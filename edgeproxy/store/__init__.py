"""The store: accounts, pools, leases, limiter and budget in Redis or Valkey, decided by its own functions."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import redis.asyncio
from redis.exceptions import MovedError, RedisError, ResponseError

from edgeproxy.errors import StoreError
from edgeproxy.store.accounts import Accounts
from edgeproxy.store.batching import Ask, Batcher, Resolution
from edgeproxy.store.faults import fault_of
from edgeproxy.store.lua_libraries import load_libraries
from edgeproxy.store.sealing import Seal
from edgeproxy.store.server import Server, time_ms
from edgeproxy.store.servers import connect

__all__ = ["Ask", "Resolution", "Store", "StoreError", "store_time"]

_log = logging.getLogger(__name__)
_TELL_AGAIN_S = 60.0  # between log lines of failed calls
_REPLICAS_MS = 30  # that a visitor's lease may take to reach its replicas


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
    `on_fault` why a call failed (see `metrics.STORE_FAULTS`). `seal` seals and opens the secrets in it; without one
    they are plain. Use as an async context manager, or call `open` and `close`.

    `account`, `known_account` and `forget` are those of its `Accounts`, `resolve` is its `Batcher`'s.

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
        self._accounts = Accounts(self.servers, self.seal, lambda name: self._batcher.forget(name))
        self.known_account, self.account, self.forget = self._accounts.known, self._accounts.get, self._accounts.forget
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
        self._accounts.open()

    async def close(self) -> None:
        """Finish what is under way and close every connection."""
        await self._batcher.close()
        await self._accounts.close()
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

    async def learn_time(self) -> None:
        """Compare the servers' clocks with ours, so that the first calls have a deadline too.

        Raises:
            RedisError, OSError: a cluster does not tell its servers.
        """
        for server in await self.servers.all():
            with contextlib.suppress(RedisError, OSError):  # the first call there will tell
                (time_there,) = await server.call_calmly([("TIME",)])
                server.is_at(time_ms(time_there))

    @property
    def clock(self) -> Callable[[], int]:
        """What gives the `now_ms` of the store's functions."""
        return self._clock

    def client(self, key: str) -> "redis.asyncio.Redis":
        """A client of the server that holds a key, with patience of 5 s instead of a request's budget."""
        return self.servers.server(key).client


def _is_missing(reply: object) -> bool:
    return isinstance(reply, ResponseError) and "Function not found" in str(reply)
