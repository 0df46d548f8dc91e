"""The processes of one node: forks the workers, replaces those that crash, and passes SIGTERM on.

gunicorn was weighed for this and left: its aiohttp worker carries an `Application` (about 20 µs a request more than the
`web.Server` of our edge port) and one listener, where each of our workers has two and counts in memory that all share.
"""

import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvloop

from edgeproxy.http import aiohttp_private
from edgeproxy.node.gateway import Gateway
from edgeproxy.node.rooms import ROOMS
from edgeproxy.settings import Settings
from edgeproxy.store.embedded import EmbeddedStore, EmbeddedStoreError
from edgeproxy.telemetry.metrics import READY, Board

_log = logging.getLogger(__name__)
_LOOK_S = 0.05  # between looks at the workers
_BACKLOG = 4096
_CALM_S = 5  # a worker that lived this long is replaced at once, a younger one after a pause
_PAUSE_S = 1
_LETTING_GO_S = 2  # that workers who have drained take to close their ports


class ListenError(Exception):
    """A port cannot be listened on; the text says which, why, and what to set."""


class Supervisor:
    """Runs the workers of a node until SIGTERM or SIGINT.

    It opens a listening socket a worker and port (SO_REUSEPORT) and keeps them open: while a crashed worker is
    replaced, its connections wait instead of being refused. `embedded` is a store to be kept running beside them.

    Raises:
        ListenError: a port cannot be had.
    """

    def __init__(self, settings: Settings, store_url: str, embedded: EmbeddedStore | None = None) -> None:
        self._settings = settings
        self._store_url = store_url
        self._embedded = embedded
        self._board = Board(settings.workers, (room.manage.NAME for room in ROOMS if room.manage is not None))
        self._edge = _listen(settings, "host", "port")
        self._manage = _listen(settings, "manage_host", "manage_port")
        self._alive, self._alive_kept = os.pipe()  # workers see its end when this process is gone
        self._workers: dict[int, tuple[int, float]] = {}  # process id → worker, start
        self._due: dict[int, float] = dict.fromkeys(range(settings.workers), 0.0)  # worker → when to start it
        self._stopping = False

    @property
    def edge_port(self) -> int:
        """The port that `POST /api` is served on."""
        return int(self._edge[0].getsockname()[1])

    @property
    def manage_port(self) -> int:
        """The port of health and metrics."""
        return int(self._manage[0].getsockname()[1])

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve; calls `on_ready` once, when every worker is ready. Returns when all have drained."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        if not aiohttp_private.is_tested():
            _log.warning("aiohttp %s", aiohttp_private.tested())
        told = False
        try:
            while not self._stopping or self._workers:
                self._reap()
                if self._stopping:
                    time.sleep(_LOOK_S)
                    continue
                for worker, when in list(self._due.items()):
                    if time.monotonic() >= when:
                        del self._due[worker]
                        self._fork(worker)
                if not told and self._board.total("state") == self._settings.workers * READY:
                    told = True
                    on_ready()
                self._look_after_store()
                time.sleep(_LOOK_S)
        finally:
            for pid in self._workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._stopping:
            return
        self._stopping = True
        # Workers hold their own copies; the kernel's sockets close when they do.
        for listener in (*self._edge, *self._manage):
            listener.close()
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _reap(self) -> None:
        for pid in list(self._workers):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            worker, started = self._workers.pop(pid)
            self._board.row(worker).died()
            if not self._stopping:
                _log.error("worker %d ended (%s); starting another", worker, _how(status))
                if not status:  # it has drained: the kernel refuses connections to its listeners
                    for listeners in (self._edge, self._manage):
                        drained = listeners[worker]
                        listeners[worker] = _listener(drained.family, drained.getsockname())
                        drained.close()
                pause = 0 if time.monotonic() - started > _CALM_S else _PAUSE_S
                self._due[worker] = time.monotonic() + pause

    def _fork(self, worker: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        held = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, held)  # so that a stop reaches the child's handler or none
        pid = os.fork()
        if pid:
            self._workers[pid] = (worker, time.monotonic())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
            return
        status = 1
        try:
            self._be_worker(worker, held)
            status = 0
        except Exception:
            _log.exception("worker %d failed", worker)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _be_worker(self, worker: int, held: set[signal.Signals]) -> None:
        os.close(self._alive_kept)
        if self._embedded is not None:
            self._embedded.let_go()
        for other in range(self._settings.workers):
            if other != worker:
                self._edge[other].close()
                self._manage[other].close()
        self._board.row(worker).started()

        async def serve() -> None:
            gateway = Gateway(
                self._settings,
                self._store_url,
                self._edge[worker],
                self._manage[worker],
                self._board,
                worker,
            )
            await gateway.run(self._alive, on_handled=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, held))

        uvloop.run(serve())

    def _look_after_store(self) -> None:
        if self._embedded is not None:
            try:
                if self._embedded.revive():
                    _log.error("the embedded store died and was started again")
            except EmbeddedStoreError as error:
                _log.error("the embedded store does not start: %s", error)
                time.sleep(_PAUSE_S)


def _listen(settings: Settings, host_setting: str, port_setting: str) -> list[socket.socket]:
    host, port = getattr(settings, host_setting), getattr(settings, port_setting)
    try:
        return listen(host, port, settings.workers, settings.drain_s + _LETTING_GO_S)
    except OSError as error:
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        at_fault = port_setting if error.errno in (errno.EADDRINUSE, errno.EACCES) else host_setting
        raise ListenError(
            f"cannot listen on {place}: {error.strerror}: choose another with {settings.told_as(at_fault)}"
        ) from None


def listen(host: str, port: int, count: int, patience_s: float = 0) -> list[socket.socket]:
    """`count` listening sockets on one port; port 0 chooses one.

    A port in use is waited for, `patience_s` at most: the workers of a supervisor that was killed hold it until they
    have drained.

    Raises:
        OSError: the address cannot be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # SO_REUSEPORT would share a port with any process of this user's, so the first bind goes without.
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(probe, address, patience_s)
        address = probe.getsockname()
    return [_listener(family, address) for _ in range(count)]


def _bind(probe: socket.socket, address: Any, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    told = False
    while True:
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            if not told:
                _log.warning("port %d is in use: waiting %g s for who drains on it", address[1], patience_s)
                told = True
            time.sleep(_LOOK_S)
        else:
            return


def _listener(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(address)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"status {code}"
