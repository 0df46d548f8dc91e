"""Users of the partner API: who may log in, and the nonces of their logins."""

import functools
import secrets
from dataclasses import dataclass, field
from typing import Any

import orjson

from edgeproxy.store import Store, keys, sealing
from edgeproxy.store.functions import Functions

_NONCE_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class User:
    """Who may use the partner API: a user of an account, with the HA1 of its password for each algorithm of Digest."""

    account: str
    ha1: dict[str, str] = field(repr=False)


class Users:
    """Typed access to users and nonces. Every method raises `Fault` (`STORE_UNAVAILABLE`) where the store fails."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._functions = Functions(store, None)

    @functools.cached_property
    def _nobody(self) -> bytes:
        """A user as it is kept, of no name and no account."""
        return self._packed("", User("", {algorithm: secrets.token_hex(16) for algorithm in ("SHA-256", "MD5")}))

    async def get(self, name: str) -> User | None:
        """The user of that name."""
        with self._functions.faults():
            packed = await self._store.client(keys.USERS).hget(keys.USERS, name)
            # Where there is no such user, another's secrets are opened: the wait must not tell who there is.
            opened = self._open_user(name if packed else "", orjson.loads(packed or self._nobody))
            return opened if packed else None

    def _open_user(self, name: str, tree: dict[str, Any]) -> User:
        account, seal = tree["account"], self._store.seal
        ha1 = {
            algorithm: seal.open(kept, sealing.password_hash(name, account, algorithm))
            for algorithm, kept in tree["ha1"].items()
        }
        return User(account, ha1)

    async def take_nonce(self, nonce: str, count: int, life_ms: int) -> bool:
        """Use a nonce with a count (`nc`); False if it has been used with that count before, wherever."""
        key = keys.nonce(nonce)
        before, _ = await self._functions.transaction(key, [("SETBIT", key, count, 1), ("PEXPIRE", key, life_ms)])
        return not before

    async def nonce_key(self) -> bytes:
        """The key that nonces are signed with, the same for all workers and nodes; made by the first who asks."""
        with self._functions.faults():
            client, fresh = self._store.client(keys.NONCE_KEY), secrets.token_hex(_NONCE_KEY_BYTES)
            await client.set(keys.NONCE_KEY, self._store.seal.seal_text(fresh, sealing.NONCE_KEY), nx=True)
            kept = str(await client.get(keys.NONCE_KEY))
            return bytes.fromhex(self._store.seal.open_text(kept, sealing.NONCE_KEY))

    async def save(self, name: str, user: User) -> None:
        """Add a user, or give it another password or account."""
        packed = self._packed(name, user)
        with self._functions.faults():
            await self._store.client(keys.USERS).hset(keys.USERS, name, packed.decode())

    def _packed(self, name: str, user: User) -> bytes:
        ha1 = {
            algorithm: self._store.seal.seal(password_hash, sealing.password_hash(name, user.account, algorithm))
            for algorithm, password_hash in user.ha1.items()
        }
        return orjson.dumps({"account": user.account, "ha1": ha1})

    async def remove(self, name: str) -> bool:
        """Remove a user; False if there was none of that name."""
        with self._functions.faults():
            return bool(await self._store.client(keys.USERS).hdel(keys.USERS, name))

    async def all(self) -> dict[str, str]:
        """All users, with their accounts."""
        with self._functions.faults():
            found = await self._store.client(keys.USERS).hgetall(keys.USERS)
        return {str(name): orjson.loads(packed)["account"] for name, packed in sorted(found.items())}
