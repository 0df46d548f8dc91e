"""Finding who held a number in a history of many leases: latency of a lookup, and bytes a lease."""

import random
import time
import uuid
from typing import Any

import redis
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import machine, peers, workload
from benchmarks.workload import Target
from edgeproxy.accounts.account import Account
from edgeproxy.calls import attribution
from edgeproxy.store import Store, keys
from edgeproxy.store.calls import Calls

SIZES = (1_000, 100_000, 1_000_000)
_NUMBERS = 50_000
_LEASE_MS = 25 * 60_000
_ROTATION_MS = 3_600_000  # between two leases of one number
_LOOKUPS = 5_000
_CHUNK = 10_000


def run(most: int, binary: str | None, progress: Progress) -> dict[str, Any]:
    """Look numbers up at random moments of histories of growing size."""
    target = Target()
    rows = []
    for size in (size for size in SIZES if size <= most):
        with peers.store(binary) as store:
            conditions = machine.facts(peers.store_version(store.url))
            uvloop.run(workload.load_accounts(store.url, {target.account: workload.account_tree(_NUMBERS)}))
            account = workload.read_account(store.url, target.account)
            with redis.Redis.from_url(store.url) as client:
                leases = fill(client, target.account, size, progress)
                used = int(client.memory_usage(keys.history(target.account), samples=0) or 0)
            took = uvloop.run(_look_up(store.url, account, leases, progress))
            rows.append({"leases": size, "bytes_per_lease": used / size, **took})
    return {
        "kind": "leases",
        "machine": conditions,
        "settings": {"lookups": _LOOKUPS, "numbers": _NUMBERS},
        "rows": rows,
    }


def fill(client: "redis.Redis", account: str, size: int, progress: Progress) -> list[tuple[str, str, int]]:
    """Put past leases into the history directly, as history.lua writes them; give some: number, session, a moment."""
    task = progress.add_task(f"{size:,} leases", total=size)
    chance = random.Random(size)
    begin = int(time.time() * 1000) - (size // _NUMBERS + 2) * _ROTATION_MS
    some, share = [], _LOOKUPS / size
    for first in range(0, size, _CHUNK):
        members = {}
        for index in range(first, min(first + _CHUNK, size)):
            number, session = workload.number(index % _NUMBERS), str(uuid.UUID(int=chance.getrandbits(128), version=4))
            at = begin + index // _NUMBERS * _ROTATION_MS
            members[f"{number}\0{at:013d}\0{at + _LEASE_MS:013d}\0{session}\0+493015981100"] = 0
            if chance.random() < share:
                some.append((number, session, at + chance.randrange(_LEASE_MS)))
        client.zadd(keys.history(account), members)
        progress.advance(task, len(members))
    return some


async def _look_up(
    url: str, account: Account, leases: list[tuple[str, str, int]], progress: Progress
) -> dict[str, float]:
    task = progress.add_task("lookups", total=len(leases))
    took_ms = []
    async with Store(url) as store:
        calls = Calls(store, None)
        await attribution.lookup(calls, account, leases[0][0], leases[0][2])
        for number, session, at in leases:
            started = time.perf_counter()
            found = await attribution.lookup(calls, account, number, at)
            took_ms.append((time.perf_counter() - started) * 1000)
            if [match.session_id for match in found.matches] != [session]:
                raise workload.SeedError(f"{number} at {at} led to {found.matches}, not to {session}")
            progress.advance(task)
    took_ms.sort()
    return {
        "lookups": len(took_ms),
        "p50_ms": took_ms[len(took_ms) // 2],
        "p99_ms": took_ms[len(took_ms) * 99 // 100],
        "max_ms": took_ms[-1],
    }


def show(result: dict[str, Any], console: Console) -> None:
    """Print a row for each size of the history."""
    table = Table(title="Lookups in the history of leases: every one led to the right session", title_justify="left")
    for heading in ("leases", "bytes a lease", "lookups", "p50 ms", "p99 ms", "max ms"):
        table.add_column(heading, justify="right")
    for row in result["rows"]:
        latencies = [f"{row[name]:.2f}" for name in ("p50_ms", "p99_ms", "max_ms")]
        table.add_row(f"{row['leases']:,}", f"{row['bytes_per_lease']:.0f}", f"{row['lookups']:,}", *latencies)
    console.print(table)
