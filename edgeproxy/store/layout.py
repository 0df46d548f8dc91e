"""What stands where in the arrays that the gateway and `ep1_resolve` send each other: both sides take it from here.

Python goes by the names' places in these tuples. Lua has each as a constant, in front of its library: `POOL_IDLE` is
the place of `idle` in a pool's settings.
"""

# The first keys of a call; then LIMITER_KEYS if the limiter is asked with it, and POOL_KEYS a pool.
KEYS = ("account", "points", "visits", "destinations", "history", "overflow")
LIMITER_KEYS = 3
POOL_KEYS = 3

# A pool's settings: its name, three times in ms, what happens when no number is free, and its shared number or false.
POOL = ("name", "idle", "max", "cooldown", "overflow", "shared")

# What a request asks: what the limiter counts; HOW it comes, as their sum; the browser's name as JSON text; the page's
# context, which is the visitor's network and the custom dimensions: `"requestIpAddress":"…","parameters":{…}`; the rest
# of the page as a JSON object that is not empty; and how many numbers on page follow, each with its pool.
ASK = ("ip", "how", "browser", "context", "page", "count")

# How a request comes: it brings a session; it names a visitor; it is a crawler's or a dry run, which leaves no trace;
# it was told its session by JOIN, and passed the limiter then.
HOW = {"WITH_SESSION": 1, "WITH_VISITOR": 2, "WITHOUT_TRACE": 4, "JOINING": 8}

# The first value of a result, and what follows it.
CODES = {
    "OK": 0,  # the places left in the client's window, the session, and for each number on page what is shown, or false
    "BLOCKED": 1,  # ms until the window has room
    "SPENT": 2,  # the places left; the account's budget is spent
    "NO_POOL": 3,  # the places left; the account has no pool, and no source
    "JOIN": 4,  # the places left, and the session that may be joined: ask again with it, as its key has to be declared
}
LEFT, SESSION, SHOWN = 1, 2, 3  # places in a result; SHOWN is the first number's


def in_lua() -> str:
    """The same as Lua's constants. Lua counts from 1, but what is in ASK is counted from a request's first value."""
    places = {f"KEY_{name}": at for at, name in enumerate(KEYS, 1)}
    places |= {"FIRST_LIMITER": len(KEYS) + 1, "LIMITER_KEYS": LIMITER_KEYS, "POOL_KEYS": POOL_KEYS}
    places |= {f"POOL_{name}": at for at, name in enumerate(POOL, 1)}
    places |= {f"ASK_{name}": at for at, name in enumerate(ASK)} | {"ASK_WIDTH": len(ASK)}
    return "".join(f"local {name.upper()} = {value}\n" for name, value in (places | HOW | CODES).items())
