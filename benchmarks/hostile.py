"""What hostile clients do to a good one: its latency alone, and beside each kind of attack."""

import contextlib
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import load, machine
from benchmarks.attacks import FLOODING, IDLE, KINDS
from benchmarks.loops import Stage
from benchmarks.peers import Server

RATE = 200  # requests per second of the good clients
CONNECTIONS = 8  # of theirs
_SLOW = 1000  # connections of slowhttptest
_BEGIN_S = 1  # for an attack to get under way
_SETTLE_S = 1
_SLACK_S = 30
_ROOT = Path(__file__).parents[1]

# Debian's slowhttptest: a byte of a head, or of a body, each second; answers read a byte a second from a small window.
SLOW = {
    "slow heads": ["-H", "-i", "1"],
    "slow bodies": ["-B", "-i", "1", "-s", "8192", "-t", "POST"],
    "slow reading": ["-X", "-k", "50", "-n", "1", "-w", "1", "-y", "1", "-z", "1"],
}


def run(stage: Stage, seconds: int, progress: Progress) -> dict[str, Any]:
    """The good clients alone, beside each attack for `seconds`, and alone again.

    Raises:
        MissingToolError: slowhttptest is not installed.
    """
    server = stage.server
    assert server is not None
    tool = machine.tool("slowhttptest", "apt-get install slowhttptest")
    conditions = machine.facts(stage.version)
    kinds = ["alone", *SLOW, *KINDS, "alone again"]
    task = progress.add_task("hostile clients", total=len(kinds))
    load.open_loop(stage.url, stage.requests, RATE, load.WARM_UP_S, CONNECTIONS)
    rows = []
    for kind in kinds:
        progress.update(task, description=f"hostile clients: {kind}")
        rows.append(_row(kind, server, stage.requests, tool, seconds))
        time.sleep(_SETTLE_S)
        progress.advance(task)
    return {
        "kind": "hostile",
        "machine": conditions,
        "settings": {
            "seconds": seconds,
            "rate": RATE,
            "connections": CONNECTIONS,
            "slow_connections": _SLOW,
            "idle_connections": IDLE,
            "flood_connections": FLOODING,
        },
        "rows": rows,
    }


def _row(kind: str, server: Server, requests: Path, tool: str, seconds: int) -> dict[str, Any]:
    lasting = seconds + _BEGIN_S
    if kind in SLOW:
        command = [tool, *SLOW[kind], "-c", str(_SLOW), "-r", str(_SLOW), "-l", str(lasting)]
        command += ["-u", f"{server.url}/{'healthz' if kind == 'slow reading' else 'api'}"]
    else:
        command = [sys.executable, "-m", "benchmarks.attacks", kind, server.url, str(lasting)]
    before, used, rss = load.outcomes(server), server.cpu_s(), rss_mib(server)
    with contextlib.ExitStack() as stack:
        attack = None
        if not kind.startswith("alone"):
            attack = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=_ROOT)
            )
            stack.callback(attack.kill)
            time.sleep(_BEGIN_S)
        good = load.open_loop(server.url, requests, RATE, seconds, CONNECTIONS)
        beside = rss_mib(server)
        hostile: dict[str, Any] = {}
        if attack is not None:
            said, errors = attack.communicate(timeout=seconds + _SLACK_S)
            if kind in SLOW:
                hostile = {"connections": _SLOW}
            elif attack.returncode:
                raise load.LoadError(f"the attack failed:\n{errors[-2000:]}")
            else:
                hostile = json.loads(said)
    return {
        "attack": kind,
        "good": asdict(good),
        "hostile": hostile,
        "counts": load.gained(before, load.outcomes(server)),
        "server_cpu": (server.cpu_s() - used) / lasting,
        "rss_before_mib": rss,
        "rss_beside_mib": beside,
    }


def rss_mib(server: Server) -> float:
    """Resident memory of the gateway's processes."""
    kib = 0
    for pid in machine.family(server.pid):
        text = Path(f"/proc/{pid}/status").read_text()
        kib += int(text.partition("VmRSS:")[2].split()[0])
    return kib / 1024


def show(result: dict[str, Any], console: Console) -> None:
    """Print a row for each attack."""
    settings = result["settings"]
    table = Table(
        title=f"Good clients, {settings['rate']} requests/s over {settings['connections']} connections: latency in ms "
        "from the moment a request was due",
        title_justify="left",
    )
    for heading in ("beside", "p50", "p99", "max", "answered", "failed", "all cores", "connections", "requests",
                    "refused", "MiB before", "beside"):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "beside" and not table.columns else "right")
    for row in result["rows"]:
        good, hostile = row["good"], row["hostile"]
        refused = {
            name.partition(":")[2]: count for name, count in row["counts"].items() if name.startswith("refused:")
        }
        table.add_row(
            row["attack"],
            *(f"{good[name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms")),
            str(good["requests"] - good["refused"] - good["lost"]),
            str(good["refused"] + good["lost"]),
            f"{good['machine_busy']:.0%}",
            str(hostile.get("connections", "–")),
            str(hostile.get("requests", "–")),
            ", ".join(f"{reason} {count}" for reason, count in refused.items()) or "–",
            f"{row['rss_before_mib']:.0f}",
            f"{row['rss_beside_mib']:.0f}",
        )
    console.print(table)
