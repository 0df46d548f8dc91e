"""The OpenAPI 3.1 document of what the gateway answers over HTTP: a part a room, and the gateway's own."""

import functools
from collections.abc import Iterable

from edgeproxy import __version__
from edgeproxy.http.openapi.tree import Tree
from edgeproxy.http.room import Description, Room
from edgeproxy.node import openapi as service

_ABOUT = """\
A page shows a phone number; each visitor is shown a tracking number instead, and a call on it leads back to the visit.
The gateway gives out these numbers, and answers who was shown one.

`POST /api` is on the edge port, which visitors' requests reach. All else is on the manage port, for partners and those
who run the gateway. Health is on both.

To try it, run `edgeproxy demo` and paste. Each example below works against it as it stands: the account, its secret,
its token, its user and its numbers are the demo's. Where an example has several commands, the first make what the last
needs.
"""


@functools.cache
def document(rooms: tuple[Room, ...], version: str) -> Tree:
    """The document of a gateway that serves these rooms, and the partner API with that `version` in its paths.

    It is made once, and not to be changed.
    """
    parts: list[Description] = [*(room.description for room in rooms), service]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edgeproxy",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "the manage port"}],
        "tags": [{"name": name, "description": text} for part in parts for name, text in part.TAGS.items()],
        "x-tagGroups": [{"name": part.GROUP, "tags": list(part.TAGS), "description": part.ABOUT} for part in parts],
        "paths": _all(part.paths(version) for part in parts),
        "components": {
            "schemas": _all(part.schemas() for part in parts),
            "responses": _all(part.responses() for part in parts),
            "securitySchemes": _all(part.SECURITY for part in parts),
        },
    }


def _all(trees: Iterable[Tree]) -> Tree:
    return {name: tree for part in trees for name, tree in part.items()}
