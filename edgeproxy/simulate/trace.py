"""Visitor traces: who looks at pages and who calls, when. All times are whole ms from the trace's begin."""

import itertools
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from edgeproxy import wording
from edgeproxy.simulate import erlang

HOUR_MS = 3_600_000
_SPAN_MOST_S = 366 * 86_400  # of a recorded trace
_SETTLE_LEAST_MS = 10 * 60_000


@dataclass(frozen=True, slots=True)
class Rules:
    """How the pool leases its numbers (see `accounts.account.Pool`). Times in ms."""

    numbers: int
    idle_ttl_ms: int
    cooldown_ms: int
    max_ttl_ms: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Synthetic visitors: Poisson arrivals, exponential visit lengths.

    `calls` is the share of visitors who call, at a moment that is equally likely anywhere in their lease and the
    cooldown after it.
    """

    visitors_per_hour: float
    visit_ms: float  # mean
    calls: float
    hours: float  # that count; the warm-up comes before
    seed: int

    def hold_ms(self, rules: Rules) -> float:
        """The mean time for which a visitor keeps a number from others, short of visits longer than `max_ttl`."""
        return self.visit_ms + rules.idle_ttl_ms + rules.cooldown_ms

    def erlangs(self, rules: Rules) -> float:
        """The load that the pool is offered."""
        return self.visitors_per_hour * self.hold_ms(rules) / HOUR_MS


@dataclass(frozen=True, slots=True)
class Visitor:
    """One visitor's page views and calls, each ascending."""

    name: str  # the partner's `trackingId`
    pages: tuple[int, ...]
    calls: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """Visitors in the order of their first event. What happens before `counted_from_ms` is the warm-up."""

    visitors: Iterable[Visitor]
    counted_from_ms: int
    ends_ms: int  # nothing is replayed from here on


@dataclass(frozen=True, slots=True)
class Spell:
    """The lease that some page views of a visitor make together: what Erlang calls a call."""

    pages: tuple[int, ...]  # those that the lease needs; see `spells`
    ends_ms: int

    def busy_until_ms(self, rules: Rules) -> int:
        """When the number can be leased to somebody else."""
        return self.ends_ms + rules.cooldown_ms


def spells(pages: Iterable[int], rules: Rules) -> list[Spell]:
    """The leases that ascending page views make in a pool that always has a number (`dynamic/README.md`, *Leases*).

    A page view within `idle_ttl` of the last renews the lease, to `max_ttl` after its begin at most; another one begins
    a new lease. Page views are left out that only renew a lease which a later one renews in time: they change neither
    its end nor who has a number at any moment.
    """
    found: list[Spell] = []
    since = ends = renewed_until = 0
    kept: list[int] = []
    last = -1
    for at in pages:
        if kept and at < ends:
            if at >= renewed_until:  # without `last` the lease would have ended meanwhile
                kept.append(last)
                renewed_until = last + rules.idle_ttl_ms
        else:
            if kept:
                found.append(_spell(kept, last, ends))
            kept, since = [at], at
            renewed_until = at + rules.idle_ttl_ms
        ends = min(at + rules.idle_ttl_ms, since + rules.max_ttl_ms)
        last = at
    if kept:
        found.append(_spell(kept, last, ends))
    return found


def _spell(kept: list[int], last: int, ends: int) -> Spell:
    return Spell((*kept, last) if last > kept[-1] else tuple(kept), ends)


# Synthetic --------------------------------------------------------------------------------------------------------


def synthetic(traffic: Traffic, rules: Rules) -> Trace:
    """A trace of Poisson arrivals, the same for the same seed.

    An empty pool that meets the full traffic is given out within minutes, and comes back all at once an `idle_ttl` and
    a `cooldown` later: a wave that dies out slowly, since these are the same for everybody. So for the first mean hold
    time and six mean visits only as many visitors come as Erlang B says would be served; that fills the pool with
    leases of all ages, and those that are over by then are left out. Then the full traffic settles: for a quarter of
    the hold time, or several where it is short.
    """
    hold = traffic.hold_ms(rules)
    fill = round(hold + 6 * traffic.visit_ms)
    settle = round(max(hold / 4, min(3 * hold, _SETTLE_LEAST_MS)))
    ends = fill + settle + round(traffic.hours * HOUR_MS)
    return Trace(_arrivals(traffic, rules, fill, ends), fill + settle, ends)


def _arrivals(traffic: Traffic, rules: Rules, fill_ms: int, ends_ms: int) -> Iterator[Visitor]:
    chance = random.Random(traffic.seed)  # noqa: S311 - a simulation
    per_ms = traffic.visitors_per_hour / HOUR_MS
    served = 1 - erlang.blocking(traffic.erlangs(rules), rules.numbers)
    gap = max(1, rules.idle_ttl_ms * 9 // 10)
    at = 0.0
    for serial in itertools.count(1):
        at += chance.expovariate(per_ms)
        if at >= ends_ms:
            return
        skipped = at < fill_ms and chance.random() >= served
        first, length = int(at), round(chance.expovariate(1 / traffic.visit_ms))
        pages: tuple[int, ...] = (*range(first, first + length, gap), first + length)
        calls, when = chance.random() < traffic.calls, chance.random()
        made = spells(pages, rules)
        if skipped or made[-1].busy_until_ms(rules) <= fill_ms:
            continue
        busy = made[0].busy_until_ms(rules) - first
        yield Visitor(f"visitor-{serial}", pages, (first + int(when * busy),) if calls else ())


# Recorded ---------------------------------------------------------------------------------------------------------


class TraceError(Exception):
    """A recorded trace is refused, and why, each fault with its line."""


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    at: FiniteFloat  # s, from any begin
    visitor: Annotated[str, Field(min_length=1, max_length=128)]
    event: Literal["page", "call"]


def recorded(path: Path, rules: Rules) -> Trace:
    """Read a trace of JSON Lines, `{"at": seconds, "visitor": "id", "event": "page" | "call"}`, in any order.

    `at` counts from anywhere; the earliest event is the begin. The warm-up is the mean time for which the visitors of
    this trace keep a number from others, and at most half of the trace.

    Raises:
        TraceError: with the faults, each with its line.
        OSError: the file cannot be read.
    """
    lines, faults = [], []
    with path.open("rb") as file:
        for place, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                lines.append(_Line.model_validate_json(text))
            except ValidationError as invalid:
                for fault in invalid.errors(include_url=False):
                    field = ".".join(map(str, fault["loc"]))
                    faults.append(f"{path}:{place}: {field + ': ' if field else ''}{wording.why(fault)}")
    if faults:
        raise TraceError("\n".join(wording.first_of(faults)))
    if not lines:
        raise TraceError(f"{path}: there are no events")
    begin = min(line.at for line in lines)
    span = max(line.at for line in lines) - begin
    if span > _SPAN_MOST_S:
        raise TraceError(f"{path}: the trace is longer than a year; at is in seconds")
    events: dict[str, tuple[set[int], list[int]]] = {}
    for line in lines:
        pages, calls = events.setdefault(line.visitor, (set(), []))
        at = round((line.at - begin) * 1000)
        if line.event == "page":
            pages.add(at)
        else:
            calls.append(at)
    visitors = [Visitor(name, tuple(sorted(pages)), tuple(sorted(calls))) for name, (pages, calls) in events.items()]
    visitors.sort(key=lambda visitor: min(visitor.pages[:1] + visitor.calls[:1]))
    holds = [
        spell.busy_until_ms(rules) - spell.pages[0] for visitor in visitors for spell in spells(visitor.pages, rules)
    ]
    ends = round(span * 1000) + 1
    hold = math.fsum(holds) / len(holds) if holds else 0
    return Trace(visitors, min(round(hold), ends // 2), ends)
