"""What both ways of saving accounts do: the checks before it, and the calls of the store's functions."""

from typing import Any

import orjson

from edgeproxy.errors import StoreError
from edgeproxy.store import Store, keys, leftovers
from edgeproxy.store.inventory.change import Change
from edgeproxy.store.lua_libraries import function_name

SOME = 1000  # numbers asked about in one call


def changed(change: Change) -> StoreError:
    """The refusal of a change of an account that is not as it was when it was compared."""
    return StoreError(f"{change.account} was changed by somebody else meanwhile: load again")


async def check_claims(client: Any, change: Change) -> None:
    """See that what was claimed for the account is still its own: others may free claims that nobody seems to use.

    Raises:
        StoreError: it is not.
    """
    for first in range(0, len(change.claimed), SOME):
        owners = await client.hmget(keys.OWNERS, change.claimed[first : first + SOME])
        if any(owner != change.account for owner in owners):
            raise changed(change)


async def check_tokens(store: Store, changes: list[Change], owners: dict[str, Any]) -> None:
    """See that no token that begins is another account's; `owners` has whose each is in the index.

    Raises:
        StoreError: one is.
    """
    ending = {token for change in changes for token in change.ending_tokens}
    for change in changes:
        for token in change.beginning_tokens:
            owner = owners[token]
            if owner in (None, change.account) or token in ending:
                continue
            if await leftovers.lists_token(store, owner, token):  # else a load that was cut off claimed it
                raise StoreError(f"an access token of {change.account} belongs to account {owner!s}")


def leave_call(store: Store, change: Change) -> tuple[Any, ...]:
    """The call that tells, and on one server keeps, the cooldowns of the numbers that the account gives up."""
    gone = set(change.given_up)
    names = [keys.free(change.account)]
    for pool in change.moves:
        names += keys.pool(change.account, pool)
    names += [] if store.servers.spread else [keys.LEFT]
    pools = [
        [[number for number in move.leaving if number in gone], move.cooldown_ms] for move in change.moves.values()
    ]
    loose = [number for number in change.free.leaving if number in gone]
    return (
        function_name("ep1_leave_account"), len(names), *names, store.clock(), orjson.dumps(pools), orjson.dumps(loose),
    )  # fmt: skip


def save_call(store: Store, change: Change, cooling: dict[str, float]) -> tuple[Any, ...]:
    """The call that saves an account; `cooling` are cooldowns of numbers that it takes, on a cluster."""
    names = [name(change.account) for name in (keys.account, keys.numbers, keys.free, keys.history)]
    for pool in change.moves:
        names += keys.pool(change.account, pool)
    names += [] if store.servers.spread else [keys.LEFT]
    moves = [[pool, *move] for pool, move in change.moves.items()]
    free = [change.free.leaving, change.free.entering]
    return (
        function_name("ep1_save_account"), len(names), *names, store.clock(), change.account, change.version,
        change.config, orjson.dumps(moves), orjson.dumps(free), change.leases_kept_ms, orjson.dumps(cooling),
    )  # fmt: skip
