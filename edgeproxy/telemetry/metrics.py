"""What the gateway counts: `METRICS` is the table, and all else here follows from it. No secret and no IP is in it.

Counting must cost next to nothing on the hot path and add up over workers. So a count is an addition to a cell of
memory that all workers of a node share, a row a worker, and prometheus-client meets the sums when it is scraped. A
worker that takes a dead one's place goes on with its row: counters never go back.

A label's value that the table does not have is counted as `other`: an answer that was made is never lost for its count.
`README.md` beside this says of each metric when to worry.
"""

import functools
import heapq
import mmap
import os
import platform
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, core, generate_latest
from prometheus_client.registry import Collector

from edgeproxy import __version__
from edgeproxy.accounts.account import PoolState
from edgeproxy.errors import Kind
from edgeproxy.telemetry import processes

Refused = Literal["broken", "large_head", "slow_head", "slow_reader", "idle", "too_many"]

OTHER = "other"  # what the table does not have
OUTCOMES = ("success", *(kind.label for kind in Kind))
EVENTS = ("granted", "renewed", "recycled", "original", "shared", "source")
# Why a call of the store failed.
STORE_FAULTS = (
    "timeout", "unreachable", "denied", "memory", "readonly", "disk", "replicas", "loading", "cluster", "empty",
)  # fmt: skip
REFUSALS: tuple[Refused, ...] = get_args(Refused)  # why connections are closed
UNREAD = (400, 408, 415)  # how requests whose body cannot be read are answered
# How the APIs of the manage port answer; another one answers with some of the last.
STATUSES: dict[str, tuple[int, ...]] = {
    "partner": (200, 400, 401, 403, 404, 405, 415, 500, 501, 503),
    "numbers": (200, 400, 401, 403, 404, 405, 409, 415, 429, 500),
    "calls": (200, 400, 401, 404, 405, 415, 429, 500, 503),
}
ANY_STATUS = tuple(sorted({status for statuses in STATUSES.values() for status in statuses}))
LATENCY_MS = (1, 2, 3, 5, 7.5, 10, 15, 20, 30, 40, 50, 60, 100, 250, 500, 1000, 2500, 5000, 10_000)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
POOLS_TOLD = 500  # of which metrics are told by name: bounds what Prometheus has to keep

_LATENCY_OF_APIS = "edgeproxy_api_request_seconds"
_STARTING, READY, DRAINING = 0.0, 1.0, 2.0


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of the table.

    `cells` are, for each value of the label, the cells that add up to it; of a metric without a label the value is "".
    A histogram has, under the name that stands there, a cell for each bound, one for what is beyond, and the sum. A
    metric without cells is read when it is scraped. `unit` makes a cell's unit what the metric shows, such as ms → s.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    cells: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bounds: tuple[float, ...] = ()
    unit: float = 1

    def cell_names(self) -> Iterator[str]:
        """The cells that it needs; rows may share some."""
        for cells in self.cells.values():
            for cell in cells:
                if self.bounds:
                    yield from (f"{cell}:{bound}" for bound in (*self.bounds, "inf", "sum"))
                else:
                    yield cell


def _each(cell: str, values: Iterable[object]) -> dict[str, tuple[str, ...]]:
    """A cell for each value of a label, and one for any other."""
    return {str(value): (f"{cell}:{value}",) for value in (*values, OTHER)}


def _dynamic_statuses() -> dict[str, tuple[str, ...]]:
    """The cells of `POST /api` by HTTP status: of each outcome, and of requests that have none for want of a body."""
    cells: dict[str, list[str]] = {"200": ["outcome:success"]}
    for kind in sorted(Kind, key=lambda kind: kind.status):
        cells.setdefault(str(kind.status), []).append(f"outcome:{kind.label}")
    for status in UNREAD:
        cells.setdefault(str(status), []).append(f"unread:{status}")
    told = {status: tuple(cells[status]) for status in sorted(cells)}
    return told | {OTHER: (f"outcome:{OTHER}", f"unread:{OTHER}")}


def _requests_of(api: str) -> Metric:
    """The row of an API that the table does not name."""
    return Metric(
        f"edgeproxy_{api}_requests_total", "counter", f"Requests of the {api} API by HTTP status.",
        ("status",), _each(api, ANY_STATUS),
    )  # fmt: skip


METRICS = (
    # POST /api -----------------------------------------------------------------------------------------------------
    Metric(
        "edgeproxy_requests_total", "counter", "Requests of POST /api by how they ended.",
        ("outcome",), _each("outcome", OUTCOMES),
    ),
    Metric(
        "edgeproxy_dynamic_requests_total", "counter",
        "Requests of POST /api by HTTP status, as it is with X-HTTP-STATUSES.",
        ("status",), _dynamic_statuses(),
    ),
    Metric(
        "edgeproxy_request_seconds", "histogram", "Time to answer POST /api, from when its body is there.",
        (), {"": ("latency:dynamic",)}, LATENCY_MS, 1e-3,
    ),
    Metric(
        "edgeproxy_numbers_total", "counter",
        "Numbers on pages: leases granted, renewed and recycled; left as they were (original), or shown a shared "
        "number, for want of a free one; shown a source's number.",
        ("event",), _each("event", EVENTS),
    ),
    Metric(
        "edgeproxy_sessions_joined_total", "counter",
        "Requests that had lost their session, and joined the one in which their visitor holds numbers.",
        (), {"": ("event:joined",)},
    ),
    Metric(
        "edgeproxy_crawlers_total", "counter", "Requests of known crawlers, which spend no number.",
        (), {"": ("crawlers",)},
    ),
    Metric(
        "edgeproxy_from_memory_total", "counter",
        "Requests answered from a worker's memory because the store did not answer.",
        (), {"": ("from_memory",)},
    ),
    Metric(
        "edgeproxy_unread_bodies_total", "counter",
        "Requests whose body did not arrive, or in a coding that is not read.",
        (), {"": tuple(f"unread:{status}" for status in (*UNREAD, OTHER))},
    ),
    # All APIs ------------------------------------------------------------------------------------------------------
    Metric(
        _LATENCY_OF_APIS, "histogram",
        "Time to answer a request, by API; of those on the manage port with the time in which its body comes.",
        ("api",), {api: (f"latency:{api}",) for api in ("dynamic", *STATUSES)}, LATENCY_MS, 1e-3,
    ),
    Metric(
        "edgeproxy_partner_requests_total", "counter", "Requests of the partner API by HTTP status.",
        ("status",), _each("partner", STATUSES["partner"]),
    ),
    Metric(
        "edgeproxy_static_requests_total", "counter", "Requests of the static numbers API by HTTP status.",
        ("status",), _each("numbers", STATUSES["numbers"]),
    ),
    Metric(
        "edgeproxy_calls_requests_total", "counter", "Requests of the calls API by HTTP status.",
        ("status",), _each("calls", STATUSES["calls"]),
    ),
    # The store -----------------------------------------------------------------------------------------------------
    Metric(
        "edgeproxy_batch_requests", "histogram", "Requests in one call of the store.",
        (), {"": ("batch",)}, BATCH_SIZES,
    ),
    Metric(
        "edgeproxy_store_faults_total", "counter", "Calls of the store that failed, by why.",
        ("fault",), _each("store_fault", STORE_FAULTS),
    ),
    Metric(
        "edgeproxy_workers_store_up", "gauge", "Workers whose last call of the store was answered.",
        (), {"": ("store_up",)},
    ),
    # Connections ---------------------------------------------------------------------------------------------------
    Metric(
        "edgeproxy_connections_refused_total", "counter",
        "Client connections that were closed: broken HTTP, a head too large or too slow, answers not read; an idle "
        "one for a new one's sake, or the new one, for want of an idle one (too_many).",
        ("reason",), _each("refused", REFUSALS),
    ),
    # The node ------------------------------------------------------------------------------------------------------
    Metric("edgeproxy_workers", "gauge", "Worker processes of this node."),
    Metric(
        "edgeproxy_worker_starts_total", "counter", "Worker processes started.",
        (), {"": ("starts",)},
    ),
    Metric(
        "edgeproxy_build_info", "gauge", "What runs here: 1, with the versions as labels.",
        ("version", "python", "aiohttp"),
    ),
    Metric(
        "process_resident_memory_bytes", "gauge", "Memory of a worker that is in RAM, with what workers share.",
        ("worker",),
    ),
    Metric("process_cpu_seconds_total", "counter", "CPU time that a worker has used.", ("worker",)),
    Metric("process_open_fds", "gauge", "Files and connections that a worker has open.", ("worker",)),
    Metric("process_max_fds", "gauge", "Files and connections that a worker may have open.", ("worker",)),
    # Pools, as the store has them: the same on every node ----------------------------------------------------------
    Metric("edgeproxy_pools", "gauge", "Pools that the store is known to hold."),
    Metric(
        "edgeproxy_pool_numbers", "gauge",
        f"Tracking numbers of a pool by state; of the {POOLS_TOLD} pools with the smallest share of free ones.",
        ("account", "pool", "state"),
    ),
    Metric(
        "edgeproxy_pool_overflowed", "gauge",
        "Numbers on pages that found none free in their pool, in the last hour: left as they were (original), "
        "shown a shared number, given one whose lease ended early (recycled); of the same pools.",
        ("account", "pool", "how"),
    ),
)  # fmt: skip

_CELLS = tuple(
    dict.fromkeys([name for metric in METRICS for name in metric.cell_names()] + ["event:other", "state", "process"])
)
_AT = {name: index for index, name in enumerate(_CELLS)}


class _Cells(dict[object, int]):
    """Where the cells of a label's values are; values that it has not are counted as `other`."""

    def __init__(self, cell: str, values: Iterable[object], at: Mapping[str, int] = _AT) -> None:
        super().__init__({value: at[f"{cell}:{value}"] for value in values})
        self._other = at[f"{cell}:{OTHER}"]

    def __missing__(self, value: object) -> int:
        return self._other


@dataclass(frozen=True, slots=True)
class _APICells:
    """Where the cells of an API of the manage port are."""

    statuses: _Cells
    first_latency: int
    latency_sum: int

    @staticmethod
    def of(api: str, at: Mapping[str, int]) -> "_APICells":
        first = f"latency:{api}:{LATENCY_MS[0]}"
        return _APICells(_Cells(api, STATUSES.get(api, ANY_STATUS), at), at[first], at[f"latency:{api}:sum"])


_OUTCOME = {outcome: _AT[f"outcome:{outcome}"] for outcome in OUTCOMES}
_EVENT = _Cells("event", (*EVENTS, "joined"))
_UNREAD = _Cells("unread", UNREAD)
_STORE_FAULT = _Cells("store_fault", STORE_FAULTS)
_REFUSED = _Cells("refused", REFUSALS)
_FIRST_DYNAMIC_LATENCY, _DYNAMIC_LATENCY_SUM = _AT[f"latency:dynamic:{LATENCY_MS[0]}"], _AT["latency:dynamic:sum"]
_FIRST_BATCH, _BATCH_SUM = _AT[f"batch:{BATCH_SIZES[0]}"], _AT["batch:sum"]
_STORE_UP, _STATE, _STARTS, _PROCESS = _AT["store_up"], _AT["state"], _AT["starts"], _AT["process"]


class Counts:
    """The cells of one worker; each method counts one thing."""

    def __init__(self, cells: "memoryview[float]", apis: Mapping[str, "_APICells"]) -> None:
        self._cells = cells
        self._apis = apis

    def request(self, outcome: str, took_s: float) -> None:
        """Count an answered `POST /api`: its outcome (see `OUTCOMES`) and its time in s."""
        cells, ms = self._cells, took_s * 1000
        try:  # the hot path: a dict that answers for what it has not, as others have here, costs 20 ns
            cells[_OUTCOME[outcome]] += 1
        except KeyError:
            cells[_AT[f"outcome:{OTHER}"]] += 1
        cells[_FIRST_DYNAMIC_LATENCY + bisect_left(LATENCY_MS, ms)] += 1
        cells[_DYNAMIC_LATENCY_SUM] += ms

    def unread(self, status: int) -> None:
        """Count a `POST /api` that is answered by `status` (see `UNREAD`) because its body cannot be read."""
        self._cells[_UNREAD[status]] += 1

    def answered(self, api: str, status: int, took_s: float) -> None:
        """Count an answered request of an API of the manage port: its HTTP status and its time in s."""
        cells, ms, at = self._cells, took_s * 1000, self._apis[api]
        cells[at.statuses[status]] += 1
        cells[at.first_latency + bisect_left(LATENCY_MS, ms)] += 1
        cells[at.latency_sum] += ms

    def batch(self, size: int, events: dict[str, int]) -> None:
        """Count a batch that the store decided, and what happened in it (see `EVENTS`; and `joined`)."""
        cells = self._cells
        cells[_FIRST_BATCH + bisect_left(BATCH_SIZES, size)] += 1
        cells[_BATCH_SUM] += size
        for event, count in events.items():
            cells[_EVENT[event]] += count

    def add(self, name: Literal["crawlers", "from_memory"]) -> None:
        """Count a request of a crawler, or one that is answered from memory."""
        self._cells[_AT[name]] += 1

    def store_fault(self, fault: str) -> None:
        """Count a call of the store that failed (see `STORE_FAULTS`)."""
        self._cells[_STORE_FAULT[fault]] += 1

    def refused(self, reason: Refused) -> None:
        """Count a client's connection that is closed."""
        self._cells[_REFUSED[reason]] += 1

    def store_up(self, up: bool) -> None:
        """Tell whether the store answers this worker."""
        self._cells[_STORE_UP] = up

    @property
    def state(self) -> float:
        """Of the worker: 0 starting, 1 ready, 2 draining."""
        return self._cells[_STATE]

    @state.setter
    def state(self, state: float) -> None:
        self._cells[_STATE] = state

    def started(self) -> None:
        """Count the start of the worker that this process is."""
        self._cells[_STARTS] += 1
        self._cells[_PROCESS] = os.getpid()

    def died(self) -> None:
        """Take back what is true of living workers alone."""
        self.state = _STARTING
        self.store_up(False)
        self._cells[_PROCESS] = 0


class Board:
    """The shared cells of all workers of a node. Make it before the workers are forked.

    `apis` are those of the manage port. One that the table does not name has the rows that others have.
    """

    def __init__(self, workers: int, apis: Iterable[str] = tuple(STATUSES)) -> None:
        unnamed = [api for api in apis if api not in STATUSES]
        latency = {api: (f"latency:{api}",) for api in unnamed}
        self._metrics = [
            *(replace(row, cells={**row.cells, **latency}) if row.name == _LATENCY_OF_APIS else row for row in METRICS),
            *map(_requests_of, unnamed),
        ]
        # The table's cells come first, where `Counts` knows them to be.
        names = dict.fromkeys([*_CELLS, *(name for metric in self._metrics for name in metric.cell_names())])
        self._at = {name: index for index, name in enumerate(names)}
        self._apis = {api: _APICells.of(api, self._at) for api in (*STATUSES, *unnamed)}
        self._memory = mmap.mmap(-1, workers * len(self._at) * 8)
        self._cells = memoryview(self._memory).cast("d")
        self.workers = workers

    def row(self, worker: int) -> Counts:
        """The cells of one worker."""
        return Counts(self._cells[worker * len(self._at) : (worker + 1) * len(self._at)], self._apis)

    def total(self, name: str) -> float:
        """The sum of one cell over all workers."""
        return sum(self._cells[self._at[name] :: len(self._at)])

    def exposition(self) -> bytes:
        """The metrics of this node, in Prometheus' text format. Looks at all workers' processes."""
        return _exposition(self._families())

    def _families(self) -> Iterator[core.Metric]:
        read: dict[str, list[_Sample]] = {
            "edgeproxy_workers": [((), self.workers)],
            "edgeproxy_build_info": [(_versions(), 1)],
        }
        for worker in range(self.workers):
            process = processes.look(int(self._cells[worker * len(self._at) + _PROCESS]))
            for name, value in process.items():
                read.setdefault(name, []).append(((str(worker),), value))
        for metric in self._metrics:
            if metric.bounds:
                yield self._histogram(metric)
            elif metric.cells:
                samples = [
                    ((value,) if metric.labels else (), sum(map(self.total, cells)))
                    for value, cells in metric.cells.items()
                ]
                yield _family(metric, samples)
            elif metric.name in read:
                yield _family(metric, read[metric.name])

    def _histogram(self, metric: Metric) -> core.Metric:
        family = core.HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for value, (cell,) in metric.cells.items():
            running, buckets = 0.0, []
            for bound in metric.bounds:
                running += self.total(f"{cell}:{bound}")
                buckets.append((f"{bound * metric.unit:g}", running))
            buckets.append(("+Inf", running + self.total(f"{cell}:inf")))
            total = self.total(f"{cell}:sum") * metric.unit
            family.add_metric((value,) if metric.labels else (), buckets, sum_value=total)
        return family


@functools.cache
def _versions() -> tuple[str, str, str]:
    return __version__, platform.python_version(), version("aiohttp")


_Sample = tuple[Sequence[str], float]  # the labels' values, in the table's order, and the metric's


def _family(metric: Metric, samples: Iterable[_Sample]) -> core.Metric:
    family: core.CounterMetricFamily | core.GaugeMetricFamily
    if metric.kind == "counter":
        family = core.CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    else:
        family = core.GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


class _Collected(Collector):
    def __init__(self, families: Iterable[core.Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[core.Metric]:
        return self._families


def _exposition(families: Iterable[core.Metric]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    return generate_latest(registry)


def pools_exposition(pools: Collection[PoolState]) -> bytes:
    """The metrics of pools, in Prometheus' text format; `POOLS_TOLD` are told by name, those nearest to empty.

    Takes some 20 ms, and more with more pools; in pieces, so that another thread is not kept from its work.
    """
    return _exposition(_pool_families(pools))


def _pool_families(pools: Collection[PoolState]) -> Iterator[core.Metric]:
    told = heapq.nsmallest(POOLS_TOLD, pools, key=_nearness)
    read: dict[str, list[_Sample]] = {
        "edgeproxy_pools": [((), len(pools))],
        "edgeproxy_pool_numbers": [
            ((pool.account, pool.pool, state), getattr(pool, state))
            for pool in told
            for state in ("free", "leased", "cooling")
        ],
        "edgeproxy_pool_overflowed": [
            ((pool.account, pool.pool, how), getattr(pool, how))
            for pool in told
            for how in ("original", "shared", "recycled")
        ],
    }
    for metric in METRICS:
        if metric.name in read:
            yield _family(metric, read[metric.name])


def _nearness(state: PoolState) -> tuple[float, int]:
    """How near to empty a pool is: the smaller, the nearer."""
    return state.free / max(1, state.numbers), -state.overflowed
