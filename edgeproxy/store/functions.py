"""Calling the store's functions for all but visitors' requests: with patience, and with writes that are durable."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import hiredis
import orjson
from redis.exceptions import RedisError, ResponseError

from edgeproxy.errors import Fault, Kind
from edgeproxy.store import Store, StoreError, keys

_log = logging.getLogger(__name__)
_DURABLE_MS = 3000  # for the store, to write to disk and to its replicas
_PROOF_KEPT_S = 60.0  # how long it is believed what the server can promise
_FLUSHED_KEPT_MS = 1000
_TELL_AGAIN_S = 60.0  # between log lines of failed calls


class RefusedError(Exception):
    """A function refused: for which reason (its Lua file lists them), and what belongs to that."""

    def __init__(self, why: str, detail: dict[str, Any] | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.detail = detail or {}


class NotDurableError(Exception):
    """A change was made, but it is not known to have reached the disk, or as many replicas as are wanted."""


class UncertainError(Exception):
    """A change was sent to the store, and its reply did not come: it is not known whether it was made."""


class _ReplyLostError(Exception):
    """Commands were sent, and their replies did not come."""


class Functions:
    """Runs functions of the store.

    A write is acknowledged when it is in the append-only file on disk, if the server keeps one and can tell (Redis 7.2,
    Valkey 8), and on `replicas` replicas; with None, as soon as the store has decided. Every method raises `Fault`
    (`STORE_UNAVAILABLE`) where the store fails.
    """

    def __init__(self, store: Store, replicas: int | None) -> None:
        self._store = store
        self._client = store.calm
        self._replicas = replicas
        self._proof: tuple[Any, ...] | None = None  # the command that waits for durability; () where nothing can
        self._proof_asked = 0.0
        self._failure_told = -_TELL_AGAIN_S

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """A context in which a failure of the store becomes a `Fault`; one a minute is logged."""
        try:
            yield
        except (RedisError, OSError, StoreError) as error:
            self._tell(error)
            raise Fault(Kind.STORE_UNAVAILABLE) from None

    def _tell(self, error: Exception) -> None:
        if time.monotonic() - self._failure_told > _TELL_AGAIN_S:
            self._failure_told = time.monotonic()
            _log.error("the store failed a call of the manage port: %s: %s", type(error).__name__, error)

    async def read(self, function: str, names: Sequence[str], *arguments: Any) -> dict[str, Any]:
        """Run a function that writes nothing, or nothing that has to be durable, and give its reply.

        Raises:
            RefusedError: the reply is a refusal.
        """
        return _checked((await self._read([("FCALL", function, len(names), *names, *arguments)]))[0])

    async def write(self, function: str, names: Sequence[str], *arguments: Any) -> dict[str, Any]:
        """Run a function and wait, on the same connection, until what it wrote is durable.

        Raises:
            RefusedError: the reply is a refusal; nothing was written but statuses that time has changed.
            NotDurableError: it was written, and is not known to be durable.
            UncertainError: it was sent, and whether it was written is not known.
        """
        proof = await self._durability()
        commands = [("FCALL", function, len(names), *names, *arguments), *([proof] if proof else [])]
        try:
            reply, *proofs = await self._run(commands)
        except _ReplyLostError as lost:
            self._tell(lost)
            raise UncertainError from None
        tree = _checked(reply)
        if proofs and not self._proves(proofs[0]):
            self._proof = None
            raise NotDurableError
        return tree

    async def flush(self) -> None:
        """Wait until all that was written before, on whichever connection, is durable.

        Raises:
            NotDurableError: it is not known to be.
        """
        proof = await self._durability()
        if proof:  # it proves what its own connection wrote last, and what stands before that in the file
            _, durable = await self._read([("SET", keys.FLUSHED, "1", "PX", _FLUSHED_KEPT_MS), proof])
            if not self._proves(durable):
                self._proof = None
                raise NotDurableError

    async def _durability(self) -> tuple[Any, ...]:
        """The command that waits for what the server can promise."""
        if self._replicas is None:
            return ()
        if self._proof is None or time.monotonic() - self._proof_asked > _PROOF_KEPT_S:
            self._proof_asked = time.monotonic()
            with self.faults():
                info = await self._client.info("persistence")
                known = await self._client.execute_command("COMMAND LIST", "FILTERBY", "PATTERN", "waitaof")  # type: ignore[no-untyped-call]
            if known and info.get("aof_enabled"):
                self._proof = ("WAITAOF", 1, self._replicas, _DURABLE_MS)
            else:
                self._proof = ("WAIT", self._replicas, _DURABLE_MS) if self._replicas else ()
        return self._proof

    def _proves(self, reply: Any) -> bool:
        wanted = self._replicas or 0
        if isinstance(reply, list):
            return bool(reply[0] >= 1 and reply[1] >= wanted)
        return isinstance(reply, int) and reply >= wanted

    async def _read(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Run commands that may be repeated: whether they were run makes no difference."""
        try:
            return await self._run(commands)
        except _ReplyLostError as lost:
            self._tell(lost)
            raise Fault(Kind.STORE_UNAVAILABLE) from None

    async def _run(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Run a function, and commands after it on the same connection; functions that the store lost are loaded."""
        with self.faults():
            replies = await self._pipeline(commands)
            if isinstance(replies[0], ResponseError) and "Function not found" in str(replies[0]):
                await self._store.load_functions()
                replies = await self._pipeline(commands)
            if isinstance(replies[0], Exception):
                raise replies[0]
            return replies

    async def _pipeline(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands on one connection and read their replies; those that failed are exceptions.

        Raises:
            RedisError, OSError: nothing was sent.
            _ReplyLostError: it was, and the replies did not come.
        """
        pool = self._client.connection_pool
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.send_packed_command(map(hiredis.pack_command, commands), check_health=False)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except (RedisError, OSError) as error:
            await connection.disconnect()
            raise _ReplyLostError(f"{type(error).__name__}: {error}") from None
        except BaseException:
            await connection.disconnect()
            raise
        else:
            return replies
        finally:
            await pool.release(connection)


def _checked(reply: str) -> dict[str, Any]:
    tree: dict[str, Any] = orjson.loads(reply)
    if "refused" in tree:
        raise RefusedError(tree["refused"], tree)
    return tree
