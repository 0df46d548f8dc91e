"""Calling the store's functions for all but visitors' requests: with patience, and with writes that are durable."""

import contextlib
import logging
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from redis.exceptions import MovedError, RedisError, ResponseError

from edgeproxy.errors import Fault, Kind, NotDurableError, RefusedError, SealError, StoreError, UncertainError
from edgeproxy.store import Store, keys
from edgeproxy.store.lua_libraries import function_name, load_libraries
from edgeproxy.store.server import ReplyLostError, Server

_log = logging.getLogger(__name__)
_DURABLE_MS = 3000  # for the store, to write to disk and to its replicas
_PROOF_KEPT_S = 60.0  # how long it is believed what the server can promise
_FLUSHED_KEPT_MS = 1000
_TELL_AGAIN_S = 60.0  # between log lines of failed calls


class Functions:
    """Runs functions of the store.

    A write is acknowledged when it is in the append-only file on disk, if the server keeps one and can tell (Redis 7.2,
    Valkey 8), and on `replicas` replicas; with None, as soon as the store has decided. Every method raises `Fault`
    (`STORE_UNAVAILABLE`) where the store fails; unless `tells` is False that is logged.
    """

    def __init__(self, store: Store, replicas: int | None, *, tells: bool = True) -> None:
        self._store = store
        self._replicas = replicas
        # Server → the command that waits for durability, () where nothing can, and when it was asked for that.
        self._proofs: weakref.WeakKeyDictionary[Server, tuple[tuple[Any, ...], float]] = weakref.WeakKeyDictionary()
        self._tells = tells
        self._failure_told = -_TELL_AGAIN_S

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """A context in which a failure of the store becomes a `Fault`; one a minute is logged."""
        try:
            yield
        except ReplyLostError:
            raise
        except (RedisError, OSError, StoreError) as error:
            self._tell(error)
            self._store.servers.look()
            raise Fault(Kind.STORE_UNAVAILABLE) from None
        except SealError as error:
            self._store.seal.tell(error)
            raise Fault(Kind.STORE_UNAVAILABLE) from None

    def _tell(self, error: Exception) -> None:
        if self._tells and time.monotonic() - self._failure_told > _TELL_AGAIN_S:
            self._failure_told = time.monotonic()
            _log.error("the store failed a call of the manage port: %s: %s", type(error).__name__, error)

    async def read(self, function: str, names: Sequence[str], *arguments: Any) -> dict[str, Any]:
        """Run a function that writes nothing, or nothing that has to be durable, and give its reply.

        Raises:
            RefusedError: the reply is a refusal.
        """
        command = ("FCALL", function_name(function), len(names), *names, *arguments)
        return _checked((await self._read(names[0], [command]))[0])

    async def write(self, function: str, names: Sequence[str], *arguments: Any) -> dict[str, Any]:
        """Run a function and wait, on the same connection, until what it wrote is durable.

        Raises:
            RefusedError: the reply is a refusal; nothing was written but statuses that time has changed.
            NotDurableError: it was written, and is not known to be durable.
            UncertainError: it was sent, and whether it was written is not known.
        """
        proof = await self._durability(names[0])
        command = ("FCALL", function_name(function), len(names), *names, *arguments)
        try:
            reply, *proofs = await self._run(names[0], [command, *([proof] if proof else [])])
        except ReplyLostError as lost:
            self._tell(lost)
            raise UncertainError from None
        tree = _checked(reply)
        if proofs:
            self._check(names[0], proofs[0])
        return tree

    async def transaction(self, key: str, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run commands on keys of one slot, which `key` is in, in one step; their replies."""
        *_, replies = await self._read(key, [("MULTI",), *commands, ("EXEC",)])
        with self.faults():
            if isinstance(replies, Exception):
                raise replies
        found: list[Any] = replies
        return found

    async def flush(self, *names: str) -> None:
        """Wait until all that was written before to these keys, on whichever connection, is durable.

        Raises:
            NotDurableError: it is not known to be.
        """
        for name in {self._store.servers.server(name): name for name in names}.values():
            proof = await self._durability(name)
            if proof:  # it proves what its own connection wrote last, and what stands before that in the file
                write = ("SET", keys.flushed(name), "1", "PX", _FLUSHED_KEPT_MS)
                self._check(name, (await self._read(name, [write, proof]))[1])

    async def _durability(self, key: str) -> tuple[Any, ...]:
        """The command that waits for what the server of a key can promise."""
        if self._replicas is None:
            return ()
        server = self._store.servers.server(key)
        proof, asked = self._proofs.get(server, ((), -_PROOF_KEPT_S))
        if time.monotonic() - asked > _PROOF_KEPT_S:
            info, known = await self._read(
                key, [("INFO", "persistence"), ("COMMAND", "LIST", "FILTERBY", "PATTERN", "waitaof")]
            )
            if known and not isinstance(known, Exception) and "aof_enabled:1" in info:
                proof = ("WAITAOF", 1, self._replicas, _DURABLE_MS)
            else:
                proof = ("WAIT", self._replicas, _DURABLE_MS) if self._replicas else ()
            self._proofs[server] = proof, time.monotonic()
        return proof

    def _check(self, key: str, proved: Any) -> None:
        wanted = self._replicas or 0
        if isinstance(proved, list) and proved[0] >= 1 and proved[1] >= wanted:
            return
        if isinstance(proved, int) and proved >= wanted:
            return
        self._proofs.pop(self._store.servers.server(key), None)
        raise NotDurableError

    async def _read(self, key: str, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Run commands that may be repeated: whether they were run makes no difference."""
        try:
            return await self._run(key, commands)
        except ReplyLostError as lost:
            self._tell(lost)
            raise Fault(Kind.STORE_UNAVAILABLE) from None

    async def _run(self, key: str, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Run commands in one pipeline on the server that holds a key.

        Where that has no functions they are loaded, and where the key has moved they are run at its new place.
        """
        with self.faults():
            server = self._store.servers.server(key)
            replies = await server.call_calmly(commands)
            if isinstance(replies[0], ResponseError) and "Function not found" in str(replies[0]):
                await load_libraries(server)
                replies = await server.call_calmly(commands)
            if moved := next((reply for reply in replies if isinstance(reply, MovedError)), None):
                replies = await (await self._store.servers.moved(moved)).call_calmly(commands)
            if isinstance(replies[0], Exception):
                raise replies[0]
            return replies


def _checked(reply: str) -> dict[str, Any]:
    tree: dict[str, Any] = orjson.loads(reply)
    if "refused" in tree:
        raise RefusedError(tree["refused"], tree)
    return tree
