"""Access tokens in the store: which account a token may lead to."""

import hashlib

from edgeproxy.store import Store, keys
from edgeproxy.store.functions import Functions


def token_hash(token: str) -> str:
    """What is kept of an access token: tokens are random, so a plain hash gives nothing away."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


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
