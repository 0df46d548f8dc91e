"""HMAC-SHA1 signatures of request bodies (`README.md`, *Signature*)."""

import enum
import functools
import hashlib
import hmac
import re
from collections.abc import Sequence
from itertools import islice

_BLOCK = 64  # bytes that SHA-1 takes at once
_SECRETS_KEPT = 4096
_IN_QUERY = re.compile(r"(?:^|&)sign(?:=([^&]*))?(?=&|$)")
_NEVER_GOOD = ("",)


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


def sent(in_header: Sequence[str], query: str) -> Sequence[str]:
    """The signatures that a request brings: one by its header and one by its query, at most.

    Of more than one at either place none is looked at: they stand for one that is never good.
    """
    if not query:
        return in_header if len(in_header) < 2 else _NEVER_GOOD
    in_query = [found[1] or "" for found in islice(_IN_QUERY.finditer(query), 2)]
    return _NEVER_GOOD if len(in_header) > 1 or len(in_query) > 1 else (*in_header, *in_query)


def verify(body: bytes, signatures: Sequence[str], secrets: Sequence[bytes]) -> Outcome:
    """Check every signature that was sent against the account's secrets, in constant time.

    All of them must be good, each by any one of the secrets. With no secrets (there is no such account) the same work
    is done and nothing is good.
    """
    if not signatures:
        return Outcome.MISSING
    wanted = [sign(body, secret).encode() for secret in secrets or (b"",)]
    good = bool(secrets)
    for signature in signatures:
        brought = signature.lower().encode("utf-8", "surrogateescape")
        matches = False
        for one in wanted:
            matches |= hmac.compare_digest(one, brought)
        good &= matches
    return Outcome.GOOD if good else Outcome.BAD
