"""The gateway of one worker: its two listeners, and its life from start to drain."""

import asyncio
import contextlib
import functools
import gc
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable

from aiohttp import hdrs, web
from redis.exceptions import RedisError

from edgeproxy.accounts import number
from edgeproxy.errors import Fault, StoreError
from edgeproxy.http import aiohttp_private
from edgeproxy.http.access import Offenders
from edgeproxy.http.connections import Port, TLSListener, places
from edgeproxy.http.endpoint import Worker
from edgeproxy.http.room import Room
from edgeproxy.http.target import resource
from edgeproxy.node.edge import EdgePort
from edgeproxy.node.rooms import ROOMS
from edgeproxy.node.service import Service
from edgeproxy.settings import Settings
from edgeproxy.store import Store, store_time
from edgeproxy.store.clock import Clock, Future
from edgeproxy.store.sealing import Seal
from edgeproxy.store.server import end
from edgeproxy.telemetry.metrics import DRAINING, READY, Board

_log = logging.getLogger(__name__)
_http_log = logging.getLogger("edgeproxy.http")


def _is_ours(record: logging.LogRecord) -> bool:
    """Leave out what broken HTTP makes aiohttp log: it quotes the client's bytes, signatures too, and its IP."""
    return not (record.exc_info and isinstance(record.exc_info[1], aiohttp_private.BrokenHTTPError))


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

    `edge` and `manage` are listening sockets that it takes over; `rooms` are the APIs that it serves; `clock` is the
    store functions' time, for tests.
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
        rooms: tuple[Room, ...] = ROOMS,
    ) -> None:
        self._settings = settings
        self._rooms = rooms
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
        if not aiohttp_private.parses_in_c():
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
        number.prepare()
        offenders = Offenders(self._store, self._settings.bad_logins_per_minute)
        worker = Worker(self._store, self._settings, self._counts, offenders)
        self._apis = [room.edge(worker) for room in self._rooms if room.edge is not None]
        paths = EdgePort(self._apis, self._settings.path_prefix, self._counts, self._draining)
        edge = aiohttp_private.server(paths, max(api.BODY_MOST for api in self._apis))
        manage = web.AppRunner(self._manage_app(worker))
        await manage.setup()
        # Whatever way clients and proxies have of naming a resource, requests have one.
        manage_server = aiohttp_private.server_of(
            manage, functools.partial(resource, prefix=self._settings.path_prefix)
        )
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
            aiohttp_private.take_no_more(edge)
            await edge.shutdown(max(0.1, end - loop.time()))
            manage_listener.close()
            await manage.cleanup()

    def _manage_app(self, worker: Worker) -> web.Application:
        app = web.Application()
        app.on_response_prepare.append(self._close_while_draining)
        service = Service(self._store, self._board, self._counts, self._rooms, self._settings.api_version)
        app.add_routes(service.routes())
        for room in self._rooms:
            if room.manage is not None:
                app.add_routes(room.manage(worker).routes())
        return app

    async def _close_while_draining(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        if self._draining.is_set():
            response.force_close()
            response.headers[hdrs.CONNECTION] = "close"  # aiohttp has decided on this header before it asks


def _refuse_connections(listener: socket.socket) -> None:
    """Have the kernel refuse new connections to a listening socket, and complete those that are being made.

    To close the socket instead would reset connections that their clients take for made, with the requests that they
    have sent by then; a load balancer must not repeat those, and it may a refused one. A socket that is bound to a
    network interface is found only by what comes in there, and no interface has this number. Where the system has no
    such option (before Linux 5.7, to those without privileges) the socket stays as it is.
    """
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, _NO_INTERFACE)
