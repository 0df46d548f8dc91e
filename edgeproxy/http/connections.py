"""The client connections of one port, and what each may take of time, memory and places.

aiohttp has one timer a connection, for the time since its opening or its last answer, and bounds on lines, on fields
and on requests that wait. What it leaves open is bounded here: a head that comes slowly or without end, answers that
nobody reads, and how many connections there are. A request whose head comes in one piece, as nearly all do, pays for
one move in a list.
"""

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
import struct
from collections import OrderedDict
from collections.abc import Coroutine
from itertools import islice
from typing import Any, cast

from aiohttp import hdrs, web

from edgeproxy.http import aiohttp_private
from edgeproxy.http.aiohttp_private import BrokenHTTPError, Wire
from edgeproxy.settings import Settings
from edgeproxy.telemetry.metrics import Counts, Refused

_log = logging.getLogger(__name__)
_NAME = "edgeproxy"
_ACCEPT_AGAIN_S = 0.1
_LOOKED_AT = 64  # connections, to find an idle one
_DROP_UNSENT = struct.pack("ii", 1, 0)
_OTHER_FILES = 256  # of a worker: listeners, the store's connections, files that are read


def _refusal(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()


_LATE = _refusal("408 Request Timeout")
_LARGE = _refusal("431 Request Header Fields Too Large")
_FULL = _refusal("503 Service Unavailable")


class Port:
    """The connections of a port; call it for the protocol of a new one. `options` are those of aiohttp's.

    When there are `most`, a new one takes the place of an idle one: of the oldest that has never asked anything, else
    of the one that asked longest ago. While none is idle, new ones are refused.
    """

    def __init__(
        self,
        server: web.Server,
        settings: Settings,
        most: int,
        counts: Counts,
        **options: Any,
    ) -> None:
        self.head_s = settings.header_s
        self.head_bytes = settings.head_bytes
        self.read_s = settings.body_s
        self.counts = counts
        self._server = server
        self._most = most
        # Whoever reads a body inflates it, once it is known who sent it: aiohttp would begin with the first byte.
        self._options = options | {
            "keepalive_timeout": settings.keepalive_s, "access_log": None, "auto_decompress": False,
        }  # fmt: skip
        self.loop = asyncio.get_running_loop()
        self._silent: OrderedDict[Connection | Handshake, None] = OrderedDict()  # by their opening
        self._asking: OrderedDict[Connection | Handshake, None] = OrderedDict()  # by their last request

    def __call__(self) -> "Connection":
        """The protocol of a connection that is about to be made."""
        return self.connection()

    def connection(self, handshake: "Handshake | None" = None) -> "Connection":
        """The protocol of a connection that takes the place of its handshake."""
        return Connection(self, self._server, self._options, handshake)

    def admit(self, connection: "Connection | Handshake") -> bool:
        """Give a new connection a place, if there is one."""
        if len(self._silent) + len(self._asking) >= self._most and not self._make_room():
            self.counts.refused("too_many")
            return False
        self._silent[connection] = None
        return True

    def _make_room(self) -> bool:
        for group in (self._silent, self._asking):
            for connection in list(islice(group, _LOOKED_AT)):
                if connection.is_idle:
                    self.leave(connection)
                    self.counts.refused("idle")
                    connection.force_close()
                    return True
                group.move_to_end(connection)  # busy, so it is not the one that asked longest ago
        return False

    def asked(self, connection: "Connection") -> None:
        """Note that a connection has sent a request."""
        if connection in self._asking:
            self._asking.move_to_end(connection)
        elif connection in self._silent:
            del self._silent[connection]
            self._asking[connection] = None

    def end_handshakes(self) -> None:
        """Close the connections whose TLS is not agreed on yet."""
        for connection in list(self._silent):
            if isinstance(connection, Handshake):
                connection.force_close()

    def leave(self, connection: "Connection | Handshake") -> None:
        """Free a connection's place."""
        self._silent.pop(connection, None)
        self._asking.pop(connection, None)


class Handshake:
    """A connection whose TLS is being agreed on, within `head_s`; a `Connection` takes its place then."""

    is_idle = True  # it has asked nothing

    def __init__(self, port: Port, client: socket.socket, tls: ssl.SSLContext) -> None:
        self._port = port
        self._client: socket.socket | None = client  # until a transport has it
        self._tls = tls
        if port.admit(self):
            self._task = asyncio.create_task(self._agree(client))
        else:
            client.close()

    async def _agree(self, client: socket.socket) -> None:
        self._client = None
        try:
            with contextlib.suppress(OSError):  # it breaks off, is late, or is no TLS
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: self._port.connection(self), client, ssl=self._tls, ssl_handshake_timeout=self._port.head_s
                )
        finally:
            self._port.leave(self)

    def force_close(self) -> None:
        """Give the place up to another."""
        self._task.cancel()
        if self._client is not None:
            self._client.close()


class TLSListener:
    """Takes in a port's connections that begin with TLS, each of which has a place before its handshake.

    A server that is told to speak TLS by itself tells of a connection once that has ended, so that whoever never ends
    it holds the files of all, and those of the other port.
    """

    def __init__(self, port: Port, listener: socket.socket, tls: ssl.SSLContext) -> None:
        self._port = port
        self._listener = listener
        self._tls = tls
        listener.setblocking(False)
        self._task = asyncio.create_task(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        with self._listener:
            while True:
                try:
                    client, _ = await loop.sock_accept(self._listener)
                except OSError:  # the client has left, or there are no files
                    await asyncio.sleep(_ACCEPT_AGAIN_S)
                    continue
                client.setblocking(False)
                Handshake(self._port, client, self._tls)

    def close(self) -> None:
        """Take in no more, and give up the handshakes that have begun."""
        self._task.cancel()
        self._port.end_handshakes()


class Connection(Wire):
    """A client's connection.

    A head must be whole within `header_s` of its first byte; a connection on which none has begun is idle. A head that
    comes in pieces has `head_bytes`. A client that leaves answers unread, more than the socket takes, has `body_s`.
    """

    __slots__ = ("_handshake", "_head_bytes", "_head_of", "_head_timer", "_port", "_unread_timer", "_wire")

    def __init__(
        self,
        port: Port,
        server: web.Server,
        options: dict[str, Any],
        handshake: Handshake | None = None,
    ) -> None:
        super().__init__(server, loop=port.loop, **options)
        self._port = port
        self._handshake = handshake
        self._head_of = -1  # how many requests had come before the head that is timed
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._wire: asyncio.Transport | None = None  # `transport` is None as soon as aiohttp wants to close

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it for want of a place."""
        wire = self._wire = cast("asyncio.Transport", transport)
        if self._handshake is not None:
            self._port.leave(self._handshake)
            self._handshake = None
        if not self._port.admit(self):
            self.ignore_all()
            wire.write(_FULL)
            wire.close()
            return
        super().connection_made(transport)
        self.call_at_end(self._ended)

    def data_received(self, data: bytes) -> None:
        """Take what the client sends; begins the time of a head that is not whole."""
        super().data_received(data)
        if self.has_requests:
            self._port.asked(self)
        elif data and self.takes_a_head:
            if self._head_of != self.requests_seen:
                self._head_of, self._head_bytes = self.requests_seen, 0
                if self._head_timer is not None:
                    self._head_timer.cancel()
                self._head_timer = self._port.loop.call_later(self._port.head_s, self._head_is_late)
            self._head_bytes += len(data)
            if self._head_bytes > self._port.head_bytes:
                self._refuse("large_head", _LARGE)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._head_of == self.requests_seen:
            self._refuse("slow_head", _LATE)

    def _refuse(self, reason: Refused, answer: bytes) -> None:
        if self.transport is not None:
            self._port.counts.refused(reason)
            self.transport.write(answer)
            self.force_close()

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Send an answer; the last one of its connection, if another protocol was asked for.

        After such a request aiohttp 3.14.5 forgets the rest of what it had read, unless the protocol is one that it
        knows. What follows would then be taken for a request in its midst.
        """
        if aiohttp_private.asks_for_upgrade(request):
            resp.force_close()
        if isinstance(resp, web.StreamResponse):
            resp.headers[hdrs.SERVER] = _NAME  # else aiohttp would tell its version, and Python's
        return super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer broken HTTP without quoting it, neither to the client nor in the log."""
        if not isinstance(exc, BrokenHTTPError):
            return super().handle_error(request, status, exc, message)
        aiohttp_private.forget_frames(exc)
        large = aiohttp_private.is_large_head(exc)
        self._port.counts.refused("large_head" if large else "broken")
        response = web.Response(status=431 if large else 400)
        response.force_close()
        return response

    def pause_writing(self) -> None:
        """Begin the time that unread answers have."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """End it: they are being read."""
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _ended(self) -> None:
        # Requests that wait, their bodies and their faults refer to this connection, and it to them: without this they
        # would stay until the garbage collector runs, which it rarely does here.
        self.forget_requests()
        if self._wire is not None:
            self._await_reader()  # or closing would wait for ever, for an answer to be read or TLS to be ended

    def _await_reader(self) -> None:
        if self._unread_timer is None:
            self._unread_timer = self._port.loop.call_later(self._port.read_s, self._is_unread)

    def _is_unread(self) -> None:
        if self._wire is not None:
            self._port.counts.refused("slow_reader")
            # Without this the kernel would go on holding what is unread, and trying to send it.
            self._wire.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_UNSENT)
            self._wire.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Free what the connection had."""
        self._wire = None
        for timer in (self._head_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        self._port.leave(self)
        super().connection_lost(exc)


def places(settings: Settings) -> int:
    """How many connections each of a worker's two ports can have. Raises the soft limit of open files for them."""
    wanted = 2 * settings.connections_most + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted or soft == resource.RLIM_INFINITY:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    most = min(settings.connections_most, max(1, (soft - _OTHER_FILES) // 2))
    if most < settings.connections_most:
        _log.warning("at most %d connections a port: this process may open %d files", most, soft)
    return most
