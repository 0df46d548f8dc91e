"""Secrets sealed in the store with keys that only gateways have: whoever reads the store reads no secret.

A sealed secret is `{"sealed": TOKEN}`, a plain one a text: told apart by their form, whatever the secret is. A release
that knows nothing of seals can use no such object as a key, so it fails instead of taking a token for a secret. A token
holds its place (whose secret it is) beside the secret: in another account's record it does not open. It is Fernet's:
AES-128-CBC and HMAC-SHA256. Sealing keeps readers out; who may write to the store can still put plain secrets there.
"""

import logging
from collections.abc import Sequence
from typing import Any, Literal

import orjson
from cachetools import TTLCache
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from edgeproxy.errors import SealError

Kept = str | dict[str, str]  # a secret as the store keeps it: plain, or sealed
Standing = Literal[
    "first", "older", "plain", "shut"
]  # sealed with the first key, with another; plain; not to be opened

NONCE_KEY = "the key of nonces"  # its place; places are inside what is sealed, so they stay as they are
_SEALED = "sealed"
_log = logging.getLogger(__name__)
_TOLD_MOST, _TELL_AGAIN_S = 4096, 60


def new_key() -> str:
    """A fresh key."""
    return Fernet.generate_key().decode()


def account_secret(account: str) -> str:
    """The place of an account's signing secrets."""
    return f"a signing secret of account {account}"


def callers_salt(account: str) -> str:
    """The place of the salt of an account's callers' hashes."""
    return f"the salt of callers of account {account}"


def password_hash(user: str, account: str, algorithm: str) -> str:
    """The place of a user's HA1; with its account, lest the user be given another one's."""
    return f"the {algorithm} password hash of user {user} of account {account}"


class Seal:
    """Seals with the first key, opens with any; without keys it leaves secrets plain, and opens none that is sealed.

    Raises:
        ValueError: a key is none of Fernet's.
    """

    def __init__(self, keys: Sequence[SecretStr] = ()) -> None:
        self._fernets = [Fernet(key.get_secret_value()) for key in keys]
        self._all = MultiFernet(self._fernets) if self._fernets else None
        self._told: TTLCache[str, bool] = TTLCache(_TOLD_MOST, _TELL_AGAIN_S)

    def __repr__(self) -> str:
        return f"Seal({'with' if self._all else 'without'} keys)"

    def __bool__(self) -> bool:
        """Whether it has a key to seal with."""
        return self._all is not None

    def seal(self, secret: str, place: str) -> Kept:
        """The secret as it is to be kept in that place."""
        if self._all is None:
            return secret
        return {_SEALED: self._all.encrypt(orjson.dumps([place, secret])).decode()}

    def open(self, kept: Kept, place: str) -> str:
        """The secret that is kept in that place.

        Raises:
            SealError: no key opens it, or it was sealed for another place.
        """
        if isinstance(kept, str):
            return kept
        if self._all is None:
            raise SealError(place)
        return _opened(self._all, kept, place)

    def standing(self, kept: Kept, place: str) -> Standing:
        """How the secret of that place is kept."""
        if isinstance(kept, str):
            return "plain"
        for index, fernet in enumerate(self._fernets):
            try:
                _opened(fernet, kept, place)
            except SealError:
                continue
            return "older" if index else "first"
        return "shut"

    def rotate(self, kept: Kept, place: str) -> Kept:
        """The secret sealed with the first key; as it is, if it is so already.

        Raises:
            SealError: see `open`.
        """
        return kept if self.standing(kept, place) == "first" else self.seal(self.open(kept, place), place)

    # Where secrets stand among other things -----------------------------------------------------------------------

    def seal_config(self, account: str, config: dict[str, Any]) -> dict[str, Any]:
        """An account's configuration as it is to be kept."""
        place = account_secret(account)
        return config | {"secrets": [self.seal(secret, place) for secret in config["secrets"]]}

    def open_config(self, account: str, config: dict[str, Any]) -> dict[str, Any]:
        """An account's configuration with its secrets open.

        Raises:
            SealError: see `open`.
        """
        place = account_secret(account)
        return config | {"secrets": [self.open(kept, place) for kept in config["secrets"]]}

    def seal_text(self, secret: str, place: str) -> str:
        """Like `seal`, for a secret that is a value of the store by itself. It must not begin with a brace."""
        return as_text(self.seal(secret, place))

    def open_text(self, text: str, place: str) -> str:
        """Like `open`, of what `seal_text` gave.

        Raises:
            SealError: see `open`.
        """
        return self.open(from_text(text), place)

    def tell(self, error: SealError) -> None:
        """Log that a secret cannot be opened; once a minute for each place."""
        if error.place not in self._told:
            self._told[error.place] = True
            _log.error("%s", error)


def as_text(kept: Kept) -> str:
    """A kept secret as a value of the store."""
    return kept if isinstance(kept, str) else orjson.dumps(kept).decode()


def from_text(text: str) -> Kept:
    """A kept secret that is a value of the store."""
    kept: Kept = orjson.loads(text) if text.startswith("{") else text
    return kept


def _opened(fernet: Fernet | MultiFernet, kept: dict[str, str], place: str) -> str:
    try:
        sealed_for, secret = orjson.loads(fernet.decrypt(kept.get(_SEALED, "")))
    except (InvalidToken, ValueError, TypeError):
        raise SealError(place) from None
    if sealed_for != place:
        raise SealError(place)
    return str(secret)
