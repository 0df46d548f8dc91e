"""Who may come in: which account an access token may lead to, and how often a client IP has failed to prove itself."""

import hashlib

from edgeproxy.store import Store, keys
from edgeproxy.store.functions import Functions

FAILURES_KEPT_MS = 60_000


def token_hash(token: str) -> str:
    """What is kept of an access token: tokens are random, so a plain hash gives nothing away."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


class Failures:
    """Failed logins and bad tokens of a client IP, over all nodes, workers and APIs of the manage port.

    A client's count begins again `FAILURES_KEPT_MS` after its first. Every method raises `Fault` (`STORE_UNAVAILABLE`).
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._functions = Functions(store, None)

    async def of(self, ip: str) -> int:
        """How many there are."""
        key = keys.failures(ip)
        with self._functions.faults():
            count = int(await self._store.client(key).get(key) or 0)
            if count:  # what was counted while the store's clock was ahead would last until then
                await self._store.client(key).pexpire(key, FAILURES_KEPT_MS, lt=True)
            return count

    async def add(self, ip: str) -> None:
        """Count one more."""
        key = keys.failures(ip)
        await self._functions.transaction(key, [("INCR", key), ("PEXPIRE", key, FAILURES_KEPT_MS, "LT")])


class Tokens:
    """The index of access tokens: where to look, not who may; that the account's own `token_hashes` say."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._functions = Functions(store, None)

    async def account_of(self, token_hash: str) -> str | None:
        """The account that may have a token of this hash.

        Raises:
            Fault: `STORE_UNAVAILABLE`.
        """
        with self._functions.faults():
            found = await self._store.client(keys.TOKENS).hget(keys.TOKENS, token_hash)
        return None if found is None else str(found)
