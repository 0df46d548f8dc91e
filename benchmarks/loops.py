"""One gateway under load, ours on this machine or one that is deployed: the closed loop and the open loop."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import load, machine, peers, workload
from benchmarks.load import Closed, Open
from benchmarks.peers import Server
from benchmarks.workload import Target

LEVELS = (0.2, 0.5, 0.8)  # of the closed loop's rate, at which the open loop is run
_MAXIMUM_CONNECTIONS = 32  # of the closed loop that finds the maximum


@dataclass(frozen=True, slots=True)
class Stage:
    """A gateway with sessions in it, and a file of requests for them. What is None is not known of a deployed one."""

    url: str
    requests: Path
    version: str  # of the store
    server: Server | None
    store_pid: int | None
    snapshot: workload.Snapshot | None

    def reset(self) -> None:
        """Bring the store back to the content that the requests were made for."""
        if self.snapshot is not None:
            self.snapshot.restore()


@contextlib.contextmanager
def local(workers: int, binary: str | None) -> Iterator[Stage]:
    """A gateway and a store on this machine, with 18,000 sessions."""
    target = Target()
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(peers.store(binary))
        asyncio.run(workload.load_accounts(store.url, {target.account: workload.account_tree(workload.POOL)}))
        server = stack.enter_context(peers.gateway(store.url, workers=workers))
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "requests"
        snapshot = stack.enter_context(contextlib.closing(workload.Snapshot(store.url)))
        workload.begin(server.url, store.url, snapshot, path, target)
        yield Stage(server.url, path, peers.store_version(store.url), server, store.pid, snapshot)


@contextlib.contextmanager
def deployed(url: str, target: Target) -> Iterator[Stage]:
    """A gateway that runs somewhere; sessions are begun for `target`."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "requests"
        count = workload.SESSIONS
        sessions = workload.begin_sessions(url, [target], count)
        workload.write_requests(path, workload.mixed([target], sessions, host=urlsplit(url).netloc))
        yield Stage(url.rstrip("/"), path, "of the deployed gateway", None, None, None)


def run_closed(stage: Stage, connections: Sequence[int], seconds: int, progress: Progress) -> dict[str, Any]:
    """The closed loop for each number of connections."""
    conditions = machine.facts(stage.version)
    rows = []
    task = progress.add_task("closed loop", total=len(connections))
    for count in connections:
        progress.update(task, description=f"closed loop, {count} connections")
        stage.reset()
        rows.append(_closed(stage, count, seconds))
        progress.advance(task)
    return {"kind": "closed", "machine": conditions, "settings": _settings(stage, seconds), "loops": rows}


def _closed(stage: Stage, connections: int, seconds: int) -> dict[str, Any]:
    if stage.server is None:
        result = load.closed(stage.url, stage.requests, connections, seconds)
        return {**asdict(result), "rate": result.rate}
    before = load.outcomes(stage.server)
    timing = load.timed(stage.server, stage.store_pid, stage.requests, connections, seconds, failed_most=1)
    return {**timing.tree(), "counts": load.gained(before, load.outcomes(stage.server))}


def run_open(stage: Stage, maximum: float | None, seconds: int, connections: int, progress: Progress) -> dict[str, Any]:
    """The open loop at 20, 50 and 80 % of the `maximum` (requests/s), which a closed loop finds if it is not given."""
    conditions = machine.facts(stage.version)
    task = progress.add_task("open loop", total=len(LEVELS) + 1)
    found: Closed | None = None
    if maximum is None:
        progress.update(task, description="closed loop, to find the maximum")
        stage.reset()
        load.closed(stage.url, stage.requests, _MAXIMUM_CONNECTIONS, load.WARM_UP_S)
        found = load.closed(stage.url, stage.requests, _MAXIMUM_CONNECTIONS, max(5, seconds // 2))
        maximum = found.rate * (1 - found.refused / found.requests)
    progress.advance(task)
    rows = []
    for level in LEVELS:
        progress.update(task, description=f"open loop, {level:.0%} of {maximum:.0f} a second")
        stage.reset()
        load.open_loop(stage.url, stage.requests, level * maximum, load.WARM_UP_S, connections)
        result = load.open_loop(stage.url, stage.requests, level * maximum, seconds, connections)
        rows.append({"level": level, **asdict(result), "generator_saturated": result.generator_saturated})
        progress.advance(task)
    return {
        "kind": "open",
        "machine": conditions,
        "settings": _settings(stage, seconds),
        "maximum": maximum,
        "maximum_measured_by": None if found is None else asdict(found),
        "loops": rows,
    }


def _settings(stage: Stage, seconds: int) -> dict[str, Any]:
    return {
        "gateway": "deployed" if stage.server is None else "local",
        "seconds": seconds,
        "requests": workload.REQUESTS,
        "renewed": workload.RENEWED,
    }


def show_closed(result: dict[str, Any], console: Console) -> None:
    """Print the closed loop."""
    table = Table(title="Closed loop: CPU in µs per request, latency in ms", title_justify="left")
    for heading in ("connections", "requests/s", "server", "store", "p50", "p99", "p99.9", "max", "no success"):
        table.add_column(heading, justify="right")
    for row in result["loops"]:
        cpu = [f"{row[name]:.1f}" if name in row else "–" for name in ("server_us", "store_us")]
        latencies = [f"{row[name]:.2f}" for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms")]
        failed = row["refused"] + row["broken"]
        table.add_row(str(row["connections"]), f"{row['rate']:.0f}", *cpu, *latencies, f"{failed} of {row['requests']}")
    console.print(table)
    for row in result["loops"]:
        counts = {name: count for name, count in row.get("counts", {}).items() if name not in _AS_IT_SHOULD}
        if counts:
            console.print(f"[yellow]{row['connections']} connections, the gateway's own counts: {counts}[/yellow]")
            if "outcome:store_unavailable" in counts:
                console.print("store_unavailable: the answer would have taken longer than the budget of 50 ms")


_AS_IT_SHOULD = ("outcome:success", "event:granted", "event:renewed")


def show_open(result: dict[str, Any], console: Console) -> None:
    """Print the open loop, and what the generator's own state says of it."""
    console.print(f"maximum, closed loop with {_MAXIMUM_CONNECTIONS} connections: {result['maximum']:.0f} requests/s")
    table = Table(title="Open loop: latency in ms from the moment a request was due", title_justify="left")
    for heading in ("load", "requests/s", "p50", "p99", "p99.9", "max", "over 50 ms", "no success",
                    "sent late p50", "p99", "generator's core", "all cores"):  # fmt: skip
        table.add_column(heading, justify="right")
    for row in result["loops"]:
        result_of = Open(**{name: row[name] for name in Open.__dataclass_fields__})
        table.add_row(
            f"{row['level']:.0%}",
            f"{result_of.rate:.0f}",
            *(f"{value:.2f}" for value in (result_of.p50_ms, result_of.p99_ms, result_of.p999_ms, result_of.max_ms)),
            f"{result_of.late_share:.3%}",
            f"{result_of.refused + result_of.lost} of {result_of.requests}",
            f"{result_of.lag_p50_ms:.2f}",
            f"{result_of.lag_p99_ms:.2f}",
            f"{result_of.busy:.0%}",
            f"{result_of.machine_busy:.0%}",
            style="yellow" if row["generator_saturated"] else None,
        )
    console.print(table)
    if any(row["generator_saturated"] for row in result["loops"]):
        console.print(
            "[yellow]The generator was short of CPU in the yellow rows (its core over 90 %, all cores over 95 %, or "
            "requests sent over 5 ms late): their latencies are upper bounds.[/yellow]"
        )
