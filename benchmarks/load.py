"""Sending load and reading what it cost: a closed loop by wrk, an open loop by a process of our own, CPU from /proc."""

import json
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.peers import Server

_HERE = Path(__file__).parent
_SLACK_S = 60  # for a load generator to start and to end
_FAILED_MOST = 0.001  # share of requests that do not end well, above which a timing is worth nothing
WARM_UP_S = 1
_ANSWER_S = 10


class LoadError(Exception):
    """A load generator failed, or answers were not what they must be; the text says why."""


@dataclass(frozen=True, slots=True)
class Closed:
    """What came of a closed loop. Latency is from sending to answer: a slow server is asked less often."""

    connections: int
    requests: int  # that were answered
    seconds: float
    refused: int  # answers whose status was not a success
    broken: int  # connections that failed, and answers that did not come within 10 s
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def closed(url: str, requests: Path, connections: int, seconds: int) -> Closed:
    """Send the requests of a file in turn over `connections`, each waiting for its answer before it sends again."""
    wrk = machine.tool("wrk", "apt-get install wrk")
    command = [
        wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{_ANSWER_S}s", "--latency",
        "-s", str(_HERE / "closed.lua"), f"{url}/api", "--", str(requests),
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _SLACK_S, check=False)
    for line in run.stdout.splitlines():
        if line.startswith("RESULT "):
            return Closed(connections=connections, **json.loads(line.removeprefix("RESULT ")))
    raise LoadError(f"wrk failed:\n{run.stdout}{run.stderr}")


@dataclass(frozen=True, slots=True)
class Timing:
    """A closed loop, and the CPU time in µs that each of its requests cost the server and the store."""

    load: Closed
    server_us: float
    store_us: float

    @property
    def total_us(self) -> float:
        """CPU time in µs a request of server and store together."""
        return self.server_us + self.store_us

    def tree(self) -> dict[str, Any]:
        """The form kept in results."""
        return {"server_us": self.server_us, "store_us": self.store_us, "rate": self.load.rate, **asdict(self.load)}


def timed(
    server: Server,
    store_pid: int | None,
    requests: Path,
    connections: int,
    seconds: int,
    *,
    failed_most: float = _FAILED_MOST,
) -> Timing:
    """Warm the server up, then measure a closed loop.

    Raises:
        LoadError: a greater share of the answers than `failed_most` was not a success.
    """
    closed(server.url, requests, connections, WARM_UP_S)
    store = [] if store_pid is None else [store_pid]
    server_s, store_s = server.cpu_s(), machine.cpu_s(store)
    load = closed(server.url, requests, connections, seconds)
    server_s, store_s = server.cpu_s() - server_s, machine.cpu_s(store) - store_s
    if load.refused + load.broken > failed_most * load.requests or not load.requests:
        raise LoadError(
            f"{server.name}: of {load.requests} requests {load.refused} were refused and {load.broken} failed"
        )
    return Timing(load, server_s / load.requests * 1e6, store_s / load.requests * 1e6)


@dataclass(frozen=True, slots=True)
class Open:
    """What came of an open loop. Latency is from the moment at which a request was due to be sent.

    The generator shares the machine, so its own state belongs to the result: `lag_*` is by how much requests with a
    free connection left late, `busy` the share of a core that it used, `machine_busy` that of all cores in use.
    """

    rate: float  # requests per second that were due
    seconds: float
    requests: int
    refused: int  # answers that were not a success
    lost: int  # requests without an answer
    waited: int  # requests that found no free connection
    connections: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    late_share: float  # requests that took over 50 ms or were lost
    lag_p50_ms: float
    lag_p99_ms: float
    lag_max_ms: float
    busy: float
    machine_busy: float

    @property
    def generator_saturated(self) -> bool:
        """Whether the generator itself, or the lack of a free core, may have made latencies longer."""
        return self.busy > 0.9 or self.machine_busy > 0.95 or self.lag_p99_ms > 5


def open_loop(url: str, requests: Path, rate: float, seconds: int, connections: int = 256) -> Open:
    """Send the requests of a file at random moments, `rate` a second on average, whether or not answers come."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.open_loop",
        url,
        str(requests),
        str(rate),
        str(seconds),
        str(connections),
    ]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + _SLACK_S, check=False, cwd=_HERE.parent
    )
    if run.returncode:
        raise LoadError(f"the open loop failed:\n{run.stderr[-2000:]}")
    return Open(**json.loads(run.stdout))


def metrics(server: Server) -> str:
    """The gateway's metrics, in Prometheus' text format."""
    with urllib.request.urlopen(f"{server.manage}/metrics", timeout=10) as response:
        text: str = response.read().decode()
    return text


def outcomes(server: Server) -> dict[str, float]:
    """The gateway's own counts: `outcome:…` of requests, `event:…` of numbers, `refused:…` of connections."""
    counts = {}
    for line in metrics(server).splitlines():
        for name, label in (
            ("edgeproxy_requests_total", "outcome"),
            ("edgeproxy_numbers_total", "event"),
            ("edgeproxy_connections_refused_total", "refused"),
        ):
            if line.startswith(f"{name}{{"):
                value = line.partition('="')[2].partition('"')[0]
                counts[f"{label}:{value}"] = float(line.rpartition(" ")[2])
    return counts


def gained(before: dict[str, float], after: dict[str, float]) -> dict[str, int]:
    """What was counted between two readings of `outcomes`; what was not counted is left out."""
    return {name: int(count - before.get(name, 0)) for name, count in after.items() if count > before.get(name, 0)}


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of some values."""
        return cls(statistics.median(values), min(values), max(values))

    def shown(self, digits: int) -> str:
        """As people read it: median (least–most)."""
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}–{self.most:.{digits}f})"
