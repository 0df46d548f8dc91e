"""What accounts have in the store."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from edgeproxy.store import Store, keys, leftovers

State = Literal["saved", "removed", "none"]


@dataclass(frozen=True, slots=True)
class Holdings:
    """What an account has. Sessions and visitors are not counted: they are found by looking through all keys alone."""

    account: str
    state: State  # `removed`: its removal, or its first load, was cut off; `none`: there is no such account
    version: str
    config: dict[str, Any]  # as it stands in the store, without secrets and hashes of tokens
    secrets: int
    tokens: int  # in the index of access tokens
    users: tuple[str, ...]  # of the partner API
    numbers: dict[str, int]  # state (`pool NAME`, `free`, `source`, `quarantined`, `static`) → how many
    claimed: int  # numbers that no other account can have for its sake: those, and shared ones
    leases: int  # live and past ones of the history
    customers: int
    sources: int
    greetings: int
    visits: int  # entries of the stream
    events: int  # of calls, in their stream
    calls: int  # records

    def __bool__(self) -> bool:
        return self.state != "none" or bool(
            self.tokens or self.users or self.numbers or self.claimed or self.leases or self.customers or self.sources
            or self.greetings or self.visits or self.events or self.calls
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """An account in the list of all."""

    account: str
    state: State
    pools: int
    numbers: int
    users: int


async def entries(store: Store) -> list[Entry]:
    """All accounts.

    Raises:
        RedisError, OSError: the store failed.
    """
    users: Counter[str] = Counter()
    async for piece in leftovers.pieces(store, keys.USERS):
        users.update(orjson.loads(packed)["account"] for packed in piece.values())
    found = []
    for name in sorted(map(str, await store.client(keys.ACCOUNTS).smembers(keys.ACCOUNTS))):
        client = store.client(keys.account(name))
        version, text = await client.hmget(keys.account(name), ["version", "config"])
        pools = len(orjson.loads(text or b'{"pools":{}}')["pools"])
        numbers = await client.hlen(keys.numbers(name))
        found.append(Entry(name, "removed" if version is None else "saved", pools, numbers, users[name]))
    return found


async def holdings(store: Store, name: str) -> Holdings:
    """Count what an account has, or what is left of one.

    Raises:
        RedisError, OSError: the store failed.
    """
    client = store.client(keys.account(name))
    version, text = await client.hmget(keys.account(name), ["version", "config"])
    known = await store.client(keys.ACCOUNTS).sismember(keys.ACCOUNTS, name)
    config = orjson.loads(text or b"{}")
    secrets = len(config.pop("secrets", ()))
    config.pop("token_hashes", None)
    numbers: Counter[str] = Counter()
    async for piece in leftovers.pieces(store, keys.numbers(name)):
        numbers.update(_kind(state) for state in piece.values())
    claimed = 0
    async for piece in leftovers.pieces(store, keys.OWNERS):
        claimed += sum(owner == name for owner in piece.values())
    tokens = 0
    async for piece in leftovers.pieces(store, keys.TOKENS):
        tokens += sum(owner == name for owner in piece.values())
    return Holdings(
        account=name,
        state="none" if not known else "removed" if version is None else "saved",
        version=str(version or ""),
        config=config,
        secrets=secrets,
        tokens=tokens,
        users=tuple(sorted(await users_of(store, name))),
        numbers=dict(sorted(numbers.items())),
        claimed=claimed,
        leases=await client.zcard(keys.history(name)),
        customers=await client.hlen(keys.records(name, "customers")[0]),
        sources=await client.hlen(keys.records(name, "sources")[0]),
        greetings=await client.hlen(keys.records(name, "greetings")[0]),
        visits=await client.xlen(keys.visits(name)),
        events=await client.xlen(keys.calls(name)),
        calls=await client.zcard(keys.cdrs(name)),
    )


def _kind(state: str) -> str:
    kind, _, name = state.partition(":")
    return f"pool {name}" if kind == "pool" else kind


async def users_of(store: Store, account: str) -> list[str]:
    """The users of the partner API that are the account's.

    Raises:
        RedisError, OSError: the store failed.
    """
    found = []
    async for piece in leftovers.pieces(store, keys.USERS):
        found += [name for name, packed in piece.items() if orjson.loads(packed)["account"] == account]
    return found
