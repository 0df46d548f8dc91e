"""Our function libraries: which files each consists of, the names that they have in the store, and loading them.

A name ends with a hash of the code (`ep1_resolve_5f0c1a2b`), so no release ever replaces another's functions, and two
serve side by side while the one takes the other's place.
"""

import functools
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

from redis.exceptions import ResponseError

from edgeproxy.errors import StoreError
from edgeproxy.store import keys, layout
from edgeproxy.store.server import Server

# Library → the files that it consists of, in this order.
_FILES = {
    "limiter": ("limits", "limiter"),
    "resolve": ("limits", "history", "overflow", "sessions", "resolve"),
    "pools": ("limits", "overflow", "pools"),
    "accounts": ("limits", "history", "accounts"),
    "clock": ("limits", "history", "clock"),
    "partner": ("limits", "partner"),
    "numbers": ("limits", "numbers"),
    "calls": ("limits", "history", "sessions", "calls"),
}
# Those that write nothing are registered by a table, which says so.
_REGISTERED = re.compile(r"(?:(?<=redis\.register_function\(')|(?<=\{function_name = '))\w+(?=')")
_HASH_DIGITS = 8
_OLDEST_REDIS = 7


@dataclass(frozen=True, slots=True)
class Library:
    """A function library as this release loads it."""

    subject: str
    name: str  # in the store
    code: str
    functions: dict[str, str]  # function → its name in the store


@functools.cache
def libraries() -> tuple[Library, ...]:
    """All libraries of this release."""
    return tuple(_library(subject) for subject in _FILES)


def _library(subject: str) -> Library:
    text = "\n".join(files(__package__).joinpath("lua", f"{file}.lua").read_text() for file in _FILES[subject])
    if subject == "resolve":
        text = layout.in_lua() + text
    version = hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
    functions = {function: f"{function}_{version}" for function in _REGISTERED.findall(text)}
    name = f"{keys.RELEASE}_{subject}_{version}"
    body = _REGISTERED.sub(lambda found: functions[found[0]], text)
    return Library(subject, name, f"#!lua name={name}\n{body}", functions)


@functools.cache
def function_name(function: str) -> str:
    """The name that a function has in the store: `ep1_resolve` → `ep1_resolve_5f0c1a2b`."""
    return next(library.functions[function] for library in libraries() if function in library.functions)


async def load_libraries(server: Server, *, alone: bool = False) -> None:
    """Load our function libraries where the server has none of their names.

    `alone` takes away those of other releases.

    Raises:
        StoreError: the server is too old.
        RedisError, OSError: it cannot be reached, or it refuses.
    """
    commands = [("FUNCTION", "LOAD", library.code) for library in libraries()]
    if alone:
        commands += [("FUNCTION", "DELETE", name) for name in (await libraries_of(server))[1]]
    for reply in await server.call_calmly(commands):
        if isinstance(reply, ResponseError) and "unknown command" in str(reply).lower():
            raise StoreError(f"the store is too old: Redis {_OLDEST_REDIS} or Valkey 8 is needed")
        if isinstance(reply, Exception) and "already exists" not in str(reply):
            raise reply


async def libraries_of(server: Server) -> tuple[dict[str, bool], tuple[str, ...]]:
    """Our libraries, and whether the server has them; and those that it has of other releases."""
    (reply,) = await server.call_calmly([("FUNCTION", "LIST", "LIBRARYNAME", f"{keys.RELEASE}_*")])
    if isinstance(reply, Exception):
        raise reply
    there = {dict(zip(fields[::2], fields[1::2], strict=True))["library_name"] for fields in reply}
    ours = {library.name: library.name in there for library in libraries()}
    return ours, tuple(sorted(there - ours.keys()))
