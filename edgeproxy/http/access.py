"""Who asks with an access token: the account that lists it; and which client IPs have guessed too often."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakValueDictionary

from cachetools import TTLCache

from edgeproxy.accounts.account import Account
from edgeproxy.store import Store
from edgeproxy.store.access import Failures, Tokens, token_hash

T = TypeVar("T")

ACCESS_TOKEN = "Access-Token"  # noqa: S105 - a header's name
SHUT_OUT_S = 60
_ACCOUNT_S = 5  # for reading an account
_SHUT_OUT_MOST = 8192  # client IPs that are remembered as shut out: of others the store is asked
_GOOD_KEPT, _GOOD_KEPT_S = 1024, 600
_MARK = 8  # hex digits


class UnknownTokenError(Exception):
    """No token, several, or one that is no account's."""


class ShutOutError(Exception):
    """Too many bad tokens or failed logins of this client IP in a minute; it may come again after `SHUT_OUT_S`."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who asks. `mark` tells a token from others without giving it away: the first digits of its hash."""

    account: Account
    mark: str


class Offenders:
    """Client IPs that guess access tokens, or logins: `most` bad ones within a minute shut one out.

    They are counted in the store, so whoever guesses has so many guesses on all nodes and APIs. Who is shut out is
    remembered here too, once for all APIs of a worker: to refuse such a client costs the store nothing.
    """

    def __init__(self, store: Store, most: int) -> None:
        self._failures = Failures(store)
        self._most = most
        self._shut_out: TTLCache[str, bool] = TTLCache(_SHUT_OUT_MOST, SHUT_OUT_S)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def refuse(self, ip: str) -> None:
        """Raises: ShutOutError, of an IP that is known to be shut out."""
        if ip in self._shut_out:
            raise ShutOutError

    def turn(self, ip: str) -> asyncio.Lock:
        """To be held while a guess is looked at, so that an IP's guesses at once are counted one by one."""
        return self._turns.setdefault(ip, asyncio.Lock())

    async def look(self, ip: str, looked_up: Awaitable[T]) -> T:
        """What a guess leads to in the store (`looked_up`); the IP's earlier failures are asked for at the same time.

        Raises:
            ShutOutError: there are too many.
            Fault: `STORE_UNAVAILABLE`.
        """
        found, failures = await asyncio.gather(looked_up, self._failures.of(ip))
        if failures >= self._most:
            self._shut_out[ip] = True
            raise ShutOutError
        return found

    async def add(self, ip: str) -> None:
        """Count a guess that was bad. Raises: Fault (`STORE_UNAVAILABLE`)."""
        await self._failures.add(ip)


class Access:
    """Checks access tokens."""

    def __init__(self, store: Store, offenders: Offenders) -> None:
        self._store = store
        self._tokens = Tokens(store)
        self._offenders = offenders
        self._good: TTLCache[str, bool] = TTLCache(_GOOD_KEPT, _GOOD_KEPT_S)  # hashes that were good lately

    async def bearer(self, tokens: Sequence[str], ip: str) -> Bearer:
        """Who asks with these tokens (all that the request brings) from that client IP.

        A token is good if the account that it leads to lists its hash: one taken out of the account is void, whatever
        the index of tokens says.

        Raises:
            ShutOutError, UnknownTokenError.
            Fault: `STORE_UNAVAILABLE`.
        """
        self._offenders.refuse(ip)
        if not tokens:
            raise UnknownTokenError  # no guess
        sent = token_hash(tokens[0]) if len(tokens) == 1 else ""
        if sent in self._good:
            return await self._check(sent, ip)
        async with self._offenders.turn(ip):
            return await self._check(sent, ip)

    async def _check(self, sent: str, ip: str) -> Bearer:
        name = await self._offenders.look(ip, self._tokens.account_of(sent))
        account = await self._store.account(name, time.monotonic() + _ACCOUNT_S) if name else None
        if account is None or not _lists(account, sent):
            self._good.pop(sent, None)
            await self._offenders.add(ip)
            raise UnknownTokenError
        self._good[sent] = True
        return Bearer(account, sent[:_MARK])


def _lists(account: Account, sent: str) -> bool:
    """Tell whether the hash is among the account's; takes the same time wherever they differ."""
    listed = False
    for known in account.token_hashes:
        listed |= hmac.compare_digest(known, sent)
    return listed
