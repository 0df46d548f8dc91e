"""Our function libraries: which files each consists of, and the names that they have in the store.

A name ends with a hash of the code (`ep1_resolve_5f0c1a2b`), so no release ever replaces another's functions, and two
serve side by side while the one takes the other's place.
"""

import functools
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

from edgeproxy.store import keys

# Library → the files that it consists of, in this order.
_FILES = {
    "limiter": ("limits", "limiter"),
    "resolve": ("limits", "history", "overflow", "sessions", "resolve"),
    "pools": ("limits", "overflow", "pools"),
    "accounts": ("limits", "history", "accounts"),
    "clock": ("limits", "history", "clock"),
    "partner": ("limits", "partner"),
    "static": ("limits", "static"),
    "calls": ("limits", "history", "sessions", "calls"),
}
# Those that write nothing are registered by a table, which says so.
_REGISTERED = re.compile(r"(?:(?<=redis\.register_function\(')|(?<=\{function_name = '))\w+(?=')")
_HASH_DIGITS = 8


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
    version = hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
    functions = {function: f"{function}_{version}" for function in _REGISTERED.findall(text)}
    name = f"{keys.RELEASE}_{subject}_{version}"
    body = _REGISTERED.sub(lambda found: functions[found[0]], text)
    return Library(subject, name, f"#!lua name={name}\n{body}", functions)


@functools.cache
def function_name(function: str) -> str:
    """The name that a function has in the store: `ep1_resolve` → `ep1_resolve_5f0c1a2b`."""
    return next(library.functions[function] for library in libraries() if function in library.functions)
