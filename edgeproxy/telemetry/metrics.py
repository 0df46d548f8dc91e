"""What the gateway counts and logs: every metric's name is here, and nothing here holds a secret or a full IP.

Counting must cost next to nothing on the hot path and add up over workers. So a count is an addition to a cell of
memory that all workers of a node share, a row a worker, and prometheus-client meets the sums when it is scraped. A
worker that takes a dead one's place goes on with its row: counters never go back.
"""

import heapq
import mmap
from bisect import bisect_left
from collections.abc import Collection, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from edgeproxy.accounts.account import PoolState
from edgeproxy.errors import Kind

OUTCOMES = ("success", *(kind.label for kind in Kind))
EVENTS = ("granted", "renewed", "recycled", "original", "shared", "source")
# Why a call of the store failed.
STORE_FAULTS = (
    "timeout", "unreachable", "denied", "memory", "readonly", "disk", "replicas", "loading", "cluster", "empty",
    "other",
)  # fmt: skip
LATENCY_MS = (1, 2, 3, 5, 7.5, 10, 15, 20, 30, 40, 50, 60, 100)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

PARTNER_STATUSES = (200, 400, 401, 403, 404, 405, 415, 500, 501, 503)  # all that the partner API answers with

STATIC_STATUSES = (200, 400, 401, 403, 404, 405, 409, 415, 429, 500)  # and the static numbers API
CALLS_STATUSES = (200, 400, 401, 404, 405, 415, 429, 500, 503)  # and the calls API

REFUSALS = ("broken", "large_head", "slow_head", "slow_reader", "idle", "too_many")  # why connections are closed

POOLS_TOLD = 500  # of which metrics are told by name: bounds what Prometheus has to keep

_STARTING, READY, DRAINING = 0.0, 1.0, 2.0


_CELLS = (
    *(f"outcome:{outcome}" for outcome in OUTCOMES),
    *(f"event:{event}" for event in (*EVENTS, "joined")),
    *(f"latency:{bound}" for bound in (*LATENCY_MS, "inf")),
    "latency_sum",
    *(f"batch:{bound}" for bound in (*BATCH_SIZES, "inf")),
    "batch_sum",
    *(f"partner:{status}" for status in PARTNER_STATUSES),
    *(f"static:{status}" for status in STATIC_STATUSES),
    *(f"calls:{status}" for status in CALLS_STATUSES),
    *(f"store_fault:{fault}" for fault in STORE_FAULTS),
    *(f"refused:{reason}" for reason in REFUSALS),
    "crawlers",
    "from_memory",
    "unread_bodies",
    "store_up",
    "state",
    "starts",
)
_AT = {name: index for index, name in enumerate(_CELLS)}


class Board:
    """The shared cells of all workers of a node. Make it before the workers are forked."""

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, workers * len(_CELLS) * 8)
        self._cells = memoryview(self._memory).cast("d")
        self.workers = workers

    def row(self, worker: int) -> "Counts":
        """The cells of one worker."""
        return Counts(self._cells[worker * len(_CELLS) : (worker + 1) * len(_CELLS)])

    def total(self, name: str) -> float:
        """The sum of one cell over all workers."""
        return sum(self._cells[worker * len(_CELLS) + _AT[name]] for worker in range(self.workers))

    def collect(self) -> Iterator[Metric]:
        """All metrics, for prometheus-client."""
        requests = CounterMetricFamily(
            "edgeproxy_requests", "Requests of POST /api by how they ended.", labels=["outcome"]
        )
        for outcome in OUTCOMES:
            requests.add_metric([outcome], self.total(f"outcome:{outcome}"))
        yield requests
        numbers = CounterMetricFamily(
            "edgeproxy_numbers",
            "Numbers on pages: leases granted, renewed and recycled; left as they were (original), or shown a shared "
            "number, for want of a free one; shown a source's number.",
            labels=["event"],
        )
        for event in EVENTS:
            numbers.add_metric([event], self.total(f"event:{event}"))
        yield numbers
        yield CounterMetricFamily(
            "edgeproxy_sessions_joined",
            "Requests that had lost their session, and joined the one in which their visitor holds numbers.",
            value=self.total("event:joined"),
        )
        yield self._histogram("edgeproxy_request_seconds", "Time to answer POST /api.", "latency", LATENCY_MS, 1e-3)
        yield self._histogram("edgeproxy_batch_requests", "Requests in one call of the store.", "batch", BATCH_SIZES, 1)
        for cell, text in (
            ("crawlers", "Requests of known crawlers, which spend no number."),
            ("from_memory", "Requests answered from a worker's memory because the store did not answer."),
            ("unread_bodies", "Requests whose body did not arrive, or in a coding that is not read."),
        ):
            yield CounterMetricFamily(f"edgeproxy_{cell}", text, value=self.total(cell))
        partner = CounterMetricFamily(
            "edgeproxy_partner_requests", "Requests of the partner API by HTTP status.", labels=["status"]
        )
        for status in PARTNER_STATUSES:
            partner.add_metric([str(status)], self.total(f"partner:{status}"))
        yield partner
        static = CounterMetricFamily(
            "edgeproxy_static_requests", "Requests of the static numbers API by HTTP status.", labels=["status"]
        )
        for status in STATIC_STATUSES:
            static.add_metric([str(status)], self.total(f"static:{status}"))
        yield static
        calls = CounterMetricFamily(
            "edgeproxy_calls_requests", "Requests of the calls API by HTTP status.", labels=["status"]
        )
        for status in CALLS_STATUSES:
            calls.add_metric([str(status)], self.total(f"calls:{status}"))
        yield calls
        faults = CounterMetricFamily(
            "edgeproxy_store_faults", "Calls of the store that failed, by why.", labels=["fault"]
        )
        for fault in STORE_FAULTS:
            faults.add_metric([fault], self.total(f"store_fault:{fault}"))
        yield faults
        refused = CounterMetricFamily(
            "edgeproxy_connections_refused",
            "Client connections that were closed: broken HTTP, a head too large or too slow, answers not read; an idle "
            "one for a new one's sake, or the new one, for want of an idle one (too_many).",
            labels=["reason"],
        )
        for reason in REFUSALS:
            refused.add_metric([reason], self.total(f"refused:{reason}"))
        yield refused
        yield CounterMetricFamily("edgeproxy_worker_starts", "Worker processes started.", value=self.total("starts"))
        yield GaugeMetricFamily("edgeproxy_workers", "Worker processes of this node.", value=self.workers)
        yield GaugeMetricFamily(
            "edgeproxy_workers_store_up",
            "Workers whose last call of the store was answered.",
            self.total("store_up"),
        )

    def _histogram(
        self, name: str, text: str, cell: str, bounds: tuple[float, ...], unit: float
    ) -> HistogramMetricFamily:
        running, buckets = 0.0, []
        for bound in bounds:
            running += self.total(f"{cell}:{bound}")
            buckets.append((f"{bound * unit:g}", running))
        buckets.append(("+Inf", running + self.total(f"{cell}:inf")))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self.total(f"{cell}_sum") * unit)

    def exposition(self) -> bytes:
        """The metrics of this node, in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)


def pools_exposition(pools: Collection[PoolState]) -> bytes:
    """The metrics of pools, in Prometheus' text format; `POOLS_TOLD` are told by name, those nearest to empty.

    Takes some 20 ms, and more with more pools; in pieces, so that another thread is not kept from its work.
    """
    registry = CollectorRegistry()
    registry.register(_Pools(pools))
    return generate_latest(registry)


class _Pools:
    """The metrics of pools, as the store has them: the same on every node."""

    def __init__(self, pools: Collection[PoolState]) -> None:
        self._pools = pools

    def collect(self) -> Iterator[Metric]:
        """All metrics, for prometheus-client."""
        yield GaugeMetricFamily("edgeproxy_pools", "Pools that the store is known to hold.", len(self._pools))
        told = heapq.nsmallest(POOLS_TOLD, self._pools, key=_nearness)
        numbers = GaugeMetricFamily(
            "edgeproxy_pool_numbers",
            f"Tracking numbers of a pool by state; of the {POOLS_TOLD} pools with the smallest share of free ones.",
            labels=["account", "pool", "state"],
        )
        overflowed = GaugeMetricFamily(
            "edgeproxy_pool_overflowed",
            "Numbers on pages that found none free in their pool, in the last hour: left as they were (original), "
            "shown a shared number, given one whose lease ended early (recycled); of the same pools.",
            labels=["account", "pool", "how"],
        )
        for pool in told:
            for state in ("free", "leased", "cooling"):
                numbers.add_metric([pool.account, pool.pool, state], getattr(pool, state))
            for how in ("original", "shared", "recycled"):
                overflowed.add_metric([pool.account, pool.pool, how], getattr(pool, how))
        yield numbers
        yield overflowed


def _nearness(state: PoolState) -> tuple[float, int]:
    """How near to empty a pool is: the smaller, the nearer."""
    return state.free / max(1, state.numbers), -state.overflowed


class Counts:
    """The cells of one worker; each method counts one thing."""

    def __init__(self, cells: "memoryview[float]") -> None:
        self._cells = cells

    def request(self, outcome: str, took_s: float) -> None:
        """Count an answered request: its outcome (see `OUTCOMES`) and its time in s."""
        cells, ms = self._cells, took_s * 1000
        cells[_AT_OUTCOME[outcome]] += 1
        cells[_FIRST_LATENCY + bisect_left(LATENCY_MS, ms)] += 1
        cells[_LATENCY_SUM] += ms

    def batch(self, size: int, events: dict[str, int]) -> None:
        """Count a batch that the store decided, and what happened in it (see `EVENTS`; and `joined`)."""
        cells = self._cells
        cells[_FIRST_BATCH + bisect_left(BATCH_SIZES, size)] += 1
        cells[_BATCH_SUM] += size
        for event, count in events.items():
            cells[_AT["event:" + event]] += count

    def partner_request(self, status: int) -> None:
        """Count a request of the partner API that was answered with one of `PARTNER_STATUSES`."""
        self._cells[_AT[f"partner:{status}"]] += 1

    def static_request(self, status: int) -> None:
        """Count a request of the static numbers API that was answered with one of `STATIC_STATUSES`."""
        self._cells[_AT[f"static:{status}"]] += 1

    def calls_request(self, status: int) -> None:
        """Count a request of the calls API that was answered with one of `CALLS_STATUSES`."""
        self._cells[_AT[f"calls:{status}"]] += 1

    def store_fault(self, fault: str) -> None:
        """Count a call of the store that failed with one of `STORE_FAULTS`."""
        self._cells[_AT[f"store_fault:{fault}"]] += 1

    def add(self, name: str) -> None:
        """Count one of `crawlers`, `from_memory`, `unread_bodies`, `starts`, or `refused:` with one of `REFUSALS`."""
        self._cells[_AT[name]] += 1

    def store_up(self, up: bool) -> None:
        """Tell whether the store answers this worker."""
        self._cells[_AT["store_up"]] = up

    @property
    def state(self) -> float:
        """Of the worker: 0 starting, 1 ready, 2 draining."""
        return self._cells[_AT["state"]]

    @state.setter
    def state(self, state: float) -> None:
        self._cells[_AT["state"]] = state

    def died(self) -> None:
        """Take back what is true of living workers alone."""
        self.state = _STARTING
        self.store_up(False)


_AT_OUTCOME = {outcome: _AT[f"outcome:{outcome}"] for outcome in OUTCOMES}
_FIRST_LATENCY = _AT[f"latency:{LATENCY_MS[0]}"]
_LATENCY_SUM = _AT["latency_sum"]
_FIRST_BATCH = _AT[f"batch:{BATCH_SIZES[0]}"]
_BATCH_SUM = _AT["batch_sum"]
