"""Every key the gateway keeps in the store: its name, what it holds, and its TTL or the reason why it has none.

All keys of an account carry the hash tag `{account}`; the limiter's, which spans accounts, have a tag of their own.
`TTLS` and `LASTING` are what the test that walks the keyspace goes by.
"""

RELEASE = "ep1"  # in every key, function library and function: two releases can serve side by side on one store

CHANGED = f"{RELEASE}:changed"  # pub/sub channel: the name of an account whose configuration changed
ACCOUNTS = f"{RELEASE}:accounts"  # set of account names
OWNERS = f"{RELEASE}:owners"  # hash: tracking number → account, so that no two accounts hold one number
LIMITER = tuple(f"{RELEASE}:{{ip}}:{turn}" for turn in range(3))  # hashes of one clock second each, used in turn


def account(name: str) -> str:
    """Hash: `version` and `config` (JSON) of the account."""
    return f"{RELEASE}:{{{name}}}:account"


def numbers(name: str) -> str:
    """Hash: the account's inventory, tracking number → its state (`pool:berlin`)."""
    return f"{RELEASE}:{{{name}}}:numbers"


def points(name: str) -> str:
    """Hash: `day` (its midnight, epoch ms), the points `spent` on it, and when the TTL of `visits` is due again."""
    return f"{RELEASE}:{{{name}}}:points"


def visits(name: str) -> str:
    """Stream: what visitors were shown; one entry a batch, field `visits`, a JSON array."""
    return f"{RELEASE}:{{{name}}}:visits"


def pool(name: str, pool_name: str) -> tuple[str, str, str]:
    """Three sorted sets of a pool: `free`, `leased`, `granted`.

    free: tracking number → when it can be leased (in the future: it is cooling down).
    leased: `number:session` → when the lease ends.
    granted: `number:session` → when the lease began; only of pools that recycle.
    """
    prefix = f"{RELEASE}:{{{name}}}:pool:{pool_name}:"
    return prefix + "free", prefix + "leased", prefix + "granted"


def session_prefix(name: str) -> str:
    """String, msgpack: a session's end and its leases; the session id follows."""
    return f"{RELEASE}:{{{name}}}:session:"


def visitor_prefix(name: str) -> str:
    """String, msgpack: the numbers a visitor was last shown; the partner's `trackingId` follows."""
    return f"{RELEASE}:{{{name}}}:visitor:"


TTLS = {
    r"ep1:\{ip\}:[012]": "3 s: the limiter looks back one second",
    r"ep1:\{[^}]+\}:points": "to the second day after",
    r"ep1:\{[^}]+\}:visits": "the account's visits_kept and a tenth, renewed by visits",
    r"ep1:\{[^}]+\}:session:.+": "the idle time of the account's pools and a tenth, renewed by requests",
    r"ep1:\{[^}]+\}:visitor:.+": "the account's visitors_kept, renewed by leases",
}

LASTING = {
    r"ep1:accounts": "configuration",
    r"ep1:owners": "configuration",
    r"ep1:\{[^}]+\}:account": "configuration",
    r"ep1:\{[^}]+\}:numbers": "the inventory",
    r"ep1:\{[^}]+\}:pool:[^:]+:(free|leased|granted)": "the inventory: as many members as the pool has numbers",
}
