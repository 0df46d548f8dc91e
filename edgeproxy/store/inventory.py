"""Bringing an account file into the store: what it changes, and the change itself."""

from dataclasses import dataclass, field
from typing import Any

import orjson
from redis.exceptions import WatchError

from edgeproxy.accounts.account import Account
from edgeproxy.accounts.file import AccountEntry, AccountFile
from edgeproxy.errors import PartlyDoneError, StoreError
from edgeproxy.store import Store, keys, leftovers
from edgeproxy.store.access import token_hash
from edgeproxy.store.lua_libraries import function_name
from edgeproxy.store.partner import Partner
from edgeproxy.store.sealing import Seal

_SETTINGS_SHOWN = ("region", "timezone", "points_daily", "costs", "per_second", "limit_by", "visitor_ttl_ms",
                   "visits_kept_ms", "networks", "quarantine_ms", "calls_kept_ms", "leases_kept_ms", "customers_most",
                   "sources_most", "sound_most", "custom_fields",
                   "crawlers", "join", "site")  # fmt: skip
_DEFAULTS = AccountEntry.model_validate(
    {"secrets": ["-"], "region": "DE"}
).config()  # what the releases went by that kept no such setting
_FREE = "free"
_POOL = "pool:"
_SOME = 1000  # numbers asked about in one call
_TRIES_MOST = 20  # to save accounts while others save theirs


@dataclass(frozen=True, slots=True)
class Change:
    """How one account of the store differs from the file. `lines` say it for people, without a secret in them."""

    account: str
    version: str  # what the store had when it was compared; "" where it had no such account
    config: bytes = field(repr=False)  # it holds secrets, sealed if the store's `Seal` has keys
    moves: dict[str, tuple[list[str], list[str], int]]  # pool → numbers that leave, numbers that enter, cooldown ms
    free: tuple[list[str], list[str]]  # numbers that leave and that enter the free ones
    tokens: tuple[list[str], list[str]] = field(repr=False)  # hashes of access tokens that end, and that begin
    owned: list[str]  # every number that the account is to own
    claimed: list[str]  # those of them that it did not have
    given_up: list[str]
    leases_kept_ms: int
    lines: tuple[str, ...]

    def names(self) -> list[str]:
        """The names of what changes, without what it was or will be."""
        return [line.partition(":")[0] for line in self.lines]


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
        held = await client.hgetall(keys.numbers(name))
        inventory = {str(number): str(state) for number, state in held.items()}
        change = _compare(name, entry, str(version or ""), before, inventory, store.seal)
        if change.lines:
            changes.append(change)
    return changes


def _compare(
    name: str,
    entry: AccountEntry,
    version: str,
    before: dict[str, Any] | None,
    inventory: dict[str, str],
    seal: Seal,
) -> Change:
    after = entry.config() | {"token_hashes": [token_hash(token) for token in entry.tokens()]}
    numbers = {number: _POOL + pool for number, pool in entry.pooled_numbers().items()}
    numbers |= dict.fromkeys(entry.other_numbers(), _FREE)
    shared = {pool["shared_number"] for pool in after["pools"].values()} - {None}
    shared_before = {pool["shared_number"] for pool in before["pools"].values()} - {None} if before else set()
    pools_before = before["pools"] if before else {}
    tokens, tokens_before = after["token_hashes"], before["token_hashes"] if before else []
    moves: dict[str, tuple[list[str], list[str], int]] = {
        pool: ([], [], (after["pools"].get(pool) or pools_before[pool])["cooldown_ms"])
        for pool in {**pools_before, **after["pools"]}
    }
    free: tuple[list[str], list[str]] = ([], [])
    in_use = []
    for number, state in inventory.items():
        wanted = numbers.get(number)
        if wanted == state:
            continue
        if state == _FREE:
            free[0].append(number)
        elif state.startswith(_POOL):
            moves.setdefault(state.removeprefix(_POOL), ([], [], 0))[0].append(number)
        elif wanted != _FREE:
            in_use.append(f"{name}: {number} is in use ({state}): it cannot be moved to a pool, nor given up")
    if in_use:
        raise StoreError("\n".join(in_use))
    for number, wanted in numbers.items():
        state = inventory.get(number, "")
        if wanted.startswith(_POOL) and state != wanted:
            moves[wanted.removeprefix(_POOL)][1].append(number)
        elif wanted == _FREE and (not state or state.startswith(_POOL)):
            free[1].append(number)
    lines = _describe(before, after, moves, free)
    return Change(
        account=name,
        version=version,
        config=orjson.dumps(seal.seal_config(name, after)),
        moves=moves,
        free=free,
        leases_kept_ms=after["leases_kept_ms"],
        tokens=(
            [old for old in tokens_before if old not in tokens],
            [new for new in tokens if new not in tokens_before],
        ),
        owned=[*numbers, *shared],
        claimed=sorted((numbers.keys() | shared) - inventory.keys() - shared_before),
        given_up=sorted((inventory.keys() | shared_before) - numbers.keys() - shared),
        lines=tuple(lines),
    )


def _describe(
    before: dict[str, Any] | None,
    after: dict[str, Any],
    moves: dict[str, tuple[list[str], list[str], int]],
    free: tuple[list[str], list[str]],
) -> list[str]:
    lines = []
    if before is None:
        lines.append("account is created")
    else:
        if before["secrets"] != after["secrets"]:
            lines.append("secrets change")
        if before["token_hashes"] != after["token_hashes"]:
            lines.append("access tokens change")
        lines += [
            f"{key}: {before.get(key)} → {after[key]}"
            for key in _SETTINGS_SHOWN
            if before.get(key, _DEFAULTS[key]) != after[key]
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
    if free[0] or free[1]:
        counts = [f"{sign}{len(numbers)}" for sign, numbers in (("+", free[1]), ("−", free[0])) if numbers]
        lines.append(f"numbers in no pool: {', '.join(counts)}")
    return lines


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
    claims = orjson.dumps({change.account: change.owned for change in changes})
    freed = orjson.dumps({change.account: change.given_up for change in changes})
    claim = function_name("ep1_claim")
    conflicts = orjson.loads(await store.client(keys.OWNERS).fcall(claim, 1, keys.OWNERS, claims, freed))
    if conflicts and (unused := await leftovers.unused(store, dict(conflicts))):
        for owner in set(unused.values()):  # a load that was cut off claimed them
            await leftovers.disclaim(store, owner, [number for number, of in unused.items() if of == owner])
        conflicts = orjson.loads(await store.client(keys.OWNERS).fcall(claim, 1, keys.OWNERS, claims, freed))
    if conflicts:
        raise StoreError("\n".join(f"{number} belongs to account {owner}" for number, owner in conflicts))
    changes = sorted(changes, key=lambda change: not change.given_up)  # a number is given up before it is taken
    saved: list[Change] = []
    try:
        if store.servers.spread:
            await _save_one_by_one(store, changes, saved)
        else:
            await _save_together(store, changes)
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


async def _save_together(store: Store, changes: list[Change]) -> None:
    for _ in range(_TRIES_MOST):
        try:
            return await _try_to_save_together(store, changes)
        except WatchError:  # maybe of another account: all is looked at again
            continue
    raise StoreError("accounts are changed by others all the time: load again")


async def _try_to_save_together(store: Store, changes: list[Change]) -> None:
    """Save all accounts, or none.

    Raises:
        WatchError: somebody changed something meanwhile, be it of another account.
    """
    async with store.client(keys.TOKENS).pipeline(transaction=True) as transaction:
        watched = [keys.TOKENS, keys.OWNERS]
        watched += [name(change.account) for change in changes for name in (keys.account, keys.numbers)]
        await transaction.watch(*watched)
        for change in changes:
            version, removed = await transaction.hmget(keys.account(change.account), ["version", "removed"])
            taken = change.free[0] and await transaction.hmget(keys.numbers(change.account), change.free[0])
            if str(version or "") != change.version or removed is not None or any(state != _FREE for state in taken):
                raise StoreError(_changed(change))
            await _check_claims(transaction, change)
        owners = {}
        if beginning := [token for change in changes for token in change.tokens[1]]:
            owners = dict(zip(beginning, await transaction.hmget(keys.TOKENS, beginning), strict=True))
        await _check_tokens(store, changes, owners)
        transaction.multi()  # type: ignore[no-untyped-call]
        if ending := [token for change in changes for token in change.tokens[0]]:
            transaction.hdel(keys.TOKENS, *ending)
        for change in changes:
            for token in change.tokens[1]:
                transaction.hset(keys.TOKENS, token, change.account)
        transaction.sadd(keys.ACCOUNTS, *(change.account for change in changes))
        for change in changes:
            if change.given_up:
                transaction.fcall(*_leave(store, change))
        for change in changes:
            transaction.fcall(*_save(store, change, {}))
        await transaction.execute()


async def _save_one_by_one(store: Store, changes: list[Change], saved: list[Change]) -> None:
    """Save accounts that no transaction can span.

    Tokens that begin are written before, those that end are taken away after: an account's own list decides which are
    good.
    """
    for change in changes:  # whoever was faster is found, as a rule, before anything is written
        if (
            str(await store.client(keys.account(change.account)).hget(keys.account(change.account), "version") or "")
            != change.version
        ):
            raise StoreError(_changed(change))
    index = store.client(keys.TOKENS)
    owners = {token: await index.hget(keys.TOKENS, token) for change in changes for token in change.tokens[1]}
    await _check_tokens(store, changes, owners)
    for change in changes:
        await _keep_cooldowns(store, change)
    for change in changes:
        await _check_claims(store.client(keys.OWNERS), change)
        for token in change.tokens[1]:
            await index.hset(keys.TOKENS, token, change.account)
        await store.client(keys.ACCOUNTS).sadd(keys.ACCOUNTS, change.account)
        save = _save(store, change, await _cooldowns(store, change.claimed))
        if await store.client(keys.account(change.account)).fcall(*save) is None:
            raise StoreError(_changed(change))
        saved.append(change)
    beginning = {token for change in changes for token in change.tokens[1]}
    if ending := [token for change in changes for token in change.tokens[0] if token not in beginning]:
        await index.hdel(keys.TOKENS, *ending)


def _changed(change: Change) -> str:
    return f"{change.account} was changed by somebody else meanwhile: load again"


async def _check_claims(client: Any, change: Change) -> None:
    """See that what was claimed for the account is still its own: others may free claims that nobody seems to use."""
    for first in range(0, len(change.claimed), _SOME):
        owners = await client.hmget(keys.OWNERS, change.claimed[first : first + _SOME])
        if any(owner != change.account for owner in owners):
            raise StoreError(_changed(change))


async def _check_tokens(store: Store, changes: list[Change], owners: dict[str, Any]) -> None:
    ending = {token for change in changes for token in change.tokens[0]}
    for change in changes:
        for token in change.tokens[1]:
            owner = owners[token]
            if owner in (None, change.account) or token in ending:
                continue
            if await leftovers.lists_token(store, owner, token):  # else a load that was cut off claimed it
                raise StoreError(f"an access token of {change.account} belongs to account {owner!s}")


async def _keep_cooldowns(store: Store, change: Change) -> None:
    """Keep, on a cluster, the cooldowns of the numbers that the account gives up, for whichever account takes them."""
    if not change.given_up:
        return
    cooling = str(await store.client(keys.account(change.account)).fcall(*_leave(store, change)))
    await store.client(keys.LEFT).fcall(function_name("ep1_keep_cooldowns"), 1, keys.LEFT, store.clock(), cooling)


async def _cooldowns(store: Store, numbers: list[str]) -> dict[str, float]:
    """When numbers that left other accounts can be leased; those that do not cool down are left out."""
    client, found = store.client(keys.LEFT), dict[str, float]()
    for first in range(0, len(numbers), _SOME):
        some = numbers[first : first + _SOME]
        found |= {number: at for number, at in zip(some, await client.zmscore(keys.LEFT, some), strict=True) if at}
    return found


def _leave(store: Store, change: Change) -> tuple[Any, ...]:
    """The call that tells, and on one server keeps, the cooldowns of the numbers that the account gives up."""
    gone = set(change.given_up)
    names = [keys.free(change.account)]
    for pool in change.moves:
        names += keys.pool(change.account, pool)
    names += [] if store.servers.spread else [keys.LEFT]
    pools = [[[number for number in move[0] if number in gone], move[2]] for move in change.moves.values()]
    loose = [number for number in change.free[0] if number in gone]
    return (
        function_name("ep1_leave_account"), len(names), *names, store.clock(), orjson.dumps(pools), orjson.dumps(loose),
    )  # fmt: skip


def _save(store: Store, change: Change, cooling: dict[str, float]) -> tuple[Any, ...]:
    """The call that saves an account; `cooling` are cooldowns of numbers that it takes, on a cluster."""
    names = [name(change.account) for name in (keys.account, keys.numbers, keys.free, keys.history)]
    for pool in change.moves:
        names += keys.pool(change.account, pool)
    names += [] if store.servers.spread else [keys.LEFT]
    moves = [[pool, *move] for pool, move in change.moves.items()]
    return (
        function_name("ep1_save_account"), len(names), *names, store.clock(), change.account, change.version,
        change.config, orjson.dumps(moves), orjson.dumps(change.free), change.leases_kept_ms, orjson.dumps(cooling),
    )  # fmt: skip
