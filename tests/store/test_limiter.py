"""The per-IP limiter: at most 5 accepted in any one-second window."""

import asyncio
from collections import deque

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeproxy.errors import Kind
from edgeproxy.store import Store, keys
from tests.conftest import DEMO, Clock, Desk

ACCOUNTS = """
accounts:
  a: {secrets: [s], region: DE, pools: {p: {replaces: all, numbers: [+493015981151..+493015981190]}}}
  b: {secrets: [s], region: DE, pools: {p: {replaces: all, numbers: [+493015981191..+493015981199]}}}
  fast:
    secrets: [s]
    region: DE
    limit: {per_second: 20}
    pools: {p: {replaces: all, numbers: [+493015981100..+493015981110]}}
"""


async def passes(desk: Desk, ip: str, account: str = "a") -> bool:
    return (await desk.ask(account, ip=ip)).refused is None


@pytest.mark.parametrize("start_ms", [0, 1, 499, 500, 999])
async def test_five_pass_and_the_sixth_waits_for_the_first_to_leave(desk: Desk, start_ms: int) -> None:
    await desk.load(ACCOUNTS)
    desk.clock.now += start_ms
    for left in (4, 3, 2, 1, 0):
        resolution = await desk.ask("a", ip="192.0.2.1")
        assert (resolution.refused, resolution.window_left) == (None, left)
        desk.clock.advance(0.1)
    refused = await desk.ask("a", ip="192.0.2.1")
    assert (refused.refused, refused.wait_ms) == (Kind.BLOCKED_IP, 501)
    desk.clock.advance(0.5)
    assert (await desk.ask("a", ip="192.0.2.1")).wait_ms == 1  # 1,000 ms after the first: still one window
    desk.clock.advance(0.001)
    assert await passes(desk, "192.0.2.1")
    assert not await passes(desk, "192.0.2.1")


async def test_the_window_slides_over_the_turn_of_a_second(desk: Desk) -> None:
    await desk.load(ACCOUNTS)
    desk.clock.now += 900
    assert [await passes(desk, "192.0.2.1") for _ in range(6)] == [True] * 5 + [False]
    desk.clock.advance(0.2)  # another clock second, the same window
    assert not await passes(desk, "192.0.2.1")
    desk.clock.advance(0.801)
    assert await passes(desk, "192.0.2.1")


async def test_a_refused_request_takes_no_place(desk: Desk) -> None:
    await desk.load(ACCOUNTS)
    assert [await passes(desk, "192.0.2.1") for _ in range(50)] == [True] * 5 + [False] * 45
    desk.clock.advance(1.001)
    assert [await passes(desk, "192.0.2.1") for _ in range(6)] == [True] * 5 + [False]


async def test_ips_do_not_share_a_window_and_accounts_do(desk: Desk) -> None:
    await desk.load(ACCOUNTS)
    for account in "aabba":
        assert await passes(desk, "192.0.2.1", account)
    assert not await passes(desk, "192.0.2.1", "b")
    assert await passes(desk, "192.0.2.2", "b")


async def test_an_account_may_have_a_limit_of_its_own(desk: Desk) -> None:
    await desk.load(ACCOUNTS)
    assert [await passes(desk, "192.0.2.1", "fast") for _ in range(21)] == [True] * 20 + [False]
    refused = await desk.ask("a", ip="192.0.2.1")
    assert (refused.refused, refused.wait_ms) == (Kind.BLOCKED_IP, 1001)


async def test_a_clock_that_goes_back_locks_nobody_out(desk: Desk) -> None:
    await desk.load(ACCOUNTS)
    desk.clock.advance(10)
    assert [await passes(desk, "192.0.2.1") for _ in range(5)] == [True] * 5
    desk.clock.advance(-7)
    assert await passes(desk, "192.0.2.1")


async def test_of_many_at_once_exactly_five_pass(store_url: str) -> None:
    async with Store(store_url) as one, Store(store_url) as other:
        await one.load_functions()
        desks = [Desk(store, Clock(), iter(())) for store in (one, other)]
        await desks[0].load(DEMO)
        for round_ in range(10):
            ip = f"192.0.2.{round_}"
            resolutions = await asyncio.gather(*(desks[i % 2].ask("demo", ip=ip) for i in range(11)))
            assert sum(resolution.refused is None for resolution in resolutions) == 5


@given(steps=st.lists(st.tuples(st.integers(0, 700), st.sampled_from("xy")), min_size=1, max_size=60))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_it_agrees_with_a_plain_log_of_moments(desk: Desk, steps: list[tuple[int, str]]) -> None:
    await desk.load(ACCOUNTS)
    desk.clock.advance(5)
    log: dict[str, deque[int]] = {"x": deque(), "y": deque()}
    for pause, ip in steps:
        desk.clock.now += pause
        accepted = log[ip]
        while accepted and desk.clock.now - accepted[0] > 1000:
            accepted.popleft()
        expected = len(accepted) < 5
        if expected:
            accepted.append(desk.clock.now)
        assert await passes(desk, ip) == expected


async def test_what_it_keeps_is_gone_soon(desk: Desk) -> None:
    await desk.load(ACCOUNTS)
    await desk.ask("a", ip="192.0.2.1")
    (key,) = [key async for key in desk.redis.scan_iter("ep1:{ip}:*")]
    assert key in keys.LIMITER
    assert 0 < await desk.redis.pttl(key) <= 3000
