"""Accounts as the store has them: read where they are asked for, and remembered until they change."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import orjson
from cachetools import LRUCache, TTLCache
from redis.exceptions import MovedError, RedisError, ResponseError

from edgeproxy.accounts.account import ACCOUNT_NAME, Account
from edgeproxy.errors import Fault, Kind, SealError
from edgeproxy.store import keys
from edgeproxy.store.sealing import Seal
from edgeproxy.store.server import end
from edgeproxy.store.servers import Servers

_ACCOUNTS_MOST = 10_000  # accounts that a worker remembers
_UNKNOWN_S = 2  # how long a worker remembers that there is no such account
_READ_S = 0.25  # for an account; those who ask for it wait as long as their own budget lasts
_RETRY_S = 0.5  # between attempts to follow configuration changes


class Accounts:
    """The accounts that this worker knows. `on_change` is told each that changed, or is to be read again."""

    def __init__(self, servers: Servers, seal: Seal, on_change: Callable[[str], None]) -> None:
        self._servers, self._seal, self._on_change = servers, seal, on_change
        self._accounts: LRUCache[str, Account] = LRUCache(_ACCOUNTS_MOST)
        self._unknown: TTLCache[str, bool] = TTLCache(_ACCOUNTS_MOST, _UNKNOWN_S)
        self._changes = 0  # how often an account was forgotten
        self._reading: dict[str, asyncio.Task[Account | None]] = {}
        self._follower: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start following configuration changes."""
        self._follower = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Follow them no longer."""
        if self._follower is not None:
            await end(self._follower)

    def known(self, name: str) -> Account | None:
        """The account, if this worker remembers it."""
        return self._accounts.get(name)

    async def get(self, name: str, deadline: float) -> Account | None:
        """The account as the store has it, or None where there is none; many callers at once cost one call.

        `deadline` is by `time.monotonic`.

        Raises:
            Fault: `STORE_UNAVAILABLE`, also where the store holds no account at all: it has lost its data; and where
                the account's secrets cannot be opened, so that nobody takes it for a bad signature.
        """
        if name in self._unknown or not ACCOUNT_NAME.fullmatch(name):
            return None
        server = self._servers.server(keys.account(name))
        if server.silent:
            raise Fault(Kind.STORE_UNAVAILABLE)
        started = time.monotonic()
        reading = self._reading.get(name)
        if reading is None:
            reading = self._reading[name] = asyncio.create_task(self._read_within(name))
            reading.add_done_callback(lambda done: self._was_read(name, done))
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(reading)
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            server.failed(started, error)
            raise Fault(Kind.STORE_UNAVAILABLE) from None
        except SealError as error:
            self._seal.tell(error)
            raise Fault(Kind.STORE_UNAVAILABLE) from None

    def _was_read(self, name: str, reading: "asyncio.Task[Account | None]") -> None:
        del self._reading[name]
        if not reading.cancelled():
            reading.exception()  # those who still waited have it; nobody may be left to

    async def _read_within(self, name: str) -> Account | None:
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
        opened = self._seal.open_config(name, orjson.loads(config or b"null"))
        account = self._accounts[name] = Account.from_config(name, int(version), opened)
        return account

    async def _read(self, command: tuple[Any, ...]) -> Any:
        """The reply to a command that reads the key which it names first."""
        (reply,) = await self._servers.server(command[1]).call([command])
        if isinstance(reply, MovedError):
            (reply,) = await (await self._servers.moved(reply)).call([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def forget(self, name: str) -> None:
        """Drop what is remembered of an account, so that it is read again."""
        self._changes += 1
        self._accounts.pop(name, None)
        self._unknown.pop(name, None)
        self._on_change(name)

    async def _follow(self) -> None:
        """Drop accounts as the store tells that they changed; drop all whenever a message may have been missed."""
        while True:
            try:
                async with await self._servers.listener() as client, client.pubsub() as channel:
                    await channel.subscribe(keys.CHANGED)
                    self._accounts.clear()
                    self._unknown.clear()
                    async for message in channel.listen():
                        if message["type"] == "message":
                            self.forget(message["data"])
            except (RedisError, OSError):
                await asyncio.sleep(_RETRY_S)
