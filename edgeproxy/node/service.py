"""What the gateway answers for those who run it: health, metrics, and the description of all APIs."""

import asyncio
import functools
from collections.abc import Sequence

import orjson
from aiohttp import hdrs, web

from edgeproxy.accounts.account import PoolState
from edgeproxy.http.aside import aside
from edgeproxy.http.openapi import page
from edgeproxy.http.room import Room
from edgeproxy.node.document import document
from edgeproxy.store import Store
from edgeproxy.store.pools import Pools
from edgeproxy.telemetry.metrics import DRAINING, READY, Board, Counts, pools_exposition


class Service:
    """Serves the manage port's paths that are no API's."""

    def __init__(self, store: Store, board: Board, counts: Counts, rooms: tuple[Room, ...], version: str) -> None:
        self._board = board
        self._counts = counts
        self._pools = Pools(store)
        self._scraping = asyncio.Lock()
        self._pools_told: Sequence[PoolState] | None = None
        self._pools_text = b""
        # Before anybody asks: it takes longer than a request may wait for the loop.
        self._document, self._page = _written(rooms, version)

    def routes(self) -> list[web.RouteDef]:
        """Its paths."""
        return [
            web.get("/", self._root),
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._metrics),
            web.get("/openapi.json", self._openapi),
            web.get("/docs", self._docs),
        ]

    async def _root(self, request: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={hdrs.LOCATION: "docs"})  # relative: a proxy may have a path before it

    async def _healthz(self, request: web.BaseRequest) -> web.Response:
        return healthz()

    async def _readyz(self, request: web.BaseRequest) -> web.Response:
        return readyz(self._counts)

    async def _metrics(self, request: web.BaseRequest) -> web.Response:
        return web.Response(
            body=await aside(self._board.exposition) + await self._pools_exposition(),
            headers={hdrs.CONTENT_TYPE: "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _pools_exposition(self) -> bytes:
        """The metrics of pools, written once for each look at them, however many scrapes there are."""
        async with self._scraping:
            pools = await self._pools.look()
            if pools is not self._pools_told:
                self._pools_text = await aside(pools_exposition, pools)
                self._pools_told = pools
            return self._pools_text

    async def _openapi(self, request: web.BaseRequest) -> web.Response:
        return web.Response(body=self._document, content_type="application/json")

    async def _docs(self, request: web.BaseRequest) -> web.Response:
        return web.Response(
            body=self._page,
            content_type="text/html",
            charset="utf-8",
            headers={"Content-Security-Policy": page.CONTENT_SECURITY_POLICY},
        )


@functools.cache
def _written(rooms: tuple[Room, ...], version: str) -> tuple[bytes, bytes]:
    """The description of all APIs: for programs, and, as a page, for people."""
    described = document(rooms, version)
    return orjson.dumps(described), page.page(described).encode()


def healthz() -> web.Response:
    """The process is alive."""
    return plain(200, "alive")


def readyz(counts: Counts) -> web.Response:
    """Whether to send traffic here."""
    if counts.state == READY:
        return plain(200, "ready")
    return plain(503, "draining" if counts.state == DRAINING else "starting")


def plain(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    """An answer in plain text."""
    return web.Response(status=status, text=text + "\n", headers=headers)
