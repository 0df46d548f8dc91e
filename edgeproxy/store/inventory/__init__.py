"""Bringing an account file into the store: what it changes (`compare`), and the change itself (`apply`).

An account's inventory is its numbers, each in one state: in a pool, a source's, a static number, free. An index over
all accounts says whose each number is, so that no two have the same one: a load claims numbers there first, saves the
accounts, and gives up there what they had before.
"""

import orjson

from edgeproxy.errors import PartlyDoneError, StoreError
from edgeproxy.store import Store, keys, leftovers
from edgeproxy.store.inventory import cluster, one_server
from edgeproxy.store.inventory.change import Change
from edgeproxy.store.inventory.comparison import compare
from edgeproxy.store.lua_libraries import function_name

__all__ = ["Change", "apply", "compare"]


async def apply(store: Store, changes: list[Change]) -> None:
    """Make the changes: all of them or none on one server; on a cluster, each account's whole or not at all.

    Raises:
        StoreError: a number belongs to another account, or somebody else changed an account meanwhile.
        PartlyDoneError: the like, on a cluster, when others had been changed.
        RedisError, OSError: the store failed; loading again tells what was changed, and changes the rest. Numbers may
            be left claimed for an account that does not use them yet, or no longer: whichever load next claims them
            frees them, and `leftovers.free` all.
    """
    if not changes:
        return
    await store.load_functions()
    await _claim(store, changes)
    changes = sorted(changes, key=lambda change: not change.given_up)  # a number is given up before it is taken
    saved: list[Change] = []
    try:
        if store.servers.spread:
            await cluster.save(store, changes, saved)
        else:
            await one_server.save(store, changes)
    except StoreError as error:
        for change in changes[len(saved) :]:
            unused = await leftovers.unused(store, dict.fromkeys(change.owned, change.account))
            await leftovers.disclaim(store, change.account, unused)
        for change in saved:
            await leftovers.disclaim(store, change.account, change.given_up)
        if saved:
            names = ", ".join(change.account for change in saved)
            raise PartlyDoneError(f"{error} (changed before that: {names})") from None
        raise
    for change in changes:
        await leftovers.disclaim(store, change.account, change.given_up)


async def _claim(store: Store, changes: list[Change]) -> None:
    """Claim all numbers that the accounts are to own.

    Raises:
        StoreError: one is another account's; nothing is claimed.
    """
    owned = orjson.dumps({change.account: change.owned for change in changes})
    freed = orjson.dumps({change.account: change.given_up for change in changes})
    call = (function_name("ep1_claim"), 1, keys.OWNERS, owned, freed)
    conflicts = orjson.loads(await store.client(keys.OWNERS).fcall(*call))
    if conflicts and (unused := await leftovers.unused(store, dict(conflicts))):
        for owner in set(unused.values()):  # a load that was cut off claimed them
            await leftovers.disclaim(store, owner, [number for number, of in unused.items() if of == owner])
        conflicts = orjson.loads(await store.client(keys.OWNERS).fcall(*call))
    if conflicts:
        raise StoreError("\n".join(f"{number} belongs to account {owner}" for number, owner in conflicts))
