"""HMAC-SHA1 signatures of request bodies (CONTRACT §1, *Signature*)."""

import enum
import functools
import hashlib
import hmac
from collections.abc import Sequence

_BLOCK = 64  # bytes that SHA-1 takes at once
_SECRETS_KEPT = 4096


class Outcome(enum.Enum):
    """What came of a signature check."""

    GOOD = enum.auto()
    MISSING = enum.auto()
    BAD = enum.auto()


def _sha1(content: bytes) -> "hashlib._Hash":
    return hashlib.sha1(content)  # noqa: S324  the API's choice; HMAC does not need it to be free of collisions


@functools.lru_cache(_SECRETS_KEPT)
def _begun(secret: bytes) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """HMAC's two hashes (RFC 2104) after the secret, which is where they begin with every body.

    `hmac.digest` begins anew each time, and that takes it longer than the body.
    """
    block = (_sha1(secret).digest() if len(secret) > _BLOCK else secret).ljust(_BLOCK, b"\0")
    return _sha1(bytes(byte ^ 0x36 for byte in block)), _sha1(bytes(byte ^ 0x5C for byte in block))


def sign(body: bytes, secret: bytes) -> str:
    """The signature of the raw body: lower-case hex."""
    inner, outer = _begun(secret)
    inner, outer = inner.copy(), outer.copy()
    inner.update(body)
    outer.update(inner.digest())
    return outer.hexdigest()


def verify(body: bytes, signatures: Sequence[str], secrets: Sequence[bytes]) -> Outcome:
    """Check every signature that was sent, by header or query, against the account's secrets, in constant time.

    All of them must be good, each by any one of the secrets. With no secrets (there is no such account) the same work
    is done and nothing is good.
    """
    if not signatures:
        return Outcome.MISSING
    good = bool(secrets)
    for signature in signatures:
        sent = signature.lower().encode("utf-8", "surrogateescape")
        matches = False
        for secret in secrets or (b"",):
            matches |= hmac.compare_digest(sign(body, secret).encode(), sent)
        good &= matches
    return Outcome.GOOD if good else Outcome.BAD
