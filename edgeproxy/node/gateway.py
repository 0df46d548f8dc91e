"""The gateway of one worker: its two listeners, its life from start to drain, its health."""

import asyncio
import contextlib
import functools
import gc
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

import orjson
from aiohttp import hdrs, http_parser, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from redis.exceptions import RedisError
from yarl import URL

from edgeproxy.accounts import number
from edgeproxy.accounts.account import PoolState
from edgeproxy.dynamic.answer import Answer
from edgeproxy.dynamic.handler import Handler
from edgeproxy.dynamic.wire import BODY_MOST
from edgeproxy.errors import Fault, StoreError
from edgeproxy.http.access import Offenders
from edgeproxy.http.aside import aside
from edgeproxy.http.connections import Port, TLSListener, places
from edgeproxy.http.endpoint import Worker
from edgeproxy.http.openapi import page as docs
from edgeproxy.http.target import resource
from edgeproxy.node import openapi
from edgeproxy.node.rooms import ROOMS
from edgeproxy.settings import Settings
from edgeproxy.store import Store, store_time
from edgeproxy.store.clock import Clock, Future
from edgeproxy.store.pools import Pools
from edgeproxy.store.sealing import Seal
from edgeproxy.store.server import end
from edgeproxy.telemetry.metrics import DRAINING, READY, Board, Counts, pools_exposition

_log = logging.getLogger(__name__)
_http_log = logging.getLogger("edgeproxy.http")


def _is_ours(record: logging.LogRecord) -> bool:
    """Leave out what broken HTTP makes aiohttp log: it quotes the client's bytes, signatures too, and its IP."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_http_log.addFilter(_is_ours)
_LINGER_S = 2  # for the rest of a body that was refused
_RETRY_S = 0.5  # between attempts to reach the store at start
_MEND_S = 5.0  # that an account may take to come, whose future is to be mended
_TELL_AGAIN_S = 60.0  # between log lines of a clock that went back
_ARRIVAL_S = 0.2  # that a connection under way, and the first bytes over it, may take when the ports are about to close
_SO_BINDTOIFINDEX = 62  # linux/socket.h; Python 3.11 has no name for it
_NO_INTERFACE = 2**31 - 1
_GC_THRESHOLDS = (50_000, 50, 100)


class Gateway:
    """One worker's gateway.

    `edge` and `manage` are listening sockets that it takes over; `clock` is the store functions' time, for tests.
    """

    def __init__(
        self,
        settings: Settings,
        store_url: str,
        edge: socket.socket,
        manage: socket.socket,
        board: Board,
        worker: int,
        *,
        clock: Callable[[], int] = store_time,
    ) -> None:
        self._settings = settings
        self._edge, self._manage = edge, manage
        self._board, self._counts = board, board.row(worker)
        self._store = Store(
            store_url,
            clock=clock,
            lease_replicas=settings.lease_replicas,
            on_batch=self._counts.batch,
            on_back=self._clock_went_back,
            on_up=self._counts.store_up,
            on_fault=self._counts.store_fault,
            seal=Seal(settings.store_keys),
        )
        self._draining = asyncio.Event()
        self._back: dict[str, int] = {}  # account at whose request the store's clock had gone back → by how many ms
        self._mending: asyncio.Task[None] | None = None
        self._back_told = -_TELL_AGAIN_S
        self._scraping = asyncio.Lock()
        self._pools_told: Sequence[PoolState] | None = None
        self._pools_text = b""

    async def run(self, supervisor: int, on_handled: Callable[[], object]) -> None:
        """Serve until SIGTERM, then drain: fail readiness, wait, close the ports, finish what is in flight.

        `supervisor` is a file descriptor that reads as ended once the supervisor is gone, which drains too.
        `on_handled` is called once signals are handled. A terminal's Ctrl-C is the supervisor's to pass on.
        """
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        loop.add_signal_handler(signal.SIGTERM, self._draining.set)
        loop.add_reader(supervisor, self._draining.set)
        on_handled()
        async with self.serving():
            await self._draining.wait()
            loop.remove_reader(supervisor)
            self.drain()
            await asyncio.sleep(self._settings.drain_s)
            for listener in (self._edge, self._manage):
                _refuse_connections(listener)
            await asyncio.sleep(_ARRIVAL_S)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve while the context lasts; on leaving, close the ports and finish what is in flight."""
        if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
            raise RuntimeError("aiohttp's C parser is missing; the pure-Python one is not fit for the edge")
        async with self._store, self._listeners():
            ready = asyncio.create_task(self._become_ready())
            try:
                yield
            finally:
                await end(ready)
                if self._mending is not None:
                    await end(self._mending)

    def _clock_went_back(self, account: str, ms: int) -> None:
        self._back[account] = ms
        if self._mending is None or self._mending.done():
            self._mending = asyncio.create_task(self._mend())

    async def _mend(self) -> None:
        """Bring to the present what accounts have from the future; a line a minute tells of it."""
        while self._back:
            name, ms = self._back.popitem()
            try:
                account = await self._store.account(name, time.monotonic() + _MEND_S)
                found = await Clock(self._store).mend(account) if account is not None else Future()
            except Fault:
                _log.error("account %s: what is from the future is left: run edgeproxy clock repair", name)
                continue
            if time.monotonic() - self._back_told > _TELL_AGAIN_S:
                self._back_told = time.monotonic()
                _log.warning(
                    "the store's clock went back by %d s: of account %s, %d leases and %d cooldowns from the future "
                    "are brought to the present; others are not told of for a minute",
                    ms // 1000, name, found.leases, found.cooldowns,
                )  # fmt: skip

    def drain(self) -> None:
        """Fail readiness and close each connection after its next answer."""
        self._draining.set()
        self._counts.state = DRAINING

    async def _become_ready(self) -> None:
        """Wait for a store with our functions. From then on readiness does not depend on it.

        Why: deploy/OPERATIONS.md, *Readiness*.
        """
        told = False
        while True:
            try:
                await self._store.load_functions()
                await self._store.learn_time()
                break
            except (RedisError, OSError, StoreError) as error:
                if not told:
                    _log.error("not ready: %s", error)
                    told = True
                await asyncio.sleep(_RETRY_S)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        self._counts.store_up(True)
        if not self._draining.is_set():
            self._counts.state = READY

    @contextlib.asynccontextmanager
    async def _listeners(self) -> AsyncIterator[None]:
        self._pools = Pools(self._store)
        number.prepare()
        self._handler = Handler(self._store, self._settings, self._counts)
        # A request on the edge port goes to its handler without routing; see benchmarks/README.md for what that saves.
        paths = _Edge(self._handler, self._settings.path_prefix, self._counts, self._draining)
        edge = web.Server(
            cast("Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]", paths),  # an Answer will do
            request_factory=_small_request,
        )
        manage = web.AppRunner(self._manage_app())
        await manage.setup()
        manage_server = cast("web.Server", manage.server)
        manage_server.request_factory = _naming_resources(manage_server.request_factory, self._settings.path_prefix)
        most = places(self._settings)
        port = functools.partial(Port, settings=self._settings, most=most, counts=self._counts, logger=_http_log)
        loop = asyncio.get_running_loop()
        edge_listener = await loop.create_server(port(edge, lingering_time=_LINGER_S), sock=self._edge)
        tls = self._settings.manage_tls()
        manage_listener: asyncio.Server | TLSListener
        if tls is None:
            manage_listener = await loop.create_server(port(manage_server), sock=self._manage)
        else:
            manage_listener = TLSListener(port(manage_server), self._manage, tls)
        try:
            yield
        finally:
            edge_listener.close()
            # aiohttp drops what arrives once a connection is told to close, so bodies under way come in first.
            end = loop.time() + self._settings.grace_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(end):
                    await paths.idle()
            edge.pre_shutdown()
            await edge.shutdown(max(0.1, end - loop.time()))
            manage_listener.close()
            await manage.cleanup()

    def _manage_app(self) -> web.Application:
        app = web.Application()
        app.on_response_prepare.append(self._close_while_draining)
        offenders = Offenders(self._store, self._settings.bad_logins_per_minute)
        worker = Worker(self._store, self._settings, self._counts, offenders)
        _documents(self._settings.api_version)  # now: it takes longer than a request may wait for the loop
        app.add_routes(
            [
                web.get("/", self._root),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/openapi.json", self._openapi),
                web.get("/docs", self._docs),
            ]
        )
        for room in ROOMS:
            app.add_routes(room(worker).routes())
        return app

    async def _close_while_draining(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        if self._draining.is_set():
            response.force_close()
            response.headers[hdrs.CONNECTION] = "close"  # aiohttp has decided on this header before it asks

    async def _root(self, request: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={hdrs.LOCATION: "docs"})  # relative: a proxy may have a path before it

    async def _healthz(self, request: web.BaseRequest) -> web.Response:
        return _healthz()

    async def _readyz(self, request: web.BaseRequest) -> web.Response:
        return _readyz(self._counts)

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
        return web.Response(body=_documents(self._settings.api_version)[0], content_type="application/json")

    async def _docs(self, request: web.BaseRequest) -> web.Response:
        return web.Response(
            body=_documents(self._settings.api_version)[1],
            content_type="text/html",
            charset="utf-8",
            headers={"Content-Security-Policy": docs.CONTENT_SECURITY_POLICY},
        )


class _Edge:
    """The edge port's paths."""

    def __init__(self, handler: Handler, prefix: str, counts: Counts, draining: asyncio.Event) -> None:
        self._handle = handler.handle
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

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse | Answer:
        self._in_flight += 1
        try:
            path = request.raw_path
            if path != "/api" and not path.startswith("/api?"):
                path = resource(path, self._prefix)
            if (path == "/api" or path.startswith("/api?")) and request.method == hdrs.METH_POST:
                try:
                    response: web.StreamResponse | Answer = await self._handle(request)
                except web.HTTPException as refusal:
                    refusal.headers[hdrs.CACHE_CONTROL] = "no-store"  # as `Answer` has
                    raise
            else:
                response = self._other(path.partition("?")[0], request.method)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._last_answered.set()
        if self._draining.is_set():
            response.force_close()
        return response

    def _other(self, path: str, method: str) -> web.Response:
        if path == "/api":
            return _plain(405, "405: Method Not Allowed", {hdrs.ALLOW: hdrs.METH_POST})
        if path in ("/healthz", "/readyz"):
            if method not in (hdrs.METH_GET, hdrs.METH_HEAD):
                return _plain(405, "405: Method Not Allowed", {hdrs.ALLOW: "GET, HEAD"})
            return _healthz() if path == "/healthz" else _readyz(self._counts)
        return _plain(404, "404: Not Found")


def _naming_resources(make: Callable[..., web.BaseRequest], prefix: str) -> Callable[..., web.BaseRequest]:
    """A request factory whose requests name their resources in one way, whatever way clients and proxies have."""

    def named(message: RawRequestMessage, *more: Any) -> web.BaseRequest:
        target = resource(message.path, prefix)
        if target != message.path:
            path, _, query = target.partition("#")[0].partition("?")
            message = message._replace(path=target, url=URL.build(path=path, query_string=query, encoded=True))
        return make(message, *more)

    return named


def _small_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: "asyncio.Task[None]",
) -> web.BaseRequest:
    return web.BaseRequest(message, payload, protocol, writer, task, task.get_loop(), client_max_size=BODY_MOST)


def _refuse_connections(listener: socket.socket) -> None:
    """Have the kernel refuse new connections to a listening socket, and complete those that are being made.

    To close the socket instead would reset connections that their clients take for made, with the requests that they
    have sent by then; a load balancer must not repeat those, and it may a refused one. A socket that is bound to a
    network interface is found only by what comes in there, and no interface has this number. Where the system has no
    such option (before Linux 5.7, to those without privileges) the socket stays as it is.
    """
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, _NO_INTERFACE)


@functools.cache
def _documents(version: str) -> tuple[bytes, bytes]:
    """What the gateway answers: for programs, OpenAPI, and for people, a page."""
    document = openapi.document(version)
    return orjson.dumps(document), docs.page(document).encode()


def _plain(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers=headers)


def _healthz() -> web.Response:
    return _plain(200, "alive")


def _readyz(counts: Counts) -> web.Response:
    if counts.state == READY:
        return _plain(200, "ready")
    return _plain(503, "draining" if counts.state == DRAINING else "starting")
