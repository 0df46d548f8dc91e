"""What partners keep in the store: customers, sources, voicemail greetings, call records; who may ask (CONTRACT §3).

A record is a dict of texts and nulls, as `partner.lua` describes it.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from edgeproxy.model import Account
from edgeproxy.store import Store, keys
from edgeproxy.store.functions import Functions

Record = dict[str, str | None]
Filters = dict[str, list[str]]  # field → values, any of which will do

_FAILURES_KEPT_MS = 60_000
_NONCE_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class User:
    """Who may use the partner API: a user of an account, with the HA1 of its password for each algorithm of Digest."""

    account: str
    ha1: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Found:
    """A page of records, and how many there are on all pages."""

    total: int
    records: list[Record]


class Partner:
    """Typed access to what partners keep.

    Writes are durable before they are acknowledged, on `replicas` replicas too: see `Functions`. Every method raises
    `Fault` (`STORE_UNAVAILABLE`) where the store fails.
    """

    def __init__(self, store: Store, replicas: int | None = 0) -> None:
        self._store = store
        self._client = store.calm
        self._functions = Functions(store, replicas)

    # Users and logins ---------------------------------------------------------------------------------------------

    async def knock(self, user: str, ip: str) -> tuple[User | None, int]:
        """The user of that name, and how often the client IP has failed to log in within the last minute."""
        with self._functions.faults():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.hget(keys.USERS, user)
                pipeline.get(keys.failures(ip))
                packed, failures = await pipeline.execute()
        return (User(**orjson.loads(packed)) if packed else None), int(failures or 0)

    async def failed(self, ip: str) -> None:
        """Count a failed login; a client's count begins again a minute after its first."""
        with self._functions.faults():
            async with self._client.pipeline(transaction=True) as transaction:
                transaction.incr(keys.failures(ip))
                transaction.pexpire(keys.failures(ip), _FAILURES_KEPT_MS, nx=True)
                await transaction.execute()

    async def take_nonce(self, nonce: str, count: int, life_ms: int) -> bool:
        """Use a nonce with a count (`nc`); False if it has been used with that count before, wherever."""
        with self._functions.faults():
            async with self._client.pipeline(transaction=True) as transaction:
                transaction.setbit(keys.nonce(nonce), count, 1)
                transaction.pexpire(keys.nonce(nonce), life_ms)
                before, _ = await transaction.execute()
        return not before

    async def nonce_key(self) -> bytes:
        """The key that nonces are signed with, the same for all workers and nodes; made by the first who asks."""
        with self._functions.faults():
            await self._client.set(keys.NONCE_KEY, secrets.token_hex(_NONCE_KEY_BYTES), nx=True)
            return bytes.fromhex(str(await self._client.get(keys.NONCE_KEY)))

    async def save_user(self, name: str, user: User) -> None:
        """Add a user, or give it another password or account."""
        packed = orjson.dumps({"account": user.account, "ha1": user.ha1})
        with self._functions.faults():
            await self._client.hset(keys.USERS, name, packed.decode())

    async def remove_user(self, name: str) -> bool:
        """Remove a user; False if there was none of that name."""
        with self._functions.faults():
            return bool(await self._client.hdel(keys.USERS, name))

    async def users(self) -> dict[str, str]:
        """All users, with their accounts."""
        with self._functions.faults():
            found = await self._client.hgetall(keys.USERS)
        return {str(name): orjson.loads(packed)["account"] for name, packed in sorted(found.items())}

    # Reading ------------------------------------------------------------------------------------------------------

    async def find(
        self, account: Account, resource: Literal["customers", "sources", "greetings"], filters: Filters, *,
        skip: int = 0, most: int = 1000,
    ) -> Found:  # fmt: skip
        """A page of records.

        Raises:
            RefusedError: `wide`, where several filters are given and each lets too many records pass.
        """
        if resource == "sources":
            await self._settle(account)
        reply = await self._functions.read(
            "ep1_find", keys.records(account.name, resource), orjson.dumps(list(filters.items())), skip, most
        )
        return Found(reply["total"], [reply["records"][record_id] for record_id in reply["ids"]])

    async def get(
        self, account: Account, resource: Literal["customers", "sources", "greetings"], record_id: str
    ) -> Record | None:
        """One record."""
        if resource == "sources":
            await self._settle(account)
        with self._functions.faults():
            packed = await self._client.hget(keys.records(account.name, resource)[0], record_id)
        record: Record | None = orjson.loads(packed or b"null")
        return record

    async def sound(self, account: Account, greeting_id: str) -> bytes:
        """A greeting's sound, base64 as it is kept; empty if the greeting has just been deleted."""
        with self._functions.faults():
            return str(await self._client.hget(keys.sounds(account.name), greeting_id) or "").encode()

    async def cdrs(
        self, account: Account, filters: dict[str, str], *,
        from_ms: int | None, to_ms: int | None, skip: int, most: int, newest_first: bool,
    ) -> Found:  # fmt: skip
        """A page of call records by when the calls began; `to_ms` itself is left out.

        Raises:
            RefusedError: `wide`, as `find`.
        """
        name = account.name
        sets = [keys.cdrs(name, field, value) for field, value in filters.items()] or [keys.cdrs(name)]
        reply = await self._functions.read(
            "ep1_find_cdrs", sets, self._store.clock(), account.calls_kept_ms,
            "" if from_ms is None else from_ms, "" if to_ms is None else to_ms, skip, most, int(newest_first),
        )  # fmt: skip
        packed = []
        if reply["ids"]:
            with self._functions.faults():
                packed = await self._client.mget([keys.cdr(name, cdr_id) for cdr_id in reply["ids"]])
        return Found(reply["total"], [orjson.loads(record) for record in packed if record])

    async def cdr(self, account: Account, cdr_id: str) -> Record | None:
        """One call record."""
        with self._functions.faults():
            record: Record | None = orjson.loads(await self._client.get(keys.cdr(account.name, cdr_id)) or b"null")
        return record

    # Writing ------------------------------------------------------------------------------------------------------
    # Each gives the record as it is then, or raises RefusedError or NotDurableError.

    async def create_customer(self, account: Account, record: Record, *, wanted: str = "") -> Record:
        """Make a customer; its id is the next one, or the one `wanted`."""
        names = (*keys.records(account.name, "customers"), keys.ids(account.name))
        return await self._change("ep1_create_customer", names, orjson.dumps(record), wanted)

    async def update_customer(self, account: Account, customer_id: str, changes: Record) -> Record:
        """Change those fields of a customer."""
        names = keys.records(account.name, "customers")
        return await self._change("ep1_update_customer", names, customer_id, orjson.dumps(changes))

    async def delete_customer(self, account: Account, customer_id: str) -> Record:
        """Delete a customer and its greetings."""
        name = account.name
        names = (
            *keys.records(name, "customers"), keys.records(name, "sources")[1],
            *keys.records(name, "greetings"), keys.sounds(name),
        )  # fmt: skip
        return await self._change("ep1_delete_customer", names, customer_id)

    async def create_source(self, account: Account, record: Record, number: str, *, wanted: str = "") -> Record:
        """Make a source of the `number`, or if that is empty of the number that has been free the longest."""
        name = account.name
        names = (
            *self._source_keys(name), keys.records(name, "customers")[0], keys.records(name, "greetings")[0],
            keys.ids(name),
        )  # fmt: skip
        return await self._change(
            "ep1_create_source", names, self._store.clock(), account.quarantine_ms, orjson.dumps(record), number, wanted
        )

    async def change_source(
        self, account: Account, source_id: str, what: Literal["update", "extend", "reactivate", "delete"],
        changes: Record,
    ) -> Record:  # fmt: skip
        """Change those fields of a source, and its status as `what` says."""
        names = (*self._source_keys(account.name), keys.records(account.name, "greetings")[0])
        return await self._change(
            "ep1_change_source", names, self._store.clock(), account.quarantine_ms, source_id, what,
            orjson.dumps(changes),
        )  # fmt: skip

    async def create_greeting(self, account: Account, record: Record, sound: bytes, *, wanted: str = "") -> Record:
        """Make a greeting of `sound` (base64)."""
        name = account.name
        names = (
            *keys.records(name, "greetings"),
            keys.sounds(name),
            keys.ids(name),
            keys.records(name, "customers")[0],
        )
        return await self._change(
            "ep1_create_greeting", names, self._store.clock(), orjson.dumps(record), sound, wanted
        )

    async def update_greeting(
        self, account: Account, customer_id: str, greeting_id: str, changes: Record, sound: bytes | None
    ) -> Record:
        """Change those fields of a greeting, and its sound (base64) unless that is None."""
        names = (*keys.records(account.name, "greetings"), keys.sounds(account.name))
        arguments = (self._store.clock(), greeting_id, customer_id, orjson.dumps(changes))
        return await self._change("ep1_update_greeting", names, *arguments, *([] if sound is None else [sound]))

    async def delete_greeting(self, account: Account, customer_id: str, greeting_id: str) -> Record:
        """Delete a greeting."""
        name = account.name
        names = (*keys.records(name, "greetings"), keys.sounds(name), keys.records(name, "sources")[1])
        return await self._change("ep1_delete_greeting", names, greeting_id, customer_id)

    @staticmethod
    def _source_keys(name: str) -> tuple[str, ...]:
        return (
            *keys.records(name, "sources"), keys.sources_due(name), keys.destinations(name), keys.numbers(name),
            keys.free(name),
        )  # fmt: skip

    async def _settle(self, account: Account) -> None:
        names = self._source_keys(account.name)
        while (await self._functions.read("ep1_settle_sources", names, self._store.clock(), account.quarantine_ms))[
            "settled"
        ]:
            pass

    async def _change(self, function: str, names: Sequence[str], *arguments: Any) -> Record:
        record: Record = (await self._functions.write(function, names, *arguments))["record"]
        return record
