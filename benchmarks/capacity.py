"""What a request costs every part of a deployment: cores, memory, network and disk, on one server and on a cluster.

What is measured here is what `benchmarks.sizing` computes a deployment from. Costs are CPU time of processes, from
/proc, so that they hold, within what shared caches and preemption do to them, on a machine that others use too.

Servers are started as the tests start theirs (`tests.servers`); the benchmark's cluster has no replicas, and a fourth
primary for the limiter's slot alone, so that /proc tells apart what the limiter costs.
"""

import asyncio
import contextlib
import http.client
import itertools
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import redis
import uvloop
from redis.crc import key_slot
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import growth, leases, load, machine, peers, sizing, workload
from benchmarks.peers import Server, ServerError
from benchmarks.rooms import ask
from benchmarks.workload import Target
from edgeproxy.accounts.account import Account
from edgeproxy.store import Store, keys
from tests.servers import ServerProcess, free_ports, until

SPREADS = (1, 10, 100, 1_000)  # accounts that share the requests of a timing
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PRIMARIES = 3  # of the cluster, that hold accounts
BUSY = 0.4  # share of a core that the gateway has to use in paced timings

_SLOTS = 16_384
_NUMBERS = 60_000  # of a spread, over its accounts
_SESSIONS = 6_000  # of a spread, begun before
_HUGE = "huge"  # the account of the batches
_HUGE_NUMBERS = 100_000
_HUGE_POOL = 400_000  # numbers of the pool, put into it so that no run empties it
_HUGE_SESSIONS = 18_000
_REQUESTS = 20_000  # distinct requests of a timing
_IPS = 20_000
_CONNECTIONS = 32
_DRIVERS = 2  # processes that send batches
_START_S = 0.3  # for drivers to get ready
_DEADLINE_S = 30
_ATTEMPTS = 6  # an open loop that a machine busy with something else could not keep up with is run again,
_PAUSE_S = 2  # after this
_SAMPLE = 500  # keys whose memory is asked for
_FEW, _MANY = 20_000, 100_000  # sessions between which memory is compared
_ACCOUNTS = 1_000  # whose memory is measured
_PAST = 100_000  # leases in history whose memory is measured
_FIRST_VISITOR = 2_000_000


@dataclass(frozen=True, slots=True)
class Stores:
    """Servers that hold the same accounts: one server, or the primaries of a cluster."""

    name: str
    url: str
    nodes: list[ServerProcess]  # that hold accounts
    limiter: ServerProcess | None  # of a cluster: the primary of the limiter's slot alone

    @property
    def all(self) -> list[ServerProcess]:
        """Every primary."""
        return [*self.nodes, *([self.limiter] if self.limiter else [])]


@dataclass(slots=True)
class Readings:
    """Counters of one server."""

    cpu_s: float
    calls: int  # of functions
    received: int  # bytes
    sent: int
    appended: int  # bytes of the append-only file

    @classmethod
    def of(cls, node: ServerProcess) -> "Readings":
        """What the server counts now."""
        with node.client() as client:
            stats, persistence, commands = (cast("Any", client.info(part)) for part in _SECTIONS)
        return cls(
            machine.cpu_s([node.pid]),
            commands.get("cmdstat_fcall", {}).get("calls", 0),
            stats["total_net_input_bytes"],
            stats["total_net_output_bytes"],
            persistence["aof_current_size"],
        )

    def until(self, later: "Readings", requests: int) -> dict[str, float]:
        """What one of `requests` cost, by the counters of before and after: µs, calls and bytes."""
        return {
            "us": (later.cpu_s - self.cpu_s) / requests * 1e6,
            "calls": (later.calls - self.calls) / requests,
            "received": (later.received - self.received) / requests,
            "sent": (later.sent - self.sent) / requests,
            "appended": (later.appended - self.appended) / requests,
        }


_SECTIONS = ("stats", "persistence", "commandstats")


def run(rounds: int, seconds: int, binary: str | None, progress: Progress) -> dict[str, Any]:
    """Measure everything, in interleaved rounds; `binary` is a store server instead of the bundled one."""
    with tempfile.TemporaryDirectory(prefix="edgeproxy-bench-") as directory, contextlib.ExitStack() as stack:
        place = Path(directory)
        stores = [
            stack.enter_context(_one(place / "server", binary)),
            stack.enter_context(_cluster(place / "cluster", binary)),
        ]
        with stores[0].nodes[0].client() as client:
            info: Any = client.info("server")
        product = info.get("server_name", "redis")
        conditions = machine.facts(f"{product} {info.get(f'{product}_version', info['redis_version'])}")
        for each in stores:
            asyncio.run(workload.load_accounts(each.url, _trees()))
        spreads, gateway = _spreads(stores, place / "requests", rounds, seconds, progress)
        batches = _batches(stores, rounds, seconds, progress)
    with tempfile.TemporaryDirectory(prefix="edgeproxy-bench-") as directory:
        written = _written(Path(directory), binary, rounds, seconds, progress)
        memory = _memory(Path(directory) / "memory", binary, progress)
    return {
        "kind": "capacity",
        "machine": conditions,
        "settings": {
            "rounds": rounds,
            "seconds": seconds,
            "primaries": PRIMARIES,
            "renewed": workload.RENEWED,
            "connections": _CONNECTIONS,
            "drivers": _DRIVERS,
            "busy": BUSY,
            "budget_ms": peers.PATIENT_MS,
        },
        "spreads": spreads,
        "batches": batches,
        "written": written,
        "memory": memory,
        "gateway": gateway,
    }


# Servers -----------------------------------------------------------------------------------------------------------

# A rewrite of the append-only file would fall into one timing and not into another.
_OPTIONS = ("appendfsync everysec", "auto-aof-rewrite-percentage 0", "maxmemory-policy noeviction")


@contextlib.contextmanager
def _one(directory: Path, binary: str | None) -> Iterator[Stores]:
    with ServerProcess(directory, *_OPTIONS, binary=binary or "") as node:
        yield Stores("server", node.url, [node], None)


@contextlib.contextmanager
def _cluster(directory: Path, binary: str | None) -> Iterator[Stores]:
    """Three primaries that share the slots, and one that has the limiter's slot alone."""
    with contextlib.ExitStack() as stack:
        nodes = []
        for index in range(PRIMARIES + 1):
            port, bus = free_ports(2)
            options = ("cluster-enabled yes", f"cluster-port {bus}", "cluster-node-timeout 15000", *_OPTIONS)
            node = ServerProcess(directory / f"node{index}", *options, port=port, binary=binary or "")
            nodes.append((stack.enter_context(node), bus))
        try:
            _meet(nodes)
        except AssertionError as error:
            raise ServerError(f"the cluster did not form: {error}") from None
        primaries = [node for node, _ in nodes]
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in primaries)
        yield Stores("cluster", url, primaries[:-1], primaries[-1])


def _meet(nodes: Sequence[tuple[ServerProcess, int]]) -> None:
    """Share the slots out, and wait until every node knows who holds which."""
    limiter = key_slot(keys.LIMITER[0].encode())
    with contextlib.ExitStack() as stack:
        clients: list[Any] = [stack.enter_context(node.client()) for node, _ in nodes]
        for index, client in enumerate(clients[:-1]):
            first, end = index * _SLOTS // PRIMARIES, (index + 1) * _SLOTS // PRIMARIES
            parts = [(first, end - 1)]
            if first <= limiter < end:
                parts = [(a, b) for a, b in ((first, limiter - 1), (limiter + 1, end - 1)) if a <= b]
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", *itertools.chain(*parts))
        clients[-1].execute_command("CLUSTER", "ADDSLOTS", limiter)
        for epoch, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", epoch + 1)
        for node, bus in nodes[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        for client in clients:
            until(lambda: client.cluster("INFO")["cluster_state"] == "ok", "a cluster in order")  # noqa: B023 - called at once
            until(lambda: client.cluster("INFO")["cluster_known_nodes"] == str(len(nodes)), "all nodes known")  # noqa: B023 - called at once


def _targets(count: int) -> list[Target]:
    return [Target(account=f"spread-{count}-{index}") for index in range(count)]


def _trees() -> dict[str, dict[str, Any]]:
    """The accounts of every spread, which share none, and the huge one."""
    trees = {_HUGE: workload.account_tree(_HUGE_NUMBERS)}
    first = _HUGE_NUMBERS
    for count in SPREADS:
        size = _NUMBERS // count
        for target in _targets(count):
            trees[target.account] = workload.account_tree(size, first)
            first += size
    return trees


# Accounts over slots -----------------------------------------------------------------------------------------------


def _spreads(
    stores: Sequence[Stores], path: Path, rounds: int, seconds: int, progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Time the same requests on both stores, over 1 to 1,000 accounts; then what a gateway holds, and its answers."""
    with contextlib.ExitStack() as stack:
        servers = {
            each.name: stack.enter_context(peers.gateway(each.url, budget_ms=peers.PATIENT_MS)) for each in stores
        }
        idle = _gateway_memory(servers["cluster"])
        begin = progress.add_task("sessions begin", total=len(stores) * len(SPREADS))
        sessions: dict[tuple[str, int], list[list[workload.Session]]] = {}
        for each in stores:
            for count in SPREADS:
                sessions[each.name, count] = workload.begin_sessions(
                    servers[each.name].url, _targets(count), max(_SESSIONS, count)
                )
                progress.advance(begin)
        rows: list[dict[str, Any]] = [
            {"store": each.name, "accounts": count, "rounds": []} for each in stores for count in SPREADS
        ]
        task = progress.add_task("spreads", total=rounds * len(rows))
        for number in range(rounds):
            # Neighbours in time are compared: the same spread on both stores.
            for count in SPREADS:
                for each in stores:
                    progress.update(task, description=f"{count:,} accounts, {each.name}, round {number + 1}/{rounds}")
                    requests = workload.mixed(
                        _targets(count), sessions[each.name, count], count=_REQUESTS, ips=_IPS,
                        first=_FIRST_VISITOR + number * _REQUESTS,
                    )  # fmt: skip
                    workload.write_requests(path, requests)
                    row = next(row for row in rows if (row["store"], row["accounts"]) == (each.name, count))
                    row["rounds"].append(_timing(servers[each.name], each, path, seconds))
                    progress.advance(task)
        gateway = {
            "idle": idle,
            "served": _gateway_memory(servers["cluster"]),
            **_exchanged(servers["server"], _targets(1)[0], sessions["server", 1][0]),
        }
    return rows, gateway


def _timing(server: Server, stores: Stores, path: Path, seconds: int) -> dict[str, Any]:
    """A closed loop, which tells the rate that keeps the worker busy for `BUSY`, and an open loop at that rate."""
    before = load.outcomes(server)
    load.closed(server.url, path, _CONNECTIONS, load.WARM_UP_S)
    closed = _between(server, stores, lambda: load.closed(server.url, path, _CONNECTIONS, max(1, seconds // 2)))
    rate = BUSY * 1e6 / closed["gateway_us"]
    paced = _between(server, stores, lambda: load.open_loop(server.url, path, rate, seconds), attempts=_ATTEMPTS)
    counts = load.gained(before, load.outcomes(server))
    if counts.get("event:original"):
        raise load.LoadError(f"pools were empty: {counts}")
    return {"closed": closed, "paced": paced}


def _between(
    server: Server, stores: Stores, loop: Callable[[], load.Closed | load.Open], attempts: int = 1
) -> dict[str, Any]:
    """What a request of a loop cost; a loop whose requests fail is run again, so many times in all as `attempts`.

    Raises:
        LoadError: they failed each time.
    """
    server_s, before = server.cpu_s(), [Readings.of(node) for node in stores.all]
    done = loop()
    server_s, after = server.cpu_s() - server_s, [Readings.of(node) for node in stores.all]
    failed = done.refused + (done.broken if isinstance(done, load.Closed) else done.lost)
    if failed > done.requests / 100:
        if attempts > 1:
            time.sleep(_PAUSE_S)
            return _between(server, stores, loop, attempts - 1)
        raise load.LoadError(f"{server.name}: of {done.requests} requests {failed} failed")
    costs = [first.until(last, done.requests) for first, last in zip(before, after, strict=True)]
    if not stores.limiter:
        costs.append(dict.fromkeys(costs[0], 0.0))
    *primaries, limiter = costs
    return {
        "requests": done.requests,
        "failed": failed,
        "rate": done.requests / done.seconds,
        "gateway_us": server_s / done.requests * 1e6,
        "accounts_store": {name: sum(each[name] for each in primaries) for name in primaries[0]},
        "limiter": limiter,
        "busiest_by_mean": max(each["us"] for each in primaries)
        * len(primaries)
        / sum(each["us"] for each in primaries),
        **({"machine_busy": done.machine_busy} if isinstance(done, load.Open) else {}),
    }


def _gateway_memory(server: Server) -> dict[str, float]:
    """MiB of the worker, and of the process that watches over it; private is what no other process shares."""
    held: dict[str, float] = {}
    for pid in machine.family(server.pid):
        sizes = {}
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, rest = line.partition(":")
            sizes[name] = int(rest.split()[0]) / 1024
        who = "supervisor" if pid == server.pid else "worker"
        held[f"{who}_rss_mib"] = held.get(f"{who}_rss_mib", 0) + sizes["Rss"]
        private = sizes["Private_Clean"] + sizes["Private_Dirty"]
        held[f"{who}_private_mib"] = held.get(f"{who}_private_mib", 0) + private
    return held


def _exchanged(server: Server, target: Target, sessions: Sequence[workload.Session]) -> dict[str, float]:
    """Bytes of a request and of its answer, heads included, as HTTP/1.1 sends them; means of what is sent."""
    sent, received = [], []
    requests = workload.mixed([target], [sessions], count=200, first=3 * _FIRST_VISITOR)
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    with contextlib.closing(connection):
        for request in requests:
            head, _, body = request.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
            connection.request("POST", "/api", body, headers)
            answer = connection.getresponse()
            text = "".join(f"{name}: {value}\r\n" for name, value in answer.getheaders())
            sent.append(len(request))
            received.append(len(f"HTTP/1.1 {answer.status} {answer.reason}\r\n{text}\r\n") + len(answer.read()))
    return {"request_bytes": statistics.mean(sent), "answer_bytes": statistics.mean(received)}


# Batches of one account --------------------------------------------------------------------------------------------


def drive(url: str, sessions: Sequence[workload.Session], size: int, first: int, begin: float, end: float) -> int:
    """Send batches of the huge account, one after another, from `begin` to `end` of `time.monotonic`; gives how many
    requests they held.

    It runs in a process of its own, with the gateway's own client of the store. `first` tells its clients and visitors
    apart from those of others.
    """
    return uvloop.run(_drive(url, sessions, size, first, begin, end))


async def _drive(
    url: str, sessions: Sequence[workload.Session], size: int, first: int, begin: float, end: float
) -> int:
    chance = random.Random(first)
    asks = [ask(first + index % _IPS, workload.chosen(chance, sessions, first + index)) for index in range(4_096)]
    refused: list[object] = []
    async with Store(url, on_batch=lambda _, events: refused.append(events) if "original" in events else None) as store:
        account = await _account(store, _HUGE)
        # The connection, and what the client remembers of the account, are made by the first call.
        await store.resolve(account, asks[-1], time.monotonic() + _DEADLINE_S)
        await asyncio.sleep(begin - time.monotonic())
        count = at = 0
        while time.monotonic() < end:
            deadline = time.monotonic() + _DEADLINE_S
            answers = await asyncio.gather(*[store.resolve(account, each, deadline) for each in asks[at : at + size]])
            refused += [answer for answer in answers if answer.refused or answer.moved]
            if refused:
                raise load.LoadError(f"the store refused a request, or the pool was empty: {refused[0]}")
            count += size
            at = (at + size) % (len(asks) - size)
    return count


async def _account(store: Store, name: str) -> Account:
    account = await store.account(name, time.monotonic() + _DEADLINE_S)
    if account is None:
        raise LookupError(f"the store has no account {name}")
    return account


async def _seed(url: str, name: str, count: int, first: int = 0) -> list[workload.Session]:
    async with Store(url) as store:
        account = await _account(store, name)
    return await growth.seed(url, account, count, lambda _: None, first)


def _huge(stores: Stores) -> list[workload.Session]:
    """Enlarge the huge account's pool, and begin its sessions."""
    for node in stores.nodes:
        with node.client() as client, contextlib.suppress(redis.exceptions.MovedError):
            growth.enlarge(client, _HUGE, _HUGE_POOL)
    return uvloop.run(_seed(stores.url, _HUGE, _HUGE_SESSIONS))


class _Drivers:
    """Processes that send batches at the same time."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(_DRIVERS, mp_context=multiprocessing.get_context("spawn"))
        self._turn = itertools.count()

    def time(self, stores: Stores, sessions: Sequence[workload.Session], size: int, seconds: float) -> dict[str, Any]:
        """What a request costs the store where each call holds `size` of them."""
        begin = time.monotonic() + _START_S + max(0.0, 3.0 - next(self._turn))  # at first, processes start
        runs = [
            self._pool.submit(drive, stores.url, sessions, size, (index + 1) * 1_000_000, begin, begin + seconds)
            for index in range(_DRIVERS)
        ]
        time.sleep(begin - time.monotonic())
        before, started = [Readings.of(node) for node in stores.all], time.monotonic()
        requests = sum(run.result() for run in runs)
        took = time.monotonic() - started
        costs = [first.until(Readings.of(node), requests) for first, node in zip(before, stores.all, strict=True)]
        holder = max(costs[: len(stores.nodes)], key=lambda cost: cost["us"])
        return {
            "requests": requests,
            "rate": requests / took,
            "accounts_store": holder,
            "limiter": costs[-1] if stores.limiter else dict.fromkeys(holder, 0.0),
            "core": holder["us"] * requests / took / 1e6,
        }

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown()


def _batches(stores: Sequence[Stores], rounds: int, seconds: int, progress: Progress) -> list[dict[str, Any]]:
    task = progress.add_task("batches", total=rounds * len(BATCHES) * len(stores))
    sessions = {each.name: _huge(each) for each in stores}
    rows: list[dict[str, Any]] = [
        {"store": each.name, "size": size, "rounds": []} for each in stores for size in BATCHES
    ]
    with contextlib.closing(_Drivers()) as drivers:
        for _ in range(rounds):
            for size in BATCHES:
                for each in stores:
                    progress.update(task, description=f"batches of {size}, {each.name}")
                    row = next(row for row in rows if (row["store"], row["size"]) == (each.name, size))
                    row["rounds"].append(drivers.time(each, sessions[each.name], size, max(1.0, seconds / 3)))
                    progress.advance(task)
    return rows


# Replica and disk --------------------------------------------------------------------------------------------------


def _written(
    directory: Path, binary: str | None, rounds: int, seconds: int, progress: Progress
) -> list[dict[str, Any]]:
    """What a request writes: to the append-only file, to a replica; and what a replica adds to the primary's work."""
    sizes = (1, 32)
    task = progress.add_task("replica", total=rounds * len(sizes) * 2)
    rows: list[dict[str, Any]] = [
        {"size": size, "replica": replica, "rounds": []} for size in sizes for replica in (False, True)
    ]
    with (
        _one(directory / "primary", binary) as primary,
        ServerProcess(directory / "replica", *_OPTIONS, "repl-diskless-sync-delay 0", binary=binary or "") as replica,
        contextlib.closing(_Drivers()) as drivers,
        primary.nodes[0].client() as ours,
        replica.client() as theirs,
    ):
        asyncio.run(workload.load_accounts(primary.url, {_HUGE: workload.account_tree(_HUGE_NUMBERS)}))
        sessions = _huge(primary)
        for _ in range(rounds):
            for row in rows:
                if row["replica"]:
                    theirs.execute_command("REPLICAOF", "127.0.0.1", primary.nodes[0].port)
                    until(lambda: cast("Any", theirs.info("replication"))["master_link_status"] == "up", "a replica")
                else:
                    theirs.execute_command("REPLICAOF", "NO", "ONE")
                offset, visits = _offset(ours), _usage(ours, keys.visits(_HUGE))
                replica_s = machine.cpu_s([replica.pid])
                timing = drivers.time(primary, sessions, row["size"], max(1.0, seconds / 3))
                timing["replica_us"] = (machine.cpu_s([replica.pid]) - replica_s) / timing["requests"] * 1e6
                timing["replicated"] = (_offset(ours) - offset) / timing["requests"]
                timing["visit_bytes"] = (_usage(ours, keys.visits(_HUGE)) - visits) / timing["requests"]
                row["rounds"].append(timing)
                progress.advance(task)
    return rows


def _offset(client: "redis.Redis") -> int:
    return int(cast("Any", client.info("replication"))["master_repl_offset"])


# Memory ------------------------------------------------------------------------------------------------------------


def _memory(directory: Path, binary: str | None, progress: Progress) -> dict[str, float]:
    """Bytes in the store of each thing it keeps: what memory grew by, between two sizes where it grows in steps."""
    task = progress.add_task("memory", total=4)
    with _one(directory, binary) as stores, stores.nodes[0].client() as client:
        asyncio.run(workload.load_accounts(stores.url, {"first": workload.account_tree(1, 1)}))
        before = _used(client)
        names = [f"held-{index}" for index in range(_ACCOUNTS)]
        trees = {name: workload.account_tree(1, 10 + index) for index, name in enumerate(names)}
        asyncio.run(workload.load_accounts(stores.url, trees))
        account_bytes = (_used(client) - before) / _ACCOUNTS
        progress.advance(task)

        before = _used(client)
        tree = workload.account_tree(_HUGE_NUMBERS, 10_000)
        asyncio.run(workload.load_accounts(stores.url, {_HUGE: tree}))
        number_bytes = (_used(client) - before) / _HUGE_NUMBERS
        progress.advance(task)

        # The first sessions are others than those compared, so that no table is new.
        uvloop.run(_seed(stores.url, _HUGE, _FEW))
        few = _held(client)
        uvloop.run(_seed(stores.url, _HUGE, _MANY - _FEW, _FEW))
        many = _held(client)
        progress.advance(task)
        grown = {name: (many[name] - few[name]) / (_MANY - _FEW) for name in many}
        session, visitor = (_mean_usage(client, prefix) for prefix in ("session", "visitor"))
        # What belongs to no large key is the sessions' and visitors' own, with their places in the tables of all keys.
        rest = grown["used"] - sum(grown[name] for name in grown if name != "used")
        history = _usage(client, keys.history(_HUGE)) / _MANY
        leased = _usage(client, keys.pool(_HUGE, workload.POOL_NAME)[1]) / _MANY

        leases.fill(client, "past", _PAST, progress)
        past = _usage(client, keys.history("past")) / _PAST
        progress.advance(task)
    return {
        "session_bytes": rest * session / (session + visitor),
        "visitor_bytes": rest * visitor / (session + visitor),
        "live_lease_bytes": leased,
        "begun_lease_bytes": history,
        "past_lease_bytes": past,
        "visit_bytes": grown["visits"],
        "number_bytes": number_bytes,
        "account_bytes": account_bytes,
    }


def _held(client: "redis.Redis") -> dict[str, int]:
    pool = keys.pool(_HUGE, workload.POOL_NAME)
    large = {"history": keys.history(_HUGE), "visits": keys.visits(_HUGE), "free": pool[0], "leased": pool[1]}
    return {"used": _used(client), **{name: _usage(client, key) for name, key in large.items()}}


def _used(client: "redis.Redis") -> int:
    return int(cast("Any", client.info("memory"))["used_memory"])


def _usage(client: "redis.Redis", key: str) -> int:
    return int(cast("Any", client.memory_usage(key, samples=0)) or 0)


def _mean_usage(client: "redis.Redis", kind: str) -> float:
    found = itertools.islice(client.scan_iter(f"ep1:{{{_HUGE}}}:{kind}:*", count=1000), _SAMPLE)
    return statistics.mean(_usage(client, key) for key in found)


# Results -----------------------------------------------------------------------------------------------------------


def show(computed: dict[str, sizing.Table], console: Console) -> None:
    """Print the tables of `sizing.tables`."""
    for each in computed.values():
        if not each.rows:
            console.print(f"{each.title}\n{each.note}", markup=False)
            continue
        table = Table(title=each.title, title_justify="left", caption=each.note or None, caption_justify="left")
        for index, heading in enumerate(each.headings):
            table.add_column(heading, justify="right" if index and not each.prose else "left")
        for row in each.rows:
            table.add_row(*row)
        console.print(table)
