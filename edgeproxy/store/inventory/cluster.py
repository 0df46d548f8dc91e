"""Saving accounts on a cluster, where no transaction can span them: one after the other."""

from edgeproxy.store import Store, keys
from edgeproxy.store.inventory import saving
from edgeproxy.store.inventory.change import Change
from edgeproxy.store.lua_libraries import function_name


async def save(store: Store, changes: list[Change], saved: list[Change]) -> None:
    """Save accounts, and note in `saved` each that is.

    Tokens that begin are written before, those that end are taken away after: an account's own list decides which are
    good.

    Raises:
        StoreError: somebody else changed one of them, or a token of theirs belongs to another account.
    """
    for change in changes:  # whoever was faster is found, as a rule, before anything is written
        version = await store.client(keys.account(change.account)).hget(keys.account(change.account), "version")
        if str(version or "") != change.version:
            raise saving.changed(change)
    index = store.client(keys.TOKENS)
    owners = {token: await index.hget(keys.TOKENS, token) for change in changes for token in change.beginning_tokens}
    await saving.check_tokens(store, changes, owners)
    for change in changes:
        await _keep_cooldowns(store, change)
    for change in changes:
        await saving.check_claims(store.client(keys.OWNERS), change)
        for token in change.beginning_tokens:
            await index.hset(keys.TOKENS, token, change.account)
        await store.client(keys.ACCOUNTS).sadd(keys.ACCOUNTS, change.account)
        call = saving.save_call(store, change, await _cooldowns(store, change.claimed))
        if await store.client(keys.account(change.account)).fcall(*call) is None:
            raise saving.changed(change)
        saved.append(change)
    beginning = {token for change in changes for token in change.beginning_tokens}
    if ending := [token for change in changes for token in change.ending_tokens if token not in beginning]:
        await index.hdel(keys.TOKENS, *ending)


async def _keep_cooldowns(store: Store, change: Change) -> None:
    """Keep, on a cluster, the cooldowns of the numbers that the account gives up, for whichever account takes them."""
    if not change.given_up:
        return
    cooling = str(await store.client(keys.account(change.account)).fcall(*saving.leave_call(store, change)))
    await store.client(keys.LEFT).fcall(function_name("ep1_keep_cooldowns"), 1, keys.LEFT, store.clock(), cooling)


async def _cooldowns(store: Store, numbers: list[str]) -> dict[str, float]:
    """When numbers that left other accounts can be leased; those that do not cool down are left out."""
    client, found = store.client(keys.LEFT), dict[str, float]()
    for first in range(0, len(numbers), saving.SOME):
        some = numbers[first : first + saving.SOME]
        found |= {number: at for number, at in zip(some, await client.zmscore(keys.LEFT, some), strict=True) if at}
    return found
