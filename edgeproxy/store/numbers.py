"""Static numbers in the store: their display options and redirect scenarios."""

import time
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from edgeproxy.accounts.account import Account
from edgeproxy.store import Store, keys
from edgeproxy.store.functions import Functions
from edgeproxy.store.partner import Partner

_NO_BUDGET = 10**15
Parts = dict[str, Any]  # displayOptions, redirectOptions, poolName, as on the wire


@dataclass(frozen=True, slots=True)
class Window:
    """What the limiter says of a client IP."""

    passed: bool
    left: int  # requests that the IP has left in this second
    wait_ms: int  # until a refused client may come again


@dataclass(frozen=True, slots=True)
class Spent:
    """What is left of the day's points after a request."""

    points_left: int
    day_left_ms: int  # until the account's midnight


class StaticNumbers:
    """Typed access to static numbers. Every method raises `Fault` (`STORE_UNAVAILABLE`) where the store fails."""

    def __init__(self, store: Store, replicas: int | None = 0) -> None:
        self._store = store
        self._functions = Functions(store, replicas)

    async def admit(self, ip: str, per_second: int) -> Window:
        """Take a place in the client IP's window of the limiter that all APIs share."""
        reply = await self._functions.read("ep1_admit", keys.LIMITER, self._store.clock(), 0, ip, per_second)
        ((passed, number),) = reply["results"]
        return Window(passed, number if passed else 0, 0 if passed else number)

    async def change(
        self, account: Account, what: Literal["create", "update", "delete"], number: str, parts: Parts, *,
        free_of_charge: bool = False,
    ) -> Spent:  # fmt: skip
        """Put a free number to use, change parts of one in use, or make it free again; spend the method's points.

        Raises:
            RefusedError: `missing` (no number of the account), `status` (in another state than `what` needs), `points`
                (the budget is spent; with what `Spent` tells).
            NotDurableError: see `Functions`.
        """
        await Partner(self._store, None).settle(account)  # a source's number may have become free
        points = self._points(account, None if free_of_charge else what)
        reply = await self._functions.write(
            "ep1_change_number", self._keys(account), self._store.clock(), points, what, number, orjson.dumps(parts)
        )
        return spent(reply)

    async def read(self, account: Account, numbers: list[str]) -> tuple[list[Parts], Spent]:
        """The parts of each number, in their order; a free number has none. Spends the method's points.

        Raises:
            RefusedError: `missing`, with the `number`: it is neither free nor static; `points`.
        """
        await Partner(self._store, None).settle(account)
        reply = await self._functions.read(
            "ep1_list_numbers", self._keys(account), self._store.clock(), self._points(account, "list"),
            orjson.dumps(numbers),
        )  # fmt: skip
        return [orjson.loads(record) for record in reply["records"]], spent(reply)

    async def look(self, account: Account, numbers: list[str]) -> list[tuple[str | None, Parts]]:
        """The state and the parts of each number, in their order; None for those that are none of the account's."""
        if not numbers:
            return []
        with self._functions.faults():
            client = self._store.client(keys.numbers(account.name))
            states = await client.hmget(keys.numbers(account.name), numbers)
            records = await client.hmget(keys.statics(account.name), numbers)
        return [
            (None if state is None else str(state), orjson.loads(record or b"{}"))
            for state, record in zip(states, records, strict=True)
        ]

    async def in_use(self, account: Account) -> dict[str, Parts]:
        """Every number in use, with its parts."""
        with self._functions.faults():
            found = await self._store.client(keys.statics(account.name)).hgetall(keys.statics(account.name))
        return {str(number): orjson.loads(record) for number, record in sorted(found.items())}

    @staticmethod
    def _keys(account: Account) -> tuple[str, ...]:
        name = account.name
        return keys.statics(name), keys.numbers(name), keys.free(name), keys.points(name)

    def _points(self, account: Account, method: str | None) -> bytes:
        now_ms = self._store.clock() or int(time.time() * 1000)
        return orjson.dumps(
            {
                "cost": account.costs[method] if method else 0,
                "budget": account.points_daily if method else _NO_BUDGET,
                "days": account.midnights_ms(now_ms),
            }
        )


def spent(reply: dict[str, Any]) -> Spent:
    """What a reply, or a refusal for want of points, tells of the budget."""
    return Spent(reply["points_left"], reply["day_left_ms"])
