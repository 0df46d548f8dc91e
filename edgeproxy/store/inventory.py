"""Bringing an account file into the store: what it changes, and the change itself."""

from dataclasses import dataclass, field
from typing import Any

import orjson
from redis.exceptions import WatchError

from edgeproxy.account_file import AccountEntry, AccountFile
from edgeproxy.store import Store, StoreError, keys

_SETTINGS_SHOWN = ("region", "timezone", "points_daily", "costs", "per_second", "limit_by", "visitor_ttl_ms",
                   "visits_kept_ms")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """How one account of the store differs from the file. `lines` say it for people, without a secret in them."""

    account: str
    version: str  # what the store had when it was compared; "" where it had no such account
    config: bytes = field(repr=False)  # it holds secrets
    moves: dict[str, tuple[list[str], list[str], int]]  # pool → numbers that leave, numbers that enter, cooldown ms
    owned: list[str]  # every number that the account is to own
    claimed: list[str]  # those of them that it did not have
    given_up: list[str]
    lines: tuple[str, ...]


async def compare(store: Store, file: AccountFile) -> list[Change]:
    """What loading the file would change; accounts that are as the file says are left out.

    Raises:
        RedisError, OSError: the store cannot be reached.
    """
    changes = []
    for name, entry in file.accounts.items():
        version, config = await store.calm.hmget(keys.account(name), ["version", "config"])
        held = await store.calm.hgetall(keys.numbers(name))
        inventory = {str(number): str(state).removeprefix("pool:") for number, state in held.items()}
        change = _compare(name, entry, str(version or ""), orjson.loads(config or b"null"), inventory)
        if change.lines:
            changes.append(change)
    return changes


def _compare(
    name: str, entry: AccountEntry, version: str, before: dict[str, Any] | None, inventory: dict[str, str]
) -> Change:
    after, numbers = entry.config(), entry.numbers()
    shared = {pool["shared_number"] for pool in after["pools"].values()} - {None}
    shared_before = {pool["shared_number"] for pool in before["pools"].values()} - {None} if before else set()
    pools_before = before["pools"] if before else {}
    moves: dict[str, tuple[list[str], list[str], int]] = {
        pool: ([], [], (after["pools"].get(pool) or pools_before[pool])["cooldown_ms"])
        for pool in {**pools_before, **after["pools"]}
    }
    for number, pool in inventory.items():
        if numbers.get(number) != pool:
            moves.setdefault(pool, ([], [], 0))[0].append(number)
    for number, pool in numbers.items():
        if inventory.get(number) != pool:
            moves[pool][1].append(number)
    lines = _describe(before, after, moves)
    return Change(
        account=name,
        version=version,
        config=orjson.dumps(after),
        moves=moves,
        owned=[*numbers, *shared],
        claimed=sorted((numbers.keys() | shared) - inventory.keys() - shared_before),
        given_up=sorted((inventory.keys() | shared_before) - numbers.keys() - shared),
        lines=tuple(lines),
    )


def _describe(
    before: dict[str, Any] | None, after: dict[str, Any], moves: dict[str, tuple[list[str], list[str], int]]
) -> list[str]:
    lines = []
    if before is None:
        lines.append("account is created")
    else:
        if before["secrets"] != after["secrets"]:
            lines.append("secrets change")
        lines += [
            f"{key}: {before.get(key)} → {after[key]}" for key in _SETTINGS_SHOWN if before.get(key) != after[key]
        ]
        if before["displays"] != after["displays"]:
            lines.append("display texts change")
        if list(before["pools"]) != list(after["pools"]) and sorted(before["pools"]) == sorted(after["pools"]):
            lines.append(f"order of pools: {', '.join(after['pools'])}")
    pools_before = before["pools"] if before else {}
    for pool, (leaving, entering, _) in moves.items():
        words = []
        if pool not in pools_before:
            words.append("is created")
        elif pool not in after["pools"]:
            words.append("is removed")
        else:
            old, new = pools_before[pool], after["pools"][pool]
            words += [f"{key}: {old.get(key)} → {new[key]}" for key in new if old.get(key) != new[key]]
        words += [f"+{len(entering)} numbers"] if entering else []
        words += [f"−{len(leaving)} numbers, their leases end"] if leaving else []
        if words:
            lines.append(f"pool {pool}: {', '.join(words)}")
    return lines


async def apply(store: Store, changes: list[Change]) -> None:
    """Make the changes, all of them or none.

    Raises:
        StoreError: a number belongs to another account, or somebody else changed an account meanwhile.
        RedisError, OSError: the store failed; all accounts have been changed, or none: loading again tells. Numbers may
            be left claimed for an account that does not use them yet; loading the same file again sets that right.
    """
    if not changes:
        return
    await store.load_functions()
    claims = orjson.dumps({change.account: change.owned for change in changes})
    freed = orjson.dumps({change.account: change.given_up for change in changes})
    conflicts = orjson.loads(await store.calm.fcall("ep1_claim", 1, keys.OWNERS, claims, freed))
    if conflicts:
        raise StoreError("\n".join(f"{number} belongs to account {owner}" for number, owner in conflicts))
    try:
        await _save(store, changes)
    except StoreError:
        for change in changes:
            await _disclaim(store, change.account, change.claimed)
        raise
    for change in changes:
        await _disclaim(store, change.account, change.given_up)


async def _disclaim(store: Store, account: str, numbers: list[str]) -> None:
    if numbers:
        await store.calm.fcall("ep1_disclaim", 1, keys.OWNERS, account, orjson.dumps(numbers))


async def _save(store: Store, changes: list[Change]) -> None:
    async with store.calm.pipeline(transaction=True) as transaction:
        await transaction.watch(*(keys.account(change.account) for change in changes))
        for change in changes:
            version = await transaction.hget(keys.account(change.account), "version")
            if str(version or "") != change.version:
                raise StoreError(f"{change.account} was changed by somebody else meanwhile: load again")
        transaction.multi()  # type: ignore[no-untyped-call]
        transaction.sadd(keys.ACCOUNTS, *(change.account for change in changes))
        for change in changes:
            names = [keys.account(change.account), keys.numbers(change.account)]
            for pool in change.moves:
                names += keys.pool(change.account, pool)
            moves = [[pool, *move] for pool, move in change.moves.items()]
            transaction.fcall(
                "ep1_save_account", len(names), *names,
                0, change.account, change.version, change.config, orjson.dumps(moves),
            )  # fmt: skip
        try:
            await transaction.execute()
        except WatchError:
            raise StoreError("an account was changed by somebody else meanwhile: load again") from None
