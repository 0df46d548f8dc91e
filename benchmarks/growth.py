"""How the cost of a request and the store's memory grow: with sessions, pools, accounts, batches and workers."""

import asyncio
import contextlib
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import load, machine, peers, workload
from benchmarks.load import Spread
from benchmarks.peers import Server
from benchmarks.rooms import ask
from benchmarks.workload import Target
from edgeproxy.accounts.account import Account
from edgeproxy.store import Store, keys
from edgeproxy.store.embedded import EmbeddedStore

SESSIONS = (1_000, 100_000, 1_000_000)
POOLS = (10, 100, 1_000, 10_000, 100_000)
ACCOUNTS = (1, 10, 100, 1_000, 10_000)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
WORKERS = (1, 2)
AXES = ("sessions", "pools", "accounts", "batches", "workers")

_SESSIONS_OF_OTHERS = 18_000  # live where something else than sessions grows
_SESSION_POOL = 1_300_000  # numbers where sessions grow: one for each, and for those that the load brings
_REQUESTS = 40_000  # distinct requests of a timing
_IPS = 20_000
_CONNECTIONS = 32
_FIRST_VISITOR = 2_000_000  # visitors of timings are none of those whose sessions live already
_SEED_BATCH = 256
_DEADLINE_S = 30
_CHUNK = 10_000


@dataclass(slots=True)
class Point:
    """A gateway and a store of its own, at one value of an axis."""

    value: int
    server: Server
    store_pid: int
    targets: list[Target]
    sessions: list[list[workload.Session]]
    connections: int = _CONNECTIONS
    facts: dict[str, Any] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)


def run(
    axis: str, rounds: int, seconds: int, most_sessions: int, binary: str | None, progress: Progress
) -> dict[str, Any]:
    """Measure one axis in interleaved rounds: value by value, then all again."""
    with peers.store(binary) as store:
        conditions = machine.facts(peers.store_version(store.url))
    if axis == "batches":
        rows = _batches(rounds, seconds, binary, progress)
    else:
        with contextlib.ExitStack() as stack:
            points = _POINTS[axis](stack, binary, most_sessions, progress)
            rows = _time(points, rounds, seconds, axis, progress)
    return {
        "kind": "growth",
        "axis": axis,
        "machine": conditions,
        "settings": {
            "rounds": rounds,
            "seconds": seconds,
            "requests": _REQUESTS,
            "renewed": workload.RENEWED,
            "ips": _IPS,
            "connections": _CONNECTIONS,
            "budget_ms": peers.PATIENT_MS,
            "session_pool": _SESSION_POOL,
        },
        "points": rows,
    }


def _time(points: list[Point], rounds: int, seconds: int, axis: str, progress: Progress) -> list[dict[str, Any]]:
    task = progress.add_task(axis, total=rounds * len(points))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "requests"
        for number in range(rounds):
            for point in points:
                progress.update(task, description=f"{axis}: {point.value:,}, round {number + 1}/{rounds}")
                requests = workload.mixed(
                    point.targets, point.sessions, count=_REQUESTS, ips=_IPS, first=_FIRST_VISITOR + number * _REQUESTS
                )
                workload.write_requests(path, requests)
                before = load.outcomes(point.server)
                timing = load.timed(point.server, point.store_pid, path, point.connections, seconds)
                counts = load.gained(before, load.outcomes(point.server))
                answered = counts.get("outcome:success", 0)
                without = counts.get("event:original", 0) / answered if answered else 0.0
                point.rounds.append({**timing.tree(), "without_number": without})
                progress.advance(task)
    return [
        {"value": point.value, "connections": point.connections, **point.facts, "rounds": point.rounds}
        for point in points
    ]


# Points ------------------------------------------------------------------------------------------------------------


def _open(
    stack: contextlib.ExitStack, binary: str | None, accounts: dict[str, dict[str, Any]], workers: int = 1
) -> tuple[EmbeddedStore, Server]:
    store = stack.enter_context(peers.store(binary))
    asyncio.run(workload.load_accounts(store.url, accounts))
    return store, stack.enter_context(peers.gateway(store.url, workers=workers, budget_ms=peers.PATIENT_MS))


def _by_sessions(
    stack: contextlib.ExitStack, binary: str | None, most_sessions: int, progress: Progress
) -> list[Point]:
    """The pool is the same at every point, and has a number for every session; only live sessions differ."""
    target = Target()
    values = [value for value in SESSIONS if value <= most_sessions]
    task = progress.add_task("sessions begin", total=sum(values))
    points = []
    for value in values:
        store, server = _open(stack, binary, {target.account: workload.account_tree(1)})
        with contextlib.closing(redis.Redis.from_url(store.url)) as client:
            enlarge(client, target.account, _SESSION_POOL)
            before = _used(client)
            account = workload.read_account(store.url, target.account)
            sessions = uvloop.run(seed(store.url, account, value, lambda count: progress.advance(task, count)))
            used, visits = _used(client) - before, _memory(client, keys.visits(target.account))
        facts = {"bytes_per_session": (used - visits) / value, "visit_bytes_per_request": visits / value}
        points.append(Point(value, server, store.pid, [target], [sessions], facts=facts))
    return points


def enlarge(client: "redis.Redis", account: str, size: int) -> None:
    """Put the numbers of a large pool into the store directly: an account file of this size would take minutes."""
    free = keys.pool(account, workload.POOL_NAME)[0]
    for first in range(0, size, _CHUNK):
        numbers = (workload.number(index) for index in range(first, first + _CHUNK))
        client.zadd(free, dict.fromkeys(numbers, 0))


def _used(client: "redis.Redis") -> int:
    return int(client.info("memory")["used_memory"])


def _memory(client: "redis.Redis", key: str) -> int:
    return int(client.memory_usage(key, samples=0) or 0)


async def seed(
    url: str, account: Account, count: int, on_progress: Callable[[int], None], start: int = 0
) -> list[workload.Session]:
    """Begin `count` sessions by the store's own client, without HTTP; each is another visitor's from another IP.

    The visitors are those from the `start` on.
    """
    sessions: list[workload.Session] = []
    async with Store(url) as store:

        async def work(batches: Iterator[int]) -> None:
            for first in batches:
                deadline = time.monotonic() + _DEADLINE_S
                those = range(first, min(first + _SEED_BATCH, start + count))
                asked = [store.resolve(account, ask(index, workload.Session("", index)), deadline) for index in those]
                answers = await asyncio.gather(*asked)
                if failed := next((answer for answer in answers if answer.refused or answer.moved), None):
                    raise workload.SeedError(f"the store refused a session: {failed}")
                sessions.extend(map(workload.Session, (answer.session_id for answer in answers), those))
                on_progress(len(answers))

        batches = iter(range(start, start + count, _SEED_BATCH))
        async with asyncio.TaskGroup() as group:
            for _ in range(2):  # one is prepared while the store decides the other
                group.create_task(work(batches))
    return sessions


def _by_pools(stack: contextlib.ExitStack, binary: str | None, most_sessions: int, progress: Progress) -> list[Point]:
    """18,000 sessions at every point: a smaller pool leaves most of them without a number (overflow: original)."""
    target = Target()
    task = progress.add_task("pools fill", total=len(POOLS))
    points = []
    for value in POOLS:
        store, server = _open(stack, binary, {target.account: workload.account_tree(value)})
        account = workload.read_account(store.url, target.account)
        sessions = uvloop.run(seed(store.url, account, _SESSIONS_OF_OTHERS, lambda _: None))
        points.append(Point(value, server, store.pid, [target], [sessions]))
        progress.advance(task)
    return points


def _by_accounts(
    stack: contextlib.ExitStack, binary: str | None, most_sessions: int, progress: Progress
) -> list[Point]:
    """The same 100,000 numbers and 18,000 sessions at every point, spread over the accounts.

    Sessions begin through the gateway, so that it remembers the accounts when it is timed.
    """
    task = progress.add_task("accounts load", total=len(ACCOUNTS))
    points = []
    for value in ACCOUNTS:
        size = max(POOLS) // value
        targets = [Target(account=f"bench-{index:05}") for index in range(value)]
        trees = {target.account: workload.account_tree(size, index * size) for index, target in enumerate(targets)}
        store, server = _open(stack, binary, trees)
        sessions = workload.begin_sessions(server.url, targets, max(_SESSIONS_OF_OTHERS, value))
        points.append(Point(value, server, store.pid, targets, sessions))
        progress.advance(task)
    return points


def _by_workers(stack: contextlib.ExitStack, binary: str | None, most_sessions: int, progress: Progress) -> list[Point]:
    target = Target()
    points = []
    for value in WORKERS:
        store, server = _open(stack, binary, {target.account: workload.account_tree(max(POOLS))}, value)
        account = workload.read_account(store.url, target.account)
        sessions = uvloop.run(seed(store.url, account, _SESSIONS_OF_OTHERS, lambda _: None))
        points += [
            Point(value, server, store.pid, [target], [sessions], connections=count) for count in (_CONNECTIONS, 256)
        ]
    return points


_POINTS = {"sessions": _by_sessions, "pools": _by_pools, "accounts": _by_accounts, "workers": _by_workers}


# Batches -----------------------------------------------------------------------------------------------------------


def _batches(rounds: int, seconds: int, binary: str | None, progress: Progress) -> list[dict[str, Any]]:
    """The store's client in this process, without HTTP, with exactly so many requests in each call."""
    target = Target()
    found: dict[int, list[dict[str, Any]]] = {size: [] for size in BATCHES}
    task = progress.add_task("batches", total=rounds * len(BATCHES))
    with peers.store(binary) as store:
        asyncio.run(workload.load_accounts(store.url, {target.account: workload.account_tree(max(POOLS))}))
        account = workload.read_account(store.url, target.account)
        sessions = uvloop.run(seed(store.url, account, _SESSIONS_OF_OTHERS, lambda _: None))
        chance = random.Random(3)
        asks = [ask(index % _IPS, workload.chosen(chance, sessions, index)) for index in range(_REQUESTS)]
        for _ in range(rounds):
            for size in BATCHES:
                progress.update(task, description=f"batches of {size}")

                async def work(size: int = size) -> dict[str, Any]:
                    at = count = 0
                    async with Store(store.url) as opened:
                        # The store's statistics of its clients, the connection and the plan are made by the first call.
                        await opened.resolve(account, asks[-1], time.monotonic() + _DEADLINE_S)
                        store_s, client_s, begin = machine.cpu_s([store.pid]), _own_cpu_s(), time.monotonic()
                        while time.monotonic() < begin + seconds / 2:
                            deadline = time.monotonic() + _DEADLINE_S
                            those = asks[at : at + size]
                            answers = await asyncio.gather(*[opened.resolve(account, each, deadline) for each in those])
                            if any(answer.refused for answer in answers):
                                raise load.LoadError(f"the store refused a request: {answers[0]}")
                            count += len(those)
                            at = (at + size) % (len(asks) - size)
                        return {
                            "server_us": (_own_cpu_s() - client_s) / count * 1e6,
                            "store_us": (machine.cpu_s([store.pid]) - store_s) / count * 1e6,
                            "rate": count / (time.monotonic() - begin),
                        }

                found[size].append(uvloop.run(work()))
                progress.advance(task)
    return [{"value": size, "connections": 1, "rounds": those} for size, those in found.items()]


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# Results -----------------------------------------------------------------------------------------------------------


def show(result: dict[str, Any], console: Console) -> None:
    """Print an axis; `÷ first row` compares round by round, at the same connections."""
    axis, rows = result["axis"], result["points"]
    client = "client" if axis == "batches" else "gateway"
    table = Table(title=f"{axis}: CPU in µs per request, median (least–most) over rounds", title_justify="left")
    headings = [axis, "connections", client, "store", "total", "requests/s", "÷ first row"]
    if axis == "sessions":
        headings += ["bytes a session", "visit bytes a request"]
    if axis in ("pools", "accounts"):
        headings.append("without a number")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        totals = [timing["server_us"] + timing["store_us"] for timing in row["rounds"]]
        base = next(other for other in rows if other["connections"] == row["connections"])
        first = [timing["server_us"] + timing["store_us"] for timing in base["rounds"]]
        cells = [
            f"{row['value']:,}",
            str(row["connections"]),
            Spread.of([timing["server_us"] for timing in row["rounds"]]).shown(1),
            Spread.of([timing["store_us"] for timing in row["rounds"]]).shown(1),
            Spread.of(totals).shown(1),
            f"{Spread.of([timing['rate'] for timing in row['rounds']]).median:.0f}",
            Spread.of([ours / theirs for ours, theirs in zip(totals, first, strict=True)]).shown(2),
        ]
        if axis == "sessions":
            cells += [f"{row['bytes_per_session']:.0f}", f"{row['visit_bytes_per_request']:.0f}"]
        if axis in ("pools", "accounts"):
            cells.append(f"{Spread.of([timing['without_number'] for timing in row['rounds']]).median:.0%}")
        table.add_row(*cells)
    console.print(table)
