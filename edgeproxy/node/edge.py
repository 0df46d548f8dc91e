"""The edge port: which request is whose, and how many are in flight."""

import asyncio
from collections.abc import Sequence

from aiohttp import hdrs, web

from edgeproxy.http.room import EdgeEndpoint, Prepared
from edgeproxy.http.target import resource
from edgeproxy.node.service import healthz, plain, readyz
from edgeproxy.telemetry.metrics import Counts


class EdgePort:
    """Answers the edge port's requests, without routing: see benchmarks/README.md for what that saves.

    The first of its APIs is the one that is asked most, and found first.
    """

    def __init__(self, apis: Sequence[EdgeEndpoint], prefix: str, counts: Counts, draining: asyncio.Event) -> None:
        self._path, self._with_query, self._handle = apis[0].PATH, f"{apis[0].PATH}?", apis[0].handle
        self._others = {api.PATH: api.handle for api in apis[1:]}
        self._prefix = prefix
        self._counts = counts
        self._draining = draining
        self._in_flight = 0
        self._last_answered = asyncio.Event()

    async def idle(self) -> None:
        """Wait until no request is in flight."""
        while self._in_flight:
            self._last_answered.clear()
            await self._last_answered.wait()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse | Prepared:
        """Answer a request."""
        self._in_flight += 1
        try:
            path = request.raw_path
            if path != self._path and not path.startswith(self._with_query):
                path = resource(path, self._prefix)
            try:
                if (path == self._path or path.startswith(self._with_query)) and request.method == hdrs.METH_POST:
                    response: web.StreamResponse | Prepared = await self._handle(request)
                else:
                    response = await self._other(request, path.partition("?")[0])
            except web.HTTPException as refusal:
                refusal.headers[hdrs.CACHE_CONTROL] = "no-store"  # as what else an API answers
                raise
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._last_answered.set()
        if self._draining.is_set():
            response.force_close()
        return response

    async def _other(self, request: web.BaseRequest, path: str) -> web.StreamResponse | Prepared:
        if (handle := self._others.get(path)) and request.method == hdrs.METH_POST:
            return await handle(request)
        if handle or path == self._path:
            return plain(405, "405: Method Not Allowed", {hdrs.ALLOW: hdrs.METH_POST})
        if path in ("/healthz", "/readyz"):
            if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
                return plain(405, "405: Method Not Allowed", {hdrs.ALLOW: "GET, HEAD"})
            return healthz() if path == "/healthz" else readyz(self._counts)
        return plain(404, "404: Not Found")
