"""HMAC-SHA1 signatures of request bodies (CONTRACT §1, *Signature*)."""

import enum
import hmac
from collections.abc import Sequence


class Outcome(enum.Enum):
    """What came of a signature check."""

    GOOD = enum.auto()
    MISSING = enum.auto()
    BAD = enum.auto()


def sign(body: bytes, secret: bytes) -> str:
    """The signature of the raw body: lower-case hex."""
    return hmac.digest(secret, body, "sha1").hex()


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
