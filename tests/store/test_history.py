"""The history of leases: who held a number at a moment, to the millisecond, and for how long that is known."""

import asyncio
import random
from typing import Any

import orjson
import pytest

from edgeproxy.accounts.account import Account
from edgeproxy.store import keys
from edgeproxy.store.calls import Calls, Lease
from tests.conftest import Desk

PAGE = "+493015981100"
ONE, TWO = "+493015981151", "+493015981152"
MINUTE = 60


def accounts(more: dict[str, Any] | None = None, **pool: Any) -> str:
    settings = {"replaces": "all", "numbers": [f"{ONE}..{TWO}"]} | pool
    account = {"secrets": ["s"], "region": "DE", "pools": {"p": settings}, **(more or {})}
    return orjson.dumps({"accounts": {"x": account}}).decode()


class Archive:
    """The history of account x."""

    def __init__(self, desk: Desk, account: Account) -> None:
        self.desk, self.account, self.calls = desk, account, Calls(desk.store, None)

    async def held(self, number: str, seconds: float = 0, *, reach_s: float = 0) -> list[Lease]:
        """The leases of a number so many seconds from now; those that had ended too, if they are to be reached."""
        pool = next((pool for pool in self.account.pools), None)
        at = self.desk.clock.now + round(seconds * 1000)
        leases = await self.calls.leases(self.account, number, pool, at, round(reach_s * 1000))
        return [lease for lease in leases if reach_s or lease.end_ms is None or at < lease.end_ms]


async def archive(desk: Desk, text: str) -> Archive:
    await desk.load(text)
    return Archive(desk, await desk.account("x"))


async def test_a_lease_is_an_interval_that_grows_with_each_request(desk: Desk) -> None:
    history = await archive(desk, accounts())
    begin = desk.clock.now
    assert await history.held(ONE) == []
    session = (await desk.ask("x", PAGE)).session_id
    assert await history.held(ONE) == [Lease(session, PAGE, begin, begin + 30 * MINUTE * 1000)]
    assert await history.held(ONE, -0.001) == []
    desk.clock.advance(20 * MINUTE)
    await desk.ask("x", PAGE, session)
    (lease,) = await history.held(ONE)
    assert (lease.begin_ms, lease.end_ms) == (begin, desk.clock.now + 30 * MINUTE * 1000)
    assert await history.held(TWO) == []


async def test_a_lease_that_was_put_back_ended_when_it_ended(desk: Desk) -> None:
    history = await archive(desk, accounts(numbers=[ONE]))
    begin, first = desk.clock.now, (await desk.ask("x", PAGE)).session_id
    desk.clock.advance(50 * MINUTE)
    second = (await desk.ask("x", PAGE)).session_id  # only now is the first lease put back
    lease = Lease(first, PAGE, begin, begin + 30 * MINUTE * 1000)
    assert await history.held(ONE, -21 * MINUTE) == [lease]
    assert await history.held(ONE, -20 * MINUTE) == []
    assert await history.held(ONE, -20 * MINUTE, reach_s=15 * MINUTE) == [lease]
    assert [found.session_id for found in await history.held(ONE)] == [second]


async def test_a_recycled_lease_ends_where_the_next_begins(desk: Desk) -> None:
    history = await archive(desk, accounts(numbers=[ONE], overflow="recycle"))
    first = (await desk.ask("x", PAGE)).session_id
    desk.clock.advance(MINUTE)
    second = (await desk.ask("x", PAGE)).session_id
    assert [lease.session_id for lease in await history.held(ONE, -0.001)] == [first]
    assert [lease.session_id for lease in await history.held(ONE)] == [second]
    within_cooldown = await history.held(ONE, MINUTE, reach_s=15 * MINUTE)
    assert [lease.session_id for lease in within_cooldown] == [second, first]


@pytest.mark.parametrize("step_s", [0, 0.001, 1], ids=["at once", "a ms apart", "a second apart"])
async def test_in_bursts_on_a_recycling_pool_every_live_lease_is_found(desk: Desk, step_s: float) -> None:
    history = await archive(desk, accounts(overflow="recycle"))
    for _ in range(10):
        desk.clock.advance(step_s)
        batch = await asyncio.gather(*(desk.ask(history.account, PAGE) for _ in range(16)))
        holders = {str(shown.numbers[0]): shown.session_id for shown in batch}
        for number, session in holders.items():
            assert [lease.session_id for lease in await history.held(number)] == [session]
            reached = [lease.session_id for lease in await history.held(number, reach_s=15 * MINUTE)]
            assert reached[0] == session
            assert len(reached) == len(set(reached)) >= 8  # who was shown the number for no ms may call it too
    desk.clock.advance(31 * MINUTE)
    await desk.ask(history.account, PAGE)  # puts back what has ended, and ends nothing that the history does not know
    members = [member.split("\0") for member in await desk.redis.zrange(keys.history("x"), 0, -1)]
    assert len([member for member in members if not member[2]]) == 1


async def test_a_lease_of_no_length_is_told_with_its_moment(desk: Desk) -> None:
    history = await archive(desk, accounts(numbers=[ONE], overflow="recycle"))
    first, second = await asyncio.gather(*(desk.ask(history.account, PAGE) for _ in range(2)))
    begin = desk.clock.now
    assert await history.held(ONE, -0.001, reach_s=MINUTE) == []
    assert await history.held(ONE, reach_s=MINUTE) == [
        Lease(second.session_id, PAGE, begin, begin + 30 * MINUTE * 1000),
        Lease(first.session_id, PAGE, begin, begin),
    ]
    assert [lease.session_id for lease in await history.held(ONE, MINUTE - 0.001, reach_s=MINUTE)][
        1
    ] == first.session_id
    assert [lease.session_id for lease in await history.held(ONE, MINUTE, reach_s=MINUTE)] == [second.session_id]


@pytest.mark.parametrize("before", [1, 70, 200])
async def test_a_live_lease_below_an_earlier_release_s_leases_of_no_length_is_found_and_ends(
    desk: Desk, before: int
) -> None:
    history = await archive(desk, accounts(numbers=[ONE]))
    session = (await desk.ask("x", PAGE)).session_id
    begin = desk.clock.now
    await desk.redis.zadd(
        keys.history("x"), {f"{ONE}\0{begin:013}\0{begin:013}\0recycled-{i}\0{PAGE}": 0 for i in range(before)}
    )
    live = Lease(session, PAGE, begin, begin + 30 * MINUTE * 1000)
    assert await history.held(ONE) == [live]
    assert await history.held(ONE, 5 * MINUTE) == [live]
    desk.clock.advance(50 * MINUTE)
    second = (await desk.ask("x", PAGE)).session_id
    assert await history.held(ONE, -21 * MINUTE) == [live]
    assert [lease.session_id for lease in await history.held(ONE)] == [second]


async def test_a_lease_that_an_earlier_release_left_unended_ended_when_the_next_began(desk: Desk) -> None:
    history = await archive(desk, accounts(numbers=[ONE]))
    session = (await desk.ask("x", PAGE)).session_id
    begin = desk.clock.now
    for who in ("lost", session):
        lost = f"{ONE}\0{begin - 600_000:013}\0\0{who}\0{PAGE}"
        await desk.redis.zadd(keys.history("x"), {lost: 0})
        assert [lease.session_id for lease in await history.held(ONE)] == [session]
        found = await history.held(ONE, reach_s=MINUTE)
        assert [(lease.session_id, lease.end_ms) for lease in found[1:]] == [(who, begin)]
        await desk.redis.zrem(keys.history("x"), lost)


@pytest.mark.parametrize("back_s", [0.001, 5, 1200])
async def test_a_lease_is_found_though_the_clock_went_back_behind_its_begin(desk: Desk, back_s: float) -> None:
    history = await archive(desk, accounts(overflow="recycle"))
    earlier = (await desk.ask("x", PAGE)).session_id
    other = (await desk.ask("x", PAGE)).session_id
    desk.clock.advance(25 * MINUTE)
    await desk.ask("x", PAGE, other)
    later = (await desk.ask("x", PAGE)).session_id  # takes the number of the first
    desk.clock.advance(-back_s)
    assert [lease.session_id for lease in await history.held(ONE)] == [later]
    assert [lease.session_id for lease in await history.held(TWO)] == [other]
    assert [lease.session_id for lease in await history.held(ONE, reach_s=MINUTE)] == [later, earlier]
    both = await desk.ask("x", [PAGE, "+493015981101"])
    assert both.numbers == [TWO, ONE]
    for _ in range(2):
        for number in (ONE, TWO):
            assert [lease.session_id for lease in await history.held(number)] == [both.session_id]
        desk.clock.advance(back_s + 1)


async def test_a_number_that_leaves_its_pool_takes_its_history_along(desk: Desk) -> None:
    history = await archive(desk, accounts())
    session = (await desk.ask("x", PAGE)).session_id
    desk.clock.advance(MINUTE)
    await desk.load(accounts({"numbers": [ONE]}, numbers=[TWO]))
    assert [lease.session_id for lease in await history.held(ONE, -1)] == [session]


async def test_a_number_that_was_moved_is_found_for_as_long_as_it_cools_down(desk: Desk) -> None:
    history = await archive(desk, accounts())
    session = (await desk.ask("x", PAGE)).session_id
    desk.clock.advance(MINUTE)
    await desk.load(accounts({"numbers": [ONE]}, numbers=[TWO]))
    await desk.load(accounts(cooldown="0s"))
    desk.clock.advance(15 * MINUTE - 0.001)
    (lease,) = await history.calls.leases(await desk.account("x"), ONE, history.account.pools[0], desk.clock.now, 0)
    assert lease.session_id == session
    desk.clock.advance(0.001)
    assert await history.calls.leases(history.account, ONE, history.account.pools[0], desk.clock.now, 0) == []


async def test_the_history_agrees_with_a_plain_log(desk: Desk) -> None:
    """Random visitors on few numbers; at every moment the history tells who of the log held each number."""
    history = await archive(
        desk, accounts(numbers=[f"{ONE}..+493015981154"], idle_ttl="2m", max_ttl="9m", cooldown="1m")
    )
    chance = random.Random(5)
    log: dict[tuple[str, str, int], int] = {}  # number, session, begin → end
    live: dict[str, tuple[str, int]] = {}  # session → number, begin
    start = desk.clock.now
    sessions: list[str] = []
    for _ in range(400):
        desk.clock.advance(chance.choice([0, 1, 20, 45, 90]))
        now = desk.clock.now
        session = chance.choice(sessions[-6:]) if sessions and chance.random() < 0.6 else ""
        shown = await desk.ask("x", PAGE, session)
        if shown.session_id not in sessions:
            sessions.append(shown.session_id)
        number = shown.numbers[0]
        if isinstance(number, bool):
            continue
        held = live.get(shown.session_id)
        if (
            held is None
            or held[0] != number
            or log[number, shown.session_id, held[1]] <= now
            or held[1] + 540_000 <= now
        ):
            held = live[shown.session_id] = (number, now)
        log[number, shown.session_id, held[1]] = min(now + 120_000, held[1] + 540_000)
    for _ in range(300):
        at = chance.randrange(start, desk.clock.now + 60_000)
        number = f"+49301598115{chance.randrange(1, 5)}"
        expected = [session for (of, session, begin), end in log.items() if of == number and begin <= at < end]
        assert len(expected) <= 1
        found = await history.held(number, (at - desk.clock.now) / 1000)
        assert [lease.session_id for lease in found] == expected


async def test_what_is_too_old_is_forgotten_as_new_leases_come(desk: Desk) -> None:
    kept = {"leases_kept": "1h"}
    history = await archive(desk, accounts(kept, numbers=[f"{ONE}..+493015981199"], max_ttl="30m"))
    for _ in range(40):
        await desk.ask("x", PAGE)
    desk.clock.advance(2 * 3600)
    for _ in range(150):
        await desk.ask("x", PAGE)
        desk.clock.advance(40)
    left = [member.split("\0") for member in await desk.redis.zrange(keys.history("x"), 0, -1)]
    too_old = [member for member in left if int(member[1]) < desk.clock.now - 3 * 3_600_000]
    assert len(too_old) < 20
    assert 0 < await desk.redis.pttl(keys.history("x")) <= 3_600_000
    assert await history.held(ONE, reach_s=0) is not None


async def test_a_lease_that_lives_is_not_too_old(desk: Desk) -> None:
    history = await archive(desk, accounts({"leases_kept": "2h"}, numbers=[f"{ONE}..+493015981199"], max_ttl="100m"))
    session = (await desk.ask("x", PAGE)).session_id
    for _ in range(49):
        desk.clock.advance(2 * MINUTE)
        await desk.ask("x", PAGE, session)
        await desk.ask("x", PAGE)
    assert [lease.session_id for lease in await history.held(ONE)] == [session]


async def test_a_session_s_last_visit_is_known_as_long_as_its_leases(desk: Desk) -> None:
    history = await archive(desk, accounts({"leases_kept": "7d"}))
    session = (await desk.ask("x", PAGE)).session_id
    without = (await desk.ask("x", "")).session_id
    assert await desk.redis.pttl(keys.session_prefix("x") + session) > 6 * 86_400_000
    assert await desk.redis.pttl(keys.session_prefix("x") + without) <= 33 * MINUTE * 1000
    found = await history.calls.visits(history.account, [session, "nobody", without])
    assert [visit and visit.last.sent["type"] for visit in found] == ["web", None, "web"]


@pytest.mark.parametrize("number", [ONE, TWO])
async def test_a_dry_run_leaves_no_trace(desk: Desk, number: str) -> None:
    history = await archive(desk, accounts())
    await desk.ask("x", PAGE, bare=True)
    assert await history.held(number) == []
    assert not await desk.redis.exists(keys.history("x"))
