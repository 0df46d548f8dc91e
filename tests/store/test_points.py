"""The daily budget of points: spent by success alone, never exceeded, renewed at the account's midnight."""

import asyncio
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from edgeproxy.errors import Kind
from edgeproxy.store import Store, keys
from tests.conftest import DEMO, Clock, Desk
from tests.servers import client_of

ACCOUNTS = """
accounts:
  ten:
    secrets: [s]
    region: DE
    timezone: {zone}
    points: {{daily: 10, costs: {{numbers: 3}}}}
    pools: {{p: {{replaces: all, numbers: [+493015981151..+493015981190]}}}}
  poolless: {{secrets: [s], region: DE, points: {{daily: 10}}}}
"""
UTC_ACCOUNTS = ACCOUNTS.format(zone="UTC")


async def spent(desk: Desk, account: str) -> int:
    return int(await desk.redis.hget(keys.points(account), "spent") or 0)


async def test_each_success_spends_its_cost_and_what_does_not_fit_is_refused(desk: Desk) -> None:
    await desk.load(UTC_ACCOUNTS)
    for left in (7, 4, 1):
        resolution = await desk.ask("ten")
        assert (resolution.refused, resolution.points_left) == (None, left)
    refused = await desk.ask("ten")
    assert (refused.refused, refused.points_left) == (Kind.BUDGET_EXHAUSTED, 1)
    assert refused.day_left_ms == 12 * 3_600_000
    assert await spent(desk, "ten") == 9


async def test_failures_spend_nothing(desk: Desk) -> None:
    await desk.load(UTC_ACCOUNTS)
    for _ in range(20):
        await desk.ask("poolless", ip="192.0.2.1")
    assert (await desk.ask("poolless")).refused is Kind.NO_POOL
    assert await spent(desk, "poolless") == 0


async def test_the_day_turns_at_midnight(desk: Desk) -> None:
    await desk.load(UTC_ACCOUNTS)
    for _ in range(4):
        last = await desk.ask("ten")
    assert last.refused is Kind.BUDGET_EXHAUSTED
    desk.clock.now += last.day_left_ms - 1
    assert (await desk.ask("ten")).refused is Kind.BUDGET_EXHAUSTED
    desk.clock.now += 1
    resolution = await desk.ask("ten")
    assert (resolution.refused, resolution.points_left, resolution.day_left_ms) == (None, 7, 86_400_000)


@pytest.mark.parametrize(
    ("zone", "moment", "hours_left"),
    [
        ("Europe/Berlin", datetime(2026, 7, 1, 22, 0, tzinfo=ZoneInfo("Europe/Berlin")), 2),
        ("Europe/Berlin", datetime(2026, 3, 29, 0, 0, tzinfo=ZoneInfo("Europe/Berlin")), 23),
        ("Europe/Berlin", datetime(2026, 10, 25, 0, 0, tzinfo=ZoneInfo("Europe/Berlin")), 25),
        ("America/Los_Angeles", datetime(2026, 7, 1, 6, 0, tzinfo=UTC), 1),
    ],
)
async def test_midnight_is_the_accounts(desk: Desk, zone: str, moment: datetime, hours_left: int) -> None:
    desk.clock.now = int(moment.timestamp() * 1000)
    await desk.load(ACCOUNTS.format(zone=zone))
    assert (await desk.ask("ten")).day_left_ms == hours_left * 3_600_000


async def test_a_clock_that_goes_back_over_midnight_gives_no_second_budget(desk: Desk) -> None:
    await desk.load(UTC_ACCOUNTS)
    desk.clock.advance(43_200)
    for _ in range(3):
        await desk.ask("ten")
    desk.clock.advance(-1)
    assert (await desk.ask("ten")).refused is Kind.BUDGET_EXHAUSTED


async def test_of_many_at_once_no_more_than_the_budget(store_url: str) -> None:
    async with Store(store_url) as one, Store(store_url) as other:
        await one.load_functions()
        desks = [Desk(store, Clock(), iter(())) for store in (one, other)]
        await desks[0].load(DEMO)
        resolutions = await asyncio.gather(
            *(desks[i % 2].ask("tiny", "+442079460000", ip=f"192.0.2.{i}") for i in range(200))
        )
        assert sum(resolution.refused is None for resolution in resolutions) == 20
        assert {resolution.refused for resolution in resolutions} == {None, Kind.BUDGET_EXHAUSTED}
        with client_of(store_url) as client:
            assert client.hget(keys.points("tiny"), "spent") == "20"


async def test_a_store_whose_clock_is_days_away_is_not_believed(desk: Desk) -> None:
    await desk.load(UTC_ACCOUNTS)
    account = await desk.account("ten")
    await desk.ask(account)
    desk.clock.advance(30 * 86_400)
    assert (await desk.ask(account)).refused is Kind.STORE_UNAVAILABLE
    assert await spent(desk, "ten") == 3
