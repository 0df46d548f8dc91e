"""Who asks with an access token: the account that lists it. The static numbers API and the calls API go by this."""

import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cachetools import TTLCache

from edgeproxy.model import Account
from edgeproxy.store import Store
from edgeproxy.store.access import Tokens, token_hash

ACCESS_TOKEN = "Access-Token"  # noqa: S105 - a header's name
SHUT_OUT_S = 60
_ACCOUNT_S = 5  # for reading an account
_OFFENDERS_KEPT = 65_536
_MARK = 8  # hex digits


class UnknownTokenError(Exception):
    """No token, several, or one that is no account's."""


class ShutOutError(Exception):
    """Too many bad tokens of this client IP within a minute; it may come again after `SHUT_OUT_S`."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who asks. `mark` tells a token from others without giving it away: the first digits of its hash."""

    account: Account
    mark: str


@dataclass(slots=True)
class _Offences:
    """An IP's bad access tokens of a minute."""

    count: int = 0


class Access:
    """Checks access tokens. `bad_most` bad ones of a client IP within a minute shut it out."""

    def __init__(self, store: Store, bad_most: int) -> None:
        self._store = store
        self._tokens = Tokens(store)
        self._bad_most = bad_most
        self._offences: TTLCache[str, _Offences] = TTLCache(_OFFENDERS_KEPT, SHUT_OUT_S)

    async def bearer(self, tokens: Sequence[str], ip: str) -> Bearer:
        """Who asks with these tokens (all that the request brings) from that client IP.

        A token is good if the account that it leads to lists its hash: one taken out of the account is void, whatever
        the index of tokens says.

        Raises:
            ShutOutError, UnknownTokenError.
            Fault: `STORE_UNAVAILABLE`.
        """
        if (offences := self._offences.get(ip)) is not None and offences.count >= self._bad_most:
            raise ShutOutError
        sent = token_hash(tokens[0]) if len(tokens) == 1 and tokens[0] else None
        name = await self._tokens.account_of(sent) if sent is not None else None
        account = await self._store.account(name, time.monotonic() + _ACCOUNT_S) if name else None
        if sent is None or account is None or not _lists(account, sent):
            if tokens:
                if (offences := self._offences.get(ip)) is None:
                    offences = self._offences[ip] = _Offences()  # setting it begins its minute
                offences.count += 1
            raise UnknownTokenError
        return Bearer(account, sent[:_MARK])


def _lists(account: Account, sent: str) -> bool:
    """Tell whether the hash is among the account's; takes the same time wherever they differ."""
    listed = False
    for known in account.token_hashes:
        listed |= hmac.compare_digest(known, sent)
    return listed
