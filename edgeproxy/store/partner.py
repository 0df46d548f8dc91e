"""What partners keep in the store: customers, sources, voicemail greetings and call records.

A record is a dict of texts and nulls, as `partner.lua` describes it.
"""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from edgeproxy.accounts.account import Account
from edgeproxy.store import Store, keys
from edgeproxy.store.functions import Functions

Record = dict[str, str | None]
Filters = dict[str, list[str]]  # field → values, any of which will do
Status = Literal["active", "upcoming", "reserved", "extended", "quarantined", "archived"]  # of a source

_SOME = 50  # records that are read in one call
_ID_DIGITS = 12  # of an id in an index


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
        self._functions = Functions(store, replicas)

    # Reading ------------------------------------------------------------------------------------------------------

    async def find(
        self, account: Account, resource: Literal["customers", "sources", "greetings"], filters: Filters, *,
        skip: int = 0, most: int = 1000,
    ) -> Found:  # fmt: skip
        """A page of records, in the order of their ids for each value of the filter that fewest records pass.

        With one filter, or none, only the page is read. With several, the records that pass the narrowest are looked
        through, some at a time: nobody else waits for it longer than for a piece.
        """
        if resource == "sources":
            await self.settle(account)
        key, index = keys.records(account.name, resource)
        narrowest, ranges = await self._narrowest(index, filters or {"": [""]})
        others = {name: set(values) for name, values in filters.items() if name != narrowest}
        if not others:
            ids = await self._ids(index, ranges, skip, most)
            records = [record async for some in self._records(key, ids) for record in some]
            return Found(sum(count for _, count in ranges), records)
        total, page = 0, []
        for first, count in ranges:
            for at in range(first, first + count, _SOME):
                ids = await self._ids(index, [(at, min(_SOME, first + count - at))], 0, _SOME)
                async for some in self._records(key, ids):
                    for record in some:
                        if all(record.get(name) in values for name, values in others.items()):
                            if skip <= total < skip + most:
                                page.append(record)
                            total += 1
        return Found(total, page)

    async def _narrowest(self, index: str, filters: Filters) -> tuple[str, list[tuple[int, int]]]:
        """The filter that fewest records pass, and where its values' members stand in the index: rank, count."""
        best: tuple[str, list[tuple[int, int]]] = ("", [])
        fewest = -1
        for name, values in filters.items():
            with self._functions.faults():
                async with self._store.client(index).pipeline(transaction=False) as pipeline:
                    for value in values:
                        first = f"{name}\0{value}\0"
                        pipeline.zlexcount(index, "-", f"({first}")
                        pipeline.zlexcount(index, f"[{first}", f"({name}\0{value}\1")
                    found = await pipeline.execute()
            ranges = list(zip(found[::2], found[1::2], strict=True))
            count = sum(found[1::2])
            if fewest < 0 or count < fewest:
                best, fewest = (name, ranges), count
        return best

    async def _ids(self, index: str, ranges: list[tuple[int, int]], skip: int, most: int) -> list[str]:
        """The ids of the members that stand in these ranges, one after another, from the `skip`th on."""
        ids: list[str] = []
        for first, count in ranges:
            here = min(count - skip, most - len(ids))
            if here > 0:
                with self._functions.faults():
                    members = await self._store.client(index).zrange(index, first + skip, first + skip + here - 1)
                ids += [str(int(str(member)[-_ID_DIGITS:])) for member in members]
            skip = max(0, skip - count)
        return ids

    async def _records(self, key: str, ids: list[str]) -> AsyncIterator[list[Record]]:
        """The records of these ids, some at a time; those that are gone meanwhile are left out."""
        for first in range(0, len(ids), _SOME):
            with self._functions.faults():
                packed = await self._store.client(key).hmget(key, ids[first : first + _SOME])
            yield [orjson.loads(record) for record in packed if record]

    async def get(
        self, account: Account, resource: Literal["customers", "sources", "greetings"], record_id: str
    ) -> Record | None:
        """One record."""
        if resource == "sources":
            await self.settle(account)
        with self._functions.faults():
            key = keys.records(account.name, resource)[0]
            packed = await self._store.client(key).hget(key, record_id)
        record: Record | None = orjson.loads(packed or b"null")
        return record

    async def sound(self, account: Account, greeting_id: str) -> bytes:
        """A greeting's sound, base64 as it is kept; empty if the greeting has just been deleted."""
        with self._functions.faults():
            key = keys.sounds(account.name)
            return str(await self._store.client(key).hget(key, greeting_id) or "").encode()

    async def cdrs(
        self, account: Account, filters: dict[str, str], *,
        from_ms: int | None, to_ms: int | None, skip: int, most: int, newest_first: bool,
    ) -> Found:  # fmt: skip
        """A page of call records by when the calls began; `to_ms` itself is left out. Reads as `find` does."""
        name = account.name
        oldest = (self._store.clock() or int(time.time() * 1000)) - account.calls_kept_ms
        low, high = str(max(oldest, from_ms or 0)), "+inf" if to_ms is None else f"({to_ms}"
        sets = [keys.cdrs(name, field, value) for field, value in filters.items()] or [keys.cdrs(name)]
        client = self._store.client(keys.cdrs(name))
        with self._functions.faults():
            counts = [int(await client.zcount(key, low, high)) for key in sets]
            narrowest = sets[counts.index(min(counts))]
            before, count = int(await client.zcount(narrowest, "-inf", f"({low}")), min(counts)
            others = [key for key in sets if key != narrowest]

            async def ids_at(first: int, many: int) -> list[str]:
                if newest_first:
                    first = count - first - many
                found = await client.zrange(narrowest, before + first, before + first + many - 1)
                ids = [str(member) for member in found]
                return ids[::-1] if newest_first else ids

            if not others:
                many = max(0, min(most, count - skip))
                total, ids = count, await ids_at(skip, many) if many else []
            else:
                total, ids = 0, []
                for at in range(0, count, _SOME):
                    some = await ids_at(at, min(_SOME, count - at))
                    scores = [await client.zmscore(key, some) for key in others]
                    for cdr_id, *of_others in zip(some, *scores, strict=True):
                        if None not in of_others:
                            if skip <= total < skip + most:
                                ids.append(cdr_id)
                            total += 1
            records = []
            for at in range(0, len(ids), _SOME):
                packed = await client.mget([keys.cdr(name, cdr_id) for cdr_id in ids[at : at + _SOME]])
                records += [orjson.loads(record) for record in packed if record]
        return Found(total, records)

    async def cdr(self, account: Account, cdr_id: str) -> Record | None:
        """One call record."""
        with self._functions.faults():
            key = keys.cdr(account.name, cdr_id)
            record: Record | None = orjson.loads(await self._store.client(key).get(key) or b"null")
        return record

    # Writing ------------------------------------------------------------------------------------------------------
    # Each gives the record as it is then, or raises RefusedError or NotDurableError.

    async def create_customer(self, account: Account, record: Record, *, wanted: str = "") -> Record:
        """Make a customer; its id is the next one, or the one `wanted`."""
        names = (*keys.records(account.name, "customers"), keys.ids(account.name))
        return await self._change("ep1_create_customer", names, orjson.dumps(record), wanted, account.customers_most)

    async def update_customer(self, account: Account, customer_id: str, changes: Record) -> Record:
        """Change those fields of a customer."""
        names = keys.records(account.name, "customers")
        return await self._change("ep1_update_customer", names, customer_id, orjson.dumps(changes))

    async def delete_customer(self, account: Account, customer_id: str) -> Record:
        """Delete a customer and its greetings."""
        name = account.name
        names = (
            *keys.records(name, "customers"), keys.records(name, "sources")[1],
            *keys.records(name, "greetings"), keys.sounds(name), keys.ids(name),
        )  # fmt: skip
        await self.settle(account)
        return await self._change("ep1_delete_customer", names, customer_id)

    async def create_source(self, account: Account, record: Record, number: str, *, wanted: str = "") -> Record:
        """Make a source of the `number`, or if that is empty of the number that has been free the longest."""
        name = account.name
        names = (
            *self._source_keys(name), keys.records(name, "customers")[0], keys.records(name, "greetings")[0],
            keys.ids(name),
        )  # fmt: skip
        await self.settle(account)
        return await self._change(
            "ep1_create_source", names, self._store.clock(), account.quarantine_ms, orjson.dumps(record), number,
            wanted, account.sources_most,
        )  # fmt: skip

    async def change_source(
        self, account: Account, source_id: str, what: Literal["update", "extend", "reactivate", "delete"],
        changes: Record,
    ) -> Record:  # fmt: skip
        """Change those fields of a source, and its status as `what` says."""
        name = account.name
        names = (*self._source_keys(name), keys.records(name, "greetings")[0], keys.records(name, "customers")[0])
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
            "ep1_create_greeting", names, self._store.clock(), orjson.dumps(record), sound, wanted, account.sound_most
        )

    async def update_greeting(
        self, account: Account, customer_id: str, greeting_id: str, changes: Record, sound: bytes | None
    ) -> Record:
        """Change those fields of a greeting, and its sound (base64) unless that is None."""
        name = account.name
        names = (*keys.records(name, "greetings"), keys.sounds(name), keys.ids(name))
        arguments = (self._store.clock(), greeting_id, customer_id, orjson.dumps(changes), account.sound_most)
        return await self._change("ep1_update_greeting", names, *arguments, *([] if sound is None else [sound]))

    async def delete_greeting(self, account: Account, customer_id: str, greeting_id: str) -> Record:
        """Delete a greeting."""
        name = account.name
        names = (
            *keys.records(name, "greetings"), keys.sounds(name), keys.records(name, "sources")[1], keys.ids(name)
        )  # fmt: skip
        await self.settle(account)
        return await self._change("ep1_delete_greeting", names, greeting_id, customer_id)

    @staticmethod
    def _source_keys(name: str) -> tuple[str, ...]:
        return (
            *keys.records(name, "sources"), keys.sources_due(name), keys.destinations(name), keys.numbers(name),
            keys.free(name),
        )  # fmt: skip

    async def settle(self, account: Account) -> None:
        """Bring every source, and its number, to the status that it has by now."""
        names = self._source_keys(account.name)
        while (await self._functions.read("ep1_settle_sources", names, self._store.clock(), account.quarantine_ms))[
            "settled"
        ]:
            pass

    async def mend(self, account: Account, *, count: bool = False) -> int:
        """Bring sources to the present that a clock which was ahead has ended: how many it were.

        One that was deleted then rests from now on, one that expired before its time goes on, and one whose number was
        free before its time rests again, unless somebody has taken the number. `count` changes nothing.
        """
        names, found = self._source_keys(account.name), 0
        for status in ("archived", "quarantined"):
            first, looked = 0, True
            while looked:
                how = (self._store.clock(), account.quarantine_ms, status, first, "count" if count else "")
                reply = await self._functions.read("ep1_mend_sources", names, *how)
                looked = bool(reply["looked"])
                found += reply["found"]
                first += reply["looked"] - (0 if count else reply["found"])
        return found

    async def _change(self, function: str, names: Sequence[str], *arguments: Any) -> Record:
        record: Record = (await self._functions.write(function, names, *arguments))["record"]
        return record
