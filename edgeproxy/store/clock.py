"""What is left in the store of a clock that was ahead: leases, cooldowns and points from the future.

A store's clock that comes back leaves leases that would hold their numbers until the time it showed, and a day's points
that nobody could spend before. Gateways notice it with an account's first request, and bring them to the present.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from edgeproxy.accounts.account import Account
from edgeproxy.store import Store, keys
from edgeproxy.store.calls import Calls
from edgeproxy.store.functions import Functions
from edgeproxy.store.partner import Partner


@dataclass(frozen=True, slots=True)
class Future:
    """How much of an account is from the future."""

    leases: int = 0  # that end later than one that was asked for just now
    cooldowns: int = 0  # that last longer than one that begins now
    sources: int = 0  # that are over too early, or for too long
    points: int = 0  # 1: those of a day more than a day ahead

    def __bool__(self) -> bool:
        return bool(self.leases or self.cooldowns or self.sources or self.points)


class Clock:
    """Looks for what is from the future, by the store's clock. Every method raises `Fault` (`STORE_UNAVAILABLE`)."""

    def __init__(self, store: Store, replicas: int | None = None) -> None:
        self._store = store
        self._calls, self._partner = Calls(store, replicas), Partner(store, replicas)
        self._functions = Functions(store, replicas)

    async def find(self, account: Account) -> Future:
        """What of the account is from the future."""
        reply = await self._mend(account, "count")
        sources = await self._partner.mend(account, count=True)
        return Future(reply["leases"], reply["cooldowns"], sources, reply["points"])

    async def mend(self, account: Account) -> Future:
        """Bring to the present what of the account is from the future, a piece at a time: how much it was.

        Leases end after the pool's `idle_ttl`, as if their visitors had just asked; numbers cool down no longer than
        the account's longest `cooldown`; points of a day to come count as today's; of sources see `Partner.mend`.
        """
        sources = await self._partner.mend(account)  # first: numbers that it takes out of the free ones rest longer
        leases = cooldowns = points = 0
        while True:
            reply = await self._mend(account, "")
            leases, cooldowns, points = (
                leases + reply["leases"],
                cooldowns + reply["cooldowns"],
                points + reply["points"],
            )
            if not reply["more"]:
                return Future(leases, cooldowns, sources, points)

    async def _mend(self, account: Account, how: str) -> dict[str, Any]:
        name = account.name
        names = [keys.points(name), keys.history(name), keys.free(name)]
        for pool in account.pools:
            names += keys.pool(name, pool.name)
        now_ms = await self._calls.now_ms(account)
        settings = {
            "midnight": max(midnight for midnight in account.midnights_ms(now_ms) if midnight <= now_ms),
            "longest": max((pool.cooldown_ms for pool in account.pools), default=0),
            "pools": [pool.idle_ttl_ms for pool in account.pools],
        }
        return await self._functions.read("ep1_mend_clock", names, self._store.clock(), orjson.dumps(settings), how)
