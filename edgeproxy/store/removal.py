"""Removing an account with all that it has in the store."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson

from edgeproxy.errors import PartlyDoneError, StoreError
from edgeproxy.store import Store, keys, leftovers
from edgeproxy.store.functions import Functions
from edgeproxy.store.holdings import Holdings, users_of
from edgeproxy.store.lua_libraries import function_name

_SOME = 500  # keys, or numbers, in one call
_SCANNED = 1000  # keys looked at in one call
_LAST_REQUESTS_S = 1.0  # that requests may take which were let in before the account was gone
_PASSES_MOST = 20  # through the keys, until one finds nothing more


async def remove(store: Store, found: Holdings, *, replicas: int = 0) -> int:
    """Remove an account with all that it has; gives how many keys went.

    First nobody is served for it any more, and nothing can be loaded into it; then all goes, in pieces for which nobody
    waits; its name goes last, so that a removal that was cut off can be seen, and done again. Numbers that cool down,
    or would rest after a source, do so in whichever account they come to next.

    Raises:
        StoreError: somebody changed the account since `found` was counted.
        PartlyDoneError: somebody goes on writing to it.
        NotDurableError: see `Functions`.
        RedisError, OSError: the store failed; removing again does the rest.
    """
    name, key = found.account, keys.account(found.account)
    client = store.client(key)
    await store.load_functions()
    retire = (function_name("ep1_retire_account"), 1, key, store.clock(), name, found.version)
    if await client.fcall(*retire) is None:
        raise StoreError(f"{name} was changed by somebody else meanwhile: look at it again")
    store.forget(name)
    await asyncio.sleep(_LAST_REQUESTS_S)
    if users := await users_of(store, name):
        await store.client(keys.USERS).hdel(keys.USERS, *users)
    async for tokens in leftovers.pieces(store, keys.TOKENS):
        if ours := [token for token, owner in tokens.items() if owner == name]:
            await store.client(keys.TOKENS).hdel(keys.TOKENS, *ours)
    await _keep_cooldowns(store, found)
    gone = 0
    for _ in range(_PASSES_MOST):
        went = await _unlink(store, name)
        gone += went
        if not went:
            break
    else:
        raise PartlyDoneError(f"{name} is still written to, and not removed: remove it again")
    async for numbers in leftovers.pieces(store, keys.OWNERS):
        await leftovers.disclaim(store, name, [number for number, owner in numbers.items() if owner == name])
    await client.unlink(key)
    await store.client(keys.ACCOUNTS).srem(keys.ACCOUNTS, name)
    await Functions(store, replicas).flush(keys.ACCOUNTS, keys.OWNERS, keys.TOKENS, keys.USERS, key)
    await client.unlink(keys.flushed(key))
    return gone + 1


async def _unlink(store: Store, name: str) -> int:
    """Unlink the account's keys but its own record, which says that it is being removed; gives how many there were.

    The store frees what they held beside its other work.
    """
    own, client, gone = keys.account(name), store.client(keys.account(name)), 0
    pattern, pending = keys.of_account(name) + "*", list[str]()
    async for key in client.scan_iter(match=pattern, count=_SCANNED):
        if key != own:
            pending.append(str(key))
        if len(pending) == _SOME:
            gone += await client.unlink(*pending)
            pending = []
    if pending:
        gone += await client.unlink(*pending)
    return gone


async def _keep_cooldowns(store: Store, found: Holdings) -> None:
    """Keep for how long the account's numbers have to rest, for whichever account takes them."""
    rests = dict[str, float]()
    async for number, until in _resting(store, found):
        rests[number] = until
        if len(rests) == _SOME:
            await _keep(store, rests)
            rests = {}
    if rests:
        await _keep(store, rests)


async def _keep(store: Store, rests: dict[str, float]) -> None:
    call = function_name("ep1_keep_cooldowns")
    await store.client(keys.LEFT).fcall(call, 1, keys.LEFT, store.clock(), orjson.dumps(rests))


async def _resting(store: Store, found: Holdings) -> AsyncIterator[tuple[str, float]]:
    """The numbers that have to rest, and until when: after their leases, which end, and after their sources."""
    name, client = found.account, store.client(keys.account(found.account))
    now = store.clock() or await _time_ms(client)
    async for number, at in client.zscan_iter(keys.free(name), count=_SOME):
        if at > now:
            yield str(number), at
    for pool, settings in found.config.get("pools", {}).items():
        free, leased, _ = keys.pool(name, pool)
        async for number, at in client.zscan_iter(free, count=_SOME):
            if at > now:
                yield str(number), at
        async for member, ends in client.zscan_iter(leased, count=_SOME):
            until = min(now, ends) + settings["cooldown_ms"]
            if until > now:
                yield str(member).partition(":")[0], until
    due = {str(source): at async for source, at in client.zscan_iter(keys.sources_due(name), count=_SOME)}
    rest = now + found.config.get("quarantine_ms", 0)
    async for piece in leftovers.pieces(store, keys.numbers(name)):
        for number, state in piece.items():
            kind, _, source = state.partition(":")
            if kind in ("source", "quarantined"):
                yield number, due.get(source, rest) if kind == "quarantined" else rest


async def _time_ms(client: Any) -> float:
    seconds, micros = await client.time()
    return float(seconds * 1000 + micros // 1000)
