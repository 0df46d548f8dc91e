"""What the descriptions of all APIs are made of."""

from collections.abc import Iterable
from typing import Any

Tree = dict[str, Any]

JSON, XML, TEXT = "application/json", "application/xml", "text/plain"
EDGE, MANAGE = "http://127.0.0.1:8080", "http://127.0.0.1:8081"  # where `edgeproxy demo` serves


def ref(kind: str, name: str) -> Tree:
    """A reference to one of the document's components."""
    return {"$ref": f"#/components/{kind}/{name}"}


def closed(properties: Tree, required: Iterable[str], **more: Any) -> Tree:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        **more,
    }


def like(pattern: str, words: str) -> Tree:
    """A rule for texts: a regular expression for programs, words for people, in which backticks mark code."""
    return {"pattern": pattern, "x-inWords": words}


def sample(source: str, lang: str = "Shell") -> Tree:
    """A program that asks an operation; it works against `edgeproxy demo` as it stands."""
    return {"lang": lang, "label": lang, "source": source.rstrip("\n")}


def header(about: str) -> Tree:
    """A header that an answer may have."""
    return {"description": about, "schema": {"type": "string"}}


def always(headers: Tree) -> Tree:
    """The headers, of an answer that never lacks them."""
    return {name: {**about, "required": True} for name, about in headers.items()}


def plain(about: str) -> Tree:
    """An answer in plain text."""
    return {"description": about, "content": {TEXT: {"schema": {"type": "string"}}}}


# Of an answer under the limits (`dynamic/README.md`, *Limits*).
RATE_LIMITS = {
    "RateLimit-Policy": header("the limits: requests of an IP per second, points of the account per day"),
    "RateLimit": header("what is left of them"),
}
RETRY_AFTER = {"Retry-After": header("seconds after which trying again can help")}
NO_STORE = always({"Cache-Control": {"description": "no cache may keep it", "schema": {"const": "no-store"}}})
