"""What a deployment needs for a rate of requests: computed from measured costs, by no hand and no measuring.

`Costs.of` reads what `benchmarks.capacity` kept, `plan` computes a deployment, `tables` makes the tables of
deploy/CAPACITY.md, and `write` puts them there.
"""

import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeproxy.dynamic.memory import SHOWN_MOST
from edgeproxy.dynamic.wire import BODY_MOST
from edgeproxy.settings import Settings

PAGE = Path(__file__).parents[1] / "deploy" / "CAPACITY.md"
RATES = (1_000, 10_000, 100_000)
KEPT_D = (2, 7, 30, 90)  # days for which leases may be kept
APART = 0.1  # share of a core above which the limiter's slot is given a primary of its own
CLUSTERS_MOST = 10_000

READ_MIB = 216  # what a worker may remember of texts and addresses; tests/node/test_memory.py adds it up

_GIB, _MIB = 2**30, 2**20
_DAY_S = 86_400
_LEAST_SHARDS = 3  # of a cluster: nodes that elect


class CapacityError(Exception):
    """What is asked cannot be computed: no deployment bears it, or there are no results; the text says which."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is taken for granted of a deployment and of those who use it. The fields are options of the command."""

    peak_to_mean: float = 3.0  # requests per second in the day's peak, by the day's mean
    renewed: float = 0.9  # share of requests that bring a session that lives; the others begin one
    leased: float = 1.0  # share of sessions that are shown a number of a pool
    visit_s: float = 300.0  # from a visit's first request to its last
    idle_s: float = 1_800.0  # idle_ttl
    cooldown_s: float = 900.0
    accounts: int = 1_000
    largest: float = 0.05  # share of requests that are the largest account's
    leases_kept_d: float = 30.0
    visitors_kept_d: float = 30.0
    visits_kept_h: float = 1.0
    worker_busy: float = 0.6  # share of a core that a gateway worker may use in the peak
    store_busy: float = 0.5  # share of a core that a primary may use in the peak
    uneven: float = 1.25  # the busiest primary by the mean, once slots have been moved
    turn_ms: float = 1.0  # that a call is under way, in which a worker gathers requests for the next one
    replicas: int = 1  # of each primary
    shard_gib: float = 32.0  # of data that a primary may hold: what it can load and copy in the time you allow
    headroom: float = 2.0  # memory of a primary's machine by its data: a rewrite of the file, buffers, fragments


@dataclass(frozen=True, slots=True)
class PerCall:
    """CPU time of a call in µs: a part for the call, and one for each request in it."""

    call_us: float
    request_us: float

    @classmethod
    def fit(cls, points: Sequence[tuple[int, float]]) -> "PerCall":
        """The two parts from (requests in a call, µs a request): least squares of relative errors.

        A fit that would make either part negative is none: that part is 0 then.
        """
        weights = [1 / us**2 for _, us in points]
        xs, ys = [1 / size for size, _ in points], [us for _, us in points]
        total = sum(weights)
        x = sum(w * x for w, x in zip(weights, xs, strict=True)) / total
        y = sum(w * y for w, y in zip(weights, ys, strict=True)) / total
        spread = sum(w * (each - x) ** 2 for w, each in zip(weights, xs, strict=True))
        slope = sum(w * (a - x) * (b - y) for w, a, b in zip(weights, xs, ys, strict=True)) / spread if spread else 0.0
        slope = min(max(slope, 0.0), y / x)
        return cls(slope, y - slope * x)

    def us(self, batch: float) -> float:
        """µs a request where a call holds `batch` of them."""
        return self.call_us / batch + self.request_us


@dataclass(frozen=True, slots=True)
class Costs:
    """What a request, a session and so on cost, by measurement; µs of CPU time, and bytes."""

    gateway_us: float  # on a cluster, 1,000 accounts, paced
    server: PerCall  # of one server: ep1_resolve with the limiter in it
    resolve: PerCall  # of a cluster's primary: ep1_resolve without the limiter
    admit: PerCall  # of the primary of the limiter's slot: ep1_admit
    replica_ratio: float  # CPU of a primary with a replica by that of one without
    replica_us: float  # of the replica
    request_bytes: float
    answer_bytes: float
    asked_bytes: float  # to the store, of a call with one request
    decided_bytes: float  # from it
    asked_limiter_bytes: float  # to the limiter's slot and back
    replicated_bytes: float
    appended_bytes: float  # to the append-only file
    worker_mib: float  # private memory of a gateway's worker that has served 1,000 accounts
    session_bytes: float
    visitor_bytes: float
    past_lease_bytes: float
    live_lease_bytes: float
    visit_bytes: float
    number_bytes: float
    account_bytes: float

    @classmethod
    def of(cls, result: dict[str, Any]) -> "Costs":
        """The medians over the rounds of a kept result."""
        spread = next(
            row for row in result["spreads"] if row["store"] == "cluster" and row["accounts"] == max(_accounts(result))
        )
        one, with_replica = (_written(result, 1, replica) for replica in (False, True))
        ratios = [
            after["accounts_store"]["us"] / before["accounts_store"]["us"]
            for size in sorted({row["size"] for row in result["written"]})
            for before, after in zip(_written(result, size, False), _written(result, size, True), strict=True)
        ]
        single = _batch(result, "cluster", 1)
        memory = result["memory"]
        return cls(
            gateway_us=_median(spread["rounds"], lambda timing: timing["paced"]["gateway_us"]),
            server=_fit(result, "server", "accounts_store"),
            resolve=_fit(result, "cluster", "accounts_store"),
            admit=_fit(result, "cluster", "limiter"),
            replica_ratio=max(1.0, statistics.median(ratios)),
            replica_us=_median(with_replica, lambda timing: timing["replica_us"]),
            request_bytes=result["gateway"]["request_bytes"],
            answer_bytes=result["gateway"]["answer_bytes"],
            asked_bytes=_median(single, lambda timing: timing["accounts_store"]["received"]),
            decided_bytes=_median(single, lambda timing: timing["accounts_store"]["sent"]),
            asked_limiter_bytes=_median(
                single, lambda timing: timing["limiter"]["received"] + timing["limiter"]["sent"]
            ),
            replicated_bytes=_median(with_replica, lambda timing: timing["replicated"]),
            appended_bytes=_median(one, lambda timing: timing["accounts_store"]["appended"]),
            worker_mib=result["gateway"]["served"]["worker_private_mib"],
            session_bytes=memory["session_bytes"],
            visitor_bytes=memory["visitor_bytes"],
            past_lease_bytes=memory["past_lease_bytes"],
            live_lease_bytes=memory["live_lease_bytes"],
            visit_bytes=_median(one, lambda timing: timing["visit_bytes"]),
            number_bytes=memory["number_bytes"],
            account_bytes=memory["account_bytes"],
        )


def _median(rounds: Sequence[dict[str, Any]], figure: Callable[[dict[str, Any]], float]) -> float:
    return statistics.median(figure(timing) for timing in rounds)


def _accounts(result: dict[str, Any]) -> list[int]:
    return sorted({row["accounts"] for row in result["spreads"]})


def _batch(result: dict[str, Any], store: str, size: int) -> list[dict[str, Any]]:
    return next(row["rounds"] for row in result["batches"] if (row["store"], row["size"]) == (store, size))


def _written(result: dict[str, Any], size: int, replica: bool) -> list[dict[str, Any]]:
    return next(row["rounds"] for row in result["written"] if (row["size"], row["replica"]) == (size, replica))


def _fit(result: dict[str, Any], store: str, part: str) -> PerCall:
    return PerCall.fit(
        [
            (row["size"], _median(row["rounds"], lambda timing: timing[part]["us"]))
            for row in result["batches"]
            if row["store"] == store
        ]
    )


# A deployment ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store keeps at a peak rate: how much of it, and the bytes of all of it."""

    sessions: float  # kept for leases_kept
    visitors: float
    live: float  # leases, at the peak
    numbers: float  # of pools, that leases and cooldowns of the peak take
    visits: float  # in the stream
    bytes: float


def kept(rate: float, assumed: Assumptions, costs: Costs) -> Kept:
    """What the store keeps, where `rate` is the peak's. What is kept for days follows the mean, all else the peak.

    Visitors count as another one each session. Calls and their records are not in it.
    """
    begun = rate * (1 - assumed.renewed)  # sessions a second, in the peak
    mean = begun / assumed.peak_to_mean
    sessions = mean * assumed.leased * assumed.leases_kept_d * _DAY_S
    visitors = mean * assumed.leased * assumed.visitors_kept_d * _DAY_S
    live = begun * assumed.leased * (assumed.visit_s + assumed.idle_s)
    numbers = live + begun * assumed.leased * assumed.cooldown_s
    visits = rate * assumed.visits_kept_h * 3600
    bare = begun * (1 - assumed.leased) * (assumed.visit_s + 1.1 * assumed.idle_s)  # sessions without a number
    total = (
        sessions * (costs.session_bytes + costs.past_lease_bytes)
        + visitors * costs.visitor_bytes
        + bare * costs.session_bytes
        + live * costs.live_lease_bytes
        + numbers * costs.number_bytes
        + visits * costs.visit_bytes
        + assumed.accounts * costs.account_bytes
    )
    return Kept(sessions, visitors, live, numbers, visits, total)


@dataclass(frozen=True, slots=True)
class Need:
    """What one deployment needs. Of several clusters, `shards` and what follows are of each."""

    rate: float
    kept: Kept
    workers: int
    worker_mbit: float  # of each worker, requests and answers
    client_mbit: float  # of all workers
    clusters: int
    spread: bool  # a cluster; False: one server
    shards: int  # primaries that hold accounts
    by_cores: int  # how many of them the cores would need, and
    by_memory: int  # how many the memory
    limiter_apart: bool  # the limiter's slot has a primary of its own beside them
    servers: int  # of all clusters, replicas included
    shard_busy: float  # share of a core that the busiest primary uses
    limiter_busy: float  # and the limiter's slot; 0 on one server, where it is in the same call
    limiter_batch: float  # requests in a call of the limiter
    shard_gib: float  # data of the fullest primary
    machine_gib: float  # memory that it needs
    shard_mbit: float  # of the busiest primary: calls and replies
    replica_mbit: float  # from it to its replicas, in the peak
    append_mb_s: float  # of its append-only file, in the peak
    append_gb_day: float
    rewrite_h: float  # after which its append-only file has doubled
    disk_gib: float  # its append-only file before and while it is rewritten
    largest_busy: float  # share of a core that the largest account's slot uses
    largest_gib: float  # data of it
    largest_parts: int  # accounts into which it has to be split


def plan(rate: float, assumed: Assumptions, costs: Costs) -> Need:
    """The smallest deployment for a peak of `rate` requests per second.

    One server if it bears them; otherwise as few clusters as the limiter's slot lets be, each with as many primaries as
    its cores and its memory need.

    Raises:
        CapacityError: no number of clusters bears it.
    """
    for clusters in range(1, CLUSTERS_MOST + 1):
        need = _plan(rate, clusters, assumed, costs)
        if need is not None:
            return need
    raise CapacityError(f"not even {CLUSTERS_MOST} clusters bear {rate:,.0f} requests per second")


def _plan(rate: float, clusters: int, assumed: Assumptions, costs: Costs) -> Need | None:
    held = kept(rate, assumed, costs)
    # Each cluster has gateways of its own: a gateway knows one store.
    workers = clusters * math.ceil(rate / clusters * costs.gateway_us / 1e6 / assumed.worker_busy)
    worker_rate = rate / workers  # in the peak
    ratio = costs.replica_ratio if assumed.replicas else 1.0
    share, data = rate / clusters, held.bytes / clusters
    turn_s = assumed.turn_ms / 1000
    batch = 1 + worker_rate * min(1.0, clusters / assumed.accounts) * turn_s

    one_busy = rate * costs.server.us(batch) * ratio / 1e6
    one = clusters == 1 and one_busy <= assumed.store_busy and data <= assumed.shard_gib * _GIB
    if one:
        shards = by_cores = by_memory = 1
        limiter_batch, limiter_busy, apart, uneven = batch, 0.0, False, 1.0
        busy = one_busy
    else:
        uneven = assumed.uneven
        work = share * costs.resolve.us(batch) * ratio / 1e6
        by_cores = math.ceil(work * uneven / assumed.store_busy)
        by_memory = math.ceil(data * uneven / (assumed.shard_gib * _GIB))
        shards = max(_LEAST_SHARDS, by_cores, by_memory)
        # A worker asks the limiter for each primary's requests by themselves.
        limiter_batch = 1 + worker_rate / shards * turn_s
        limiter_busy = share * costs.admit.us(limiter_batch) * ratio / 1e6
        if limiter_busy > assumed.store_busy:
            return None
        apart = limiter_busy > min(APART, assumed.store_busy / 2)
        if not apart:
            while work * uneven / shards + limiter_busy > assumed.store_busy:
                shards += 1
        busy = work * uneven / shards + (0.0 if apart else limiter_busy)
    part = uneven / shards
    largest_batch = 1 + worker_rate * min(1.0, clusters * assumed.largest) * turn_s
    largest_busy = rate * assumed.largest * (costs.server if one else costs.resolve).us(largest_batch) * ratio / 1e6
    largest_bytes = held.bytes * assumed.largest
    appended = share * part * costs.appended_bytes
    per_day = appended / assumed.peak_to_mean * _DAY_S
    shard_bytes = data * part
    return Need(
        rate=rate,
        kept=held,
        workers=workers,
        worker_mbit=_mbit(worker_rate * (costs.request_bytes + costs.answer_bytes)),
        client_mbit=_mbit(rate * (costs.request_bytes + costs.answer_bytes)),
        clusters=clusters,
        spread=not one,
        shards=shards,
        by_cores=by_cores,
        by_memory=by_memory,
        limiter_apart=apart,
        servers=clusters * (shards + apart) * (1 + assumed.replicas),
        shard_busy=busy,
        limiter_busy=limiter_busy,
        limiter_batch=limiter_batch,
        shard_gib=shard_bytes / _GIB,
        machine_gib=shard_bytes * assumed.headroom / _GIB,
        shard_mbit=_mbit(share * part * (costs.asked_bytes + costs.decided_bytes)),
        replica_mbit=_mbit(share * part * costs.replicated_bytes * assumed.replicas),
        append_mb_s=appended / 1e6,
        append_gb_day=per_day / 1e9,
        rewrite_h=shard_bytes / per_day * 24,
        disk_gib=3 * shard_bytes / _GIB,
        largest_busy=largest_busy,
        largest_gib=largest_bytes / _GIB,
        largest_parts=max(
            1,
            math.ceil(largest_busy / assumed.store_busy),
            math.ceil(largest_bytes / (assumed.shard_gib * _GIB)),
        ),
    )


def _mbit(bytes_per_second: float) -> float:
    return bytes_per_second * 8 / 1e6


# Ceilings ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A limit, in requests per second of the peak: where planning ends, and where the core does (None: no core)."""

    what: str
    planned: float
    full: float | None = None


def memory_rate(assumed: Assumptions, costs: Costs) -> float:
    """The peak, in requests per second, whose data are as much as one primary may hold."""
    lasting = assumed.accounts * costs.account_bytes
    return (assumed.shard_gib * _GIB - lasting) / (kept(1, assumed, costs).bytes - lasting)


def ceilings(assumed: Assumptions, costs: Costs) -> list[Ceiling]:
    """The limits of what cannot be spread, lowest first."""
    ratio = costs.replica_ratio if assumed.replicas else 1.0

    def core(what: str, us: float) -> Ceiling:
        full = 1e6 / (us * ratio)
        return Ceiling(what, full * assumed.store_busy, full)

    found = [
        Ceiling("memory of one server, or of one account's slot", memory_rate(assumed, costs)),
        core("core of one server, calls of 1 request (many accounts)", costs.server.us(1)),
        core("core of one server, calls of 32 (one account)", costs.server.us(32)),
    ]
    found += [
        core(f"one account's slot of a cluster, calls of {size}", costs.resolve.us(size)) for size in (1, 8, 32, 256)
    ]
    found += [
        core(f"the limiter's slot, of all accounts of a cluster, calls of {size}", costs.admit.us(size))
        for size in (1, 2, 8, 32)
    ]
    return sorted(found, key=lambda ceiling: ceiling.planned)


# Tables ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is shown: the first column is text, the others are figures, unless it is `prose`.

    `note` stands below it, or alone where there are no rows.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    prose: bool = False

    def markdown(self) -> str:
        """The table as Markdown, without its title."""
        if not self.rows:
            return self.note
        lines = [self.headings, ("---", *("---" if self.prose else "--:" for _ in self.headings[1:])), *self.rows]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{text}\n\n{self.note}" if self.note else text


def shown(value: float) -> str:
    """A figure with two or three digits that mean something, and its thousands apart."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    if abs(rounded) >= 1_000_000_000:
        return f"{rounded / 1e9:.3g} bn"
    if abs(rounded) >= 1_000_000:
        return f"{rounded / 1e6:.3g} m"
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:.{max(0, min(2, digits))}f}"


def tables(result: dict[str, Any], assumed: Assumptions) -> dict[str, Table]:
    """Every table of the page, by the name of its place there."""
    costs = Costs.of(result)
    needs = [plan(rate, assumed, costs) for rate in RATES]
    return {
        "assumptions": _assumption_table(assumed),
        "costs": _cost_table(result, costs),
        "spreads": _spread_table(result),
        "batches": _batch_table(result, costs),
        "deployments": _deployment_table(needs, assumed),
        "kept": _kept_table(assumed, costs),
        "ceilings": _ceiling_table(assumed, costs),
        "first": _first(assumed, costs),
    }


def _assumption_table(assumed: Assumptions) -> Table:
    rows = [
        ("`--peak-to-mean`", f"{assumed.peak_to_mean:g}", "the day's peak by its mean; rates here are the peak's"),
        ("`--renewed`", f"{assumed.renewed:.0%}", "of requests bring a session that lives; each other one begins one"),
        ("`--leased`", f"{assumed.leased:.0%}", "of sessions are shown a number of a pool"),
        ("`--visit-s`", f"{assumed.visit_s:g}", "from a visit's first request to its last"),
        ("`--idle-s`, `--cooldown-s`", f"{assumed.idle_s:g}, {assumed.cooldown_s:g}", "of the pools"),
        ("`--accounts`", f"{assumed.accounts:,}", "that share the requests"),
        ("`--largest`", f"{assumed.largest:.0%}", "of requests are the largest account's"),
        ("`--leases-kept-d`", f"{assumed.leases_kept_d:g}", "days: sessions with their last visit, and the history"),
        ("`--visitors-kept-d`", f"{assumed.visitors_kept_d:g}", "days; each session is another visitor's"),
        ("`--visits-kept-h`", f"{assumed.visits_kept_h:g}", "hours of the stream"),
        ("`--worker-busy`", f"{assumed.worker_busy:.0%}", "of a core, a gateway's worker in the peak"),
        ("`--store-busy`", f"{assumed.store_busy:.0%}", "of a core, a primary in the peak: it runs commands on one"),
        ("`--uneven`", f"{assumed.uneven:g}", "the busiest primary by the mean, once slots have been moved"),
        ("`--turn-ms`", f"{assumed.turn_ms:g}", "for which a call is under way while a worker gathers the next"),
        ("`--replicas`", str(assumed.replicas), "of each primary"),
        ("`--shard-gib`", f"{assumed.shard_gib:g}", "of data at most on one primary"),
        ("`--headroom`", f"{assumed.headroom:g}", "a machine's memory by its data"),
    ]
    return Table("Assumptions", ("option", "value", "what"), tuple(rows), prose=True)


def _cost_table(result: dict[str, Any], costs: Costs) -> Table:
    held = result["gateway"]["served"]
    rows = [
        ("gateway, CPU of a worker, cluster of 1,000 accounts, paced", f"{shown(costs.gateway_us)} µs a request"),
        ("one server, `ep1_resolve` with the limiter in it", _parts(costs.server)),
        ("cluster, `ep1_resolve`, the account's primary", _parts(costs.resolve)),
        ("cluster, `ep1_admit`, the limiter's slot", _parts(costs.admit)),
        ("a primary with a replica by one without", f"× {costs.replica_ratio:.2f}"),
        ("a replica, calls of 1", f"{shown(costs.replica_us)} µs a request"),
        ("request and answer, with their heads", f"{shown(costs.request_bytes)} + {shown(costs.answer_bytes)} bytes"),
        (
            "gateway ↔ account's primary, calls of 1",
            f"{shown(costs.asked_bytes)} + {shown(costs.decided_bytes)} bytes a request",
        ),
        ("gateway ↔ limiter's slot, calls of 1", f"{shown(costs.asked_limiter_bytes)} bytes a request"),
        ("to a replica, calls of 1", f"{shown(costs.replicated_bytes)} bytes a request"),
        ("to the append-only file, calls of 1", f"{shown(costs.appended_bytes)} bytes a request"),
        (
            "a gateway's worker: private memory (resident)",
            f"{shown(costs.worker_mib)} ({shown(held['worker_rss_mib'])}) MiB",
        ),
        (
            "its supervisor: private memory (resident)",
            f"{shown(held['supervisor_private_mib'])} ({shown(held['supervisor_rss_mib'])}) MiB",
        ),
        ("what a worker remembers of numbers shown, at most", f"{shown(SHOWN_MOST / _MIB)} MiB"),
        ("… and of texts and addresses that it has read, at most", f"{shown(READ_MIB)} MiB"),
        ("bodies that a worker takes in at the edge port, at most", f"{shown(_bodies_mib())} MiB"),
        ("a pod of one worker, with all this full", f"{shown(pod_mib(result))} MiB"),
        ("a session, with its last visit", f"{shown(costs.session_bytes)} bytes"),
        ("a visitor", f"{shown(costs.visitor_bytes)} bytes"),
        ("a live lease", f"{shown(costs.live_lease_bytes)} bytes"),
        ("a past lease in the history", f"{shown(costs.past_lease_bytes)} bytes"),
        ("a visit in the stream, calls of 1", f"{shown(costs.visit_bytes)} bytes"),
        ("a number of a pool", f"{shown(costs.number_bytes)} bytes"),
        ("an account with one pool", f"{shown(costs.account_bytes)} bytes"),
    ]
    machine, settings = result["machine"], result["settings"]
    versions = machine["versions"]
    note = (
        f"Measured {machine['date'][:10]} on {machine['cores']} cores of {machine['cpu']}, "
        f"{versions['store']}, Python {versions['python']}, medians of {settings['rounds']} interleaved rounds."
    )
    return Table("Measured costs", ("what", "cost"), tuple(rows), note, prose=True)


def _bodies_mib() -> float:
    most: int = Settings.model_fields["connections_most"].default
    return most * BODY_MOST / _MIB


def pod_mib(result: dict[str, Any]) -> float:
    """Memory that a pod of one worker takes once all that clients can fill is full; its limit must be more."""
    held = result["gateway"]["served"]
    measured: float = held["worker_rss_mib"] + held["supervisor_rss_mib"]
    return measured + SHOWN_MOST / _MIB + READ_MIB + _bodies_mib()


def _parts(cost: PerCall) -> str:
    return f"{shown(cost.call_us)} µs a call + {shown(cost.request_us)} µs a request"


def _spread_table(result: dict[str, Any]) -> Table:
    rows = []
    for accounts in _accounts(result):
        for store in ("server", "cluster"):
            rounds = next(
                row["rounds"] for row in result["spreads"] if (row["store"], row["accounts"]) == (store, accounts)
            )
            even = _median(rounds, lambda timing: timing["closed"]["busiest_by_mean"])
            closed, paced = _loop_cells(rounds, "closed"), _loop_cells(rounds, "paced")
            rows.append((f"{accounts:,}", store, *closed, f"{even:.2f}" if store == "cluster" else "–", *paced))
    headings = (
        "accounts", "store", "gateway", "`ep1_resolve`", "`ep1_admit`", "requests a call", "busiest ÷ mean",
        "paced: gateway", "`ep1_resolve`", "`ep1_admit`", "requests a call",
    )  # fmt: skip
    settings = result["settings"]
    note = (
        f"µs of CPU a request, over HTTP: a closed loop of {settings['connections']} connections and, *paced*, an open "
        f"loop at the rate that keeps one worker busy for {settings['busy']:.0%}. The cluster has "
        f"{settings['primaries']} primaries with accounts, "
        "and one with the limiter's slot alone; *busiest ÷ mean* is of the first ones' CPU."
    )
    return Table("Accounts over slots", headings, tuple(rows), note)


def _loop_cells(rounds: Sequence[dict[str, Any]], loop: str) -> tuple[str, ...]:
    limiter = _median(rounds, lambda timing: timing[loop]["limiter"]["us"])
    return (
        shown(_median(rounds, lambda timing: timing[loop]["gateway_us"])),
        shown(_median(rounds, lambda timing: timing[loop]["accounts_store"]["us"])),
        shown(limiter) if limiter else "in the call",
        shown(_median(rounds, lambda timing: 1 / timing[loop]["accounts_store"]["calls"])),
    )


def _batch_table(result: dict[str, Any], costs: Costs) -> Table:
    rows = []
    for size in sorted({row["size"] for row in result["batches"]}):
        figures = [
            _median(_batch(result, store, size), lambda timing, part=part: timing[part]["us"])  # type: ignore[misc]
            for store, part in (("server", "accounts_store"), ("cluster", "accounts_store"), ("cluster", "limiter"))
        ]
        fits = [fit.us(size) for fit in (costs.server, costs.resolve, costs.admit)]
        cells = [f"{shown(figure)} ({shown(fit)})" for figure, fit in zip(figures, fits, strict=True)]
        rows.append((str(size), *cells, *(shown(1e6 / figure) for figure in figures)))
    headings = (
        "requests a call", "one server, µs", "account's slot, µs", "limiter's slot, µs",
        "one server, requests/s", "account's slot", "limiter's slot",
    )  # fmt: skip
    note = (
        "µs of CPU a request (in brackets: by the two parts above), and the requests per second that fill a core. "
        f"{result['settings']['drivers']} processes send batches of one account by the gateway's own client; no "
        "replica."
    )
    return Table("One account, one slot", headings, tuple(rows), note)


def _deployment_table(needs: Sequence[Need], assumed: Assumptions) -> Table:
    def row(what: str, figure: Callable[[Need], str]) -> tuple[str, ...]:
        return (what, *(figure(need) for need in needs))

    rows = [
        row(f"gateway workers (cores at {assumed.worker_busy:.0%})", lambda need: f"{need.workers:,}"),
        row("store", lambda need: "one server" if not need.spread else _clusters(need.clusters)),
        row("primaries with accounts, of each cluster", lambda need: f"{need.shards:,}"),
        row("… that cores ask for / memory asks for", lambda need: f"{need.by_cores:,} / {need.by_memory:,}"),
        row("primary for the limiter's slot alone", lambda need: "yes" if need.limiter_apart else "no"),
        row("store servers in all, with replicas", lambda need: f"{need.servers:,}"),
        row("busiest primary, of a core", lambda need: f"{need.shard_busy:.0%}"),
        row("limiter's slot, of a core", lambda need: f"{need.limiter_busy:.0%}" if need.spread else "in the call"),
        row("data, GiB in all", lambda need: shown(need.kept.bytes / _GIB)),
        row("fullest primary: data / memory, GiB", lambda need: f"{shown(need.shard_gib)} / {shown(need.machine_gib)}"),
        row("sessions kept", lambda need: shown(need.kept.sessions)),
        row("live leases in the peak", lambda need: shown(need.kept.live)),
        row("tracking numbers for them, cooldown included", lambda need: shown(need.kept.numbers)),
        row(
            "clients ↔ gateways, Mbit/s: all / a worker",
            lambda need: f"{shown(need.client_mbit)} / {shown(need.worker_mbit)}",
        ),
        row("gateways ↔ busiest primary, Mbit/s", lambda need: shown(need.shard_mbit)),
        row("busiest primary → replicas, Mbit/s", lambda need: shown(need.replica_mbit)),
        row(
            "its append-only file, MB/s in the peak / GB a day",
            lambda need: f"{shown(need.append_mb_s)} / {shown(need.append_gb_day)}",
        ),
        row("… doubles, and is rewritten, after", lambda need: f"{shown(need.rewrite_h)} h"),
        row("disk of the fullest primary, GiB", lambda need: shown(need.disk_gib)),
        row("largest account: of a core / GiB", lambda need: f"{need.largest_busy:.0%} / {shown(need.largest_gib)}"),
        row("… into how many accounts it must be split", lambda need: str(need.largest_parts)),
    ]  # fmt: skip
    return Table("Deployments", ("needed for", *(f"{need.rate:,.0f}/s" for need in needs)), tuple(rows))


def _clusters(count: int) -> str:
    return "1 cluster" if count == 1 else f"{count:,} clusters"


def _kept_table(assumed: Assumptions, costs: Costs) -> Table:
    rows = []
    for days in KEPT_D:
        those = replace(assumed, leases_kept_d=days, visitors_kept_d=min(days, assumed.visitors_kept_d))
        cells = []
        for rate in RATES:
            need = plan(rate, those, costs)
            cells.append(f"{shown(need.kept.bytes / _GIB)} GiB, {need.clusters * need.shards:,}")
        rows.append((f"{days} days", *cells))
    note = "Data in all, and primaries with accounts in all. Visitors are kept no longer than leases here."
    return Table("Memory by leases_kept", ("`leases_kept`", *(f"{rate:,}/s" for rate in RATES)), tuple(rows), note)


def _ceiling_table(assumed: Assumptions, costs: Costs) -> Table:
    rows = tuple(
        (ceiling.what, shown(ceiling.planned), "–" if ceiling.full is None else shown(ceiling.full))
        for ceiling in ceilings(assumed, costs)
    )
    return Table("Ceilings", ("what cannot be spread", f"planned, requests/s (core at {assumed.store_busy:.0%})",
                              "core full, requests/s"), rows)  # fmt: skip


def _first(assumed: Assumptions, costs: Costs) -> Table:
    """Which limits come first, in words."""
    ratio = costs.replica_ratio if assumed.replicas else 1.0

    def full(us: float) -> str:
        return shown(1e6 / (us * ratio))

    memory = memory_rate(assumed, costs)
    one_core = assumed.store_busy * 1e6 / (costs.server.us(1) * ratio)
    one_cluster = _highest(lambda need: need.clusters == 1, assumed, costs)
    limits = [
        (
            memory,
            f"**Memory.** One server, or the slot of one account, is full at {shown(memory)} requests/s: "
            f"{assumed.shard_gib:g} GiB, leases kept for {assumed.leases_kept_d:g} days.",
        ),
        (
            one_core,
            f"**A primary's core.** Planned to {assumed.store_busy:.0%}, one server decides {shown(one_core)} "
            "requests/s of "
            f"many accounts, whose calls hold one each; its core is full at {full(costs.server.us(1))}, that of a "
            f"cluster's primary at {full(costs.resolve.us(1))}. The calls of one huge account grow as its slot "
            "gets busy: "
            f"its ceiling is {full(costs.resolve.us(32))} (calls of 32) to {full(costs.resolve.us(256))} "
            "requests/s (256).",
        ),
        (
            one_cluster,
            f"**The limiter's slot.** One cluster does up to {shown(one_cluster)} requests/s of all its "
            "accounts: more would "
            f"take over {assumed.store_busy:.0%} of the core that has the slot, which is full at "
            f"{full(costs.admit.us(1))} with calls of 1 and at {full(costs.admit.us(8))} with calls of 8. Above "
            "that rate "
            "there are several independent clusters, or the limiter's keys would have to be spread over slots "
            "by a hash "
            "of the client IP, which is not built.",
        ),
    ]
    note = "\n".join(f"{place}. {text}" for place, (_, text) in enumerate(sorted(limits), 1))
    return Table("What comes first", (), (), note)


def _highest(holds: Callable[[Need], bool], assumed: Assumptions, costs: Costs) -> float:
    """The highest rate whose deployment is so, to a thousandth; 0 if none is."""
    low, high = 0.0, 1.0
    while holds(plan(high, assumed, costs)):
        low, high = high, 2 * high
    while high - low > high / 1000 and high > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(plan(middle, assumed, costs)) else (low, middle)
    return low


# The page ----------------------------------------------------------------------------------------------------------

_PLACE = re.compile(r"(<!-- computed: (?P<name>\w+) -->\n)(?P<text>.*?)(\n<!-- end -->)", re.DOTALL)


def filled(page: str, computed: dict[str, Table]) -> str:
    """The page with its tables in their places.

    Raises:
        CapacityError: the places are not those of the tables, each once.
    """
    places = [found["name"] for found in _PLACE.finditer(page)]
    if sorted(places) != sorted(computed):
        raise CapacityError(f"the page has places for {places}, and the tables are {list(computed)}")
    return _PLACE.sub(lambda found: found[1] + computed[found["name"]].markdown() + found[4], page)


def write(page: Path, computed: dict[str, Table]) -> None:
    """Put the tables into the page, in their places.

    Raises:
        CapacityError: see `filled`.
    """
    page.write_text(filled(page.read_text(), computed))
