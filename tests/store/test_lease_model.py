"""Leases beside a plain model of them: whatever happens in whatever order, a number shown leads back.

Visitors come in batches to pools of every kind of overflow, calls extend and release leases, numbers move between pools
and accounts, people are forgotten, time passes. After each step every live lease is found and routed, no number has two
holders, and what ended is found at any moment within its life and cooldown.
"""

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from edgeproxy.accounts import file as account_file
from edgeproxy.accounts.account import Account
from edgeproxy.calls import attribution
from edgeproxy.store import Ask, Store, inventory, keys
from edgeproxy.store.calls import Calls, Effect
from edgeproxy.store.erasure import erase
from tests.conftest import Clock, far
from tests.servers import client_of, on_primaries

SHARED = "+493015981199"
FIXED = {  # pool → number that stays in it, so that it has one
    ("x", "keep"): "+493015981151",
    ("x", "shared"): "+493015981152",
    ("x", "recycle"): "+493015981153",
    ("y", "other"): "+493015981154",
}
MOVING = [f"+49301598116{n}" for n in range(4)]
PLACES = [*FIXED, ("x", None), ("y", None), None]  # a pool, the account's numbers in no pool, no account
AT_FIRST = [("x", "keep"), ("x", "shared"), ("x", "recycle"), ("x", "recycle")]
PAGES = {  # number on page → its pool
    "+493015981100": ("x", "keep"),
    "+493015981101": ("x", "shared"),
    "+493015981102": ("x", "recycle"),
    "+493015981103": ("x", "recycle"),
    "+493015981104": ("y", "other"),
    "+493015981105": ("y", "other"),
}
RULES: dict[tuple[str, str], dict[str, Any]] = {
    ("x", "keep"): {"idle_ttl": "60s", "max_ttl": "150s", "cooldown": "30s", "on_call": "extend"},
    ("x", "shared"): {"idle_ttl": "50s", "max_ttl": "90s", "cooldown": "0s", "overflow": "shared", "on_call": "keep"},
    ("x", "recycle"): {"idle_ttl": "60s", "max_ttl": "120s", "cooldown": "20s", "overflow": "recycle"},
    ("y", "other"): {"idle_ttl": "40s", "max_ttl": "40s", "cooldown": "10s", "overflow": "recycle"},
}
RULES["x", "shared"]["shared_number"] = SHARED
RULES["x", "recycle"]["on_call"] = RULES["y", "other"]["on_call"] = "release"
INDEX = {("x", "keep"): 0, ("x", "shared"): 1, ("x", "recycle"): 2, ("y", "other"): 0}


def seconds(pool: tuple[str, str], rule: str) -> int:
    return int(RULES[pool][rule][:-1]) * 1000


@dataclass
class Lease:
    account: str
    pool: tuple[str, str]
    number: str
    session: str
    page: str
    begin: int
    end: int  # of one that lives: as far as is known
    over: bool = False  # it was ended before its time

    def holds(self, at: int) -> bool:
        return self.begin <= at < self.end

    def cools_until(self) -> int:
        return self.end + seconds(self.pool, "cooldown")


class Leases(RuleBasedStateMachine):
    url: str
    runner: asyncio.Runner

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        with client_of(self.url) as client:
            on_primaries(client, "FLUSHALL")
        self.clock = Clock()
        self.places: dict[str, tuple[str, str | None] | None] = dict(zip(MOVING, AT_FIRST, strict=True))
        self.leases: list[Lease] = []
        self.sessions: dict[str, list[str]] = {"x": [], "y": []}
        self.serials = itertools.count(1)
        self.store = Store(self.url, clock=self.clock)
        self.run(self.open())
        self.calls = Calls(self.store, None)

    async def open(self) -> None:
        await self.store.open()
        await self.store.load_functions()
        await self.load()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self.store.close())

    async def load(self) -> None:
        tree: dict[str, Any] = {
            name: {"secrets": ["s"], "region": "DE", "limit": {"per_second": 1000}, "pools": {}, "numbers": []}
            for name in "xy"
        }
        for pool, number in FIXED.items():
            pages = [page for page, of in PAGES.items() if of == pool]
            tree[pool[0]]["pools"][pool[1]] = RULES[pool] | {"replaces": pages, "numbers": [number]}
        for number, place in self.places.items():
            if place is not None:
                account, pool_name = place
                of = tree[account]["pools"][pool_name] if pool_name else tree[account]
                of["numbers"].append(number)
        changes = await inventory.compare(self.store, account_file.parse(orjson.dumps({"accounts": tree})))
        await inventory.apply(self.store, changes)
        for name in "xy":
            self.store.forget(name)

    async def account(self, name: str) -> Account:
        account = await self.store.account(name, far())
        assert account is not None
        return account

    # What the model knows ------------------------------------------------------------------------------------------

    def holder(self, number: str) -> Lease | None:
        held = [lease for lease in self.leases if lease.number == number and lease.holds(self.clock.now)]
        assert len(held) <= 1
        return held[0] if held else None

    def last(self, number: str) -> Lease | None:
        """The last lease of the number that has ended, if nothing came after it."""
        of_number = [lease for lease in self.leases if lease.number == number]
        return of_number[-1] if of_number and not of_number[-1].holds(self.clock.now) else None

    def cools(self, number: str) -> bool:
        last = self.last(number)
        return last is not None and last.cools_until() > self.clock.now

    def numbers_of(self, pool: tuple[str, str]) -> list[str]:
        return [FIXED[pool], *(number for number, place in self.places.items() if place == pool)]

    def shown(self, account: str, session: str, page: str, shown: str | bool) -> None:
        """Take in what a session was shown, if that may be."""
        now, pool = self.clock.now, PAGES[page]
        overflow = RULES[pool].get("overflow", "original")
        number = shown.partition("/")[0] if isinstance(shown, str) else None
        mine = [lease for lease in self.leases if (lease.session, lease.page) == (session, page) and lease.holds(now)]
        if mine:
            assert [number] == [lease.number for lease in mine], "a live lease was lost"
            mine[0].end = min(now + seconds(mine[0].pool, "idle_ttl"), mine[0].begin + seconds(mine[0].pool, "max_ttl"))
            return
        holders = {number: self.holder(number) for number in self.numbers_of(pool)}
        free = [number for number, holder in holders.items() if holder is None and not self.cools(number)]
        others = [lease for lease in holders.values() if lease is not None and lease.session != session]
        if number is None or number == SHARED:
            assert not free
            assert (overflow == "shared") == (number == SHARED)
            assert overflow != "recycle" or all(
                lease is not None and lease.session == session for lease in holders.values()
            )
            return
        assert number in holders
        if number not in free:
            assert overflow == "recycle"
            assert not free
            taken = holders[number]
            if taken is not None:
                assert taken.session != session, "one page shows one number twice"
                assert taken.begin == min(lease.begin for lease in others)
                taken.end, taken.over = now, True
            else:
                assert not others, "a cooldown was cut short while there was a lease to end"
        self.leases.append(Lease(account, pool, number, session, page, now, now + seconds(pool, "idle_ttl")))

    # What happens --------------------------------------------------------------------------------------------------

    @rule(
        account=strategies.sampled_from("xxy"),
        visits=strategies.lists(
            strategies.tuples(
                strategies.integers(0, 7),  # who: one of the last sessions, or somebody new
                strategies.sampled_from(["", "", "one", "two"]),
                strategies.lists(strategies.integers(0, 3), min_size=1, max_size=3, unique=True),
            ),
            min_size=1,
            max_size=8,
        ),
    )
    def visit(self, account: str, visits: list[tuple[int, str, list[int]]]) -> None:
        self.run(self.visits(account, visits))

    async def visits(self, name: str, visits: list[tuple[int, str, list[int]]]) -> None:
        account, pages = await self.account(name), [page for page, pool in PAGES.items() if pool[0] == name]
        asks, known = [], self.sessions[name][-6:]
        for who, visitor, places in visits:
            wanted = tuple(dict.fromkeys(pages[place % len(pages)] for place in places))
            asks.append(
                Ask(
                    ip=f"10.0.{(serial := next(self.serials)) >> 8}.{serial & 255}",
                    session_id=known[who] if who < len(known) else "",
                    visitor=visitor,
                    bare=False,
                    pages=tuple((page, INDEX[PAGES[page]]) for page in wanted),
                )
            )
        await self.ask(name, account, asks)

    async def ask(self, name: str, account: Account, asks: list[Ask]) -> None:
        joining, resolutions = [], await asyncio.gather(*(self.store.resolve(account, ask, far()) for ask in asks))
        for ask, resolution in zip(asks, resolutions, strict=True):
            assert resolution.refused is None
            assert not resolution.moved
            if resolution.join:
                joining.append(ask._replace(session_id=resolution.session_id, joining=True))
                continue
            if resolution.session_id not in self.sessions[name]:
                self.sessions[name].append(resolution.session_id)
            for (page, _), number in zip(ask.pages, resolution.numbers, strict=True):
                self.shown(name, resolution.session_id, page, number)
        if joining:
            await self.ask(name, account, joining)

    @rule(ms=strategies.sampled_from([1, 1, 500, 9_999, 10_000, 20_000, 31_000, 59_999, 60_000, 100_000]))
    def wait(self, ms: int) -> None:
        self.clock.now += ms

    @rule(moves=strategies.dictionaries(strategies.sampled_from(MOVING), strategies.sampled_from(PLACES), min_size=1))
    def move(self, moves: dict[str, tuple[str, str | None] | None]) -> None:
        for number, place in moves.items():
            holder = self.holder(number)
            if holder is not None and place != holder.pool:
                holder.end, holder.over = self.clock.now, True
            self.places[number] = place
        self.run(self.load())

    @precondition(lambda self: self.leases)
    @rule(which=strategies.integers(0))
    def call(self, which: int) -> None:
        lease = self.leases[-1 - which % min(len(self.leases), 8)]
        if lease.holds(self.clock.now):
            self.run(self.take_call(lease))

    async def take_call(self, lease: Lease) -> None:
        account = await self.account(lease.account)
        match = (await self.look_up(lease, self.clock.now))[0]
        pool = next(pool for pool in account.pools if pool.name == lease.pool[1])
        (found,) = [
            found
            for found in await self.calls.leases(account, lease.number, pool, self.clock.now, 0)
            if (found.session_id, found.begin_ms) == (match.session_id, match.begin_ms)
        ]
        effect = Effect(pool, lease.number, found)
        before = await self.calls.known(account, str(next(self.serials)))
        assert await self.calls.put(account, before, {}, effect=effect, durable=False)
        match pool.on_call:
            case "extend":
                ends = min(self.clock.now + pool.idle_ttl_ms, lease.begin + pool.max_ttl_ms)
                lease.end = max(lease.end, ends)
            case "release":
                lease.end, lease.over = self.clock.now, True

    @precondition(lambda self: self.leases)
    @rule(which=strategies.integers(0))
    def forget(self, which: int) -> None:
        lease = self.leases[-1 - which % min(len(self.leases), 8)]
        self.run(self.erase(lease.account, lease.session))

    async def erase(self, name: str, session: str) -> None:
        await erase(self.calls, await self.account(name), session_id=session)
        if session in self.sessions[name]:
            self.sessions[name].remove(session)
        for lease in self.leases:
            if lease.session == session:
                if lease.holds(self.clock.now):
                    lease.end = self.clock.now
                lease.session = ""  # its number cools down after nobody

    @precondition(lambda self: any(lease.session for lease in self.leases))
    @rule(which=strategies.integers(0), part=strategies.floats(0, 1, exclude_max=True))
    def look_back(self, which: int, part: float) -> None:
        known = [lease for lease in self.leases if lease.session]
        lease, now = known[-1 - which % min(len(known), 20)], self.clock.now
        if lease.begin < min(lease.end, now):
            at = lease.begin + int((min(lease.end, now) - lease.begin) * part)
            matches = self.run(self.look_up(lease, at))
            assert [match.session_id for match in matches if match.how == "lease"] == [lease.session]
        at = lease.end + int((lease.cools_until() - lease.end) * part)
        stays = lease.number in self.numbers_of(lease.pool)
        if lease.end <= at < lease.cools_until() and (stays or self.last(lease.number) is lease) and at <= now:
            matches = self.run(self.look_up(lease, at))
            assert (
                lease.session in [match.session_id for match in matches if match.how == "cooldown"] or len(matches) > 60
            )

    async def look_up(self, lease: Lease, at: int) -> tuple[attribution.Match, ...]:
        found = await attribution.lookup(self.calls, await self.account(lease.account), lease.number, at)
        return found.matches

    # What holds ----------------------------------------------------------------------------------------------------

    @invariant()
    def every_live_lease_leads_back(self) -> None:
        if hasattr(self, "calls"):
            self.run(self.check())

    async def check(self) -> None:
        now = self.clock.now
        live = [lease for lease in self.leases if lease.holds(now)]
        for lease, matches in zip(
            live, await asyncio.gather(*(self.look_up(lease, now) for lease in live)), strict=True
        ):
            assert [match.session_id for match in matches if match.how == "lease"] == [lease.session]
            assert attribution.route(attribution.Found(True, matches)).destination == lease.page
        held = []
        for account, pool in FIXED:
            key = keys.pool(account, pool)[1]
            members = await self.store.client(key).zrangebyscore(key, f"({now}", "+inf")
            held += [str(member).partition(":") for member in members]
        assert sorted((number, session) for number, _, session in held) == sorted(
            (lease.number, lease.session) for lease in live
        )


def run_model(url: str, profile: settings) -> None:
    with asyncio.Runner() as runner:
        machine = type("Machine", (Leases,), {"url": url, "runner": runner})
        run_state_machine_as_test(machine, settings=profile)


QUICK = settings(max_examples=16, stateful_step_count=25, derandomize=True, database=None, deadline=None,
                 phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck))  # fmt: skip


def test_a_number_shown_leads_back(store_url: str) -> None:
    run_model(store_url, QUICK)


@pytest.mark.slow
def test_a_number_shown_leads_back_whatever_happens(store_url: str) -> None:
    run_model(store_url, settings(QUICK, max_examples=100, stateful_step_count=50))


def test_a_number_back_from_another_account_is_found_as_long_as_its_lease_s_own_pool_cools(store_url: str) -> None:
    with asyncio.Runner() as runner:
        machine = type("Machine", (Leases,), {"url": store_url, "runner": runner})()
        machine.begin()
        machine.move({MOVING[0]: ("x", "keep")})
        machine.visit("x", [(0, "", [0]), (0, "", [0])])
        machine.move({MOVING[0]: ("y", "other")})
        machine.wait(31_000)  # past its cooldown
        machine.move({MOVING[0]: ("x", "shared")})  # which has none
        for lease in machine.leases:
            for part in (0.0, 0.5, 0.99):
                machine.look_back(machine.leases[::-1].index(lease), part)
        machine.teardown()
