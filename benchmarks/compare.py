"""The gateway beside its peers: the same requests in interleaved rounds, the CPU time of each request."""

import asyncio
import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import load, machine, peers, workload
from benchmarks.load import LoadError, Spread, Timing
from benchmarks.peers import BARE, FASTAPI, GATEWAY, NGINX, Server
from benchmarks.workload import Target
from edgeproxy.store import keys

RATIOS = (  # what is divided by what; "server" leaves the store out
    ("edgeproxy ÷ nginx + Lua", NGINX, "total"),
    ("edgeproxy ÷ aiohttp alone", BARE, "server"),
    ("edgeproxy ÷ FastAPI", FASTAPI, "total"),
)


def run(
    rounds: int, seconds: int, connections: Sequence[int], binary: str | None, console: Console, progress: Progress
) -> dict[str, Any]:
    """Time the gateway and its peers in turn, `rounds` times for each number of connections.

    All of them ask one store process, which is brought back to the same content before each timing. `binary` is a
    store server instead of the bundled one.
    """
    target = Target()
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(peers.store(binary))
        version = peers.store_version(store.url)
        conditions = machine.facts(version)
        asyncio.run(workload.load_accounts(store.url, {target.account: workload.account_tree(workload.POOL)}))
        site = peers.site(store.url, target, peers.PATIENT_MS)
        gateway = stack.enter_context(peers.gateway(store.url, budget_ms=peers.PATIENT_MS))
        nginx = stack.enter_context(peers.nginx(site))
        fastapi = stack.enter_context(peers.fastapi(site))
        answer = b""
        for index, server in enumerate((gateway, nginx, fastapi)):
            answer = peers.check(server, gateway, target, 10 * index)
        bare = stack.enter_context(peers.bare(answer))
        console.print(f"checked: {gateway.name}, {nginx.name} and {fastapi.name} answer the same")
        servers = (gateway, nginx, bare, fastapi)
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "requests"
        snapshot = stack.enter_context(contextlib.closing(workload.Snapshot(store.url)))
        timings: dict[tuple[int, str], list[Timing]] = defaultdict(list)
        task = progress.add_task("peers", total=rounds * (len(connections) * len(servers) + 1))
        for number in range(rounds):
            progress.update(task, description=f"round {number + 1}/{rounds}: sessions")
            workload.begin(gateway.url, store.url, snapshot, path, target)
            progress.advance(task)
            for count in connections:
                for server in servers:
                    progress.update(
                        task, description=f"round {number + 1}/{rounds}: {server.name}, {count} connections"
                    )
                    timings[count, server.name].append(
                        _timed(server, store.url, store.pid, snapshot, path, count, seconds, target)
                    )
                    progress.advance(task)
    return {
        "kind": "peers",
        "machine": conditions,
        "settings": {
            "rounds": rounds,
            "seconds": seconds,
            "requests": workload.REQUESTS,
            "renewed": workload.RENEWED,
            "pool": workload.POOL,
            "workers": 1,
            "budget_ms": peers.PATIENT_MS,
            "bytes_answered": len(answer),
        },
        "timings": [
            {"connections": count, "server": name, "rounds": [timing.tree() for timing in those]}
            for (count, name), those in timings.items()
        ],
    }


def _timed(
    server: Server,
    store_url: str,
    store_pid: int,
    snapshot: workload.Snapshot,
    path: Path,
    connections: int,
    seconds: int,
    target: Target,
) -> Timing:
    if server.name == BARE:
        return load.timed(server, None, path, connections, seconds)
    snapshot.restore()
    before = load.outcomes(server) if server.manage else {}
    timing = load.timed(server, store_pid, path, connections, seconds)
    if server.manage:
        counts = load.gained(before, load.outcomes(server))
        if set(counts) - {"outcome:success", "outcome:store_unavailable", "event:granted", "event:renewed"}:
            raise LoadError(f"{server.name} did other work than it should: {counts}")
    with contextlib.closing(redis.Redis.from_url(store_url)) as client:
        free, leased, _ = keys.pool(target.account, workload.POOL_NAME)
        begun = client.zcard(leased) - workload.SESSIONS
        if not client.zcard(free) or begun < (1 - workload.RENEWED) / 2 * timing.load.requests:
            raise LoadError(f"{server.name} leased {begun} numbers for {timing.load.requests} requests")
    return timing


def ratios(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Each ratio over rounds: `name`, `connections`, `of` (total or server), `median`, `least`, `most`."""
    found = {(entry["connections"], entry["server"]): entry["rounds"] for entry in result["timings"]}
    rows = []
    for connections in sorted({count for count, _ in found}):
        for name, peer, of in RATIOS:
            ours, theirs = found[connections, GATEWAY], found[connections, peer]
            spread = Spread.of([cost(a, of) / cost(b, of) for a, b in zip(ours, theirs, strict=True)])
            rows.append(
                {
                    "name": name,
                    "connections": connections,
                    "of": of,
                    "median": spread.median,
                    "least": spread.least,
                    "most": spread.most,
                }
            )
    return rows


def cost(timing: dict[str, Any], of: str) -> float:
    """CPU µs a request of a kept timing: of the `server`, the `store` or in `total`."""
    if of == "total":
        return float(timing["server_us"] + timing["store_us"])
    return float(timing[f"{of}_us"])


def show(result: dict[str, Any], console: Console) -> None:
    """Print the table and the ratios."""
    table = Table(title="CPU per request, µs: median (least–most) over rounds", title_justify="left")
    for heading in ("connections", "server", "server µs", "store µs", "total µs", "requests/s", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="left" if heading == "server" else "right")
    for entry in result["timings"]:
        those = entry["rounds"]
        spreads = [Spread.of([cost(timing, of) for timing in those]).shown(1) for of in ("server", "store", "total")]
        others = [
            f"{Spread.of([timing[key] for timing in those]).median:.{digits}f}"
            for key, digits in (("rate", 0), ("p50_ms", 2), ("p99_ms", 2))
        ]
        table.add_row(str(entry["connections"]), entry["server"], *spreads, *others)
    console.print(table)
    for row in result["ratios"]:
        spread = Spread(row["median"], row["least"], row["most"])
        parts = "with the store" if row["of"] == "total" else "without the store"
        console.print(f"{row['connections']:>4} connections  {row['name']} ({parts}): [bold]{spread.shown(2)}[/bold]")
