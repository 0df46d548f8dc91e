"""How pools stand: of one account for the commands, and of all accounts, some at a time, for metrics."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

import orjson

from edgeproxy.accounts.account import PoolState
from edgeproxy.errors import Fault
from edgeproxy.store import Store, keys
from edgeproxy.store.functions import Functions

_POOLS_AT_ONCE = 100  # in one call: bounds the time for which it holds the store
_ACCOUNTS_AT_ONCE = 16  # asked side by side
_LOOK_S = 1.0  # that a look at all pools may take; what it has not come to is left for the next
_FRESH_S = 1.0  # after which they are looked at again
_KEPT_S = 120.0  # how long a state is told without being seen again


class Pools:
    """Typed access to how pools stand. Every method but `look` raises `Fault` (`STORE_UNAVAILABLE`)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._functions = Functions(store, None, tells=False)  # a scrape fails with all else, which is told
        self._known: dict[str, tuple[float, list[PoolState]]] = {}  # account → when it was seen, and its pools
        self._told: Sequence[PoolState] = ()
        self._last = ""  # the account that was looked at last
        self._looked = -_FRESH_S
        self._looking = asyncio.Lock()

    async def accounts(self) -> list[str]:
        """The names of all accounts."""
        with self._functions.faults():
            return sorted(map(str, await self._store.client(keys.ACCOUNTS).smembers(keys.ACCOUNTS)))

    async def states(self, account: str) -> list[PoolState]:
        """How the account's pools stand, in their order.

        Of its configuration nothing but their names and cooldowns is read, and it is not kept.
        """
        key = keys.account(account)
        with self._functions.faults():
            version, config = await self._store.client(key).hmget(key, ["version", "config"])
        pools = list(orjson.loads(config)["pools"].items()) if version and config else []
        found = []
        for first in range(0, len(pools), _POOLS_AT_ONCE):
            some = pools[first : first + _POOLS_AT_ONCE]
            names, asked = [keys.overflow(account)], []
            for name, settings in some:
                names += keys.pool(account, name)[:2]
                asked += [name, settings["cooldown_ms"]]
            reply = await self._functions.read("ep1_count_pools", names, self._store.clock(), *asked)
            found += [PoolState(account, name, *counts) for (name, _), counts in zip(some, reply["pools"], strict=True)]
        return found

    async def look(self) -> Sequence[PoolState]:
        """How the pools of all accounts stand, for metrics; the same object until they are looked at again.

        Takes a second at most, once a second: as many accounts are looked at as that allows, from where the last look
        ended, and of the others is told what was seen lately. Nothing is known where the store does not answer.
        """
        async with self._looking:
            if time.monotonic() - self._looked >= _FRESH_S:
                if self._store.servers.server(keys.ACCOUNTS).silent:
                    return ()
                await self._look()
                self._looked = time.monotonic()
                since = self._looked - _KEPT_S
                self._told = [state for seen, pools in self._known.values() if seen >= since for state in pools]
            return self._told

    async def _look(self) -> None:
        until = time.monotonic() + _LOOK_S
        try:
            async with asyncio.timeout_at(until):
                names = await self.accounts()
        except (Fault, TimeoutError):
            self._known.clear()
            return
        self._known = {name: self._known[name] for name in names if name in self._known}
        todo = [name for name in names if name > self._last] + [name for name in names if name <= self._last]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                for some in (todo[at : at + _ACCOUNTS_AT_ONCE] for at in range(0, len(todo), _ACCOUNTS_AT_ONCE)):
                    await asyncio.gather(*map(self._look_at, some))
                    self._last = some[-1]

    async def _look_at(self, name: str) -> None:
        with contextlib.suppress(Fault):  # a part of a cluster may be away, and the others not
            self._known[name] = time.monotonic(), await self.states(name)
