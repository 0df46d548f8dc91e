"""A soak: mixed traffic at half of what the machine can do, with faults thrown in, and a verdict on what must stay.

A gateway of two workers against a cluster of three primaries and three replicas. The first third of the time, in which
workers are killed and the gateway is restarted, is also what memory has to settle.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis
import uvloop
from redis.crc import key_slot
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import load, machine, peers, traffic, workload
from benchmarks.attacks import KINDS
from benchmarks.open_loop import _core_seconds
from benchmarks.peers import Server
from benchmarks.traffic import COOLDOWN_S, IDLE_S, Site, Users, Visitors
from edgeproxy.dynamic.memory import Memory, Windows
from edgeproxy.partner import digest
from edgeproxy.store import Store, keys
from edgeproxy.store import users as partner_users
from tests.servers import Cluster, ServerProcess, cluster

WORKERS = 2
SHARE = 0.5  # of the rate that the machine can do
HEALED_S = 10.0  # after a fault's end, by when the service must be back
WARM_UP = 1 / 3  # of the time
GROWTH = 0.02  # of a worker's private memory in ten minutes
NOISE_MIB = 6.0  # that a worker's memory may differ by anyway;
SHORT_NOISE_MIB = 48.0  # in a run of less than ten minutes, which garbage alone takes to level off
STORE_GROWTH = 0.05  # of the store's data in ten minutes
LEFT_CLIENTS = 24  # connections to each of the store's servers more than at the start: those of pools, kept for later
LEFT_FILES = 64  # of a worker, for the same reason
LOSS_S = 3.0  # what was acknowledged so long before a failover may be lost: replication waits for nobody
HICCUPS = 0.05  # share of requests that may not be answered as they should be while there is no fault
LINES = 60  # that the gateway may log for each fault, beside the audit

_MEASURED = 20_000  # sessions, or client IPs, by which what a worker remembers of each is measured
_SEATS = 2 * 50_000  # sessions that a worker remembers
_FIRST_GENERATION_S = 200  # until the first sessions, visits, and calls have gone for good
_CALIBRATION_S, _TOGETHER = 5.0, 32
_FREEZE_S, _FULL_S, _HOSTILE_S = 3.0, 2.0, 3
_VANISHING = 200
_PATIENCE_S = 30.0
_LOOK_S = 0.1
_REST_S = 3.0  # for connections to end
_LAST_CALM = 0.05  # of the time, at the end, without faults
_SLOTS = 5461  # of each primary, at the start
_ROOT = Path(__file__).parents[1]
_ATTACKS = ("connection churn", "idle connections", "smuggling shapes", "oversized heads", "oversized bodies")


@dataclass(slots=True)
class Fault:
    """A fault that was thrown in; times are s since the load began."""

    kind: str
    begin: float
    end: float = 0.0  # when its cause was gone
    back_s: float = 0.0  # after its begin, until every account was served well again
    healed: bool = False
    failed: int = 0  # good requests that were due until then and were not served by the store
    at: str = ""  # what it happened to
    answers: dict[str, int] = field(default_factory=dict)  # that were not as they should be until then


@dataclass(slots=True)
class Sample:
    """What processes and the store hold at a moment, s since the load began."""

    at: float
    private_mib: dict[int, float]  # worker's process → private memory
    rss_mib: dict[int, float]
    files: dict[int, int]
    clients: list[int] = field(default_factory=list)  # connections, of each of the store's servers that answers
    keys: int = 0  # of all primaries
    data_mib: float = 0.0  # that they hold
    used_mib: float = 0.0  # memory of all the store's servers
    whole: bool = False  # whether all of the store's servers answered


def run(minutes: float, rate: float | None, progress: Progress, *, directory: Path | None = None) -> dict[str, Any]:
    """Soak for `minutes` at `rate` requests a second, or else at half of what a closed loop finds.

    The gateway's log is kept in `directory`, if that is given.
    """
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeproxy-soak-")))
        nodes = stack.enter_context(cluster(place / "store"))
        log = (directory or place) / "gateway.log"
        stage = stack.enter_context(contextlib.closing(_Stage(nodes, log)))
        conditions = machine.facts(_version(nodes.nodes[0]))
        return {"kind": "soak", "machine": conditions, **uvloop.run(_Soak(stage, minutes * 60, progress).run(rate))}


def _version(node: ServerProcess) -> str:
    with node.client() as client:
        info: Any = client.info("server")
    return f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"


class _Stage:
    """The store, and the gateway, which is stopped and started on the same ports."""

    def __init__(self, nodes: Cluster, log: Path) -> None:
        self.nodes = nodes
        self.log = log
        self._stack = contextlib.ExitStack()
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    def start(self) -> None:
        """Start the gateway, and wait until it is ready."""
        ports = (0, 0)
        if self._server is not None:
            ports = (_port(self._server.url), _port(self._server.manage))
        settings = {"EDGEPROXY_ALLOW_PLAIN_HTTP": "true", "EDGEPROXY_DRAIN_S": "1"}
        gateway = peers.gateway(self.nodes.url, workers=WORKERS, ports=ports, log=self.log, settings=settings)
        self._server = self._stack.enter_context(gateway)

    def close(self) -> None:
        """Stop the gateway."""
        self._stack.close()

    def workers(self) -> list[int]:
        """The processes of the gateway's workers."""
        return machine.family(self.server.pid)[1:]


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


# What is looked at -------------------------------------------------------------------------------------------------


def _memory_mib(pid: int) -> tuple[float, float]:
    """Private and resident memory of a process."""
    sizes = dict.fromkeys(("Rss", "Private_Clean", "Private_Dirty"), 0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in sizes:
            sizes[name] = int(value.split()[0])
    return (sizes["Private_Clean"] + sizes["Private_Dirty"]) / 1024, sizes["Rss"] / 1024


def _sample(stage: _Stage, at: float) -> Sample:
    sample = Sample(at, {}, {}, {})
    for pid in stage.workers():
        with contextlib.suppress(OSError):  # it may just have been killed
            sample.private_mib[pid], sample.rss_mib[pid] = _memory_mib(pid)
            sample.files[pid] = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    primaries = 0
    for node in stage.nodes.nodes:
        with contextlib.suppress(redis.RedisError, OSError), _client(node) as client:
            info: Any = client.info()
            sample.clients.append(info["connected_clients"] - 1)  # without this one
            sample.used_mib += info["used_memory"] / 2**20
            if info["role"] == "master":
                primaries += 1
                sample.keys += info.get("db0", {}).get("keys", 0)
                sample.data_mib += info["used_memory_dataset"] / 2**20
    sample.whole = len(sample.clients) == len(stage.nodes.nodes) and primaries == 3
    return sample


def _client(node: ServerProcess) -> "redis.Redis":
    """A client that does not wait long for a frozen server."""
    return redis.Redis(port=node.port, decode_responses=True, socket_timeout=1, protocol=2)


def _primaries(stage: _Stage) -> Iterator[ServerProcess]:
    for node in stage.nodes.nodes:
        with _client(node) as client:
            role: Any = client.execute_command("ROLE")
            if role[0] == "master":
                yield node


def _primary_of(stage: _Stage, key: str) -> ServerProcess:
    """The server that holds a key, as the first that answers knows."""
    slot = key_slot(key.encode())
    for node in stage.nodes.nodes:
        with contextlib.suppress(redis.RedisError, OSError), _client(node) as client:
            slots: Any = client.execute_command("CLUSTER", "SLOTS")
            for first, last, primary, *_ in slots:
                if int(first) <= slot <= int(last):
                    return next(each for each in stage.nodes.nodes if each.port == int(primary[1]))
    raise load.LoadError(f"no server holds {key}")


def _is_in_order(stage: _Stage) -> bool:
    """Whether there are three primaries, each with a replica that follows it, and all know so."""
    primaries = 0
    for node in stage.nodes.nodes:
        try:
            with _client(node) as client:
                state: Any = client.cluster("INFO")
                if state["cluster_state"] != "ok":
                    return False
                replication: Any = client.info("replication")
        except (redis.RedisError, OSError):
            return False
        if replication["role"] == "master":
            primaries += 1
            if replication["connected_slaves"] != 1:
                return False
        elif replication["master_link_status"] != "up":
            return False
    return primaries == 3


def _remembered_bytes() -> tuple[float, float]:
    """What a worker's memory for an absent store takes for a session, and for a client IP that asked meanwhile."""
    memory, windows = Memory(1800), Windows()
    tracemalloc.start()
    try:
        for index in range(_MEASURED):
            shown = {f"+{493015981100 + index}": (index / 3, workload.number(index))}
            memory.keep("main", f"{index:036d}", shown, 1.0)
        sessions = tracemalloc.get_traced_memory()[0]
        for index in range(_MEASURED):
            windows.take(workload.client_ip(index), 5, index / 3)
        both = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return sessions / _MEASURED, (both - sessions) / _MEASURED


def undeclared(stage: _Stage) -> list[str]:
    """The keys whose TTL, or want of one, keys.py does not declare; each as its name and TTL in s."""
    found = []
    for node in list(_primaries(stage)):
        with node.client() as client:
            cursor = 0
            while True:
                page: Any = client.scan(cursor, count=1000)
                cursor, names = page
                with client.pipeline(transaction=False) as pipeline:
                    for name in names:
                        pipeline.ttl(name)
                    for name, ttl in zip(names, pipeline.execute(), strict=True):
                        declared = keys.LASTING if ttl == -1 else keys.TTLS
                        if ttl != -2 and not any(re.fullmatch(pattern, name) for pattern in declared):
                            found.append(f"{name} {ttl}")
                if not cursor:
                    break
    return found


def _counters(server: Server) -> dict[str, float]:
    """The gateway's counters, by metric and labels."""
    counts = {}
    for line in load.metrics(server).splitlines():
        name, _, value = line.rpartition(" ")
        if "_total" in name and not line.startswith("#"):
            counts[name] = float(value)
    return counts


def logged(path: Path) -> dict[str, Any]:
    """What a gateway has logged: lines beside the audit by level, tracebacks, and how often each message came."""
    levels: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    tracebacks: list[str] = []
    audit = 0
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            levels["other"] += 1
            tracebacks += [line] if "Traceback" in line else []
            messages[line[:120]] += 1
            continue
        if entry["logger"] == "edgeproxy.audit":
            audit += 1
            continue
        levels[entry["level"]] += 1
        messages[f"{entry['level']}: " + re.sub(r"\d+", "N", entry["message"])[:120]] += 1
        if "traceback" in entry:
            tracebacks.append(entry["message"] + "\n" + entry["traceback"])
    return {
        "audit": audit,
        "lines": levels.total(),
        "levels": dict(levels),
        "messages": dict(messages.most_common(20)),
        "tracebacks": tracebacks[:5],
        "traceback_count": len(tracebacks),
    }


# The soak ----------------------------------------------------------------------------------------------------------


class _Soak:
    """One run of so many seconds."""

    def __init__(self, stage: _Stage, seconds: float, progress: Progress) -> None:
        self._stage = stage
        self._seconds = seconds
        self._progress = progress
        self._gap_s = min(12.0, seconds / 120)
        self._faults: list[Fault] = []
        self._samples: list[Sample] = []
        self._counts: Counter[str] = Counter()  # of gateways that have been stopped
        self._marks: list[tuple[float, dict[str, float]]] = []
        self._attacks = 0
        self._kinds: dict[str, Callable[[Fault], Awaitable[None]]] = {
            "worker killed": self._kill_worker,
            "gateway restarted": self._restart,
            "hostile connections": self._attack,
            "primary frozen": self._freeze,
            "functions flushed": self._flush,
            "primary killed": self._fail_over,
            "clients killed": self._kill_clients,
            "secret changed": self._change_secret,
            "out of memory": self._fill,
            "clients vanish": self._vanish,
        }

    async def run(self, rate: float | None) -> dict[str, Any]:
        """Calibrate, soak, and judge."""
        stage = self._stage
        self._sites = traffic.sites(0)
        await _load_accounts(stage.nodes.url, self._sites, user=True)
        await asyncio.to_thread(stage.start)
        self._visitors = visitors = Visitors(stage.server.url, self._sites)
        await visitors.open()
        await visitors.as_fast_as_answered(1, _TOGETHER)
        maximum = await visitors.as_fast_as_answered(_CALIBRATION_S, _TOGETHER)
        rate = rate or SHARE * maximum
        weights = sum(site.weight for site in self._sites)
        limited = next(site for site in self._sites if site.account == "budget")
        share = sum(n for kind, n in traffic.SHARES.items() if kind not in ("bad signature", "malformed", "incomplete"))
        spent_before = await asyncio.to_thread(_points_spent, stage)
        limited.budget = spent_before + int(rate * self._seconds * limited.weight / weights * share / 1000 * 0.6)
        await _load_accounts(stage.nodes.url, self._sites)
        await asyncio.sleep(_REST_S)
        first = await asyncio.to_thread(_sample, stage, 0.0)
        visitors.spent.clear()
        visitors.restart_counts()
        users = Users(stage.server.manage, visitors)
        over = asyncio.Event()
        busy = _core_seconds()
        used = time.process_time()
        async with asyncio.TaskGroup() as group:
            group.create_task(visitors.steadily(rate, over))
            group.create_task(users.run(over))
            group.create_task(self._look(over))
            group.create_task(self._throw_in(over))
        lasted = self._now()
        busy_then = _core_seconds()
        await visitors.close()
        await asyncio.sleep(_REST_S)
        last = await asyncio.to_thread(_sample, stage, self._now())
        left = await asyncio.to_thread(undeclared, stage)
        spent_after = await asyncio.to_thread(_points_spent, stage)
        counts = self._totals(await asyncio.to_thread(_counters, stage.server))
        result = {
            "settings": {
                "minutes": self._seconds / 60, "workers": WORKERS, "store": "3 primaries, 3 replicas",
                "maximum": maximum, "rate": rate, "connections": traffic.CONNECTIONS, "mix": traffic.SHARES,
                "idle_s": IDLE_S, "max_s": traffic.MAX_S, "cooldown_s": COOLDOWN_S, "budget": limited.budget,
            },
            "lasted_s": lasted,
            "machine_busy": (busy_then[0] - busy[0]) / (busy_then[1] - busy[1]),
            "generator_busy": (time.process_time() - used) / lasted,
            "minutes": [_minute(minute) for minute in visitors.minutes],
            "answers": dict(sorted(visitors.answers.items())),
            "manage_answers": dict(sorted(users.answers.items())),
            "faults": [asdict(fault) for fault in self._faults],
            "first": asdict(first),
            "last": asdict(last),
            "samples": [asdict(sample) for sample in self._samples],
            "counters": {name: count for name, count in sorted(counts.items()) if count},
            "log": logged(stage.log),
        }  # fmt: skip
        unexpected = sorted(visitors.unexpected + users.unexpected)
        result["calm"] = self._calm(unexpected)
        result["twice"] = self._twice()
        result["points"] = self._points(limited, spent_before, spent_after)
        result["undeclared_keys"] = left[:20]
        result["old_key_taken"] = self._visitors.answers["bad signature: success"]
        result["memory"] = self._memory()
        result["store"] = self._store()
        result["verdict"] = self._verdict(result, first, last, len(left))
        return result

    def _now(self) -> float:
        return time.perf_counter() - self._visitors.begin

    async def _look(self, over: asyncio.Event) -> None:
        every = max(1.0, self._seconds / 400)
        task = self._progress.add_task("soak", total=self._seconds)
        while not over.is_set():
            self._samples.append(await asyncio.to_thread(_sample, self._stage, self._now()))
            with contextlib.suppress(OSError):
                self._marks.append((self._now(), self._totals(await asyncio.to_thread(_counters, self._stage.server))))
            self._progress.update(task, completed=min(self._now(), self._seconds))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), every)

    def _totals(self, counts: dict[str, float]) -> dict[str, float]:
        return {name: counts.get(name, 0) + self._counts[name] for name in counts.keys() | self._counts.keys()}

    # Faults -------------------------------------------------------------------------------------------------------

    async def _throw_in(self, over: asyncio.Event) -> None:
        """Fault after fault, each once the service is back; those that end processes of the gateway come first."""
        await asyncio.sleep(max(2.0, self._gap_s))
        order = list(self._kinds)
        for kind in order:
            await self._throw(kind)
        again = order[order.index("hostile connections") :]
        last = self._seconds * (1 - _LAST_CALM)
        at = 0
        while self._now() + _FREEZE_S + self._gap_s < last:
            await self._throw(again[at % len(again)])
            at += 1
        await asyncio.sleep(max(2.0, self._seconds - self._now()))
        over.set()

    async def _throw(self, kind: str) -> None:
        self._progress.console.log(f"{self._now():.0f} s: {kind}")
        fault = Fault(kind, self._now())
        self._faults.append(fault)
        await self._kinds[kind](fault)
        fault.end = self._now()
        while not fault.healed and self._now() < fault.end + _PATIENCE_S:
            await asyncio.sleep(_LOOK_S)
            seen = self._now() - 1.2  # what was due until then has been answered, or never will be
            fault.healed = seen > fault.end + 1 and not self._visitors.bad_buckets(seen - 1, seen)
        bad = self._visitors.bad_buckets(fault.begin, self._now())
        fault.back_s = max(0.0, bad[-1] - fault.begin) if bad else 0.0
        fault.failed = sum(
            failed for (index, _), (_, failed) in self._visitors.buckets.items()
            if fault.begin <= (index + 1) * traffic.BUCKET_S and index * traffic.BUCKET_S <= fault.begin + fault.back_s
        )  # fmt: skip
        until = fault.begin + fault.back_s
        fault.answers = dict(Counter(what for at, what in self._visitors.unexpected if fault.begin <= at <= until))
        while not await asyncio.to_thread(_is_in_order, self._stage):
            if self._now() > fault.end + 2 * _PATIENCE_S:
                raise load.LoadError(f"the store is not in order again after: {kind}")
            await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(self._gap_s)

    async def _kill_worker(self, fault: Fault) -> None:
        before = self._stage.workers()
        os.kill(before[0], signal.SIGKILL)
        await self._until(lambda: len(self._stage.workers()) == WORKERS and before[0] not in self._stage.workers())

    async def _restart(self, fault: Fault) -> None:
        with contextlib.suppress(OSError):
            self._counts.update(await asyncio.to_thread(_counters, self._stage.server))
        await asyncio.to_thread(self._stage.close)
        await asyncio.to_thread(self._stage.start)

    async def _attack(self, fault: Fault) -> None:
        kind = fault.at = _ATTACKS[self._attacks % len(_ATTACKS)]
        assert kind in KINDS
        self._attacks += 1
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.attacks", kind, self._stage.server.url, str(_HOSTILE_S),
            cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _freeze(self, fault: Fault) -> None:
        node = await asyncio.to_thread(_primary_of, self._stage, keys.account("main"))
        fault.at = "the primary of an account"
        os.kill(node.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(_FREEZE_S)
        finally:
            os.kill(node.pid, signal.SIGCONT)

    async def _fail_over(self, fault: Fault) -> None:
        which = len([each for each in self._faults if each.kind == fault.kind]) % 2
        key, fault.at = (keys.LIMITER[0], "the limiter's") if which else (keys.account("second"), "an account's")
        node = await asyncio.to_thread(_primary_of, self._stage, key)
        await asyncio.to_thread(node.kill)
        port = node.port
        await self._until(lambda: _primary_of(self._stage, key).port != port)
        await asyncio.sleep(1)
        await asyncio.to_thread(node.start)

    async def _flush(self, fault: Fault) -> None:
        await self._on_primaries("FUNCTION", "FLUSH")

    async def _kill_clients(self, fault: Fault) -> None:
        for node in self._stage.nodes.nodes:
            with contextlib.closing(_client(node)) as client:
                await asyncio.to_thread(client.execute_command, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def _fill(self, fault: Fault) -> None:
        await self._on_primaries("CONFIG", "SET", "maxmemory", "1")
        await asyncio.sleep(_FULL_S)
        await self._on_primaries("CONFIG", "SET", "maxmemory", "0")

    async def _change_secret(self, fault: Fault) -> None:
        site = next(site for site in self._sites if site.account == "turning")
        serial = int(site.key.rpartition("-")[2]) + 1
        revoked, fresh = site.key, f"turning-secret-{serial}"
        site.key = fresh
        try:
            await _load_accounts(self._stage.nodes.url, [site])
        finally:
            # What is badly signed from now on is signed with the old one, which must not be taken.
            await asyncio.sleep(1)
            site.revoked = revoked

    async def _vanish(self, fault: Fault) -> None:
        port = _port(self._stage.server.url)
        head = b"POST /api HTTP/1.1\r\nHost: gateway\r\nContent-Length: 400\r\n\r\n" + b"{" * 100
        writers = []
        for _ in range(_VANISHING):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            writers.append(writer)
        await asyncio.sleep(0.5)
        for writer in writers:
            writer.transport.abort()

    async def _on_primaries(self, *command: str) -> None:
        def call() -> None:
            for node in _primaries(self._stage):
                with _client(node) as client:
                    client.execute_command(*command)

        await asyncio.to_thread(call)

    async def _until(self, true: Callable[[], bool]) -> None:
        deadline = time.perf_counter() + _PATIENCE_S
        while time.perf_counter() < deadline:
            with contextlib.suppress(redis.RedisError, OSError, load.LoadError):
                if await asyncio.to_thread(true):
                    return
            await asyncio.sleep(_LOOK_S)
        raise load.LoadError("a fault did not take its course")

    # What is judged -----------------------------------------------------------------------------------------------

    def _calm(self, unexpected: list[tuple[float, str]]) -> dict[str, Any]:
        """Requests that were not answered as they should be while there was no fault, and those that were then due."""
        spans = [(fault.begin - 1, max(fault.end, fault.begin + fault.back_s) + 1) for fault in self._faults]
        calm = [(at, what) for at, what in unexpected if not any(begin <= at <= end for begin, end in spans)]
        quiet = 1 - sum(end - begin for begin, end in spans) / self._seconds
        asked = self._visitors.answers.total()
        return {
            "share": max(0.0, quiet),
            "unexpected": dict(Counter(what for _, what in calm).most_common()),
            "unexpected_share": len(calm) / max(1.0, asked * max(quiet, 0.05)),
        }

    def _failovers(self) -> list[Fault]:
        return [fault for fault in self._faults if fault.kind in ("primary frozen", "primary killed")]

    def _twice(self) -> dict[str, int]:
        """Numbers that were two sessions' at once: within reach of a failover, and otherwise."""
        after = [(fault.begin, fault.end + IDLE_S + COOLDOWN_S) for fault in self._failovers()]
        lost = sum(any(begin <= at <= end for begin, end in after) for at, _ in self._visitors.twice)
        return {"after_failovers": lost, "otherwise": len(self._visitors.twice) - lost}

    def _points(self, limited: Site, before: int, after: int) -> dict[str, int]:
        """Successes of the account with a budget, and those that came just before failovers, which may forget them."""
        spent = self._visitors.spent
        may_lose = sum(any(f.begin - LOSS_S <= at <= f.end for f in self._failovers()) for at in spent)
        return {
            "budget": limited.budget,
            "spent_before": before,
            "answered": len(spent),
            "counted_by_store": after,
            "over": max(0, before + len(spent) - limited.budget),
            "may_be_lost": may_lose,
        }

    def _memory(self) -> list[dict[str, float]]:
        """The growth of each worker that lived through all that follows the warm-up."""
        since = WARM_UP * self._seconds
        late = [sample for sample in self._samples if sample.at >= since]
        survivors = set.intersection(*(set(sample.private_mib) for sample in late)) if late else set()
        marks = [(at, counts) for at, counts in self._marks if at >= since]
        restarted = max((fault.end for fault in self._faults if fault.kind == "gateway restarted"), default=0.0)
        found = []
        for pid in sorted(survivors):
            points = [(sample.at, sample.private_mib[pid]) for sample in late]
            slope, level = statistics.linear_regression([at for at, _ in points], [mib for _, mib in points])
            lasted = points[-1][0] - points[0][0]
            found.append(
                {
                    "first_mib": points[0][1],
                    "last_mib": points[-1][1],
                    "most_mib": max(mib for _, mib in points),
                    "slope_mib_in_10_min": slope * 600,
                    "slope_share_in_10_min": slope * 600 / (level + slope * points[0][0]),
                    "grown_mib": slope * lasted,
                    "seats_mib": self._seats_mib(marks, restarted),
                    "lasted_s": lasted,
                }
            )
        return found

    def _seats_mib(self, marks: list[tuple[float, dict[str, float]]], restarted: float) -> float:
        """What a worker's memories of sessions and client IPs may still have grown by since the warm-up."""
        if not marks:
            return 0.0
        granted, recalled = 'edgeproxy_numbers_total{event="granted"}', "edgeproxy_from_memory_total"
        at_restart = next((counts for at, counts in self._marks if at >= restarted), {})

        def gained(name: str, first: dict[str, float], last: dict[str, float]) -> float:
            return (last.get(name, 0) - first.get(name, 0)) / WORKERS

        room = max(0.0, _SEATS - gained(granted, at_restart, marks[0][1]))
        seats = min(room, gained(granted, marks[0][1], marks[-1][1]))
        session_bytes, ip_bytes = _remembered_bytes()
        return (seats * session_bytes + gained(recalled, marks[0][1], marks[-1][1]) * ip_bytes) / 2**20

    def _store(self) -> dict[str, float]:
        """What the store holds since the first generation of what ends by TTL has passed."""
        late = [sample for sample in self._samples if sample.whole and sample.at >= _FIRST_GENERATION_S]
        if len(late) < 10 or late[-1].at - late[0].at < 120:
            return {}
        slope, _ = statistics.linear_regression([s.at for s in late], [s.data_mib for s in late])
        keys_slope, _ = statistics.linear_regression([s.at for s in late], [float(s.keys) for s in late])
        data, count = statistics.fmean(s.data_mib for s in late), statistics.fmean(s.keys for s in late)
        return {
            "data_mib": data,
            "slope_share_in_10_min": slope * 600 / data,
            "keys": count,
            "keys_slope_share_in_10_min": keys_slope * 600 / count,
            "used_first_mib": late[0].used_mib,
            "used_last_mib": late[-1].used_mib,
        }

    def _verdict(
        self, result: dict[str, Any], first: Sample, last: Sample, undeclared_count: int
    ) -> list[dict[str, Any]]:
        verdict: list[dict[str, Any]] = []

        def judge(promise: str, held: bool, seen: str) -> None:
            verdict.append({"promise": promise, "held": bool(held), "seen": seen})

        memory = result["memory"]
        noise = NOISE_MIB if self._seconds >= 600 else SHORT_NOISE_MIB
        bounds = [GROWTH * each["first_mib"] * each["lasted_s"] / 600 + each["seats_mib"] + noise for each in memory]
        judge(
            f"workers' private memory is flat after the first third: {GROWTH:.0%} in 10 minutes, {noise:.0f} MiB "
            "of noise, and what the memories for an absent store had left to fill",
            bool(memory) and all(each["grown_mib"] < bound for each, bound in zip(memory, bounds, strict=True)),
            "; ".join(
                f"{each['first_mib']:.1f} → {each['last_mib']:.1f} MiB, fitted {each['grown_mib']:+.1f} of {bound:.1f}"
                for each, bound in zip(memory, bounds, strict=True)
            ),
        )
        store = result["store"]
        if store:
            judge(
                f"the store's data is flat after {_FIRST_GENERATION_S} s: {STORE_GROWTH:.0%} in 10 minutes",
                store["slope_share_in_10_min"] < STORE_GROWTH and store["keys_slope_share_in_10_min"] < STORE_GROWTH,
                f"{store['data_mib']:.1f} MiB ({store['slope_share_in_10_min']:+.2%}), {store['keys']:.0f} keys "
                f"({store['keys_slope_share_in_10_min']:+.2%})",
            )
        judge(
            f"no connection to the store is left: at most {LEFT_CLIENTS} a server more than at the start",
            last.whole and max(last.clients) <= max(first.clients) + LEFT_CLIENTS,
            f"{sorted(first.clients)} → {sorted(last.clients)}",
        )
        judge(
            f"no file is left: at most {LEFT_FILES} a worker more than at the start",
            max(last.files.values()) <= max(first.files.values()) + LEFT_FILES,
            f"{sorted(first.files.values())} → {sorted(last.files.values())}",
        )
        judge("no key is without a TTL, or with one, that keys.py does not declare", not undeclared_count,
              f"{undeclared_count} of {last.keys} keys")  # fmt: skip
        twice = result["twice"]
        judge("no number is two sessions' at once, but for what failovers lose", not twice["otherwise"],
              f"{twice['after_failovers']} after failovers, {twice['otherwise']} otherwise")  # fmt: skip
        points = result["points"]
        judge(
            f"no budget is passed by more than what failovers may lose (answers of {LOSS_S:.0f} s before each)",
            points["over"] <= points["may_be_lost"],
            f"{points['over']} over {points['budget']}; {points['may_be_lost']} may have been lost",
        )
        slow = [
            fault for fault in self._faults if not fault.healed or fault.begin + fault.back_s > fault.end + HEALED_S
        ]
        judge(
            f"every fault heals within {HEALED_S:.0f} s of its end",
            not slow,
            f"{len(self._faults)} faults, not healed: {[fault.kind for fault in slow]}; the slowest back "
            f"{max((f.begin + f.back_s - f.end for f in self._faults), default=0):.1f} s after its end",
        )
        internal = result["counters"].get('edgeproxy_requests_total{outcome="internal_error"}', 0)
        judge("no internal error", not internal, f"{internal:.0f}")
        log = result["log"]
        judge("no traceback in the log", not log["traceback_count"], str(log["traceback_count"]))
        judge(f"the log has at most {LINES} lines a fault beside the audit", log["lines"] <= LINES * len(self._faults),
              f"{log['lines']} lines, {len(self._faults)} faults")  # fmt: skip
        judge("a revoked secret is not taken", not result["old_key_taken"], str(result["old_key_taken"]))
        calm = result["calm"]
        judge(
            f"while there is no fault, at most {HICCUPS:.0%} is not answered as it should be",
            calm["unexpected_share"] <= HICCUPS,
            f"{calm['unexpected_share']:.3%}: {calm['unexpected']}",
        )
        return verdict


def _points_spent(stage: _Stage) -> int:
    """The points of its day that the account with a budget has spent, as the store counts them."""
    with _primary_of(stage, keys.points("budget")).client() as client:
        spent: Any = client.hget(keys.points("budget"), "spent")
    return int(spent or 0)


def _minute(minute: traffic.Minute) -> dict[str, Any]:
    return {
        "requests": minute.answers.total(),
        "answers": dict(minute.answers.most_common()),
        "from_memory": minute.from_memory,
        "p50_ms": traffic.quantile(minute.latencies, 0.5),
        "p99_ms": traffic.quantile(minute.latencies, 0.99),
        "max_ms": traffic.quantile(minute.latencies, 1),
    }


async def _load_accounts(store_url: str, these: list[Site], *, user: bool = False) -> None:
    """Bring accounts into the store; with `user`, those who ask for one of them as partners, too."""
    trees = traffic.account_trees(traffic.sites(0))
    for site in these:
        trees[site.account] |= {"secrets": [site.key], "points": {"daily": str(site.budget or 10**12)}}
    await workload.load_accounts(store_url, {site.account: trees[site.account] for site in these})
    if user:
        async with Store(store_url) as store:
            hashes = {
                algorithm: digest.ha1(algorithm, traffic.USER, digest.REALM, traffic.PASSWORD)
                for algorithm in digest.OFFERED
            }
            await partner_users.Users(store).save(traffic.USER, partner_users.User("main", hashes))


def show(result: dict[str, Any], console: Console) -> None:
    """Print the minutes, the faults, and the verdict."""
    settings = result["settings"]
    console.print(
        f"{settings['rate']:.0f} requests/s of {settings['maximum']:.0f} for {result['lasted_s']:.0f} s; all cores "
        f"{result['machine_busy']:.0%} busy, the generator's {result['generator_busy']:.0%}"
    )
    table = Table(title="Good requests by minute: latency in ms from when they were due", title_justify="left")
    for heading in ("minute", "requests", "p50", "p99", "max", "from memory", "no success"):
        table.add_column(heading, justify="right")
    for number, minute in enumerate(result["minutes"], 1):
        failed = {text: count for text, count in minute["answers"].items() if text != "success"}
        table.add_row(
            str(number), str(minute["requests"]), *(f"{minute[name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms")),
            str(minute["from_memory"]), ", ".join(f"{text} {count}" for text, count in failed.items()) or "–",
        )  # fmt: skip
    console.print(table)
    table = Table(title="Faults: s from the begin until every account was served well again", title_justify="left")
    for heading in ("fault", "times", "lasted", "back after, median", "most", "not served, median", "most"):
        table.add_column(heading, justify="left" if heading == "fault" else "right")
    for row in by_kind(result["faults"]):
        table.add_row(
            row["kind"], str(row["times"]), *(f"{row[name]:.1f}" for name in ("lasted_s", "back_s", "back_most_s")),
            *(f"{row[name]:.0f}" for name in ("failed", "failed_most")),
        )  # fmt: skip
    console.print(table)
    for line in result["verdict"]:
        mark = "[green]held[/green]" if line["held"] else "[red]NOT HELD[/red]"
        console.print(f"{mark}  {line['promise']}: {line['seen']}", soft_wrap=True, highlight=False)


def by_kind(faults: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Faults of each kind together: how long they lasted, and how long it took until the service was back, in s."""
    rows = []
    for kind in dict.fromkeys(fault["kind"] for fault in faults):
        these = [fault for fault in faults if fault["kind"] == kind]
        rows.append(
            {
                "kind": kind,
                "times": len(these),
                "lasted_s": statistics.median(fault["end"] - fault["begin"] for fault in these),
                "back_s": statistics.median(fault["back_s"] for fault in these),
                "back_most_s": max(fault["back_s"] for fault in these),
                "failed": statistics.median(fault["failed"] for fault in these),
                "failed_most": max(fault["failed"] for fault in these),
            }
        )
    return rows
