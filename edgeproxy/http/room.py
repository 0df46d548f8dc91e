"""A room: an API's folder, as the gateway takes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from edgeproxy.http.endpoint import Endpoint, Worker
from edgeproxy.http.openapi.tree import Tree


class Description(Protocol):
    """A room's part of the OpenAPI document: its `openapi.py`."""

    __name__: str
    GROUP: str  # how readers find the room
    ABOUT: str  # in Markdown; may be empty, where the tags say all
    TAGS: dict[str, str]  # of its operations, each with what it is
    SECURITY: Tree

    def paths(self, version: str, /) -> Tree:
        """Its operations; `version` is that of the partner API."""

    def schemas(self) -> Tree:
        """The components of that kind that it refers to."""

    def responses(self) -> Tree:
        """The components of that kind that it refers to."""


class EdgeEndpoint(Protocol):
    """An API of the edge port: one path, to which bodies are posted."""

    PATH: str
    BODY_MOST: int  # bytes of a body

    async def handle(self, request: web.BaseRequest) -> "Prepared":
        """Answer a request, whatever becomes of it."""


class Prepared(Protocol):
    """All that is asked of an answer on the edge port beside what aiohttp's server asks of it."""

    def force_close(self) -> None:
        """Close the connection after this answer."""


@dataclass(frozen=True, slots=True)
class Room:
    """An API: how it is described, and what serves it on either port."""

    description: Description
    manage: type[Endpoint] | None = None
    edge: Callable[[Worker], EdgeEndpoint] | None = None
