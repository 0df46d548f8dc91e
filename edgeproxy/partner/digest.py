"""HTTP Digest (RFC 7616): challenges, what a client answers to them, and nonces that prove themselves.

No maintained server-side library for asyncio exists, so this is ours. Passwords are not known here: what is kept of one
is its HA1, the hash of user, realm and password, for each algorithm that is offered.
"""

import base64
import hashlib
import hmac
import re
import secrets
import struct
from dataclasses import dataclass
from urllib.request import parse_http_list, parse_keqv_list

REALM = "edgeproxy"  # part of every HA1: another realm would make all passwords void
OFFERED = ("SHA-256", "MD5")  # in the order of preference
NONCE_LIFE_S = 300
COUNT_MOST = 4095  # uses of one nonce; the store keeps a bit for each
AHEAD_S = 60  # that another node's clock may be ahead
_STAMP = struct.Struct(">Q8s")  # when it was made, epoch ms; randomness
_PROOF_BYTES = 16
_COUNT = re.compile("[0-9A-Fa-f]{8}")
_HASHES = {"MD5": "md5", "SHA-256": "sha256"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an `Authorization: Digest` header says (RFC 7616 §3.4); only `qop=auth` is taken."""

    username: str
    nonce: str
    uri: str
    response: str
    algorithm: str
    count: str  # `nc`, eight hex digits
    cnonce: str


def _hash(algorithm: str, text: str) -> str:
    return hashlib.new(_HASHES[algorithm], text.encode(), usedforsecurity=False).hexdigest()


def ha1(algorithm: str, user: str, realm: str, password: str) -> str:
    """The hash that stands for a password (RFC 7616 §3.4.2)."""
    return _hash(algorithm, f"{user}:{realm}:{password}")


def response(credentials: Credentials, password_hash: str, method: str) -> str:
    """The response that proves a password, for a request by `method` (RFC 7616 §3.4.1, `qop=auth`)."""
    request = _hash(credentials.algorithm, f"{method}:{credentials.uri}")
    said = f"{credentials.nonce}:{credentials.count}:{credentials.cnonce}:auth:{request}"
    return _hash(credentials.algorithm, f"{password_hash}:{said}")


def proves(credentials: Credentials, password_hash: str, method: str) -> bool:
    """Tell whether the client knew the password; the comparison takes the same time wherever they differ."""
    return hmac.compare_digest(
        response(credentials, password_hash, method).encode(), credentials.response.lower().encode()
    )


def read(header: str) -> Credentials | None:
    """What the header says, or None where it is no complete answer to one of our challenges."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "digest":
        return None
    try:
        header.encode()  # bytes that were not UTF-8 came as halves of surrogate pairs
        said = {name.lower(): value for name, value in parse_keqv_list(parse_http_list(rest)).items()}
        credentials = Credentials(
            username=said["username"],
            nonce=said["nonce"],
            uri=said["uri"],
            response=said["response"],
            algorithm=said.get("algorithm", "MD5").upper(),
            count=said["nc"],
            cnonce=said["cnonce"],
        )
        good = said["qop"] == "auth" and said["realm"] == REALM and credentials.algorithm in OFFERED
        good = good and _COUNT.fullmatch(credentials.count) is not None and int(credentials.count, 16) > 0
    except (KeyError, ValueError, IndexError):
        return None
    return credentials if good else None


def challenges(nonce: str, *, stale: bool) -> list[str]:
    """The `WWW-Authenticate` lines of a 401, the preferred algorithm first."""
    rest = ", stale=true" if stale else ""
    return [
        f'Digest realm="{REALM}", qop="auth", algorithm={algorithm}, nonce="{nonce}", charset=UTF-8{rest}'
        for algorithm in OFFERED
    ]


class Nonces:
    """Makes nonces and knows its own: each holds when it was made, and is signed with a key that all nodes share."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, now_s: float) -> str:
        """A nonce that is good for `NONCE_LIFE_S` from `now_s` (epoch)."""
        stamp = _STAMP.pack(int(now_s * 1000), secrets.token_bytes(8))
        return base64.urlsafe_b64encode(stamp + self._sign(stamp)).decode()

    def knows(self, nonce: str) -> bool:
        """Tell whether it was made with our key."""
        return self._made_ms(nonce) is not None

    def is_good(self, nonce: str, now_s: float) -> bool:
        """Tell whether it was made with our key, and not too long ago."""
        made_ms = self._made_ms(nonce)
        return made_ms is not None and -AHEAD_S <= now_s - made_ms / 1000 < NONCE_LIFE_S

    def _sign(self, stamp: bytes) -> bytes:
        return hmac.digest(self._key, stamp, "sha256")[:_PROOF_BYTES]

    def _made_ms(self, nonce: str) -> int | None:
        try:
            raw = base64.b64decode(nonce.encode("ascii"), b"-_", validate=True)
            made_ms, _ = _STAMP.unpack(raw[: _STAMP.size])
        except (ValueError, struct.error):
            return None
        return int(made_ms) if hmac.compare_digest(raw[_STAMP.size :], self._sign(raw[: _STAMP.size])) else None
