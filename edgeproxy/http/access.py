"""Who asks with an access token: the account that lists it. The static numbers API and the calls API go by this."""

import asyncio
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from cachetools import TTLCache

from edgeproxy.accounts.account import Account
from edgeproxy.store import Store
from edgeproxy.store.access import Tokens, token_hash

ACCESS_TOKEN = "Access-Token"  # noqa: S105 - a header's name
SHUT_OUT_S = 60
_ACCOUNT_S = 5  # for reading an account
_SHUT_OUT_MOST = 8192  # client IPs that are remembered as shut out: of others the store is asked
_GOOD_KEPT, _GOOD_KEPT_S = 1024, 600
_MARK = 8  # hex digits


class UnknownTokenError(Exception):
    """No token, several, or one that is no account's."""


class ShutOutError(Exception):
    """Too many bad tokens, or failed logins, of this client IP in a minute; it may come again after `SHUT_OUT_S`."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who asks. `mark` tells a token from others without giving it away: the first digits of its hash."""

    account: Account
    mark: str


class Access:
    """Checks access tokens. `bad_most` bad ones of a client IP within a minute shut it out.

    They are counted in the store, together with failed logins to the partner API: whoever guesses has so many guesses
    on all nodes and APIs.
    """

    def __init__(self, store: Store, bad_most: int) -> None:
        self._store = store
        self._tokens = Tokens(store)
        self._bad_most = bad_most
        self._shut_out: TTLCache[str, bool] = TTLCache(_SHUT_OUT_MOST, SHUT_OUT_S)
        self._good: TTLCache[str, bool] = TTLCache(_GOOD_KEPT, _GOOD_KEPT_S)  # hashes that were good lately
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def bearer(self, tokens: Sequence[str], ip: str) -> Bearer:
        """Who asks with these tokens (all that the request brings) from that client IP.

        A token is good if the account that it leads to lists its hash: one taken out of the account is void, whatever
        the index of tokens says.

        Raises:
            ShutOutError, UnknownTokenError.
            Fault: `STORE_UNAVAILABLE`.
        """
        if ip in self._shut_out:
            raise ShutOutError
        if not tokens:
            raise UnknownTokenError  # no guess
        sent = token_hash(tokens[0]) if len(tokens) == 1 else ""
        if sent in self._good:
            return await self._check(sent, ip)
        async with self._turns.setdefault(ip, asyncio.Lock()):  # so that guesses at once are counted one by one
            return await self._check(sent, ip)

    async def _check(self, sent: str, ip: str) -> Bearer:
        name, failures = await self._tokens.knock(sent, ip)
        if failures >= self._bad_most:
            self._shut_out[ip] = True
            raise ShutOutError
        account = await self._store.account(name, time.monotonic() + _ACCOUNT_S) if name else None
        if account is None or not _lists(account, sent):
            self._good.pop(sent, None)
            await self._tokens.failures.add(ip)
            raise UnknownTokenError
        self._good[sent] = True
        return Bearer(account, sent[:_MARK])


def _lists(account: Account, sent: str) -> bool:
    """Tell whether the hash is among the account's; takes the same time wherever they differ."""
    listed = False
    for known in account.token_hashes:
        listed |= hmac.compare_digest(known, sent)
    return listed
