"""A store's clock that was ahead and comes back: what is from the future is noticed, told, and ends within a day."""

import asyncio
import logging
import re
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from edgeproxy.calls import attribution
from edgeproxy.commands import main
from edgeproxy.errors import Kind
from edgeproxy.store import Store, keys
from edgeproxy.store.access import Failures
from edgeproxy.store.calls import Calls
from edgeproxy.store.clock import Clock, Future
from edgeproxy.store.partner import Partner
from tests.conftest import Clock as StandingClock
from tests.conftest import Desk, serving, web_request

PAGE = "+493015981100"
ONE, TWO, THREE = "+493015981151", "+493015981152", "+493015981153"
DAY_S = 86_400
AHEAD = pytest.mark.parametrize("ahead_s", [600, 7200, 3 * DAY_S, 400 * DAY_S], ids=["10m", "2h", "3d", "400d"])


def accounts(**more: Any) -> str:
    pool = {"replaces": "all", "numbers": [f"{ONE}..{THREE}"]} | more
    account = {"secrets": ["s"], "region": "DE", "points": {"daily": 10}, "pools": {"p": pool}}
    return orjson.dumps({"accounts": {"x": account}}).decode()


async def turn(desk: Desk, seconds: float) -> None:
    desk.clock.advance(seconds)
    desk.store.forget("x")  # it lists the account's midnights by the clock, for days to come


async def found(desk: Desk, number: str, seconds: float = 0) -> list[tuple[str, str | None]]:
    at = desk.clock.now + round(seconds * 1000)
    matches = (await attribution.lookup(Calls(desk.store), await desk.account("x"), number, at)).matches
    return [(match.how, match.session_id) for match in matches]


@AHEAD
async def test_leases_from_the_future_are_found_and_end_in_their_time(desk: Desk, ahead_s: int) -> None:
    await desk.load(accounts())
    await turn(desk, ahead_s)
    first, second = await desk.ask("x", PAGE), await desk.ask("x", PAGE)
    await desk.redis.zrem(
        keys.pool("x", "p")[1], f"{TWO}:{second.session_id}"
    )  # released at once: its number cools down
    await desk.redis.zadd(keys.pool("x", "p")[0], {TWO: desk.clock.now + 900_000})
    await turn(desk, -ahead_s)
    account, clock = await desk.account("x"), Clock(desk.store)
    assert await found(desk, ONE) == [("lease", first.session_id)]
    future = await clock.find(account)
    assert (future.leases, future.cooldowns) == (1, 1)
    assert await clock.mend(account) == future
    assert not await clock.find(account)
    assert await found(desk, ONE) == [("lease", first.session_id)]
    desk.clock.advance(15 * 60)
    assert await found(desk, ONE, -14 * 60) == [("lease", first.session_id)]
    assert await found(desk, ONE, -16 * 60) == []
    assert (await desk.ask("x", PAGE)).numbers == [THREE]
    assert (await desk.ask("x", PAGE)).numbers == [TWO]
    desk.clock.advance(15 * 60)
    assert await found(desk, ONE) == [("cooldown", first.session_id)]
    desk.clock.advance(15 * 60)
    assert (await desk.ask("x", PAGE)).numbers == [ONE]


@AHEAD
async def test_a_session_from_the_future_keeps_its_number_no_longer_than_its_pool_allows(
    desk: Desk, ahead_s: int
) -> None:
    await desk.load(accounts(max_ttl="2h"))
    await turn(desk, ahead_s)
    first = await desk.ask("x", PAGE)
    await turn(desk, -ahead_s)
    again = await desk.ask("x", PAGE, first.session_id)
    assert (again.session_id, again.numbers) == (first.session_id, [ONE])
    for _ in range(5):
        desk.clock.advance(1200)
        assert (await desk.ask("x", PAGE, first.session_id)).numbers == [ONE]
    desk.clock.advance(1200)
    assert (await desk.ask("x", PAGE, first.session_id)).numbers == [TWO]


async def test_a_session_that_nobody_used_since_ends_within_a_day(desk: Desk) -> None:
    await desk.load(accounts())
    await turn(desk, 3 * DAY_S)
    first = await desk.ask("x", PAGE)
    await turn(desk, -3 * DAY_S)
    await desk.ask("x", PAGE)
    desk.clock.advance(60)
    assert (await desk.ask("x", PAGE, first.session_id)).session_id != first.session_id


@AHEAD
async def test_points_of_a_day_to_come_are_spent_and_renewed_within_a_day(desk: Desk, ahead_s: int) -> None:
    await desk.load(accounts())
    await turn(desk, ahead_s)
    for _ in range(9):
        await desk.ask("x")
    await turn(desk, -ahead_s)
    assert (await desk.ask("x")).points_left == 0
    last = await desk.ask("x")
    assert last.refused is Kind.BUDGET_EXHAUSTED
    await turn(desk, DAY_S)
    assert (await desk.ask("x")).points_left == 9


@AHEAD
async def test_the_limiter_does_not_count_what_is_to_come(desk: Desk, ahead_s: int) -> None:
    await desk.load(accounts().replace('"daily":10', '"daily":100'))
    await turn(desk, ahead_s)
    for _ in range(6):
        await desk.ask("x", ip="192.0.2.1")
    await turn(desk, -ahead_s)
    assert [(await desk.ask("x", ip="192.0.2.1")).refused for _ in range(6)] == [None] * 5 + [Kind.BLOCKED_IP]


async def test_a_clock_that_went_back_is_told_once(store_url: str, desk: Desk) -> None:
    told: list[tuple[str, int]] = []
    async with Store(store_url, clock=desk.clock, on_back=lambda account, ms: told.append((account, ms))) as store:
        desk.store = store
        await desk.load(accounts())
        await desk.ask("x", PAGE)
        desk.clock.advance(-1.9)  # as another primary's clock may be behind
        await desk.ask("x", PAGE)
        assert told == []
        desk.clock.advance(3600)
        await desk.ask("x", PAGE)
        desk.clock.advance(-3000)
        for _ in range(3):
            await desk.ask("x", PAGE)
        assert told == [("x", 3_000_000)]


async def test_a_gateway_brings_the_future_to_the_present_and_logs_it(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = StandingClock()
    async with serving(store_url, clock=clock) as edge:
        clock.advance(6 * 3600)
        _, ahead, _ = await edge.post(web_request())
        clock.advance(-6 * 3600)
        with caplog.at_level(logging.WARNING):
            for _ in range(5):
                await edge.post(web_request())
            await asyncio.sleep(0)
            while edge.gateway._mending is None or not edge.gateway._mending.done():
                await asyncio.sleep(0.005)
        lines = [record.getMessage() for record in caplog.records if "went back" in record.getMessage()]
        assert len(lines) == 1
        assert "went back by 21600 s: of account demo, 1 leases" in lines[0]
        number = ahead["numbers"][0]["replace_with"]["e164"]
        key = keys.pool("demo", "berlin")[1]
        ends: Any = await edge.gateway._store.client(key).zrange(key, 0, -1, withscores=True)
        assert [end for member, end in ends if member.startswith(number)] == [clock.now + 1_800_000]


async def test_a_load_does_not_make_anything_look_like_the_future(desk: Desk) -> None:
    await desk.load(accounts())
    await desk.ask("x", PAGE)
    desk.clock.advance(1900)
    await desk.ask("x", PAGE)
    assert await Clock(desk.store).find(await desk.account("x")) == Future()


async def test_check_tells_of_the_future_and_repair_clears_it(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPROXY_STORE_URL", store_url)
    clock = StandingClock()
    async with Store(store_url) as store:
        clock.now = (await store.client(keys.ACCOUNTS).time())[0] * 1000 + 5 * DAY_S * 1000
        async with Store(store_url, clock=clock) as ahead:
            desk = Desk(ahead, clock, iter(()))
            await ahead.load_functions()
            await desk.load(accounts())
            await desk.ask("x", PAGE, ip="192.0.2.1")

    async def run(*command: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, main, command)
        return result.exit_code, result.output

    code, text = await run("check")
    assert code == 1
    assert re.search(r"^store.*: its memory is (jemalloc\S*'s$|libc's; with jemalloc )", text, re.MULTILINE)
    told = "account x: 1 leases, 0 cooldowns, 0 sources, 1 days of points from the future"
    assert f"{told} (edgeproxy clock repair)" in text
    code, text = await run("clock", "repair")
    assert code == 0
    assert f"{told}, brought to the present" in text
    assert (await run("clock", "repair"))[1].endswith("nothing is from the future\n")
    code, text = await run("check")
    assert "from the future" not in text


class Sources:
    """An account with three numbers that are in no pool, and sources of them."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.partner = desk, Partner(desk.store, None)

    async def open(self) -> None:
        await self.desk.load(
            f"accounts: {{x: {{secrets: [s], region: DE, numbers: [{ONE}..{THREE}], quarantine: 60d, pools: "
            "{p: {replaces: all, numbers: [+493015981161]}}}}"
        )
        self.account = await self.desk.account("x")
        self.customer = str((await self.partner.create_customer(self.account, {"name": "a"}))["customer_id"])

    async def make(self, number: str, expires_s: float | None = None) -> str:
        expire = None if expires_s is None else str(self.desk.clock.now + round(expires_s * 1000))
        fields = {"customer_id": self.customer, "name": "s", "timestamp": None, "destnr": PAGE, "expire": expire}
        return str((await self.partner.create_source(self.account, fields, number))["source_id"])

    async def status(self, source: str) -> str | None:
        await self.partner.settle(self.account)
        record = await self.partner.get(self.account, "sources", source)
        assert record is not None
        return record["status"]


@pytest.mark.parametrize("ahead_s", [10 * DAY_S, 100 * DAY_S], ids=["quarantined", "archived"])
async def test_sources_that_a_wrong_clock_ended_go_on_or_rest_from_now(desk: Desk, ahead_s: int) -> None:
    sources = Sources(desk)
    await sources.open()
    expiring, resting = await sources.make(ONE, 5 * DAY_S), await sources.make(TWO, 60)
    desk.clock.advance(120)
    assert await sources.status(resting) == "quarantined"
    desk.clock.advance(7 * DAY_S)
    deleted = await sources.make(THREE)
    await sources.partner.change_source(sources.account, deleted, "delete", {})
    ended = "quarantined" if ahead_s == 10 * DAY_S else "archived"
    desk.clock.advance(ahead_s - 7 * DAY_S)
    assert {await sources.status(source) for source in (expiring, resting, deleted)} == {ended}
    desk.clock.advance(-ahead_s)
    clock, late = Clock(desk.store), 2 if ended == "quarantined" else 3
    assert (await clock.find(sources.account)).sources == late
    assert (await clock.mend(sources.account)).sources == late
    assert not await clock.find(sources.account)
    assert [await sources.status(source) for source in (expiring, resting, deleted)] == [
        "active", "quarantined", "quarantined"
    ]  # fmt: skip
    assert sorted((await desk.redis.hgetall(keys.numbers("x"))).values()) == sorted(
        ["pool:p", f"source:{expiring}", f"quarantined:{resting}", f"quarantined:{deleted}"]
    )
    assert await desk.redis.zcard(keys.free("x")) == 0
    desk.clock.advance(60 * DAY_S)
    assert await sources.status(deleted) == "archived"


async def test_failures_that_were_counted_in_the_future_do_not_shut_out_for_as_long(desk: Desk) -> None:
    failures = Failures(desk.store)
    await failures.add("192.0.2.1")
    key = keys.failures("192.0.2.1")
    await desk.redis.pexpire(key, 30_000)
    await failures.add("192.0.2.1")
    assert 0 < await desk.redis.pttl(key) <= 30_000  # it counts from the first on
    await desk.redis.pexpire(key, 10 * DAY_S * 1000)  # what is left of a clock that was ten days ahead
    assert await failures.of("192.0.2.1") == 2
    assert 0 < await desk.redis.pttl(key) <= 60_000
