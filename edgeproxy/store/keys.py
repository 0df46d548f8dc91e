"""Every key the gateway keeps in the store: its name, what it holds, and its TTL or the reason why it has none.

All keys of an account carry the hash tag `{account}`; the limiter's, which spans accounts, have a tag of their own.
`TTLS` and `LASTING` are what the test that walks the keyspace goes by.
"""

RELEASE = "ep1"  # begins every key, function library and function: what the data means

CHANGED = f"{RELEASE}:changed"  # pub/sub channel: the name of an account whose configuration changed
ACCOUNTS = f"{RELEASE}:accounts"  # set of account names
USERS = f"{RELEASE}:users"  # hash: user of the partner API → JSON: account, HA1s of its password (sealed)
TOKENS = f"{RELEASE}:tokens"  # hash: SHA-256 of an access token → the account that lists it among its `token_hashes`
NONCE_KEY = f"{RELEASE}:nonce-key"  # string, sealed: what the nonces of HTTP Digest are signed with, on all nodes
OWNERS = f"{RELEASE}:owners"  # hash: tracking number → account, so that no two accounts hold one number
LEFT = f"{RELEASE}:left"  # sorted set: tracking number that left its account → when its cooldown is over, epoch ms
LIMITER = tuple(f"{RELEASE}:{{ip}}:{turn}" for turn in range(3))  # hashes of one clock second each, used in turn


def flushed(key: str) -> str:
    """String, in the slot of `key`: a last write, to wait for."""
    tag = key[key.index("{") + 1 : key.index("}")] if "{" in key else key
    return f"{RELEASE}:{{{tag}}}:flushed"


def of_account(name: str) -> str:
    """What every key of an account begins with; in a pattern it stands for itself."""
    return f"{RELEASE}:{{{name}}}:"


def account(name: str) -> str:
    """Hash: `version` and `config` (JSON, its `secrets` sealed), and the `salt` of its callers' hashes, sealed.

    What is sealed, and how, is in sealing.py. While the account is removed there is no `version`, but `removed`: since
    when, epoch ms.
    """
    return f"{RELEASE}:{{{name}}}:account"


def numbers(name: str) -> str:
    """Hash: the account's inventory, tracking number → the one state it is in.

    `free`, `pool:NAME`, `source:ID`, `quarantined:ID` (of a source), `static`.
    """
    return f"{RELEASE}:{{{name}}}:numbers"


def free(name: str) -> str:
    """Sorted set: each `free` number → since when it can be taken (in the future: its cooldown lasts), epoch ms."""
    return f"{RELEASE}:{{{name}}}:free"


def ids(name: str) -> str:
    """Hash: the last id given, of `customers`, `sources`, `greetings`, `cdrs`; and `sound_bytes`, of all greetings."""
    return f"{RELEASE}:{{{name}}}:ids"


def records(name: str, resource: str) -> tuple[str, str]:
    """Of `customers`, `sources`, `greetings`: a hash, id → record (JSON), and a sorted set, its index.

    All scores of an index are 0; its members are `field NUL value NUL id`, the id in 12 digits, one for each indexed
    field of a record, and one with an empty field and value for the record itself.
    """
    prefix = f"{RELEASE}:{{{name}}}:{resource}"
    return prefix, prefix + ":index"


def statics(name: str) -> str:
    """Hash: number in use by the static numbers API → its display options, redirect scenario and pool name, JSON."""
    return f"{RELEASE}:{{{name}}}:statics"


def sources_due(name: str) -> str:
    """Sorted set: source → when its status changes next, epoch ms."""
    return f"{RELEASE}:{{{name}}}:sources:due"


def destinations(name: str) -> str:
    """Sorted set, scores 0, of sources that serve: destination, id, tracking number, from, until; NUL between."""
    return f"{RELEASE}:{{{name}}}:destinations"


def sounds(name: str) -> str:
    """Hash: greeting → its sound."""
    return f"{RELEASE}:{{{name}}}:sounds"


def call(name: str, call_id: str) -> str:
    """String: what is known of a call by its events, JSON. The id is a hash after `#` if it would tell of a person."""
    return f"{RELEASE}:{{{name}}}:call:{call_id}"


def calls(name: str) -> str:
    """Stream: the events of calls; field `call`, JSON."""
    return f"{RELEASE}:{{{name}}}:calls"


def cdr(name: str, cdr_id: str) -> str:
    """String: a call record, JSON."""
    return f"{RELEASE}:{{{name}}}:cdr:{cdr_id}"


def cdrs(name: str, field: str = "", value: str = "") -> str:
    """Sorted set: call record → its start, epoch ms; of the whole account, or where `field` has `value`."""
    return f"{RELEASE}:{{{name}}}:cdrs" + (f":{field}:{value}" if field else "")


def points(name: str) -> str:
    """Hash: `day` (its midnight, epoch ms), the points `spent` on it, and when the TTL of `visits` is due again."""
    return f"{RELEASE}:{{{name}}}:points"


def nonce(text: str) -> str:
    """Bitmap: the counts (`nc`) with which a nonce of HTTP Digest has been used."""
    return f"{RELEASE}:nonce:{text}"


def failures(ip: str) -> str:
    """String: how often a client IP has lately failed to log in."""
    return f"{RELEASE}:failures:{ip}"


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


def overflow(name: str) -> str:
    """Hash: pool → how often it had no number free, of the last hour; see overflow.lua."""
    return f"{RELEASE}:{{{name}}}:overflow"


def history(name: str) -> str:
    """Sorted set: who held which number when, live and past leases; see history.lua."""
    return f"{RELEASE}:{{{name}}}:history"


def session_prefix(name: str) -> str:
    """String, msgpack: a session's end, its last visit and its leases; the session id follows."""
    return f"{RELEASE}:{{{name}}}:session:"


def visitor_prefix(name: str) -> str:
    """String, msgpack: the numbers a visitor was last shown; the partner's `trackingId` follows."""
    return f"{RELEASE}:{{{name}}}:visitor:"


TTLS = {
    r"ep1:left": "to the end of the longest cooldown in it",
    r"ep1:\{ip\}:[012]": "3 s: the limiter looks back one second",
    r"ep1:\{[^}]+\}:points": "to the second day after",
    r"ep1:\{[^}]+\}:visits": "the account's visits_kept and a tenth, renewed by visits",
    r"ep1:\{[^}]+\}:session:.+": "the account's leases_kept, renewed by requests; without a lease its idle time",
    r"ep1:\{[^}]+\}:history": "the account's leases_kept, renewed by leases",
    r"ep1:\{[^}]+\}:overflow": "65 minutes, renewed when a pool has no number free",
    r"ep1:\{[^}]+\}:visitor:.+": "the account's visitors_kept, renewed by leases",
    r"ep1:\{[^}]+\}:call:.+": "the account's calls_kept",
    r"ep1:\{[^}]+\}:calls": "the account's visits_kept",
    r"ep1:\{[^}]+\}:cdr:.+": "the account's calls_kept",
    r"ep1:\{[^}]+\}:cdrs(:.+)?": "the account's calls_kept, renewed by calls",
    r"ep1:\{[^}]+\}:flushed": "1 s",
    r"ep1:nonce:.+": "as long as the nonce is good",
    r"ep1:failures:.+": "60 s",
}

LASTING = {
    r"ep1:accounts": "configuration",
    r"ep1:owners": "configuration",
    r"ep1:users": "configuration",
    r"ep1:tokens": "configuration",
    r"ep1:nonce-key": "one for all nodes; without it every login begins again",
    r"ep1:\{[^}]+\}:account": "configuration",
    r"ep1:\{[^}]+\}:(numbers|free)": "the inventory",
    r"ep1:\{[^}]+\}:statics": "what is set of numbers in use",
    r"ep1:\{[^}]+\}:ids": "no id is given twice",
    r"ep1:\{[^}]+\}:(customers|sources|greetings)(:index)?": "what partners keep; sources stay, archived",
    r"ep1:\{[^}]+\}:(sources:due|destinations|sounds)": "of those sources and greetings",
    r"ep1:\{[^}]+\}:pool:[^:]+:(free|leased|granted)": "the inventory: as many members as the pool has numbers",
}
