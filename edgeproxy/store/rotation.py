"""Every secret that the store holds: how each is kept, and sealing it again with the first key."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
from redis.exceptions import WatchError

from edgeproxy.store import Store, keys, sealing
from edgeproxy.store.sealing import Kept, Standing

_Each = Callable[[Kept, str], Kept]  # what is done to a secret, of that place


@dataclass(slots=True)
class Tally:
    """How many secrets stand how, the places of those that cannot be opened, and the store's keys that hold secrets."""

    counts: Counter[Standing] = field(default_factory=Counter)
    shut: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    def count(self, standing: Standing, place: str) -> None:
        """Count a secret."""
        self.counts[standing] += 1
        if standing == "shut":
            self.shut.append(place)


@dataclass(frozen=True, slots=True)
class _Value:
    """A value of the store that holds secrets: a string, or a field of a hash. `change` gives it with each changed."""

    key: str
    field: str | None
    change: Callable[[str, _Each], str]


async def survey(store: Store) -> Tally:
    """How every secret of the store is kept.

    Raises:
        RedisError, OSError: the store cannot be reached.
    """
    tally = Tally()

    def look(kept: Kept, place: str) -> Kept:
        tally.count(store.seal.standing(kept, place), place)
        return kept

    async for value in _values(store):
        text = await _read(store.client(value.key), value)
        if text:
            value.change(text, look)
    return tally


async def rotate(store: Store) -> Tally:
    """Seal every secret with the first key that is not so; gives how they were kept before.

    Each value is compared and set by itself: what somebody else changes meanwhile is read again. What cannot be opened
    stays as it is. An account's version stays too: what gateways know of the account is still true.

    Raises:
        RedisError, OSError: the store failed; what was sealed by then is, and the rest is as it was.
    """
    tally = Tally()
    async for value in _values(store):
        tally.keys.add(value.key)
        for standing, place in await _rotate(store, value):
            tally.count(standing, place)
    return tally


async def _rotate(store: Store, value: _Value) -> list[tuple[Standing, str]]:
    """Seal the secrets of one value; gives how each was kept."""
    met: list[tuple[Standing, str]] = []

    def again(kept: Kept, place: str) -> Kept:
        standing = store.seal.standing(kept, place)
        met.append((standing, place))
        return kept if standing == "shut" else store.seal.rotate(kept, place)

    async with store.client(value.key).pipeline(transaction=True) as transaction:
        while True:
            await transaction.watch(value.key)
            text = await _read(transaction, value)
            met.clear()
            changed = value.change(text, again) if text else text
            if all(standing in ("first", "shut") for standing, _ in met):
                return met
            transaction.multi()  # type: ignore[no-untyped-call]
            if value.field is None:
                transaction.set(value.key, changed)
            else:
                transaction.hset(value.key, value.field, changed)
            try:
                await transaction.execute()
            except WatchError:
                continue
            return met


async def _read(client: Any, value: _Value) -> str:
    found = await (client.get(value.key) if value.field is None else client.hget(value.key, value.field))
    return str(found or "")


async def _values(store: Store) -> AsyncIterator[_Value]:
    """Every value of the store that may hold secrets."""
    yield _Value(keys.NONCE_KEY, None, partial(_change_text, place=sealing.NONCE_KEY))
    for user in sorted(map(str, await store.client(keys.USERS).hkeys(keys.USERS))):
        yield _Value(keys.USERS, user, partial(_change_user, user=user))
    for name in sorted(map(str, await store.client(keys.ACCOUNTS).smembers(keys.ACCOUNTS))):
        key = keys.account(name)
        yield _Value(key, "config", partial(_change_config, place=sealing.account_secret(name)))
        yield _Value(key, "salt", partial(_change_text, place=sealing.callers_salt(name)))


def _change_text(text: str, each: _Each, place: str) -> str:
    return sealing.as_text(each(sealing.from_text(text), place))


def _change_config(text: str, each: _Each, place: str) -> str:
    config = orjson.loads(text)
    return orjson.dumps(config | {"secrets": [each(kept, place) for kept in config["secrets"]]}).decode()


def _change_user(text: str, each: _Each, user: str) -> str:
    tree = orjson.loads(text)
    ha1 = {
        algorithm: each(kept, sealing.password_hash(user, tree["account"], algorithm))
        for algorithm, kept in tree["ha1"].items()
    }
    return orjson.dumps(tree | {"ha1": ha1}).decode()
