"""What loading an account file would change in the store."""

from typing import Any

import orjson

from edgeproxy.accounts.account import Account
from edgeproxy.accounts.entries import AccountEntry
from edgeproxy.accounts.file import AccountFile
from edgeproxy.errors import StoreError
from edgeproxy.store import Store, keys
from edgeproxy.store.access import token_hash
from edgeproxy.store.inventory.change import FREE, Change, Move
from edgeproxy.store.inventory.description import describe
from edgeproxy.store.partner import Partner
from edgeproxy.store.sealing import Seal

_POOL = "pool:"


async def compare(store: Store, file: AccountFile) -> list[Change]:
    """What loading the file would change; accounts that are as the file says are left out.

    Secrets are compared as they are, not as they are sealed.

    Raises:
        StoreError: a number cannot be moved or given up, because a source uses it; an account is being removed.
        SealError: an account's secrets cannot be opened.
        RedisError, OSError: the store cannot be reached.
    """
    changes = []
    for name, entry in file.accounts.items():
        client = store.client(keys.account(name))
        version, config, removed = await client.hmget(keys.account(name), ["version", "config", "removed"])
        if removed is not None:
            raise StoreError(f"{name} is being removed: run `edgeproxy account remove {name}` to its end first")
        before = None
        if version is not None:
            before = store.seal.open_config(name, orjson.loads(config or b"null"))
            account = Account.from_config(name, int(version), before)
            await Partner(store, None).settle(account)
        states = await client.hgetall(keys.numbers(name))
        held = {str(number): str(state) for number, state in states.items()}
        change = _compare(name, entry, str(version or ""), before, held, store.seal)
        if change.lines:
            changes.append(change)
    return changes


def _compare(
    name: str, entry: AccountEntry, version: str, before: dict[str, Any] | None, held: dict[str, str], seal: Seal
) -> Change:
    """How an account's configuration `before`, and the states of the numbers that are `held`, differ from its entry."""
    after = entry.config() | {"token_hashes": [token_hash(token) for token in entry.tokens()]}
    wanted = {number: _POOL + pool for number, pool in entry.pooled_numbers().items()}
    wanted |= dict.fromkeys(entry.other_numbers(), FREE)
    pools_before = before["pools"] if before else {}
    moves, free = _moves(name, held, wanted, {**pools_before, **after["pools"]})
    shared, shared_before = _shared_numbers(after["pools"]), _shared_numbers(pools_before)
    tokens, tokens_before = after["token_hashes"], before["token_hashes"] if before else []
    return Change(
        account=name,
        version=version,
        config=orjson.dumps(seal.seal_config(name, after)),
        moves=moves,
        free=free,
        leases_kept_ms=after["leases_kept_ms"],
        ending_tokens=[old for old in tokens_before if old not in tokens],
        beginning_tokens=[new for new in tokens if new not in tokens_before],
        owned=[*wanted, *shared],
        claimed=sorted((wanted.keys() | shared) - held.keys() - shared_before),
        given_up=sorted((held.keys() | shared_before) - wanted.keys() - shared),
        lines=tuple(describe(before, after, moves, free)),
    )


def _shared_numbers(pools: dict[str, Any]) -> set[str]:
    return {pool["shared_number"] for pool in pools.values()} - {None}


def _moves(
    name: str, held: dict[str, str], wanted: dict[str, str], pools: dict[str, Any]
) -> tuple[dict[str, Move], Move]:
    """Which numbers leave and enter each pool, and those in no pool, that the states which are held become the wanted.

    Raises:
        StoreError: a source, or a static number, is in the way.
    """
    moves = {pool: Move([], [], settings["cooldown_ms"]) for pool, settings in pools.items()}
    free = Move([], [])
    in_use = []
    for number, state in held.items():
        becomes = wanted.get(number)
        if becomes == state:
            continue
        if state == FREE:
            free.leaving.append(number)
        elif state.startswith(_POOL):
            moves.setdefault(state.removeprefix(_POOL), Move([], [])).leaving.append(number)
        elif becomes != FREE:
            in_use.append(f"{name}: {number} is in use ({state}): it cannot be moved to a pool, nor given up")
    if in_use:
        raise StoreError("\n".join(in_use))
    for number, becomes in wanted.items():
        state = held.get(number, "")
        if becomes.startswith(_POOL) and state != becomes:
            moves[becomes.removeprefix(_POOL)].entering.append(number)
        elif becomes == FREE and (not state or state.startswith(_POOL)):
            free.entering.append(number)
    return moves, free
