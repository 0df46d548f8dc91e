"""Saving accounts on one server: all of them in one transaction."""

from redis.exceptions import WatchError

from edgeproxy.errors import StoreError
from edgeproxy.store import Store, keys
from edgeproxy.store.inventory import saving
from edgeproxy.store.inventory.change import FREE, Change

_TRIES_MOST = 20  # to save accounts while others save theirs


async def save(store: Store, changes: list[Change]) -> None:
    """Save all accounts, or none.

    Raises:
        StoreError: somebody else changed one of them, or a token of theirs belongs to another account.
    """
    for _ in range(_TRIES_MOST):
        try:
            return await _try_to_save(store, changes)
        except WatchError:  # maybe of another account: all is looked at again
            continue
    raise StoreError("accounts are changed by others all the time: load again")


async def _try_to_save(store: Store, changes: list[Change]) -> None:
    """Like `save`, once.

    Raises:
        WatchError: somebody changed something meanwhile, be it of another account.
    """
    async with store.client(keys.TOKENS).pipeline(transaction=True) as transaction:
        watched = [keys.TOKENS, keys.OWNERS]
        watched += [name(change.account) for change in changes for name in (keys.account, keys.numbers)]
        await transaction.watch(*watched)
        for change in changes:
            version, removed = await transaction.hmget(keys.account(change.account), ["version", "removed"])
            taken = change.free.leaving and await transaction.hmget(keys.numbers(change.account), change.free.leaving)
            if str(version or "") != change.version or removed is not None or any(state != FREE for state in taken):
                raise saving.changed(change)
            await saving.check_claims(transaction, change)
        owners = {}
        if beginning := [token for change in changes for token in change.beginning_tokens]:
            owners = dict(zip(beginning, await transaction.hmget(keys.TOKENS, beginning), strict=True))
        await saving.check_tokens(store, changes, owners)
        transaction.multi()  # type: ignore[no-untyped-call]
        if ending := [token for change in changes for token in change.ending_tokens]:
            transaction.hdel(keys.TOKENS, *ending)
        for change in changes:
            for token in change.beginning_tokens:
                transaction.hset(keys.TOKENS, token, change.account)
        transaction.sadd(keys.ACCOUNTS, *(change.account for change in changes))
        for change in changes:
            if change.given_up:
                transaction.fcall(*saving.leave_call(store, change))
        for change in changes:
            transaction.fcall(*saving.save_call(store, change, {}))
        await transaction.execute()
