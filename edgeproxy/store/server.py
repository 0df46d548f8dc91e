"""A server of the store that takes writes: calls in one pipeline, and whether it answers.

What visitors' requests ask is not sent to a server that is silent: a circuit breaker, which a PING that it answers
closes again.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import hiredis
import redis.asyncio
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from edgeproxy.store.connections import PATIENCE_S
from edgeproxy.store.faults import fault_of

_log = logging.getLogger(__name__)
_SILENT_S = 0.1  # that calls go unanswered before the server counts as silent
_KNOCK_S, _KNOCK_MOST_S = 0.05, 0.5  # between PINGs to a silent server, at first and as it stays silent
_TOLD_MOST = 5  # lines a minute on a server that comes and goes
_CANCEL_S = 0.1


class ReplyLostError(RedisError):
    """Commands were sent, and their replies did not come."""


async def exchange(connection: AbstractConnection, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Send commands on one connection and read their replies; those that failed are exceptions.

    redis-py's own pipeline and its packing in Python would be most of a batch's time.

    Raises:
        RedisError, OSError: the connection failed; what was sent may have been run.
    """
    await connection.send_packed_command(map(hiredis.pack_command, commands), check_health=False)
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies


async def end(task: "asyncio.Task[Any]") -> None:
    """Cancel a task until it ends: redis-py swallows a cancellation that comes while it connects."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_S)


def ended(task: "asyncio.Task[Any]") -> None:
    """Look at how a task ended that nobody may wait for, so that its exception is none that was never retrieved."""
    if not task.cancelled():
        task.exception()


def time_ms(reply: Sequence[Any]) -> int:
    """A reply to `TIME` as epoch ms."""
    return int(reply[0]) * 1000 + int(reply[1]) // 1000


class Server:
    """A server that takes writes.

    `hot` gives the connections for visitors' requests, which time out by their turn's one timer: it cancels the call,
    and so drops the connection. `calm` gives those for all else. `on_turn` is called when `up` changed, `on_fault` with
    each fault (see `metrics.STORE_FAULTS`), `on_silence` after each PING that was not answered.
    """

    def __init__(
        self,
        name: str,
        hot: ConnectionPool,
        calm: ConnectionPool,
        *,
        on_turn: Callable[[], None],
        on_fault: Callable[[str], None],
        on_silence: Callable[[], Awaitable[None]],
    ) -> None:
        self.name = name
        self._hot = hot
        self.calm = calm
        self.client = redis.asyncio.Redis(connection_pool=calm)
        self._on_turn, self._on_fault, self._on_silence = on_turn, on_fault, on_silence
        self._ready: list[AbstractConnection] = []  # of `hot`, between two calls
        self.lane: object = None  # what `batching` keeps of it
        self.ahead_ms: float | None = None  # its clock less `time.monotonic`, once it is known
        self.up = True  # whether its last call was answered as it should be
        self.silent = False  # it does not answer, and is not asked until it does
        self._turned = 0.0  # when `up` last changed
        self._told: set[str] = set()  # faults that were logged since it is down
        self._told_at: deque[float] = deque(maxlen=_TOLD_MOST)  # when they were logged lately
        self._answered = time.monotonic()
        self._knocking: asyncio.Task[None] | None = None
        self._closed = False

    async def call(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run commands in one pipeline for visitors' requests; see `exchange`."""
        connection = await self._connection()
        try:
            replies = await exchange(connection, commands)
        except BaseException:
            await self._drop(connection)
            raise
        if self._closed or any(isinstance(reply, ReadOnlyError) for reply in replies):
            await self._drop(connection)  # of a primary that is one no longer: its name may lead elsewhere by now
        else:
            self._ready.append(connection)
        return replies

    async def _connection(self) -> AbstractConnection:
        """A connection that is ready for commands; one that the server closed meanwhile is left to the pool."""
        while self._ready:
            connection = self._ready.pop()
            if connection.is_connected and not await connection.can_read():
                return connection
            await self._drop(connection)
        return await self._hot.get_connection()  # type: ignore[no-untyped-call,no-any-return]

    async def _drop(self, connection: AbstractConnection) -> None:
        await connection.disconnect(nowait=True)
        await self._hot.release(connection)

    async def call_calmly(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run commands in one pipeline, with patience; replies are text. See `exchange`.

        Raises:
            RedisError, OSError: nothing was sent.
            ReplyLostError: it was, and the replies did not come.
        """
        connection = await self.calm.get_connection()  # type: ignore[no-untyped-call]
        try:
            replies = await exchange(connection, commands)
            if any(isinstance(reply, ReadOnlyError) for reply in replies):
                await connection.disconnect(nowait=True)
            return replies
        except (RedisError, OSError) as error:
            await connection.disconnect()
            raise ReplyLostError(f"{type(error).__name__}: {error}") from None
        except BaseException:
            await connection.disconnect()
            raise
        finally:
            await self.calm.release(connection)

    # Whether it answers -------------------------------------------------------------------------------------------

    def is_at(self, now_ms: int) -> None:
        """Note the server's clock, as a reply that just came tells it."""
        self.ahead_ms = now_ms - time.monotonic() * 1000

    def answered(self, started: float) -> None:
        """Note that a call begun at `started` (of `time.monotonic`) was answered as it should be."""
        self._answered = time.monotonic()
        self._turn(True, started)

    def failed(self, started: float, error: BaseException) -> None:
        """Note that a call begun at `started` failed."""
        fault = fault_of(error)
        self._on_fault(fault)
        self._turn(False, started)
        if not self.up:
            self._tell(fault, error)
        if isinstance(error, ResponseError):  # it answers, if not as it should
            self._answered = time.monotonic()
        elif not (self.silent or self._closed) and (
            fault != "timeout" or time.monotonic() - self._answered > _SILENT_S
        ):
            self.silent = True
            self._knocking = asyncio.create_task(self._knock())

    def _turn(self, up: bool, started: float) -> None:
        """Note whether the server is up; a call begun before that changed last is no evidence."""
        if up == self.up or started < self._turned:
            return
        self.up, self._turned = up, time.monotonic()
        self._on_turn()
        if up and self._told:
            _log.warning("the store%s answers again", self._suffix)
        self._told = set()

    def _tell(self, fault: str, error: BaseException) -> None:
        """Log why the server is down: each fault once, and no more than some a minute of one that comes and goes."""
        now, times = time.monotonic(), self._told_at
        if fault in self._told or (len(times) == times.maxlen and now - times[0] < 60):
            return
        self._told.add(fault)
        times.append(now)
        detail = f": {error}" if str(error) else ""
        _log.warning("the store%s is unavailable: %s%s", self._suffix, fault, detail)

    @property
    def _suffix(self) -> str:
        return f" ({self.name})" if self.name else ""

    async def _knock(self) -> None:
        """Ask a silent server for a sign of life until it gives one, then let calls through again."""
        pause = _KNOCK_S
        while True:
            started = time.monotonic()
            ping = asyncio.create_task(self.call([("PING",)]))
            ping.add_done_callback(ended)
            try:
                await asyncio.wait([ping], timeout=PATIENCE_S)
            finally:
                await end(ping)
            error: BaseException | None = TimeoutError("no answer to a PING")
            if not ping.cancelled():
                error = ping.exception() or next(
                    (reply for reply in ping.result() if isinstance(reply, Exception)), None
                )
            if error is None:
                break
            self.failed(started, error)
            with contextlib.suppress(RedisError, OSError):
                await self._on_silence()
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _KNOCK_MOST_S)
        self.silent = False
        self.answered(started)

    async def close(self) -> None:
        """Close its connections."""
        self._closed = True
        if self._knocking is not None:
            await end(self._knocking)
        for connection in self._ready:
            await self._drop(connection)
        self._ready.clear()
        await self._hot.aclose()
        await self.calm.aclose()
