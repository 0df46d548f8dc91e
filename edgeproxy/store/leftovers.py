"""What loads that were cut off leave behind: numbers and tokens that are claimed for accounts and not used by them.

A load claims first and saves after. So what is claimed and not used may also be a load's that runs this moment: one
whose claims are freed is refused when it saves, and changes nothing.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from edgeproxy.store import Store, keys
from edgeproxy.store.lua_libraries import function_name

_SOME = 1000  # numbers looked at, or freed, in one call


@dataclass(slots=True)
class Leftovers:
    """What is claimed and not used."""

    numbers: dict[str, list[str]] = field(default_factory=dict)  # account → tracking numbers
    tokens: dict[str, str] = field(default_factory=dict, repr=False)  # hash of an access token → account
    names: list[str] = field(default_factory=list)  # of accounts that were never saved
    removals: list[str] = field(default_factory=list)  # accounts whose removal was cut off

    def __bool__(self) -> bool:
        return bool(self.numbers or self.tokens or self.names)


async def find(store: Store) -> Leftovers:
    """Look the whole store through, a piece at a time.

    Raises:
        RedisError, OSError: the store failed.
    """
    uses, found = _Uses(store), Leftovers()
    for name in sorted(map(str, await store.client(keys.ACCOUNTS).smembers(keys.ACCOUNTS))):
        if await uses.removed(name):
            found.removals.append(name)
        elif not await uses.saved(name):
            found.names.append(name)
    async for piece in pieces(store, keys.OWNERS):
        for number, owner in (await uses.unused(piece)).items():
            found.numbers.setdefault(owner, []).append(number)
    async for piece in pieces(store, keys.TOKENS):
        for token, account in piece.items():
            if not await uses.removed(account) and not await uses.lists(account, token):
                found.tokens[token] = account
    return found


async def free(store: Store, found: Leftovers) -> None:
    """Free what was found; what has come into use meanwhile stays.

    Raises:
        RedisError, OSError: the store failed; what was freed by then is.
    """
    for account, numbers in found.numbers.items():
        again = await _Uses(store).unused(dict.fromkeys(numbers, account))
        await disclaim(store, account, again)
    for token, account in found.tokens.items():
        if not await _Uses(store).lists(account, token):
            await store.client(keys.TOKENS).hdel(keys.TOKENS, token)
    for name in found.names:
        if not await store.client(keys.account(name)).exists(keys.account(name)):
            await store.client(keys.ACCOUNTS).srem(keys.ACCOUNTS, name)


async def unused(store: Store, claims: dict[str, str]) -> dict[str, str]:
    """Of numbers and the accounts that they belong to, those that these do not use."""
    uses, found, numbers = _Uses(store), dict[str, str](), list(claims)
    for first in range(0, len(numbers), _SOME):
        found |= await uses.unused({number: claims[number] for number in numbers[first : first + _SOME]})
    return found


async def lists_token(store: Store, account: str, token: str) -> bool:
    """Tell whether an account lists an access token's hash: it is good then."""
    return await _Uses(store).lists(account, token)


async def disclaim(store: Store, account: str, numbers: Iterable[str]) -> None:
    """Give numbers up; those that another account owns stay its own."""
    all_numbers, call = list(numbers), function_name("ep1_disclaim")
    for first in range(0, len(all_numbers), _SOME):
        some = orjson.dumps(all_numbers[first : first + _SOME])
        await store.client(keys.OWNERS).fcall(call, 1, keys.OWNERS, account, some)


async def pieces(store: Store, key: str) -> AsyncIterator[dict[str, str]]:
    """A hash, some fields at a time."""
    client, cursor = store.client(key), 0
    while True:
        reply: Any = await client.hscan(key, cursor, count=_SOME)
        cursor, some = reply
        yield {str(name): str(value) for name, value in some.items()}
        if not cursor:
            return


class _Uses:
    """What accounts use; the configuration of each is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._accounts: dict[str, tuple[bool, bool, set[str], set[str]]] = {}

    async def _account(self, name: str) -> tuple[bool, bool, set[str], set[str]]:
        if name not in self._accounts:
            key = keys.account(name)
            removed, version, text = await self._store.client(key).hmget(key, ["removed", "version", "config"])
            config: dict[str, Any] = orjson.loads(text or b'{"pools":{},"token_hashes":[]}')
            shared = {pool["shared_number"] for pool in config["pools"].values()} - {None}
            self._accounts[name] = removed is not None, version is not None, shared, set(config["token_hashes"])
        return self._accounts[name]

    async def removed(self, account: str) -> bool:
        """Whether the account is being removed: then what it has goes with it."""
        return (await self._account(account))[0]

    async def saved(self, account: str) -> bool:
        """Whether there is such an account."""
        return (await self._account(account))[1]

    async def lists(self, account: str, token: str) -> bool:
        """Whether the account lists the token's hash."""
        return token in (await self._account(account))[3]

    async def unused(self, claims: dict[str, str]) -> dict[str, str]:
        """Of numbers and their accounts, those that are neither in these accounts' inventories nor shared numbers."""
        by_account: dict[str, list[str]] = {}
        for number, owner in claims.items():
            by_account.setdefault(owner, []).append(number)
        found = {}
        for owner, numbers in by_account.items():
            if await self.removed(owner):
                continue
            key = keys.numbers(owner)
            states = await self._store.client(key).hmget(key, numbers)
            shared = (await self._account(owner))[2]
            for number, state in zip(numbers, states, strict=True):
                if state is None and number not in shared:
                    found[number] = owner
        return found
