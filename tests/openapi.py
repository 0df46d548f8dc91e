"""The OpenAPI document, and what tests of its parts read in it."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from edgeproxy.node.document import document
from edgeproxy.node.rooms import ROOMS
from edgeproxy.partner.resources import OPERATIONS

VERSION = "2.4.9"


DOCUMENT = document(ROOMS, VERSION)


SCHEMAS = DOCUMENT["components"]["schemas"]


PLACES = [(operation, path) for operation in OPERATIONS for path in operation.paths]


def validator(schema: Any) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def resolved(tree: Any) -> Any:
    for step in tree["$ref"].split("/")[1:] if "$ref" in tree else ():
        tree = DOCUMENT[step] if step == "components" else tree[step]
    return tree


def members(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every member of an object and of the objects in it, with its path."""
    for name, member in schema.get("properties", {}).items():
        yield name, member
        yield from ((f"{name}.{inner}", found) for inner, found in members(member))


OTHERS: tuple[Any, ...] = (None, 0, 1, 12, 12.5, True, "", "x", "12", "12\n", "true", "PSTN", [], {})


def changed(tree: Any) -> Iterator[Any]:
    """The body with one of its members gone, or another value; or with one more member."""
    for name, value in tree.items():
        yield {other: kept for other, kept in tree.items() if other != name}
        yield from (tree | {name: other} for other in OTHERS)
        yield tree | {name: [value]}
        if isinstance(value, dict):
            yield from (tree | {name: inner} for inner in changed(value))
    yield tree | {"extra": None}
