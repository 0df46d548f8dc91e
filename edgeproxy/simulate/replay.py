"""Replays a trace against the store's own functions, on a virtual clock."""

import heapq
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import orjson

from edgeproxy.accounts import file as account_file
from edgeproxy.accounts.account import Account
from edgeproxy.accounts.file import AccountFile
from edgeproxy.calls import attribution
from edgeproxy.errors import StoreError
from edgeproxy.simulate import erlang
from edgeproxy.simulate.trace import Rules, Spell, Trace, Visitor, spells
from edgeproxy.store import Ask, Resolution, Store, inventory
from edgeproxy.store.calls import Calls as CallStore

NUMBERS_MOST = 100_000  # in a pool
Verdict = Literal["unique", "ambiguous", "wrong", "none", "untracked"]

_ACCOUNT, _POOL = "simulated", "pool"
_FIRST_NUMBER, _ON_PAGE = 493010000000, "+493020000000"
_BEGIN_MS = 4_102_444_800_000  # 2100-01-01 UTC: a result depends on no real date, and no entry is kept by its real age
_DAY_MS = 86_400_000
_PATIENCE_S = 60
_SAMPLES = 60  # of the occupancy over time
_PAGE, _CALL = 0, 1  # at one ms, pages come first: the number is shown before it is called


class SimulationError(Exception):
    """The store did otherwise than `dynamic/README.md` says."""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How many numbers are leased or cooling down, over the counted time."""

    least: int
    mean: float
    most: int
    sample_ms: float
    samples: tuple[float, ...]  # means over `sample_ms` each


@dataclass(frozen=True, slots=True)
class Overflow:
    """Leases asked for, and those that found no number free, beside Erlang B's share for the load of the same trace."""

    asked: int
    refused: int
    mean_hold_ms: float  # from a lease's begin to the end of its cooldown, also of the leases that were refused
    erlangs: float
    share: float
    predicted: float


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls by what the lookup of their number and moment says of them."""

    unique: int  # one session, the caller's
    ambiguous: int  # several, the caller's among them
    wrong: int  # others' only
    none: int  # nobody's
    untracked: int  # the caller saw the page's own number: there is nothing to look up


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replay has counted."""

    rules: Rules
    warm_up_ms: int
    counted_ms: int
    visitors: int  # with the warm-up's
    occupancy: Occupancy
    overflow: Overflow
    calls: Calls


@dataclass(slots=True)
class _Guest:
    """A visitor as the gateway's client knows it."""

    name: str
    ip: str
    session_id: str = ""
    number: str | None = None  # shown last; None: the page's own


@dataclass(slots=True)
class _Event:
    guest: _Guest
    spell: Spell | None  # of a page
    first: bool = False  # this page asks for a lease


class VirtualClock:
    """A clock that stands until it is moved; epoch ms."""

    def __init__(self) -> None:
        self.now = _BEGIN_MS

    def __call__(self) -> int:
        """The moment that it stands at."""
        return self.now


async def replay(url: str, trace: Trace, rules: Rules, progress: Callable[[int], object] = lambda ms: None) -> Outcome:
    """Bring an account with one pool into the store at `url`, which holds no such account, and replay the trace on it.

    A visitor asks for a number at the first page of a lease (see `trace.spells`). One who gets none sees the page's own
    number, and does not ask again before the lease that it would have had is over: Erlang's *blocked calls cleared*.
    `progress` is told the virtual ms that have passed since it was last told.

    Raises:
        SimulationError: a lease was lost, or a number was given to two.
        StoreError, RedisError, OSError: the store cannot be used.
    """
    clock = VirtualClock()
    async with Store(url, clock=clock) as store:
        await inventory.apply(store, await inventory.compare(store, _accounts(rules)))
        account = await store.account(_ACCOUNT, time.monotonic() + _PATIENCE_S)
        if account is None:
            raise StoreError("the account that was just loaded is not there")
        return await _Replay(store, clock, account, trace, rules).run(progress)


def _accounts(rules: Rules) -> AccountFile:
    """The account file of the simulation."""
    numbers = f"+{_FIRST_NUMBER}..+{_FIRST_NUMBER + rules.numbers - 1}"
    pool = {
        "replaces": "all",
        "numbers": [numbers],
        "idle_ttl": f"{rules.idle_ttl_ms}ms",
        "max_ttl": f"{rules.max_ttl_ms}ms",
        "cooldown": f"{rules.cooldown_ms}ms",
    }
    account = {
        "secrets": ["none"],
        "region": "DE",
        "points": {"daily": "1000000000000"},
        "limit": {"per_second": "1000"},
        "pools": {_POOL: pool},
    }
    return account_file.parse(orjson.dumps({"accounts": {_ACCOUNT: account}}))


async def attribute(calls: CallStore, account: Account, number: str, at_ms: int, session_id: str) -> Verdict:
    """What the gateway's lookup of a call says, judged by whose call it was."""
    found = await attribution.lookup(calls, account, number, at_ms)
    if not found.matches:
        return "none"
    sessions = {match.session_id for match in found.matches}
    if session_id not in sessions:
        return "wrong"
    return "unique" if len(found.matches) == 1 else "ambiguous"


class _Replay:
    def __init__(self, store: Store, clock: VirtualClock, account: Account, trace: Trace, rules: Rules) -> None:
        self._store = store
        self._calls = CallStore(store, None)
        self._clock = clock
        self._account = account
        self._trace = trace
        self._rules = rules
        self._events: list[tuple[int, int, int, _Event]] = []  # a heap: ms, page or call, serial
        self._serials = itertools.count()
        self._busy_until: dict[str, int] = {}  # tracking number → when it may be given to somebody else
        self._busy: list[tuple[int, int]] = []  # begin and end of each number's being busy
        self._holds: list[int] = []
        self._refused = 0
        self._verdicts: dict[Verdict, int] = dict.fromkeys(get_args(Verdict), 0)
        self._visitors = 0

    async def run(self, progress: Callable[[int], object]) -> Outcome:
        trace, passed, planned = self._trace, 0, 0
        arrivals = iter(trace.visitors)
        coming = next(arrivals, None)
        while True:
            while coming is not None and (not self._events or _arrives(coming) <= self._events[0][0]):
                self._welcome(coming)
                coming = next(arrivals, None)
            if not self._events or self._events[0][0] >= trace.ends_ms:
                break
            now = self._events[0][0]
            if now - planned >= _DAY_MS:
                planned = now
                self._store.forget(_ACCOUNT)  # it lists the account's next midnights by the clock, for days to come
            self._clock.now = _BEGIN_MS + now
            progress(now - passed)
            passed = now
            await self._pages(list(self._due(now, _PAGE)), now)
            for call in self._due(now, _CALL):
                await self._call(call.guest, now)
        progress(trace.ends_ms - passed)
        return self._outcome()

    def _welcome(self, visitor: Visitor) -> None:
        self._visitors += 1
        serial = self._visitors
        guest = _Guest(visitor.name, f"10.{serial >> 16 & 255}.{serial >> 8 & 255}.{serial & 255}")
        for spell in spells(visitor.pages, self._rules):
            self._expect(spell.pages[0], _PAGE, _Event(guest, spell, first=True))
        for at in visitor.calls:
            self._expect(at, _CALL, _Event(guest, None))

    def _expect(self, at: int, kind: int, event: _Event) -> None:
        heapq.heappush(self._events, (at, kind, next(self._serials), event))

    def _due(self, now: int, kind: int) -> Iterator[_Event]:
        while self._events and self._events[0][:2] == (now, kind):
            yield heapq.heappop(self._events)[3]

    async def _pages(self, events: list[_Event], now: int) -> None:
        """Page views of one ms, which leave together."""
        deadline = time.monotonic() + _PATIENCE_S
        asked = [self._store.resolve(self._account, _ask(event.guest), deadline) for event in events]
        for event, answer in zip(events, asked, strict=True):
            self._shown(event, await answer, now)

    def _shown(self, event: _Event, resolution: Resolution, now: int) -> None:
        guest, spell = event.guest, event.spell
        if resolution.refused is not None or resolution.moved or spell is None:
            raise SimulationError(f"the store refused a page view: {resolution.refused or 'the account was changed'}")
        (number,) = resolution.numbers
        shown = number if isinstance(number, str) else None
        if not event.first:
            if (shown, resolution.session_id) != (guest.number, guest.session_id):
                raise SimulationError(f"{guest.name} lost {guest.number} within its lease, for {shown}")
            return
        begin, busy_until = spell.pages[0], spell.busy_until_ms(self._rules)
        counts = begin >= self._trace.counted_from_ms
        if counts:
            self._holds.append(busy_until - begin)
        guest.session_id, guest.number = resolution.session_id, shown
        if shown is None:
            self._refused += counts
            return
        if self._busy_until.get(shown, 0) > now:
            raise SimulationError(f"{shown} was leased to {guest.name} while somebody else had it, or it cooled down")
        self._busy_until[shown] = busy_until
        self._busy.append((begin, busy_until))
        for at in spell.pages[1:]:
            self._expect(at, _PAGE, _Event(guest, spell))

    async def _call(self, guest: _Guest, now: int) -> None:
        if now < self._trace.counted_from_ms:
            return
        verdict: Verdict = "untracked"
        if guest.number is not None:
            at_ms = _BEGIN_MS + now
            verdict = await attribute(self._calls, self._account, guest.number, at_ms, guest.session_id)
        self._verdicts[verdict] += 1

    def _outcome(self) -> Outcome:
        counted_ms = self._trace.ends_ms - self._trace.counted_from_ms
        asked, held = len(self._holds), math.fsum(self._holds)
        erlangs = held / counted_ms
        return Outcome(
            rules=self._rules,
            warm_up_ms=self._trace.counted_from_ms,
            counted_ms=counted_ms,
            visitors=self._visitors,
            occupancy=occupancy(self._busy, self._trace.counted_from_ms, self._trace.ends_ms),
            overflow=Overflow(
                asked=asked,
                refused=self._refused,
                mean_hold_ms=held / asked if asked else 0.0,
                erlangs=erlangs,
                share=self._refused / asked if asked else 0.0,
                predicted=erlang.blocking(erlangs, self._rules.numbers),
            ),
            calls=Calls(**self._verdicts),
        )


def _arrives(visitor: Visitor) -> int:
    return min(visitor.pages[:1] + visitor.calls[:1])


def _ask(guest: _Guest) -> Ask:
    return Ask(guest.ip, guest.session_id, guest.name, False, ((_ON_PAGE, 0),))


def occupancy(busy: list[tuple[int, int]], from_ms: int, until_ms: int) -> Occupancy:
    """How many of the intervals `busy` (begin, end; ms) hold at a time, from `from_ms` until `until_ms`."""
    sample_ms = (until_ms - from_ms) / _SAMPLES
    steps = sorted([(begin, 1) for begin, _ in busy] + [(end, -1) for _, end in busy])  # ends first: then it is free
    moments = [max(from_ms, min(until_ms, at)) for at, _ in steps]
    sums = [0.0] * _SAMPLES
    count, before = 0, from_ms
    least: int | None = None
    most = 0
    for moment, (_, step) in zip([*moments, until_ms], [*steps, (until_ms, 0)], strict=True):
        if moment > before:
            least = count if least is None else min(least, count)
            most = max(most, count)
            _spread(sums, before - from_ms, moment - from_ms, sample_ms, count)
            before = moment
        count += step
    mean = math.fsum(sums) / (until_ms - from_ms)
    return Occupancy(least or 0, mean, most, sample_ms, tuple(total / sample_ms for total in sums))


def _spread(sums: list[float], begin: float, end: float, width: float, count: int) -> None:
    """Add `count` over the time from `begin` to `end` to the samples, each `width` long, that it falls into."""
    at = begin
    for place in range(min(int(begin / width), len(sums) - 1), len(sums)):
        until = end if place == len(sums) - 1 else min(end, (place + 1) * width)
        sums[place] += max(0.0, until - at) * count
        at = max(at, until)
        if at >= end:
            return
